//! Applies one step of a plan. A step takes effect completely or not at all, and can be repeated.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::background;
use crate::clock;
use crate::data::{DataFormat, Migration, OnDisk, Stage};
use crate::error::{Context, Error, Result};
use crate::fs::{self as disk, DirPath};
use crate::hook::{self, Hook, HookContext, Task};
use crate::plan::{Item, Step};
use crate::privilege;
use crate::process::{self, Program};
use crate::progress::Progress;
use crate::release::LinkName;
use crate::root::{MigrationPost, Root, RootLock, Trial};
use crate::version::Version;

use super::service_steps::ServiceSteps;
use super::staging::{self, StagingPaths};

/// How long to wait for a migration to begin, or for the migration post.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait between two looks at a migration.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The source of the steps to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepSource {
    /// The plan of this command.
    Command,
    /// The journal, which the owner of the root may have written.
    Journal,
}

pub(super) struct StepContext<'a> {
    pub root: &'a Root,
    pub lock: &'a RootLock,
    pub transaction: &'a str,
    /// The paths where this command staged the release. They are held open, so that nothing can be put in their
    /// place.
    pub staged: Option<&'a StagingPaths>,
    /// The source of the steps.
    pub source: StepSource,
}

impl StepContext<'_> {
    pub fn apply(&self, step: &Step, progress: &mut dyn Progress) -> Result<()> {
        match step {
            Step::Unpack { version, .. } | Step::Copy { version, .. } => self.publish(version),
            Step::Prepare { version } => self.prepare(version, progress),
            Step::Backup { version, command } => self.backup(version, command.as_deref(), progress),
            Step::Data { formats } => self.set_formats(formats),
            Step::Migrate { version, old, from, to } => self.migrate(from, *to, version, old.as_ref()),
            Step::Unpublish { version } => self.unpublish(version),
            Step::Trash { item } => self.trash(item),
            Step::Restore { item } => self.restore(item),
            Step::RecordPermanent { version } => self.record_permanent(version),
            Step::SwitchLink { link, to, .. } => self.switch_link(*link, to.as_ref()),
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

    /// Publishes the release by one rename. It is complete and durable in staging.
    fn publish(&self, version: &Version) -> Result<()> {
        if self.has_published(version) && disk::is_dir(&self.root.release(version)) {
            return Ok(());
        }
        let staged = self.staging_paths();
        if !disk::is_dir(&staged.tree) {
            return Err(Error::failed(
                "cannot finish an interrupted unpacking: the release is no longer in staging",
            ));
        }
        staging::create_shared(self.root, &staged)?;
        // A receipt left by a release that was removed without Tenure does not describe this release.
        self.move_to_trash(&self.root.receipt_dir(version), &self.own_trash().join("stale"))?;
        disk::move_durable(&staged.receipt, &self.root.receipt_dir(version))?;
        disk::move_durable(&staged.tree, &self.root.release(version))
    }

    /// Takes back the release that this transaction published, and no other. It moves back into staging, which takes
    /// no space on a disk that may be full, and does not depend on which process published it.
    fn unpublish(&self, version: &Version) -> Result<()> {
        if !self.has_published(version) {
            return Ok(());
        }
        self.refuse_linked(version)?;
        let staged = self.staging_paths();
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
    fn staging_paths(&self) -> StagingPaths {
        let earlier = || StagingPaths::of(self.root, self.transaction);
        self.staged.cloned().unwrap_or_else(earlier)
    }

    fn trash(&self, item: &Item) -> Result<()> {
        if let Item::Release(version) = item {
            self.refuse_linked(version)?;
        }
        self.places(item).iter().try_for_each(|(place, thrown)| self.move_to_trash(place, thrown))
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
                (self.root.receipt_dir(version), self.own_trash().join(format!("receipt-{version}"))),
            ],
            Item::Archive(file) => {
                let beside = ["", ".sha256", ".minisig"].map(|ending| format!("{file}{ending}"));
                beside.map(|f| (self.root.releases().join(&f), bin.join(format!("file-{f}")))).into()
            }
        }
    }

    /// Moves a path into this transaction's part of the trash, if it still exists.
    fn move_to_trash(&self, from: &DirPath, thrown: &DirPath) -> Result<()> {
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

    fn own_trash(&self) -> DirPath {
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

    fn record_permanent(&self, version: &Version) -> Result<()> {
        self.root.set_tenured(version, self.root.observe()?.next_tenure())
    }

    fn switch_link(&self, link: LinkName, to: Option<&Version>) -> Result<()> {
        let (root, name) = (self.root.place(), link.file_name());
        let Some(version) = to else { return disk::remove_link(root, name) };
        if !disk::is_dir(&self.root.release(version)) {
            return Err(Error::failed(format!("cannot point {name} to {version}: it does not exist")));
        }
        let target = Path::new("releases").join(version.to_string());
        disk::switch_link(root, name, &target, &self.root.staging(), self.root.owner())
    }

    /// Runs the prepare hook. Files that the hook writes into the release become part of it.
    fn prepare(&self, version: &Version, progress: &mut dyn Progress) -> Result<()> {
        progress.working(&format!("Preparing {version}"));
        let hook = Hook::needed(self.root, version, Task::Prepare)?;
        let before = self.root.differences(version, &mut |_| progress.go_on())?;
        self.run_hook(&hook, version, progress)?;
        self.root.set_prepared(version, before.as_ref(), self.transaction)
    }

    /// Makes a backup by the operator's command, or by the backup hook of the release.
    fn backup(&self, version: &Version, command: Option<&str>, progress: &mut dyn Progress) -> Result<()> {
        progress.working("Making a backup");
        match command {
            Some(command) => {
                let manifest = self.root.manifest(version)?;
                let within = hook::timeout(self.root, manifest.as_ref(), Task::Backup);
                self.run_backup_command(command, within, progress)
            }
            None => self.run_hook(&Hook::needed(self.root, version, Task::Backup)?, version, progress),
        }
        .context(|| "cannot make the backup that this operation needs")
    }

    fn run_hook(&self, hook: &Hook<'_>, version: &Version, progress: &dyn Progress) -> Result<()> {
        let now = self.root.observe()?;
        let context = HookContext {
            action: hook.name,
            old: now.permanent.version(),
            new: Some(version),
            transaction: Some(self.transaction),
            ..HookContext::default()
        };
        hook.run_logged(&context, progress)
    }

    /// Runs the operator's backup command: as the operator, or as the owner of the journal if it comes from there.
    fn run_backup_command(&self, command: &str, within: Duration, progress: &dyn Progress) -> Result<()> {
        let account = match self.source {
            StepSource::Command => None,
            StepSource::Journal => privilege::of_journal(self.root)?,
        };
        let (log, place) = self.root.new_log(&format!("{}-backup.log", self.transaction))?;
        let environment = [
            ("TENURE_ACTION", "backup".to_owned()),
            ("TENURE_ROOT", self.root.path().display().to_string()),
            ("TENURE_TRANSACTION", self.transaction.to_owned()),
        ];
        let program = Program {
            path: Path::new("sh"),
            arguments: &["-c".to_owned(), command.to_owned()],
            dir: self.root.path(),
            environment: &environment,
            account: account.as_ref(),
            within,
            output: &log,
        };
        process::run(&program, progress)?.good_or_said(within, &log).map_err(|why| {
            Error::failed(format!("`{command}` failed"))
                .because(why)
                .hint(format!("its output is in {}", place.display()))
        })
    }

    fn set_formats(&self, formats: &BTreeSet<DataFormat>) -> Result<()> {
        record(self.root, |data| data.formats.clone_from(formats))
    }

    /// Records that a migration is due, and starts it. A repeated step does not start it again once it has begun.
    fn migrate(
        &self,
        from: &BTreeSet<DataFormat>,
        to: Option<DataFormat>,
        version: &Version,
        old: Option<&Version>,
    ) -> Result<()> {
        let id = format!("{}-data", self.transaction);
        begin_migration(self.root, from, Migration::due(id, clock::now(), version, old, to))
    }
}

/// Records a migration of data that is, or was, in the formats `from`, and starts it. The step does this, and so does
/// a repeated migration.
///
/// # Errors
/// Returns an error if the record cannot be written or the migrator cannot be started.
pub fn begin_migration(root: &Root, from: &BTreeSet<DataFormat>, migration: Migration) -> Result<()> {
    let id = migration.id.clone();
    let stage = |data: &OnDisk| data.migration.as_ref().filter(|m| m.id == id).map(|m| m.stage);
    match stage(&root.recorded_data()?) {
        None => record(root, |data| *data = OnDisk { formats: from.clone(), migration: Some(migration) })?,
        Some(Stage::Due) => {}
        Some(_) => return Ok(()),
    }
    background::migration(root, &id)?;
    clock::poll_until(MIGRATION_TIMEOUT, POLL_INTERVAL, |_| {
        Ok((stage(&root.recorded_data()?) != Some(Stage::Due)).then_some(()))
    })
    .map(drop)
}

/// Ends the programs that a killed migrator left running, when its migration is skipped or replaced. No migrator may
/// hold the migration post.
pub fn end_left_over(data: &OnDisk) {
    if let Some(cut_short) = data.unfinished() {
        process::kill_leftover_hooks(&cut_short.id);
    }
}

/// Records a change of the data, while holding the migration post.
fn record(root: &Root, change: impl FnOnce(&mut OnDisk)) -> Result<()> {
    let post = migration_post(root)?;
    let mut data = root.recorded_data()?;
    end_left_over(&data);
    change(&mut data);
    root.record_data(&data, &post)
}

/// Takes the migration post, and waits for it if needed: a process that only looks at it holds it for a moment.
///
/// # Errors
/// Returns an error if a migration is running.
pub fn migration_post(root: &Root) -> Result<MigrationPost> {
    let taken = clock::poll_until(MIGRATION_TIMEOUT, POLL_INTERVAL, |_| root.migration_post())?;
    taken.ok_or_else(|| {
        Error::failed("a data migration is running").hint("run `tenure status` to see its state")
    })
}
