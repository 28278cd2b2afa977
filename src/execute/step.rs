//! Applies one step of a plan. A step takes effect completely or not at all, and can be repeated.

use std::path::Path;

use crate::background;
use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath};
use crate::plan::{Item, Step};
use crate::progress::Progress;
use crate::release::LinkName;
use crate::root::{Root, RootLock, Trial};
use crate::version::Version;

use super::service_steps::ServiceSteps;
use super::shared;
use super::stage::Parts;
use super::task::{StepSource, Tasks};

pub(super) struct StepContext<'a> {
    pub root: &'a Root,
    pub lock: &'a RootLock,
    pub transaction: &'a str,
    /// The paths where this command staged the release. They are held open, so that nothing can be put in their
    /// place.
    pub staged: Option<&'a Parts>,
    /// The source of the steps.
    pub source: StepSource,
}

impl StepContext<'_> {
    pub fn apply(&self, step: &Step, progress: &mut dyn Progress) -> Result<()> {
        match step {
            Step::Unpack { version, .. } | Step::Copy { version, .. } => self.publish(version),
            Step::Prepare { version } => self.tasks().prepare(version, progress),
            Step::Backup { version, command } => self.tasks().backup(version, command.as_deref(), progress),
            Step::Data { formats } => self.tasks().set_formats(formats),
            Step::Migrate { version, old, from, to } => {
                self.tasks().migrate(from, *to, version, old.as_ref())
            }
            Step::Unpublish { version } => self.withdraw(version),
            Step::Trash { item } => self.discard(item),
            Step::Restore { item } => self.restore(item),
            Step::RecordPermanent { version } => self.tenure(version),
            Step::SwitchLink { link, to, .. } => self.point(*link, to.as_ref()),
            Step::StartTrial { version, term } => {
                let trial = Trial::begin(version, *term, self.transaction)?;
                self.root.set_trial(&trial)?;
                background::deadline(self.root, &trial)
            }
            Step::MoveService { from, to, motion } => self.service_steps().switch(from, to, motion, progress),
            Step::ReturnService { from, to, motion } => {
                self.service_steps().roll_back(from, to, motion, progress)
            }
            Step::StartService { version } => self.service_steps().start(version, progress),
            Step::StopService { version } => self.service_steps().stop(version, progress),
            Step::WaitHealthy { version, motion } => {
                self.service_steps().wait_healthy(version, motion, progress)
            }
        }
    }

    fn service_steps(&self) -> ServiceSteps<'_> {
        ServiceSteps { root: self.root, lock: self.lock, transaction: self.transaction }
    }

    fn tasks(&self) -> Tasks<'_> {
        Tasks { root: self.root, transaction: self.transaction, source: self.source }
    }

    /// Publishes the release by one rename. It is complete and durable in staging.
    fn publish(&self, version: &Version) -> Result<()> {
        if self.has_published(version) && disk::is_dir(&self.root.release(version)) {
            return Ok(());
        }
        let staged = self.parts();
        if !disk::is_dir(&staged.tree) {
            return Err(Error::failed(
                "cannot finish an interrupted unpacking: the release is no longer in staging",
            ));
        }
        shared::appear(self.root, &staged)?;
        // A receipt left by a release that was removed without Tenure does not describe this release.
        self.throw(&self.root.receipt_dir(version), &self.bin().join("stale"))?;
        disk::move_durable(&staged.receipt, &self.root.receipt_dir(version))?;
        disk::move_durable(&staged.tree, &self.root.release(version))
    }

    /// Takes back the release that this transaction published, and no other. It moves back into staging, which takes
    /// no space on a disk that may be full, and does not depend on which process published it.
    fn withdraw(&self, version: &Version) -> Result<()> {
        if !self.has_published(version) {
            return Ok(());
        }
        self.refuse_linked(version)?;
        let staged = self.parts();
        if self.staged.is_none() {
            staged.make()?;
        }
        for (published, back) in
            [(self.root.release(version), staged.tree), (self.root.receipt_dir(version), staged.receipt)]
        {
            if disk::exists(&published) {
                disk::move_durable(&published, &back)?;
            }
        }
        Ok(())
    }

    fn has_published(&self, version: &Version) -> bool {
        self.root.receipt(version).is_some_and(|receipt| receipt.transaction == self.transaction)
    }

    /// Returns the paths where this transaction staged a release. An interrupted command staged it before this one
    /// began.
    fn parts(&self) -> Parts {
        let earlier = || Parts::of(self.root, self.transaction);
        self.staged.cloned().unwrap_or_else(earlier)
    }

    fn discard(&self, item: &Item) -> Result<()> {
        if let Item::Release(version) = item {
            self.refuse_linked(version)?;
        }
        self.places(item).iter().try_for_each(|(place, thrown)| self.throw(place, thrown))
    }

    fn restore(&self, item: &Item) -> Result<()> {
        // The release itself comes back last: once it exists, its receipt exists as well.
        self.places(item).iter().rev().try_for_each(|(place, thrown)| disk::bring_back(thrown, place))
    }

    /// Returns the paths of an item's parts, each with its path in the trash.
    fn places(&self, item: &Item) -> Vec<(DirPath, DirPath)> {
        let bin = self.root.release_trash().join(self.transaction);
        match item {
            Item::Release(version) => vec![
                (self.root.release(version), bin.join(format!("release-{version}"))),
                (self.root.receipt_dir(version), self.bin().join(format!("receipt-{version}"))),
            ],
            Item::Archive(file) => {
                let beside = ["", ".sha256", ".minisig"].map(|ending| format!("{file}{ending}"));
                beside.map(|f| (self.root.releases().join(&f), bin.join(format!("file-{f}")))).into()
            }
        }
    }

    /// Moves a path into this transaction's part of the trash, if it still exists.
    fn throw(&self, from: &DirPath, thrown: &DirPath) -> Result<()> {
        if !disk::exists(from) {
            return Ok(());
        }
        for trash in [self.root.trash(), self.root.release_trash()] {
            disk::ensure_dir(&trash.join(self.transaction), 0o755, self.root.owner())?;
            disk::sync_dir(&trash)?;
            if !self.root.is_spread() {
                break;
            }
        }
        disk::throw_durable(from, thrown)
    }

    fn bin(&self) -> DirPath {
        self.root.trash().join(self.transaction)
    }

    /// Refuses to remove a release that a link points to. This is the last check before the removal.
    fn refuse_linked(&self, version: &Version) -> Result<()> {
        let now = self.root.observe()?;
        let leads = |link: LinkName| now.link(link).version() == Some(version);
        match [LinkName::Current, LinkName::Permanent].into_iter().find(|link| leads(*link)) {
            Some(link) => {
                Err(Error::failed(format!("cannot remove {version}: {} points to it", link.file_name())))
            }
            None => Ok(()),
        }
    }

    fn tenure(&self, version: &Version) -> Result<()> {
        self.root.set_tenured(version, self.root.observe()?.next_tenure())
    }

    fn point(&self, link: LinkName, to: Option<&Version>) -> Result<()> {
        let (root, name) = (self.root.place(), link.file_name());
        let Some(version) = to else { return disk::remove_link(root, name) };
        if !disk::is_dir(&self.root.release(version)) {
            return Err(Error::failed(format!("cannot point {name} to {version}: it does not exist")));
        }
        let target = Path::new("releases").join(version.to_string());
        disk::switch_link(root, name, &target, &self.root.staging(), self.root.owner())
    }
}
