//! Applies one step. Each is whole or not at all, and may be applied again.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs as disk;
use crate::plan::{Item, Step};
use crate::release::LinkName;
use crate::root::Root;
use crate::service;
use crate::version::Version;

use super::stage::Parts;

pub(super) struct Hands<'a> {
    pub root: &'a Root,
    pub transaction: &'a str,
}

impl Hands<'_> {
    pub fn apply(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Unpack { version, .. } | Step::Copy { version, .. } => self.publish(version),
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

    /// Lets the release appear by one rename; it is complete and durable in staging.
    fn publish(&self, version: &Version) -> Result<()> {
        if self.has_published(version) && disk::is_dir(&self.root.release(version)) {
            return Ok(());
        }
        let staged = self.staged();
        if !disk::is_dir(&staged.tree) {
            return Err(Error::failed("cannot unpack a release again that an interrupted command unpacked"));
        }
        // What is known of a release that went without Tenure is not true of this one.
        self.throw(&self.root.receipt_dir(version), "stale")?;
        disk::move_durable(&staged.receipt, &self.root.receipt_dir(version))?;
        disk::move_durable(&staged.tree, &self.root.release(version))
    }

    /// Takes back what this transaction published, and nothing else: it goes where it came from, which takes
    /// no room on a disk that may be full.
    fn withdraw(&self, version: &Version) -> Result<()> {
        if !self.has_published(version) {
            return Ok(());
        }
        self.unused(version)?;
        let staged = self.staged();
        staged.prepare()?;
        for (published, from) in
            [(self.root.release(version), staged.tree), (self.root.receipt_dir(version), staged.receipt)]
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

    fn staged(&self) -> Parts {
        Parts::of(self.root, self.transaction)
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
