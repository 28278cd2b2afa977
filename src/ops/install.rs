//! `install`, `upgrade`, `downgrade` and `confirm`: make a release current, then permanent.

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

use super::prepare::ready;
use super::source::Replace;
use super::{Common, Report, Session, data, late};

/// How long a trial that is followed may be without a guard: one that is killed has another one in its place at once.
const UNATTENDED: Duration = Duration::from_secs(15);

/// How long before it is looked again whether a trial has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What install, upgrade and downgrade are told.
#[derive(Clone, Debug)]
pub struct Install {
    /// What every command is told.
    pub common: Common,
    /// Which release, which way, and for how long.
    pub request: Request,
    /// Whether an installed release that is not in use is unpacked anew.
    pub replace: Replace,
    /// What makes a backup, for the shell, before anything is done that cannot be taken back.
    pub backup_command: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct InstallResult {
    /// The release.
    pub version: Version,
    /// The state that it was in before; none where it was not on disk.
    pub was: Option<ReleaseState>,
    /// The state that it is in now.
    pub state: ReleaseState,
    /// The release that ran before.
    pub previous: Option<Version>,
    /// Whether anything was changed.
    pub changed: bool,
    /// When its trial ends by itself, in RFC 3339; none where it does not.
    pub until: Option<String>,
    /// The data migration that goes on in the background; none where there is nothing to migrate.
    pub migration: Option<Migration>,
}

/// Makes a release current and, unless told otherwise, permanent.
///
/// # Errors
/// Refused where a rule forbids it; failed where it was taken back.
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

/// As [`install`], without a look at how a trial ends.
pub(super) fn install_in(
    session: Session<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<InstallResult>> {
    let (root, request, target) = (session.root, &options.request, &options.request.target);
    request.allowed(&session.now)?;
    let was = session.now.state(target);
    let on_disk = root.data(&session.now)?;
    let ready = ready(&session, &on_disk, options, reporter)?;
    watchable(root, request, ready.motion.as_ref(), reporter)?;
    let plan = plan::install(&session.now, request, ready.along(&session.now, &on_disk, options))?;
    if session.acts_on(&plan) {
        if on_disk.unfinished().is_some_and(|migration| migration.stage == Stage::Failed) {
            execute::end_left_over(&on_disk);
        }
        reporter.opening(target, was.filter(|_| ready.fetched.staged.is_none()));
    }
    let previous = session.now.current.version().cloned();
    let permanent = request.permanence == Permanence::Permanent || was == Some(ReleaseState::Permanent);
    let mut report = session.finish(plan, ready.fetched.staged.as_ref(), reporter, |plan| InstallResult {
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

/// The migration that was begun for a release, where it is not done.
pub(super) fn migrating(root: &Root, version: &Version) -> Result<Option<Migration>> {
    let migration = root.data_as_told(&root.observe()?)?.migration;
    Ok(migration.filter(|migration| migration.version == *version && migration.stage != Stage::Done))
}

/// Refuses to watch what nobody can, or what is failing before it begins.
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
/// Reverted where the trial ended without the release becoming permanent; stuck where no guard can end it.
fn follow(root: &Root, version: &Version, reporter: &mut dyn Reporter) -> Result<ReleaseState> {
    let mut attended = clock::since_boot();
    loop {
        let now = root.observe()?;
        match (root.trial(&now)?, now.state(version)) {
            // The links tell of its end before the service has followed them.
            _ if journal::is_open(root)? => {}
            (Some(trial), _) => reporter.waiting(&format!("Watching the health of {version}"), trial.left()),
            (None, Some(ReleaseState::Permanent)) => return Ok(ReleaseState::Permanent),
            (None, _) => return Err(reverted(root, &now, version, reporter)),
        }
        if reporter.interrupted() {
            reporter.warn("the trial continues without this command; run `tenure status` to see its state");
            return Ok(ReleaseState::Current);
        }
        if root.is_guarded()? || root.lock_holder().is_some() {
            attended = clock::since_boot();
        } else if clock::since_boot().saturating_sub(attended) >= UNATTENDED {
            return Err(Error::new(
                Kind::Stuck,
                format!("the trial of {version} has not ended, and no guard runs"),
            )
            .hint("`tenure status` shows what runs; `tenure revert` ends the trial"));
        }
        clock::sleep(POLL_INTERVAL);
    }
}

/// A trial that did not make the release permanent: why, and which release runs now.
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

/// What `confirm` is told.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// What every command is told.
    pub common: Common,
    /// The release that has to be on trial, or permanent by now; none for the one that is current.
    pub version: Option<Version>,
    /// What makes a backup, for the shell, before anything is done that cannot be taken back.
    pub backup_command: Option<String>,
}

/// Makes the current release permanent.
///
/// # Errors
/// Refused where no release is current, where another one is than is named, and where the last trial was rolled back.
pub fn confirm(root: &Root, options: &Confirm, reporter: &mut dyn Reporter) -> Result<Report<InstallResult>> {
    let session = Session::begin_damaged(root, &options.common, reporter)?;
    if let Some(overdue) = &session.overdue {
        return Err(overdue.refuse_confirm(options.common.mode));
    }
    late::confirmable(root, &session.now, options.version.as_ref())?;
    confirm_in(session, options.backup_command.as_deref(), reporter)
}

/// As [`confirm`].
pub(super) fn confirm_in(
    session: Session<'_>,
    backup_command: Option<&str>,
    reporter: &mut dyn Reporter,
) -> Result<Report<InstallResult>> {
    let (root, now) = (session.root, &session.now);
    let along = data::confirmed(root, now, backup_command, reporter)?;
    let plan = plan::confirm(now, along)?;
    let current = now.current.version().cloned();
    // The plan is refused without one.
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
