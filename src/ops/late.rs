//! Refuses commands that come after the end of a trial, and says how the trial ended and how to try the release
//! again.

use crate::error::{Error, Result};
use crate::policy::{self, HopKind};
use crate::release::Snapshot;
use crate::root::{Root, TrialRecord};
use crate::version::Version;

/// Refuses to confirm a release that is not current. If no release is named, refuses if the last trial was rolled
/// back: a late `confirm` must not succeed as if its release were permanent.
///
/// # Errors
/// Returns a `Refused` error that says how the trial ended.
pub(super) fn confirmable(root: &Root, now: &Snapshot, wanted: Option<&Version>) -> Result<()> {
    // If no release is current, the plan reports it.
    let Some(current) = now.current.version() else { return Ok(()) };
    match wanted {
        Some(wanted) if wanted == current => Ok(()),
        Some(wanted) => Err(not_on_trial(root, now, current, wanted)),
        None if now.permanent.version() == Some(current) => match trials(root).pop() {
            Some(trial) if trial.is_rolled_back() && trial.version != *current => {
                Err(not_on_trial(root, now, current, &trial.version))
            }
            _ => Ok(()),
        },
        None => Ok(()),
    }
}

/// Returns the trials in the history. An unreadable history counts as empty, so that it does not block a command.
fn trials(root: &Root) -> Vec<TrialRecord> {
    root.trials().unwrap_or_default()
}

fn not_on_trial(root: &Root, now: &Snapshot, current: &Version, wanted: &Version) -> Error {
    let last = trials(root).into_iter().rfind(|trial| trial.version == *wanted);
    let over = last.filter(TrialRecord::is_rolled_back);
    let any_more = if over.is_some() { " any more" } else { "" };
    let error = Error::refused(match now.trial() {
        Some(_) => format!("cannot confirm {wanted}: it is not on trial{any_more}; {current} is on trial"),
        None => format!("cannot confirm {wanted}: it is not on trial{any_more}; {current} is current"),
    });
    let is_over = over.is_some();
    let error = over.into_iter().fold(error, |error, trial| error.because(Error::refused(trial.to_string())));
    match now.trial() {
        Some((on_trial, _)) => error.hint(format!("run `tenure confirm {on_trial}` to make that permanent")),
        None if is_over => error.hint(format!("run `{}` to try it again", again(root, current, wanted))),
        None => error.hint("run `tenure status` to see the releases and the last trial"),
    }
}

/// Refuses to revert a permanent release, or a release other than the one on trial. Without a trial, a release that
/// is not permanent does not run, so there is nothing to end.
///
/// # Errors
/// Returns a `Refused` error that names the release on trial, or the release that was permanent before.
pub(super) fn revertible(now: &Snapshot, wanted: &Version) -> Result<()> {
    if let Some((on_trial, _)) = now.trial() {
        return match on_trial == wanted {
            true => Ok(()),
            false => Err(Error::refused(format!("cannot revert {wanted}: {on_trial} is on trial"))
                .hint(format!("run `tenure revert {on_trial}` to end that trial"))),
        };
    }
    if now.rightful() != Some(wanted) {
        return Ok(());
    }
    let error = Error::refused(format!("cannot revert {wanted}: it is permanent, not on trial"));
    Err(match now.last_known_good() {
        Some(before) => error.hint(format!("run `tenure install {before}` to go back to {before}")),
        None => error.hint("run `tenure versions` to see the other releases"),
    })
}

/// Returns the command that tries a release again.
pub(super) fn again(root: &Root, current: &Version, wanted: &Version) -> String {
    let command = if wanted > current { "upgrade" } else { "downgrade" };
    let higher = root.manifest(wanted.max(current)).ok().flatten();
    let hot_from = higher.as_ref().and_then(|manifest| manifest.upgrade.hot_from.as_deref());
    let restart = match policy::hop(current, wanted, hot_from) {
        HopKind::Hot => "",
        HopKind::Restart => " --restart",
    };
    let retry = if root.failure(wanted).is_some() { " --retry" } else { "" };
    format!("tenure {command}{retry}{restart} {wanted}")
}
