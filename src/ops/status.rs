//! `status`: shows everything about a root, even if it is damaged.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::data::{DataFormat, Migration, OnDisk, Stage};
use crate::error::{Error, Kind, Result};
use crate::fs as disk;
use crate::health::Sample;
use crate::journal::{self, JournalState};
use crate::plan::{TrialEnd, recover};
use crate::progress::Progress;
use crate::release::{ReleaseState, Snapshot};
use crate::root::{Failure, Root, Trial, TrialRecord, trials};
use crate::service::{Running, Service};
use crate::version::Version;

use super::disk_space::reserve;
use super::migrate::failed;
use super::state::RootState;
use super::versions::{Remembered, remembered};

/// A command that is running or was interrupted.
#[derive(Clone, Debug, Serialize)]
pub struct Unfinished {
    /// The command.
    pub command: String,
    /// The user who ran it.
    pub by: String,
    /// When it began, in RFC 3339.
    pub started: String,
    /// Whether a process is working on it; `None` if this user cannot determine that.
    pub at_work: Option<bool>,
    /// The process that is working on it, if known.
    pub pid: Option<u32>,
    /// The recovery that would run now.
    pub recovery: crate::plan::Recovery,
}

/// A release and its state.
#[derive(Clone, Debug, Serialize)]
pub struct ReleaseRow {
    /// The release.
    pub version: Version,
    /// Its state.
    pub state: ReleaseState,
    /// Whether it failed on this host, which is forgotten once it is permanent.
    pub failed: bool,
}

/// A problem.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The resulting state of the root.
    pub state: RootState,
    /// A description.
    pub message: String,
    /// What to do.
    pub hints: Vec<String>,
}

/// The state of the service, independent of the links.
#[derive(Clone, Debug, Serialize)]
pub struct Serving {
    /// Whether it is up; `None` if unknown.
    pub up: Option<bool>,
    /// The release that it runs.
    pub runs: Running,
    /// Its health; `None` while it is down.
    pub health: Option<Sample>,
}

/// A trial with a deadline.
#[derive(Clone, Debug, Serialize)]
pub struct Ending {
    /// What ends the trial, in words.
    pub term: String,
    /// Whether it is rolled back unless it is confirmed. Otherwise it becomes permanent if it is healthy.
    pub to_be_confirmed: bool,
    /// The remaining time in seconds.
    pub left_seconds: u64,
    /// When it ends, in RFC 3339.
    pub ends: String,
}

/// The disk space on the file system of the releases.
#[derive(Clone, Debug, Serialize)]
pub struct DiskSpace {
    /// Bytes available to an unprivileged user.
    pub free_bytes: u64,
    /// The total size in bytes.
    pub size_bytes: u64,
    /// Bytes that releases must leave free.
    pub reserve_bytes: u64,
    /// Files that can still be created; `None` without a limit.
    pub free_inodes: Option<u64>,
}

/// The state of a root.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The state in one word.
    pub state: RootState,
    /// The product, if the settings name it.
    pub name: Option<String>,
    /// The path of the root.
    pub root: String,
    /// Whether tenure.toml has no errors.
    pub settings_valid: bool,
    /// The release that runs now.
    pub current: Option<Version>,
    /// The release that the next start runs.
    pub permanent: Option<Version>,
    /// Whether `current` and `permanent` differ.
    pub on_trial: bool,
    /// Its deadline; `None` if it has none.
    pub trial: Option<Ending>,
    /// The releases, newest first.
    pub releases: Vec<ReleaseRow>,
    /// A command that is not finished.
    pub unfinished: Option<Unfinished>,
    /// The service; `None` if Tenure only switches links.
    pub service: Option<Serving>,
    /// Whether the service runs another release than `current` points to; `None` if unknown, without a service, and
    /// while a command moves it.
    pub drift: Option<bool>,
    /// The last transaction; `None` if there was none.
    pub last: Option<Remembered>,
    /// The last move to another release, and its outcome; `None` if there was none.
    pub last_trial: Option<TrialRecord>,
    /// The releases that failed on this host, installed or not; the highest first.
    pub failed: Vec<Failure>,
    /// The disk space for releases; `None` if unknown.
    pub space: Option<DiskSpace>,
    /// The formats of the data on disk; empty if unknown.
    pub data_formats: BTreeSet<DataFormat>,
    /// The last data migration; `None` if there was none.
    pub migration: Option<Migration>,
    /// All problems.
    pub problems: Vec<Problem>,
}

