//! `migrate`: runs the data migration of the permanent release, again or for the first time, in a background process.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::data::{DataFormat, Migration, OnDisk, Stage, migrated};
use crate::error::{Error, Result};
use crate::execute::{self, Reporter};
use crate::hook::{Hook, HookContext, Task};
use crate::journal;
use crate::progress::Progress;
use crate::root::{HistoryEntry, Outcome, Root};
use crate::version::Version;

use super::session::{Common, Mode, Session};

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The options of `migrate`.
#[derive(Clone, Debug)]
pub struct Migrate {
    /// The options common to all commands.
    pub common: Common,
    /// Whether to return while the migration is running.
    pub background: bool,
    /// The format of the data, as the operator states after a restore. If set, no migration runs.
    pub restored: Option<DataFormat>,
}

/// The result of `migrate`.
#[derive(Clone, Debug, Serialize)]
pub struct Migrated {
    /// The permanent release.
    pub version: Version,
    /// The formats of the data on disk; empty if unknown.
    pub formats: BTreeSet<DataFormat>,
    /// The last migration; `None` if there is none.
    pub migration: Option<Migration>,
    /// Whether a migration was started or a format recorded.
    pub changed: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
}

/// Runs the migration of the permanent release, unless it is done, and waits for its end.
///
/// # Errors
/// Returns a `Refused` error during a trial or if no release is permanent, and a `Failed` error if the migration
/// fails.
pub fn migrate(root: &Root, options: &Migrate, reporter: &mut dyn Reporter) -> Result<Migrated> {
    let begun = begin(root, options, reporter)?;
    if options.background || begun.dry_run {
        return Ok(begun);
    }
    let known = follow(root, reporter)?;
    match &known.migration {
        Some(migration) if migration.stage == Stage::Failed => Err(failed(migration)),
        _ => Ok(Migrated { formats: known.formats, migration: known.migration, ..begun }),
    }
}

fn begin(root: &Root, options: &Migrate, reporter: &mut dyn Reporter) -> Result<Migrated> {
    let session = Session::begin(root, &options.common, reporter)?;
    let now = &session.now;
    now.sound()?;
    let version = now.permanent.version().cloned().ok_or_else(|| {
        Error::refused("cannot migrate: no release is permanent")
            .hint("run `tenure install VERSION` to install a release")
    })?;
    now.without_trial(|| "cannot migrate".to_owned())?;
    let acts = options.common.mode == Mode::Act;
    if let Some(format) = options.restored {
        return restored(&session, version, format, reporter);
    }
    let known = root.data(now)?;
    let at_work = known.unfinished().is_some_and(|migration| migration.stage != Stage::Failed);
    let to = if at_work { None } else { wanted(root, &known, &version)? };
    if let (Some(to), true) = (to, acts) {
        let old = known.unfinished().and_then(|earlier| earlier.old.clone());
        let id = format!("{}-data", journal::new_transaction());
        let migration = Migration::due(id, clock::now(), &version, old.as_ref(), to);
        execute::begin_migration(root, &known.to_migrate(), migration)?;
    }
    let known = root.data(now)?;
    Ok(Migrated {
        version,
        formats: known.formats,
        migration: known.migration,
        changed: to.is_some(),
        dry_run: !acts,
    })
}

/// Returns the format to which the release would migrate the data: `None` if there is nothing to migrate,
/// `Some(None)` if the release does not declare a format.
fn wanted(root: &Root, known: &OnDisk, version: &Version) -> Result<Option<Option<DataFormat>>> {
    let manifest = root.manifest(version)?;
    let Some(manifest) = manifest.filter(|manifest| manifest.hooks.migrate.is_some()) else {
        return match known.unfinished() {
            Some(migration) => Err(Error::refused(format!(
                "cannot migrate: {version} has no migrate hook, and a migration is unfinished: {migration}"
            ))
            .hint(format!("`tenure install {}` switches to the release of the hook", migration.version))),
            None => Ok(None),
        };
    };
    let writes = manifest.data.as_ref().map(|formats| formats.writes);
    // Without a declared format, only a migration that was begun is known to be unfinished.
    let is_due = known.unfinished().is_some() || writes.is_some_and(|writes| !known.is_only(writes));
    Ok(is_due.then_some(writes))
}

