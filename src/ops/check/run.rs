//! Runs the checks that a release must pass before a switch.

use crate::data::OnDisk;
use crate::error::{Error, Kind, Result};
use crate::execute::Reporter;
use crate::fs::{self as disk, DirPath, Owner};
use crate::health::Baseline;
use crate::hook::{Hook, HookContext, Task};
use crate::manifest::Manifest;
use crate::plan::{Request, ServiceMove};
use crate::platform;
use crate::privilege;
use crate::process;
use crate::progress::Progress;
use crate::release::{END_TRIAL, ReleaseState, Snapshot};
use crate::requires::{RequirementFinding, Requires};
use crate::root::Root;
use crate::version::Version;

use super::super::disk_space::Reservation;
use super::super::fetch::Fetch;
use super::super::source::ArchiveRequest;
use super::super::{Mode, Session, data, retry, service_move, upgrade_path};
use super::archive::check_archive;

/// The name of a check, and its finding or the error that prevents the switch.
pub type CheckOutcome = (&'static str, std::result::Result<String, Error>);

/// The name of the check that the hook of the release makes.
pub const CHECK_HOOK: &str = "check hook";

/// Runs all checks. If all pass, returns the release, fetched as far as `want` says, and how the service moves to it.
///
/// # Errors
/// Returns the failed check if there is only one, otherwise a `Refused` error with all failed checks.
pub fn require_all<'a>(
    session: &Session<'a>,
    on_disk: &OnDisk,
    request: &Request,
    want: ArchiveRequest<'_>,
    reporter: &mut dyn Reporter,
) -> Result<(Fetch<'a>, Option<ServiceMove>)> {
    let (root, now) = (session.root, &session.now);
    let mut outcomes = standing(root, now, request)?;
    let (found, fetched) = check_archive(root, now, want, reporter)?;
    outcomes.extend(found);
    let (further, motion) = run_checks(root, now, on_disk, request, fetched.as_ref(), want.mode, reporter)?;
    outcomes.extend(further);
    let mut failed = Vec::new();
    for (what, outcome) in outcomes {
        match outcome {
            Ok(found) => reporter.checked(what, &found),
            Err(error) => failed.push(error),
        }
    }
    all_or_nothing(&request.target, failed).map(|()| (fetched.unwrap_or_default(), motion))
}

/// Combines the errors of all failed checks into one.
///
/// # Errors
/// Returns the only error as it is, and several as one `Refused` error.
pub fn all_or_nothing(target: &Version, mut failed: Vec<Error>) -> Result<()> {
    match failed.len() {
        0 => Ok(()),
        1 => Err(failed.remove(0)),
        count => {
            let as_one = |later: Option<Error>, error: Error| {
                let first = error.refused_in_one_line("");
                Some(match later {
                    Some(later) => first.because(later),
                    None => first,
                })
            };
            let all = Error::refused(format!("cannot switch to {target}: {count} checks failed"));
            Err(match failed.into_iter().rev().fold(None, as_one) {
                Some(failed) => all.because(failed),
                None => all,
            })
        }
    }
}

/// Runs the checks that do not depend on the contents of the release.
///
/// # Errors
/// Returns an error if the root cannot be read.
pub fn standing(root: &Root, now: &Snapshot, request: &Request) -> Result<Vec<CheckOutcome>> {
    let mut outcomes = vec![("trial", trial(root, now, &request.target)?)];
    outcomes.extend(owner(root, now)?.map(|outcome| ("owner", outcome)));
    outcomes.extend(spread(root).map(|outcome| ("releases", outcome)));
    outcomes.extend(root.check_modes().err().map(|error| ("permissions", Err(error))));
    if root.settings().user.is_some() {
        let found = |name: String| format!("programs of releases run as {name}");
        outcomes.push(("user", privilege::of_settings(root).map(|account| found(account.name().to_owned()))));
    }
    Ok(outcomes)
}

/// Returns whether programs of releases can run. The check `user` alone reports why not.
fn has_user(root: &Root) -> bool {
    root.settings().user.is_none() || privilege::of_settings(root).is_ok()
}

/// Refuses to replace a trial with a deadline by a third release, because its user waits for its end.
fn trial(root: &Root, now: &Snapshot, target: &Version) -> Result<std::result::Result<String, Error>> {
    let Some((on_trial, permanent)) = now.trial() else { return Ok(Ok("no release is on trial".to_owned())) };
    let Some(trial) = root.trial(now)? else {
        return Ok(Ok(format!("{on_trial} is on trial; the next start runs {permanent}")));
    };
    let found = format!("{on_trial} is on trial, {}, until {}", trial.term, trial.ends);
    let is_third = target != on_trial && target != permanent;
    Ok(if is_third { Err(Error::refused(found).hint(END_TRIAL)) } else { Ok(found) })
}

/// Checks that releases/ is not mounted read-only. Returns `None` if it is writable and lies on the disk of the root.
fn spread(root: &Root) -> Option<std::result::Result<String, Error>> {
    let releases = root.releases();
    if disk::is_read_only(&releases) {
        let error = format!("cannot unpack into {}: it is mounted read-only", releases.display());
        return Some(Err(Error::refused(error).hint("mount it again with the option `rw`")));
    }
    root.is_spread()
        .then(|| Ok(format!("on another disk or mount, unpacked in {}", root.release_staging().display())))
}

