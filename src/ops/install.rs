//! `install`, `upgrade`, `downgrade`, `confirm` and `--prepare-only`: prepare a release, make it current, then permanent.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::data::{Migration, Stage};
use crate::error::{Error, Kind, Result};
use crate::execute::{self, Reporter};
use crate::health::Baseline;
use crate::journal;
use crate::plan::{self, Permanence, Request, ServiceMove, TrialEnd};
use crate::progress::Progress;
use crate::release::{ReleaseState, Snapshot};
use crate::root::{Root, TrialOutcome, TrialRecord};
use crate::service::{Running, Service};
use crate::version::Version;

use super::fetch::fetch;
use super::preflight::Preflight;
use super::session::{Common, Report, Session};
use super::source::{ArchiveRequest, Replace};
use super::{data, late};

/// How long a watched trial may be without a guard. A guard that is killed is replaced at once.
const UNATTENDED: Duration = Duration::from_secs(15);

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The options of `install`, `upgrade` and `downgrade`.
#[derive(Clone, Debug)]
pub struct Install {
    /// The options common to all commands.
    pub common: Common,
    /// The release, the direction, and whether the release becomes permanent.
    pub request: Request,
    /// The archive that the caller named; else the one in releases/.
    pub archive: Option<PathBuf>,
    /// Whether an installed release that is not in use is unpacked again.
    pub replace: Replace,
    /// The shell command that makes a backup before any change that cannot be rolled back.
    pub backup_command: Option<String>,
}

/// The result of `install`, `upgrade`, `downgrade` or `confirm`.
#[derive(Clone, Debug, Serialize)]
pub struct InstallResult {
    /// The release.
    pub version: Version,
    /// The state of the release before; `None` if it was not on disk.
    pub was: Option<ReleaseState>,
    /// The state of the release now.
    pub state: ReleaseState,
    /// The release that was current before.
    pub previous: Option<Version>,
    /// Whether anything was changed.
    pub changed: bool,
    /// The deadline of the trial, in RFC 3339; `None` if there is none.
    pub until: Option<String>,
    /// The unfinished data migration of the release, which runs in the background; `None` if there is none.
    pub migration: Option<Migration>,
}

/// Makes a release current and, unless the request says otherwise, permanent.
///
/// # Errors
/// Returns a `Refused` error if a rule forbids it. Returns a `Failed` error after a rollback, or a `Reverted` error
/// if the service had moved or a watched trial failed. Returns a `Stuck` error if the rollback failed.
pub fn install(root: &Root, options: &Install, reporter: &mut dyn Reporter) -> Result<Report<InstallResult>> {
    let target = &options.request.target;
    let mut report = install_in(Session::begin(root, &options.common, reporter)?, options, reporter)?;
    if let Report::Done { result, .. } = &mut report {
        if result.changed && matches!(options.request.permanence, Permanence::Ends(TrialEnd::Watch(_))) {
            result.state = follow(root, target, reporter)?;
        }
        result.until = root.trial(&root.observe()?)?.map(|trial| trial.ends);
    }
    Ok(report)
}

