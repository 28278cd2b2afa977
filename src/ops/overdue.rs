//! Rolls back a trial past its deadline. The first command that finds it does so, even if every guard was killed.

use std::time::Duration;

use crate::clock;
use crate::error::{Context, Error, Result};
use crate::execute::{Reporter, Scope};
use crate::health::Health;
use crate::plan::{self, Plan, Restart, TrialEnd};
use crate::release::Snapshot;
use crate::root::{Root, Trial};
use crate::version::Version;

use super::{Common, Mode, Session, boot, guard, service_move};

/// The interval between two checks whether the guard has judged the trial.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The time that the guard may take beyond one health check.
const GRACE: Duration = Duration::from_secs(2);

/// A trial past its deadline that was rolled back, or would be in a dry run.
pub(super) struct Overdue {
    trial: Trial,
    /// The release that is current after the rollback.
    permanent: Option<Version>,
    /// The plan of the rollback in a dry run.
    pub plan: Plan,
}

impl Overdue {
    /// Returns the error of a command that confirms this trial.
    pub fn refuse_confirm(&self, mode: Mode) -> Error {
        let Trial { version, ends, .. } = &self.trial;
        let state = match (mode, &self.permanent) {
            (Mode::Act, Some(permanent)) => format!("; it was rolled back, and {permanent} is current"),
            (Mode::DryRun, Some(permanent)) => format!("; it would first be rolled back to {permanent}"),
            (_, None) => String::new(),
        };
        let why = self.trial.why_overdue();
        Error::refused(format!("cannot confirm {version}: its trial ended at {ends}: {why}{state}"))
            .hint(format!("run `tenure install --retry --confirm-within 10m {version}` to try it again"))
    }
}

/// Rolls back a trial past its deadline. Returns a session with the resulting state.
///
/// # Errors
/// Returns an error if the rollback fails.
pub(super) fn end<'a>(session: Session<'a>, reporter: &mut dyn Reporter) -> Result<Session<'a>> {
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
            let invocation = guard::invocation("revert", Some(why.clone()));
            let invocation = Common { invocation, ..session.common.clone() };
            boot::revert_in(session.ordered(&invocation)?, reporter).context(|| {
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