/// Checks that the running release and the root have the same owner. Tenure unpacks releases that way, so a
/// difference means a later change. Returns `None` if Tenure did not unpack the running release.
fn owner(root: &Root, now: &Snapshot) -> Result<Option<std::result::Result<String, Error>>> {
    let Some(current) = now.current.version().filter(|current| root.receipt(current).is_some()) else {
        return Ok(None);
    };
    let (of_root, of_release) = (root.owner(), disk::owner(&root.release(current))?);
    let named = |owner: Owner| format!("{} (group {})", process::user_name(owner.uid), owner.gid);
    Ok(Some(match of_root == of_release {
        true => Ok(format!("{}, as of {current}", named(of_root))),
        false => Err(Error::refused(format!(
            "the root belongs to {}, and the running release {current} to {}: a new release would have another owner \
             than the running one",
            named(of_root),
            named(of_release)
        ))
        .hint("give both to one owner with `chown -R`")),
    }))
}

/// Runs the checks that depend on the manifest of the release, changes nothing, and returns how the service moves. If
/// the manifest is unknown, returns only the errors that do not depend on it.
///
/// # Errors
/// Returns an error if the root or a manifest cannot be read.
pub fn run_checks(
    root: &Root,
    now: &Snapshot,
    on_disk: &OnDisk,
    request: &Request,
    fetched: Option<&Fetch<'_>>,
    mode: Mode,
    reporter: &mut dyn Reporter,
) -> Result<(Vec<CheckOutcome>, Option<ServiceMove>)> {
    let target = &request.target;
    let Some(fetched) = fetched else {
        let held_up = data::held_up(on_disk, now, target).map(|error| ("data", Err(error)));
        return Ok((held_up.into_iter().collect(), None));
    };
    let manifest = fetched.manifest.as_ref();
    let reached = || match now.current.version() {
        Some(current) if current < target => format!("{target} can be reached from {current}"),
        _ => "it is not an upgrade".to_owned(),
    };
    let path = upgrade_path::allowed(root, now, target, fetched, reporter).map(|()| reached());
    let mut outcomes = vec![("path", path)];
    let again = retry::command(now, request);
    outcomes.extend(retry::failed_before(root, now, request, fetched.sha256.as_deref(), &again));
    if !has_run(now, target) {
        outcomes.extend(requirements(root, manifest, fetched.claim)?);
    }
    outcomes.push(("data", data::admitted(on_disk, now, target, manifest)));
    if mode == Mode::Act {
        outcomes.extend(check_hook(root, now, target, fetched, reporter));
    }
    let (further, motion) =
        service(service_move::choose_method(root, now, request, fetched, mode, reporter), mode);
    outcomes.extend(further);
    Ok((outcomes, motion))
}

/// Returns the checks of how the service moves and of its health.
fn service(motion: Result<Option<ServiceMove>>, mode: Mode) -> (Vec<CheckOutcome>, Option<ServiceMove>) {
    let (way, motion) = match motion {
        Ok(Some(motion)) => (Ok(format!("the service moves {}", motion.way)), Some(motion)),
        Ok(None) => (Ok("no service is moved".to_owned()), None),
        Err(error) => (Err(error), None),
    };
    let health = motion.as_ref().filter(|_| mode == Mode::Act).map(|motion| match motion.baseline {
        Baseline::Failing => "the service is already failing; the new release need not be healthy",
        _ => "the service is not failing",
    });
    let health = health.map(|health| ("health", Ok(health.to_owned())));
    ([("service", way)].into_iter().chain(health).collect(), motion)
}

/// Returns whether the release has run here. It must be able to run again, especially on a rollback.
fn has_run(now: &Snapshot, target: &Version) -> bool {
    matches!(now.state(target), Some(ReleaseState::Permanent | ReleaseState::Old))
}

fn check_hook(
    root: &Root,
    now: &Snapshot,
    target: &Version,
    fetched: &Fetch<'_>,
    progress: &dyn Progress,
) -> Option<CheckOutcome> {
    let hook = Hook::of(root, fetched.manifest.as_ref()?, Task::Check)?;
    let old = now.current.version();
    if old == Some(target) || has_run(now, target) || !has_user(root) {
        return None;
    }
    let ask = |staged: Option<&DirPath>| {
        let errand =
            HookContext { action: "check", old, new: Some(target), staged, ..HookContext::default() };
        hook.ask(&errand, progress).map_err(|error| error.as_kind(Kind::Refused))
    };
    let said = match &fetched.staged {
        Some(staged) => staged.let_in(|place| ask(Some(place))).and_then(|said| said),
        // An installed release is checked in place. The hook of a release that is not unpacked cannot run.
        None if fetched.steps.is_empty() => ask(None),
        None => return None,
    };
    let last = |said: String| said.lines().last().map(str::to_owned);
    Some((CHECK_HOOK, said.map(|said| last(said).unwrap_or_else(|| "it passed".to_owned()))))
}

fn requirements(root: &Root, manifest: Option<&Manifest>, claim: Reservation) -> Result<Vec<CheckOutcome>> {
    let Some(requires) = manifest.map(|manifest| &manifest.requires).filter(|r| **r != Requires::default())
    else {
        return Ok(Vec::new());
    };
    // Compare with the space that is free after everything is unpacked.
    let host = platform::this(claim.left_of(disk::free(&root.disk())?.bytes))?;
    Ok(requires.met_by(&host).into_iter().map(outcome).collect())
}

fn outcome(finding: RequirementFinding) -> CheckOutcome {
    let RequirementFinding { check, ok, found, needed, hint } = finding;
    let refuse =
        || Error::refused(format!("this host has {found}, and the release needs {needed}")).hint(hint);
    (check, if ok { Ok(found) } else { Err(refuse()) })
}