/// Like [`install`], but does not wait for the end of a trial.
pub(super) fn install_in(
    session: Session<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<InstallResult>> {
    let (root, request, target) = (session.root, &options.request, &options.request.target);
    request.allowed(&session.now)?;
    let was = session.now.state(target);
    let on_disk = root.data(&session.now)?;
    let preflight = Preflight::run(&session, &on_disk, request, want(options), reporter)?;
    watchable(root, request, preflight.service_move.as_ref(), reporter)?;
    let facts = preflight.facts(&session.now, &on_disk, request, options.backup_command.as_deref());
    let plan = plan::install(&session.now, request, facts)?;
    if session.acts_on(&plan) {
        if on_disk.unfinished().is_some_and(|migration| migration.stage == Stage::Failed) {
            execute::end_left_over(&on_disk);
        }
        reporter.opening(target, was.filter(|_| preflight.staged().is_none()));
    }
    let previous = session.now.current.version().cloned();
    let permanent = request.permanence == Permanence::Permanent || was == Some(ReleaseState::Permanent);
    let mut report = session.finish(plan, preflight.staged(), reporter, |plan| InstallResult {
        version: target.clone(),
        was,
        state: if permanent { ReleaseState::Permanent } else { ReleaseState::Current },
        previous,
        changed: !plan.steps.is_empty(),
        until: None,
        migration: None,
    })?;
    if let Report::Done { result, .. } = &mut report {
        result.migration = migrating(root, target)?;
    }
    Ok(report)
}

/// Returns the migration of a release, or `None` if there is none or it is done.
pub(super) fn migrating(root: &Root, version: &Version) -> Result<Option<Migration>> {
    let migration = root.data_as_told(&root.observe()?)?.migration;
    Ok(migration.filter(|migration| migration.version == *version && migration.stage != Stage::Done))
}

/// Refuses to watch the health of a service that is not in the settings, is down and stays down, or is failing
/// already.
fn watchable(
    root: &Root,
    request: &Request,
    motion: Option<&ServiceMove>,
    reporter: &dyn Reporter,
) -> Result<()> {
    let Permanence::Ends(TrialEnd::Watch(_)) = request.permanence else { return Ok(()) };
    let refuse =
        |why: &str| Err(Error::refused(format!("cannot watch the health of {}: {why}", request.target)));
    match (Service::of(root), motion) {
        (None, _) => refuse("the settings name no service"),
        (Some(service), _) if !request.start && !service.is_up(reporter)? => refuse("the service is down"),
        (_, Some(ServiceMove { baseline: Baseline::Failing, .. })) => {
            refuse("the service is failing already")
        }
        _ => Ok(()),
    }
}

/// Waits for the end of a trial that the guard watches.
///
/// # Errors
/// Returns a `Reverted` error if the trial ended and the release did not become permanent. Returns a `Stuck` error if
/// no guard is left to end the trial.
fn follow(root: &Root, version: &Version, reporter: &mut dyn Reporter) -> Result<ReleaseState> {
    let mut attended = clock::since_boot();
    clock::poll(POLL_INTERVAL, || {
        let now = root.observe()?;
        match (root.trial(&now)?, now.state(version)) {
            // The links show the end of the trial before the service has moved.
            _ if journal::is_open(root)? => {}
            (Some(trial), _) => reporter.waiting(&format!("Watching the health of {version}"), trial.left()),
            (None, Some(ReleaseState::Permanent)) => return Ok(Some(ReleaseState::Permanent)),
            (None, _) => return Err(reverted(root, &now, version, reporter)),
        }
        if reporter.interrupted() {
            reporter.warn("the trial continues without this command; run `tenure status` to see its state");
            return Ok(Some(ReleaseState::Current));
        }
        if root.is_guarded()? || root.lock_holder().is_some() {
            attended = clock::since_boot();
        } else if clock::since_boot().saturating_sub(attended) >= UNATTENDED {
            return Err(Error::new(
                Kind::Stuck,
                format!("the trial of {version} has not ended, and no guard runs"),
            )
            .hint("run `tenure status` to see which release runs, or `tenure revert` to end the trial"));
        }
        Ok(None)
    })
}

/// Returns the error for a trial that was rolled back: the reason, and which release runs now.
fn reverted(root: &Root, now: &Snapshot, version: &Version, progress: &dyn Progress) -> Error {
    let current = now.current.version();
    let runs = match (Service::of(root), current) {
        (Some(service), Some(current)) => match service.running(current, progress) {
            Ok(Running::Release(running)) => format!("{running} is running"),
            Ok(other) => other.to_string(),
            Err(error) => {
                format!("cannot determine which release the service runs: {}", error.in_one_line())
            }
        },
        (None, Some(current)) => format!("{current} is current"),
        (_, None) => "no release is current".to_owned(),
    };
    let failed = |what: &str| Error::new(Kind::Reverted, format!("{what}; {runs}"));
    let last = root.trials().unwrap_or_default().into_iter().rfind(|trial| trial.version == *version);
    let error = match last {
        Some(TrialRecord { outcome: TrialOutcome::Failed, why: Some(why), .. }) => {
            failed(&format!("release {version} failed its trial: rolled back")).because(Error::failed(why))
        }
        Some(trial) => {
            failed(&format!("the trial of {version} is over")).because(Error::failed(trial.to_string()))
        }
        None => failed(&format!("the trial of {version} is over"))
            .hint("run `tenure history` to see what ended it"),
    };
    match current {
        Some(current) => error.hint(format!("run `{}` to try it again", late::again(root, current, version))),
        None => error,
    }
}

/// The options of `confirm`.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// The options common to all commands.
    pub common: Common,
    /// The release to confirm, which must be current; `None` for any current release.
    pub version: Option<Version>,
    /// The shell command that makes a backup before any change that cannot be rolled back.
    pub backup_command: Option<String>,
}

