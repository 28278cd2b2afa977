//! Applies one step. Each is whole or not at all, and may be applied again.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::archive::{self, Archive, Survey};
use crate::clock;
use crate::error::{Error, Result};
use crate::fs as disk;
use crate::plan::{Item, Step};
use crate::release::LinkName;
use crate::root::{Receipt, Root};
use crate::service;
use crate::tree::TreeEntry;
use crate::version::Version;

use super::Observer;

/// Where the tree of a new release comes from.
pub enum Source {
    /// An archive that was looked through.
    Archive {
        /// The archive.
        archive: Archive,
        /// What was found in it.
        survey: Survey,
        /// Its file name.
        file_name: String,
        /// The digest that was found in it; what is unpacked must have the same.
        sha256: String,
    },
    /// A directory.
    Directory(PathBuf),
}

/// What a filled staging directory is made of.
struct Filled {
    tree: Vec<TreeEntry>,
    archive: Option<String>,
    sha256: Option<String>,
}

pub(super) struct Hands<'a> {
    pub root: &'a Root,
    pub transaction: &'a str,
    pub source: Option<&'a Source>,
}

impl Hands<'_> {
    pub fn apply(&mut self, step: &Step, observer: &mut dyn Observer) -> Result<()> {
        match step {
            Step::Unpack { version, .. } | Step::Copy { version, .. } => self.publish(version, observer),
            Step::Withdraw { version } => self.withdraw(version),
            Step::Discard { item } => self.discard(item),
            Step::Restore { item } => self.restore(item),
            Step::Tenure { version } => self.tenure(version),
            Step::Point { link, to, .. } => self.point(*link, to.as_ref()),
            Step::MoveService { from, to, hop } => match service::manager(self.root.settings()) {
                Some(manager) => manager.move_service(from, to, *hop),
                None => {
                    Err(Error::failed(format!("cannot move the service to {to}: the settings name none")))
                }
            },
        }
    }

    /// Fills staging, makes all of it durable, and lets the release appear by one rename.
    fn publish(&self, version: &Version, observer: &mut dyn Observer) -> Result<()> {
        let owner = self.root.owner();
        if self.has_published(version) && disk::is_dir(&self.root.release(version)) {
            return Ok(());
        }
        let [staging, tree, receipt] = self.staged();
        for dir in [&staging, &tree, &receipt] {
            disk::ensure_dir(dir, 0o755, owner)?;
        }
        let filled = self.fill(&tree, observer)?;
        let known = Receipt {
            transaction: self.transaction.to_owned(),
            unpacked_at: clock::now(),
            archive: filled.archive,
            sha256: filled.sha256,
        };
        known.stage(&receipt, &filled.tree, owner)?;
        disk::sync_tree(&staging)?;
        // What is known of a release that went without Tenure is not true of this one.
        self.throw(&self.root.receipt_dir(version), "stale")?;
        disk::move_durable(&receipt, &self.root.receipt_dir(version))?;
        disk::move_durable(&tree, &self.root.release(version))
    }

    fn fill(&self, tree: &Path, observer: &mut dyn Observer) -> Result<Filled> {
        let target = disk::open_dir(tree)?;
        let owner = (disk::effective_uid() == 0).then(|| self.root.owner());
        match self.source {
            Some(Source::Archive { archive, survey, file_name, sha256 }) => {
                let unpacked = archive.unpack(survey, target.as_fd(), owner, observer)?;
                if unpacked.sha256 != *sha256 {
                    return Err(Error::failed(format!(
                        "cannot unpack {file_name}: it changed while it was read"
                    ))
                    .hint("wait until it is copied completely, and try again"));
                }
                let (archive, sha256) = (Some(file_name.clone()), Some(unpacked.sha256));
                Ok(Filled { tree: unpacked.tree, archive, sha256 })
            }
            Some(Source::Directory(from)) => {
                let copied = archive::copy(from, target.as_fd(), owner, observer)?;
                for path in copied.skipped {
                    observer.warn(&format!("{} is a socket or a pipe and was not copied", path.display()));
                }
                Ok(Filled { tree: copied.tree, archive: None, sha256: None })
            }
            None => Err(Error::failed("cannot unpack a release again that an interrupted command unpacked")),
        }
    }

    /// Takes back what this transaction published, and nothing else: it goes where it came from, which takes
    /// no room on a disk that may be full.
    fn withdraw(&self, version: &Version) -> Result<()> {
        if !self.has_published(version) {
            return Ok(());
        }
        self.unused(version)?;
        let [staging, tree, receipt] = self.staged();
        disk::ensure_dir(&staging, 0o755, self.root.owner())?;
        for (published, from) in
            [(self.root.release(version), tree), (self.root.receipt_dir(version), receipt)]
        {
            if disk::exists(&published) {
                disk::move_durable(&published, &from)?;
            }
        }
        Ok(())
    }

    fn has_published(&self, version: &Version) -> bool {
        self.root.receipt(version).is_some_and(|receipt| receipt.transaction == self.transaction)
    }

    /// This transaction's part of staging, and in it the tree and what is known of it.
    fn staged(&self) -> [PathBuf; 3] {
        let staging = self.root.staging().join(self.transaction);
        [staging.clone(), staging.join("tree"), staging.join("receipt")]
    }

    fn discard(&self, item: &Item) -> Result<()> {
        if let Item::Release(version) = item {
            self.unused(version)?;
        }
        self.places(item).iter().try_for_each(|(place, name)| self.throw(place, name))
    }

    fn restore(&self, item: &Item) -> Result<()> {
        let bin = self.bin();
        // The release itself comes back last: once it is there, all that is known of it is as well.
        for (place, name) in self.places(item).iter().rev() {
            let thrown = bin.join(name);
            if disk::exists(&thrown) && !disk::exists(place) {
                disk::move_durable(&thrown, place)?;
            }
        }
        Ok(())
    }

    /// Where the parts of an item are, and the name of each in the trash.
    fn places(&self, item: &Item) -> Vec<(PathBuf, String)> {
        match item {
            Item::Release(version) => vec![
                (self.root.release(version), format!("release-{version}")),
                (self.root.receipt_dir(version), format!("receipt-{version}")),
            ],
            Item::Archive(file) => {
                let beside = ["", ".sha256", ".minisig"].map(|ending| format!("{file}{ending}"));
                beside.map(|f| (self.root.releases().join(&f), format!("file-{f}"))).into()
            }
        }
    }

    /// Moves something into this transaction's part of the trash, where it is still there.
    fn throw(&self, from: &Path, name: &str) -> Result<()> {
        if !disk::exists(from) {
            return Ok(());
        }
        let bin = self.bin();
        disk::ensure_dir(&bin, 0o755, self.root.owner())?;
        disk::sync_dir(&self.root.trash())?;
        disk::move_durable(from, &bin.join(name))
    }

    fn bin(&self) -> PathBuf {
        self.root.trash().join(self.transaction)
    }

    /// The last guard before a release goes: no link may lead to it.
    fn unused(&self, version: &Version) -> Result<()> {
        let now = self.root.observe()?;
        let leads = |link: LinkName| now.link(link).version() == Some(version);
        match [LinkName::Current, LinkName::Permanent].into_iter().find(|link| leads(*link)) {
            Some(link) => {
                Err(Error::failed(format!("cannot remove {version}: {} leads to it", link.file_name())))
            }
            None => Ok(()),
        }
    }

    fn tenure(&self, version: &Version) -> Result<()> {
        self.root.set_tenured(version, self.root.observe()?.next_tenure())
    }

    fn point(&self, link: LinkName, to: Option<&Version>) -> Result<()> {
        let (path, name) = (self.root.path(), link.file_name());
        let Some(version) = to else { return disk::remove_link(path, name) };
        if !disk::is_dir(&self.root.release(version)) {
            return Err(Error::failed(format!("cannot point {name} at {version}: it is not there")));
        }
        let target = Path::new("releases").join(version.to_string());
        disk::switch_link(path, name, &target, self.root.owner())
    }
}