/// Records the format of data that the operator has restored. The history records who stated it.
fn restored(
    session: &Session<'_>,
    version: Version,
    format: DataFormat,
    reporter: &mut dyn Reporter,
) -> Result<Migrated> {
    let (root, now, acts) = (session.root, &session.now, session.common.mode == Mode::Act);
    let restored = OnDisk { formats: BTreeSet::from([format]), migration: None };
    if acts {
        let (started, begun) = (clock::now(), clock::since_boot());
        let post = execute::migration_post(root)?;
        // An unreadable record is replaced here.
        root.recorded_data().iter().for_each(execute::end_left_over);
        root.record_data(&restored, &post)?;
        drop(post);
        let (transaction, invocation) = (journal::new_transaction(), &session.common.invocation);
        let entry = HistoryEntry {
            transaction,
            command: invocation.command.clone(),
            by: invocation.by.clone(),
            started,
            took_ms: Some(clock::milliseconds(clock::since_boot().saturating_sub(begun))),
            outcome: Outcome::Done,
            from: None,
            to: Some(version.clone()),
            error: None,
            permanent: now.permanent.version().cloned(),
            moved_service: None,
        };
        remember(root, &entry, reporter);
    }
    let known = if acts { root.data(now)? } else { restored };
    Ok(Migrated { version, formats: known.formats, migration: None, changed: true, dry_run: !acts })
}

/// Waits for the end of a migration and returns the state of the data.
///
/// # Errors
/// Returns an error if the root cannot be read.
pub(super) fn follow(root: &Root, reporter: &mut dyn Reporter) -> Result<OnDisk> {
    clock::poll(POLL_INTERVAL, || {
        let known = root.data(&root.observe()?)?;
        match known.unfinished() {
            Some(migration) if migration.stage != Stage::Failed => {
                reporter.working(&format!("Migrating the data {migration}"));
            }
            _ => return Ok(Some(known)),
        }
        if reporter.interrupted() {
            reporter
                .warn("the migration continues without this command; run `tenure status` to see its state");
            return Ok(Some(known));
        }
        Ok(None)
    })
}

/// Returns the error for a failed migration.
pub(super) fn failed(migration: &Migration) -> Error {
    let error = Error::failed(format!("the data migration failed: {migration}"));
    let error = match &migration.error {
        Some(why) => error.because(Error::failed(why.clone())),
        None => error,
    };
    error.hint("fix the cause, then run `tenure migrate`; until then upgrades are refused")
}

/// The result of `migrator`.
#[derive(Clone, Debug, Serialize)]
pub struct Migrator {
    /// The migration as it ended; `None` if this process had no migration to run.
    pub migration: Option<Migration>,
}

/// Runs the recorded migration with this id and records its result. Tenure starts it itself.
///
/// # Errors
/// Returns an error if the record of the data cannot be read or written.
pub fn migrator(root: &Root, id: &str, reporter: &mut dyn Reporter) -> Result<Migrator> {
    let post = execute::migration_post(root)?;
    let mut data = root.recorded_data()?;
    let is_mine = |migration: &Migration| migration.id == id && migration.stage == Stage::Due;
    let Some(mut migration) = data.migration.clone().filter(is_mine) else {
        return Ok(Migrator { migration: None });
    };
    let begun = clock::since_boot();
    (migration.stage, migration.started) = (Stage::Running, clock::now());
    data.migration = Some(migration.clone());
    root.record_data(&data, &post)?;
    let ran = run(root, &migration, reporter);
    migration.ended = Some(clock::now());
    migration.error = ran.as_ref().err().map(Error::in_one_line);
    migration.stage = if ran.is_ok() { Stage::Done } else { Stage::Failed };
    if ran.is_ok() {
        data.formats = migrated(migration.to);
    }
    data.migration = Some(migration.clone());
    root.record_data(&data, &post)?;
    drop(post);
    remember(root, &ended(&migration, clock::since_boot().saturating_sub(begun)), reporter);
    Ok(Migrator { migration: Some(migration) })
}

fn run(root: &Root, migration: &Migration, progress: &dyn Progress) -> Result<()> {
    let version = &migration.version;
    let hook = Hook::needed(root, version, Task::Migrate)?;
    let errand = HookContext {
        action: "migrate",
        old: migration.old.as_ref(),
        new: Some(version),
        transaction: Some(&migration.id),
        ..HookContext::default()
    };
    hook.run_logged(&errand, progress)
}

/// Appends a whole line, so this needs no lock and blocks no other command. A missing entry does no harm.
fn remember(root: &Root, entry: &HistoryEntry, reporter: &mut dyn Reporter) {
    root.remember(entry).unwrap_or_else(|error| reporter.warn(&error.in_one_line()));
}

fn ended(migration: &Migration, took: Duration) -> HistoryEntry {
    HistoryEntry {
        transaction: migration.id.clone(),
        command: "migrate".to_owned(),
        by: "the migrator".to_owned(),
        started: migration.started.clone(),
        took_ms: Some(clock::milliseconds(took)),
        outcome: if migration.error.is_none() { Outcome::Done } else { Outcome::Unfinished },
        from: None,
        to: Some(migration.version.clone()),
        error: migration.error.clone(),
        permanent: None,
        moved_service: None,
    }
}
