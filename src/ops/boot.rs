//! `boot` and `revert`: back to the permanent release.

use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::execute::{Reporter, Scope};
use crate::plan::{self, Restart};
use crate::release::Snapshot;
use crate::root::Root;
use crate::version::Version;

use super::{Common, Mode, Report, Session, guard_trial, late, service_move};

/// How long `boot` waits for the lock before it looks whether it is waited for itself.
const TURN: Duration = Duration::from_millis(200);

/// What `boot` leaves to be started.
#[derive(Clone, Debug, Serialize)]
pub struct Booted {
    /// The permanent release.
    pub version: Version,
    /// The release whose trial ended.
    pub ended_trial_of: Option<Version>,
}

/// What `revert` went back to.
#[derive(Clone, Debug, Serialize)]
pub struct Reverted {
    /// The permanent release, which is current again.
    pub version: Version,
    /// The release that was current; none where `current` was broken.
    pub from: Option<Version>,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Finishes recovery and points `current` at the permanent release, before the service starts.
///
/// What it cannot do it reports as a warning: while a permanent release is there, the service is to start.
///
/// # Errors
/// Refused where no release is permanent; busy where another Tenure is at work and no release is permanent.
pub fn boot(root: &Root, common: &Common, reporter: &mut dyn Reporter) -> Result<Report<Booted>> {
    match in_turn(root, common, reporter) {
        Ok(report) => Ok(report),
        Err(error) => match root.observe()?.permanent.version().cloned() {
            // Who asked it to end does not want the service started on what is there.
            Some(version) if error.kind() != Kind::Usage && !reporter.interrupted() => {
                report(&error, reporter);
                // A trial that it could not end has a deadline all the same.
                guard_trial(root).unwrap_or_else(|error| report(&error, reporter));
                let result = Booted { version, ended_trial_of: None };
                Ok(Report::Done { recovered: None, result })
            }
            _ => Err(error),
        },
    }
}

/// Waits for its turn, unless whoever works on the root has ordered this very start.
fn in_turn(root: &Root, common: &Common, reporter: &mut dyn Reporter) -> Result<Report<Booted>> {
    let until = clock::since_boot() + common.wait;
    loop {
        if common.mode == Mode::Act && root.is_restarting() {
            let now = root.observe()?;
            let version = now.current.version().cloned().map_or_else(|| permanent(&now), Ok)?;
            return Ok(Report::Done { recovered: None, result: Booted { version, ended_trial_of: None } });
        }
        let wait = until.saturating_sub(clock::since_boot()).min(TURN);
        let attempt = Common { wait, ..common.clone() };
        match in_order(root, &attempt, reporter) {
            Err(error) if error.kind() == Kind::Busy && clock::since_boot() < until => {}
            report => return report,
        }
    }
}

fn in_order(root: &Root, common: &Common, reporter: &mut dyn Reporter) -> Result<Report<Booted>> {
    let session = Session::begin_with(root, common, Scope::Links, reporter)?;
    let plan = plan::boot(&session.now)?;
    let version = permanent(&session.now)?;
    restores(&session.now, reporter);
    let ended_trial_of = plan.from.clone().filter(|from| *from != version);
    session.finish(plan, None, reporter, |_| Booted { version, ended_trial_of })
}

fn report(error: &Error, reporter: &mut dyn Reporter) {
    reporter.warn(&error.in_one_line());
    for hint in error.hints() {
        reporter.warn(hint);
    }
}

/// Says that a link comes back which is not Tenure's to remove.
fn restores(now: &Snapshot, reporter: &mut dyn Reporter) {
    if let Some(lost) = &now.lost {
        reporter.warn(&format!(
            "the link `permanent` was removed: it points to {lost} again, which was permanent last"
        ));
    }
}

fn permanent(now: &Snapshot) -> Result<Version> {
    now.rightful().cloned().ok_or_else(|| Error::refused("no release is permanent"))
}

/// Ends a trial now. A release that is named has to be the one on trial, unless it is neither current nor permanent:
/// then its trial is over already.
///
/// # Errors
/// Refused where no release is permanent, and where the release that is named is permanent or another one is on trial;
/// failed where it was taken back.
pub fn revert(
    root: &Root,
    common: &Common,
    version: Option<&Version>,
    reporter: &mut dyn Reporter,
) -> Result<Report<Reverted>> {
    let session = Session::begin_damaged(root, common, reporter)?;
    version.map_or(Ok(()), |version| late::revertible(&session.now, version))?;
    revert_in(session, reporter)
}

/// As [`revert`].
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
