//! Runs the steps that run hooks of a release, and keeps the records of their results.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::background;
use crate::clock;
use crate::data::{DataFormat, Migration, OnDisk, Stage};
use crate::error::{Context, Error, Result};
use crate::hook::{self, Hook, HookContext, Task};
use crate::privilege;
use crate::process::{self, Program};
use crate::progress::Progress;
use crate::root::{MigrationPost, Root};
use crate::version::Version;

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

pub(super) struct Tasks<'a> {
    pub root: &'a Root,
    pub transaction: &'a str,
    pub source: StepSource,
}

impl Tasks<'_> {
    /// Runs the prepare hook. Files that the hook writes into the release become part of it.
    pub fn prepare(&self, version: &Version, progress: &mut dyn Progress) -> Result<()> {
        progress.working(&format!("Preparing {version}"));
        let manifest = self.root.manifest(version)?;
        let hook = Hook::needed(self.root, version, manifest.as_ref(), Task::Prepare)?;
        let before = self.root.differences(version, &mut |_| progress.go_on())?;
        self.run(&hook, version, progress)?;
        self.root.set_prepared(version, before.as_ref(), self.transaction)
    }

    /// Makes a backup by the operator's command, or by the backup hook of the release.
    pub fn backup(
        &self,
        version: &Version,
        command: Option<&str>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        progress.working("Making a backup");
        let manifest = self.root.manifest(version)?;
        match command {
            Some(command) => {
                self.shell(command, hook::timeout(self.root, manifest.as_ref(), Task::Backup), progress)
            }
            None => {
                let hook = Hook::needed(self.root, version, manifest.as_ref(), Task::Backup)?;
                self.run(&hook, version, progress)
            }
        }
        .context(|| "cannot make the backup that this operation needs")
    }

    fn run(&self, hook: &Hook<'_>, version: &Version, progress: &dyn Progress) -> Result<()> {
        let now = self.root.observe()?;
        let errand = HookContext {
            action: hook.name,
            old: now.permanent.version(),
            new: Some(version),
            transaction: Some(self.transaction),
            ..HookContext::default()
        };
        hook.run_logged(&errand, progress)
    }

    /// Runs the operator's backup command: as the operator, or as the owner of the journal if it comes from there.
    fn shell(&self, command: &str, within: Duration, progress: &dyn Progress) -> Result<()> {
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

    pub fn set_formats(&self, formats: &BTreeSet<DataFormat>) -> Result<()> {
        record(self.root, |data| data.formats.clone_from(formats))
    }

    /// Records that a migration is due, and starts it. A repeated step does not start it again once it has begun.
    pub fn migrate(
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
