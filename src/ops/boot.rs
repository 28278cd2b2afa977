//! `boot` and `revert`: go back to the permanent release.

use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::execute::{Reporter, Scope};
use crate::plan;
use crate::root::Root;
use crate::version::Version;

use super::late;
use super::session::{Common, Mode, Report, Session, guard_trial};
use super::trial_end::{Reverted, permanent, restores, revert_in};

/// How long `boot` waits for the lock before it checks whether the lock holder waits for `boot`.
const TURN: Duration = Duration::from_millis(200);

/// The result of `boot`.
#[derive(Clone, Debug, Serialize)]
pub struct Booted {
    /// The release that starts: the permanent one, or the current one if a running command has ordered this start.
    pub version: Version,
    /// The release whose trial ended.
    pub ended_trial_of: Option<Version>,
}

/// Finishes a pending recovery and points `current` to the permanent release, before the service starts.
///
/// If a permanent release exists, a failure is only a warning, because the service must be able to start.
///
/// # Errors
/// Returns a `Refused` error if no release is permanent, or a `Busy` error if another Tenure also holds the lock.
/// Returns an error on interruption.
pub fn boot(root: &Root, common: &Common, reporter: &mut dyn Reporter) -> Result<Report<Booted>> {
    match in_turn(root, common, reporter) {
        Ok(report) => Ok(report),
        Err(error) => match root.observe()?.permanent.version().cloned() {
            // After an interruption, the service must not start in the present state.
            Some(version) if error.kind() != Kind::Usage && !reporter.interrupted() => {
                report(&error, reporter);
                // `boot` may have failed to end a trial; its deadline still needs a guard.
                guard_trial(root).unwrap_or_else(|error| report(&error, reporter));
                let result = Booted { version, ended_trial_of: None };
                Ok(Report::Done { recovered: None, result })
            }
            _ => Err(error),
        },
    }
}

/// Waits for the lock, unless the lock holder has ordered this very start.
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

/// Ends a trial now. A named release must be the one on trial. If no trial is under way and the named release is not
/// permanent, its trial is over already.
///
/// # Errors
/// Returns a `Refused` error if no release is permanent, or if the named release is permanent or another release is
/// on trial. Returns a `Failed` error if the revert failed and was rolled back.
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
