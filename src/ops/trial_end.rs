//! Ends a trial: by `revert`, or because its deadline has passed. The first command that finds an overdue trial rolls
//! it back, even if every guard was killed.

use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::error::{Context, Error, Result};
use crate::execute::{Reporter, Scope};
use crate::health::Health;
use crate::plan::{self, Plan, Restart, TrialEnd};
use crate::release::Snapshot;
use crate::root::{Root, Trial};
use crate::version::Version;

use super::service_move;
use super::session::{Common, Mode, Overdue, Report, Session, by_guard, guard_trial};

/// The interval between two checks whether the guard has judged the trial.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The time that the guard may take beyond one health check.
const GRACE: Duration = Duration::from_secs(2);

/// The result of `revert`.
#[derive(Clone, Debug, Serialize)]
pub struct Reverted {
    /// The permanent release, which is current again.
    pub version: Version,
    /// The release that was current before; `None` if the link `current` was broken.
    pub from: Option<Version>,
    /// Whether anything was changed.
    pub changed: bool,
}

impl<'a> Session<'a> {
    /// Takes the lock, recovers from an interrupted command, and rolls back a trial past its deadline. Refuses
    /// invalid settings, because the command could not apply their rules.
    pub fn begin(root: &'a Root, common: &'a Common, reporter: &mut dyn Reporter) -> Result<Self> {
        root.ruled()?;
        Self::begin_damaged(root, common, reporter)
    }

    /// Begins a session like `begin`, but accepts invalid settings.
    pub fn begin_damaged(root: &'a Root, common: &'a Common, reporter: &mut dyn Reporter) -> Result<Self> {
        let session = end_overdue(Self::begin_with(root, common, Scope::All, reporter)?, reporter)?;
        if session.lock.is_some() {
            guard_trial(root)?;
        }
        Ok(session)
    }
}

/// Ends a trial now: the permanent release becomes current again.
pub(super) fn revert_in(session: Session<'_>, reporter: &mut dyn Reporter) -> Result<Report<Reverted>> {
    let version = permanent(&session.now).or_else(|e| plan::boot(&session.now).and(Err(e)))?;
    let from = session.now.current.version().cloned();
    let motion = match from.as_ref() == Some(&version) {
        true => None,
        false => service_move::back(session.root, from.as_ref(), &version, Restart::Forbidden, reporter)?,
    };
    let plan = plan::revert(&session.now, motion)?;
    restores(&session.now, reporter);
    if session.acts_on(&plan) {
        reporter.opening(&version, session.now.state(&version));
    }
    session.finish(plan, None, reporter, |plan| Reverted { version, from, changed: !plan.steps.is_empty() })
}

/// Warns that the link `permanent` is restored after a user removed it.
pub(super) fn restores(now: &Snapshot, reporter: &mut dyn Reporter) {
    if let Some(lost) = &now.lost {
        reporter.warn(&format!(
            "the link `permanent` was removed: it points to {lost} again, which was permanent last"
        ));
    }
}

pub(super) fn permanent(now: &Snapshot) -> Result<Version> {
    now.rightful().cloned().ok_or_else(|| Error::refused("no release is permanent"))
}

/// Rolls back a trial past its deadline. Returns a session with the resulting state.
///
/// # Errors
/// Returns an error if the rollback fails.
fn end_overdue<'a>(session: Session<'a>, reporter: &mut dyn Reporter) -> Result<Session<'a>> {
    let Some(trial) = overdue(session.root, &session.now)? else { return Ok(session) };
    if !is_judged(session.root, &trial)? {
        return roll_back(session, trial, reporter);
    }
    let (root, common) = (session.root, session.common);
    if common.mode == Mode::DryRun {
        return Ok(session);
    }
    // The guard needs the lock to judge.
    drop(session);
    await_verdict(root, &trial, reporter)?;
    let session = Session::begin_with(root, common, Scope::All, reporter)?;
    match session.is_on(&trial)? {
        true => roll_back(session, trial, reporter),
        false => Ok(session),
    }
}

fn overdue(root: &Root, now: &Snapshot) -> Result<Option<Trial>> {
    Ok(root.trial(now)?.filter(Trial::is_over))
}

/// Returns whether a guard is on duty that judges the trial by the health of the release.
fn is_judged(root: &Root, trial: &Trial) -> Result<bool> {
    Ok(matches!(trial.term, TrialEnd::Watch(_)) && root.may_change().is_ok() && root.is_guarded()?)
}

/// Waits until the guard has judged the trial, or is late.
fn await_verdict(root: &Root, trial: &Trial, reporter: &mut dyn Reporter) -> Result<()> {
    let Health { interval, timeout, .. } = root.health(&trial.version)?;
    let is_on = |now: &Snapshot| -> Result<bool> {
        Ok(root.trial(now)?.is_some_and(|now| now.transaction == trial.transaction))
    };
    let judged = clock::poll_until(interval + timeout + GRACE, POLL_INTERVAL, |left| {
        if root.at_work().is_none() && !is_on(&root.observe()?)? {
            return Ok(Some(()));
        }
        reporter.waiting("Waiting for the guard to judge the trial", left);
        reporter.go_on().map(|()| None)
    });
    judged.map(drop)
}

fn roll_back<'a>(mut session: Session<'a>, trial: Trial, reporter: &mut dyn Reporter) -> Result<Session<'a>> {
    let (root, now) = (session.root, &session.now);
    let (permanent, why) = (now.rightful().cloned(), trial.why_overdue());
    let to = permanent.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let plan = match session.common.mode {
        Mode::DryRun => {
            let back = |to| service_move::back(root, now.current.version(), to, Restart::Forbidden, reporter);
            let plan = plan::revert(now, permanent.as_ref().map(back).transpose()?.flatten())?;
            session.now = plan.steps.iter().fold(session.now.clone(), Snapshot::after);
            plan
        }
        Mode::Act => {
            let invocation = by_guard("revert", Some(why.clone()));
            let invocation = Common { invocation, ..session.common.clone() };
            revert_in(session.ordered(&invocation)?, reporter).context(|| {
                format!("cannot roll back the trial of {}, whose deadline has passed", trial.version)
            })?;
            session.now = root.observe()?;
            reporter.warn(&format!("{why}: the trial ended at {}; rolled back to {to}", trial.ends));
            Plan::default()
        }
    };
    session.overdue = Some(Overdue { trial, permanent, plan });
    Ok(session)
}