/// Reads the state of a root. Takes no lock and changes nothing.
///
/// # Errors
/// Returns an error if the root cannot be read.
pub fn status(root: &Root, progress: &dyn Progress) -> Result<Status> {
    let now = root.observe()?;
    let mut problems: Vec<Problem> =
        now.faults().iter().map(|fault| problem(RootState::Broken, fault)).collect();
    problems.extend(root.damage().iter().map(|wrong| problem(RootState::Broken, wrong)));
    let unfinished = unfinished(root, &now, &mut problems)?;
    let before = problems.len();
    let service = serving(root, &now, progress, &mut problems)?;
    let is_told = problems.len() > before;
    problems.extend(unfinished.as_ref().and_then(|unfinished| left_undone(root, unfinished)));
    let data = known(data(root, &now), &mut problems);
    let failed_migration = data.migration.as_ref().filter(|m| m.stage == Stage::Failed);
    problems.extend(failed_migration.map(|m| problem(RootState::MigrationFailed, &failed(m))));
    let entries = known(root.history(), &mut problems);
    let last_trial = trials(&entries).pop().map(|(_, trial)| trial);
    let at_work = unfinished.as_ref().map_or(Some(false), |unfinished| unfinished.at_work);
    // During a move, the service may run another release.
    let moored = service.as_ref().filter(|_| at_work == Some(false) && !is_told);
    problems.extend(moored.and_then(|service| astray(service, &now).or_else(|| down(service, &now))));
    let calm = RootState::of(&now, at_work == Some(true), data.unfinished().is_some());
    Ok(Status {
        state: problems.iter().map(|problem| problem.state).max().unwrap_or(calm),
        name: root.settings().name.clone(),
        root: root.path().display().to_string(),
        settings_valid: root.ruled().is_ok(),
        current: now.current.version().cloned(),
        permanent: now.permanent.version().cloned(),
        on_trial: now.trial().is_some(),
        trial: root.trial(&now)?.as_ref().map(ending),
        releases: standing(root, &now),
        unfinished,
        drift: moored.and_then(|service| drifts(service, &now)),
        service,
        last: remembered(entries).pop(),
        last_trial,
        failed: root.failures(),
        space: space(root),
        data_formats: data.formats,
        migration: data.migration,
        problems,
    })
}

fn standing(root: &Root, now: &Snapshot) -> Vec<ReleaseRow> {
    let of = |version: &Version, state| {
        let failed = root.installed_failure(version).is_some();
        ReleaseRow { version: version.clone(), state, failed }
    };
    now.states().map(|(version, state)| of(version, state)).collect()
}

fn problem(state: RootState, error: &Error) -> Problem {
    let hints = error.hints().into_iter().map(Into::into).collect();
    Problem { state, message: error.in_one_line(), hints }
}

/// Returns the value. If it could not be read, adds a problem and returns the default.
fn known<T: Default>(read: Result<T>, problems: &mut Vec<Problem>) -> T {
    read.unwrap_or_else(|error| {
        problems.push(problem(RootState::Broken, &error));
        T::default()
    })
}

fn ending(trial: &Trial) -> Ending {
    Ending {
        term: trial.term.to_string(),
        to_be_confirmed: matches!(trial.term, TrialEnd::Confirmation(_)),
        left_seconds: trial.left().as_secs(),
        ends: trial.ends.clone(),
    }
}

fn space(root: &Root) -> Option<DiskSpace> {
    let free = disk::free(&root.disk()).ok()?;
    Some(DiskSpace {
        free_bytes: free.bytes,
        size_bytes: free.size,
        reserve_bytes: reserve(root, &free),
        free_inodes: free.files,
    })
}

/// Returns the problem of a command that no process is working on. A guard works on it if it can.
fn left_undone(root: &Root, unfinished: &Unfinished) -> Option<Problem> {
    if unfinished.at_work.is_none() {
        return root.may_tell().err().map(|hidden| problem(RootState::Unknown, &hidden));
    }
    let message = format!("`{}` was interrupted, or could not be rolled back", unfinished.command);
    let hints = vec!["run `tenure boot`, or any command that changes something, to recover".into()];
    unfinished.pid.is_none().then_some(Problem { state: RootState::Interrupted, message, hints })
}

/// The delay before the journal is read again if no process seems to be working on it.
const AGAIN: Duration = Duration::from_millis(10);