/// Makes the current release permanent.
///
/// # Errors
/// Returns a `Refused` error if no release is current, if another release than the named one is current, or if the
/// last trial was rolled back.
pub fn confirm(root: &Root, options: &Confirm, reporter: &mut dyn Reporter) -> Result<Report<InstallResult>> {
    let session = Session::begin_damaged(root, &options.common, reporter)?;
    if let Some(overdue) = &session.overdue {
        return Err(overdue.refuse_confirm(options.common.mode));
    }
    late::confirmable(root, &session.now, options.version.as_ref())?;
    confirm_in(session, options.backup_command.as_deref(), reporter)
}

/// Like [`confirm`], in a given session.
pub(super) fn confirm_in(
    session: Session<'_>,
    backup_command: Option<&str>,
    reporter: &mut dyn Reporter,
) -> Result<Report<InstallResult>> {
    let (root, now) = (session.root, &session.now);
    let along = data::confirmed(root, now, backup_command, reporter)?;
    let plan = plan::confirm(now, along)?;
    let current = now.current.version().cloned();
    // `plan::confirm` refuses if no release is current.
    let version = current.clone().ok_or_else(|| Error::refused("no release is current"))?;
    let was = now.state(&version);
    if session.acts_on(&plan) {
        reporter.opening(&version, was);
    }
    let mut report = session.finish(plan, None, reporter, |plan| InstallResult {
        version: version.clone(),
        was,
        state: ReleaseState::Permanent,
        previous: current,
        changed: !plan.steps.is_empty(),
        until: None,
        migration: None,
    })?;
    if let Report::Done { result, .. } = &mut report {
        result.migration = migrating(root, &version)?;
    }
    Ok(report)
}

fn want(options: &Install) -> ArchiveRequest<'_> {
    let request = ArchiveRequest::of(&options.request.target, options.replace, options.common.mode);
    ArchiveRequest { given: options.archive.as_deref(), ..request }
}

/// The result of a preparation without a switch.
#[derive(Clone, Debug, Serialize)]
pub struct Prepared {
    /// The release.
    pub version: Version,
    /// The state of the release.
    pub state: ReleaseState,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Does everything of an upgrade short of the switch.
///
/// # Errors
/// Returns the errors of `install`.
pub fn prepare(root: &Root, options: &Install, reporter: &mut dyn Reporter) -> Result<Report<Prepared>> {
    let session = Session::begin(root, &options.common, reporter)?;
    prepare_in(session, options, reporter)
}

/// Prepares a release for a later hop, from a release that does not run yet. The checks run before that hop.
///
/// # Errors
/// Returns an error if the release cannot be unpacked or prepared.
pub(super) fn prepare_ahead(
    session: Session<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<Prepared>> {
    let target = &options.request.target;
    let fetched = fetch(session.root, &session.now, want(options), reporter)?;
    let fetched = fetched.declared(session.root, target)?;
    let preflight = Preflight::unchecked(session.root, &session.now, target, fetched);
    finish_prepared(session, &preflight, options, reporter)
}

/// Works like [`prepare`].
pub(super) fn prepare_in(
    session: Session<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<Prepared>> {
    options.request.allowed(&session.now)?;
    let on_disk = session.root.data(&session.now)?;
    let preflight = Preflight::run(&session, &on_disk, &options.request, want(options), reporter)?;
    finish_prepared(session, &preflight, options, reporter)
}

fn finish_prepared(
    session: Session<'_>,
    preflight: &Preflight<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<Prepared>> {
    let version = options.request.target.clone();
    let state = session.now.state(&version).unwrap_or(ReleaseState::Unpacked);
    session.finish(preflight.ahead(), preflight.staged(), reporter, |plan| Prepared {
        version,
        state,
        changed: !plan.steps.is_empty(),
    })
}