/// Returns the command that is not finished. Commands close the journal before they release the lock: if the lock is
/// free, the journal that was read before may be closed by now.
fn unfinished(root: &Root, now: &Snapshot, problems: &mut Vec<Problem>) -> Result<Option<Unfinished>> {
    let mut seen = None;
    clock::poll(AGAIN, || {
        let record = match journal::find(root)? {
            JournalState::Nothing => return Ok(Some(None)),
            JournalState::Damaged => {
                let message = format!("the journal {} is damaged", root.journal().display());
                let hints =
                    vec!["run `tenure boot`, or any command that changes something, to move it aside".into()];
                problems.push(Problem { state: RootState::Broken, message, hints });
                return Ok(Some(None));
            }
            JournalState::Open(record) => record,
        };
        let pid = root.lock_holder().map(|holder| holder.pid);
        let is_hidden = root.may_tell().is_err();
        if pid.is_some() || is_hidden || seen.as_ref() == Some(&record.transaction) {
            let recovery = recover(&record, now);
            let (command, by, started) = (record.command, record.by, record.started);
            let at_work = (!is_hidden).then_some(pid.is_some());
            return Ok(Some(Some(Unfinished { recovery, at_work, pid, command, by, started })));
        }
        seen = Some(record.transaction);
        Ok(None)
    })
}

/// Returns the state of the data. A recorded migration without a process may be about to begin, by a command that is
/// running on the root. It has failed only if no command is.
fn data(root: &Root, now: &Snapshot) -> Result<OnDisk> {
    let known = root.data_as_told(now)?;
    if !known.migration.as_ref().is_some_and(|migration| migration.stage == Stage::Failed) {
        return Ok(known);
    }
    let Some(due) = root.recorded_data()?.migration.filter(|migration| migration.stage == Stage::Due) else {
        return Ok(known);
    };
    if root.at_work().is_some() || journal::is_open(root)? {
        return Ok(OnDisk { migration: Some(due), ..known });
    }
    // The migration may have begun, and its command ended, between both reads.
    clock::sleep(AGAIN);
    root.data_as_told(now)
}

/// Observes the service. Adds a problem if the permissions forbid that.
fn serving(
    root: &Root,
    now: &Snapshot,
    progress: &dyn Progress,
    problems: &mut Vec<Problem>,
) -> Result<Option<Serving>> {
    let (Some(service), Some(current)) = (Service::of(root), now.current.version()) else {
        problems.extend(root.check_modes().err().map(|error| problem(RootState::Broken, &error)));
        return Ok(None);
    };
    let unasked = |why: &Error| Serving { up: None, runs: Running::Unknown(why.in_one_line()), health: None };
    if let Err(error) = root.check_modes() {
        problems.push(problem(RootState::Broken, &error));
        return Ok(Some(unasked(&error)));
    }
    let (up, runs) = match service.is_up(progress) {
        Ok(true) => {
            let runs =
                service.running(current, progress).unwrap_or_else(|e| Running::Unknown(e.in_one_line()));
            (Some(true), runs)
        }
        Ok(false) => (Some(false), Running::Nothing),
        Err(e) => {
            problems.extend((e.kind() == Kind::Refused).then(|| problem(RootState::Unknown, &e)));
            return Ok(Some(unasked(&e)));
        }
    };
    let health = match up {
        Some(true) => Some(match root.health(current) {
            Ok(declared) => service.sample_health(current, &declared, progress)?,
            Err(error) => Sample::CannotTell(error.in_one_line()),
        }),
        _ => None,
    };
    Ok(Some(Serving { up, runs, health }))
}

/// Returns whether the service runs another release than `current`; `None` if that is unknown.
fn drifts(service: &Serving, now: &Snapshot) -> Option<bool> {
    let current = now.current.version()?;
    match &service.runs {
        Running::Nothing => Some(false),
        Running::Release(version) => Some(version != current),
        Running::Several(_) => Some(true),
        Running::Unknown(_) => None,
    }
}

fn down(service: &Serving, now: &Snapshot) -> Option<Problem> {
    let permanent = now.permanent.version().filter(|_| service.up == Some(false))?;
    let hints = vec![format!("start the service, or run `tenure install --start {permanent}`")];
    Some(Problem { state: RootState::Down, message: "the service is down".into(), hints })
}

/// Returns a problem if the service runs another release, or an unknown one.
fn astray(service: &Serving, now: &Snapshot) -> Option<Problem> {
    let current = now.current.version()?;
    let state = match drifts(service, now) {
        Some(false) => return None,
        Some(true) => RootState::Drift,
        None => RootState::Unknown,
    };
    let message = format!("{}, and `current` points to {current}", service.runs);
    let restart = "restart the service to run the release that the links point to";
    let is_hidden = state == RootState::Unknown && disk::effective_uid() != 0;
    let hints = vec![if is_hidden { "run it as root" } else { restart }.into()];
    Some(Problem { state, message, hints })
}
