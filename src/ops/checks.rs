//! The checks of a release: each returns its finding, or the error that prevents the switch.

use crate::error::{Error, Kind, Result};
use crate::fs::{self as disk, DirPath, Owner};
use crate::health::Baseline;
use crate::hook::{Hook, HookContext, Task};
use crate::manifest::Manifest;
use crate::plan::{Request, Restart, Retry, ServiceMove};
use crate::platform;
use crate::policy::Direction;
use crate::privilege;
use crate::process;
use crate::progress::Progress;
use crate::release::{END_TRIAL, ReleaseState, Snapshot};
use crate::requires::{RequirementFinding, Requires};
use crate::root::Root;
use crate::version::Version;

use super::disk_space::Reservation;
use super::fetch::{ArchiveFacts, Fetch};
use super::session::Mode;

/// The name of a check, and its finding or the error that prevents the switch.
pub(super) type CheckOutcome = (&'static str, std::result::Result<String, Error>);

/// The name of the check that the hook of the release makes.
pub(super) const CHECK_HOOK: &str = "check hook";

/// Runs the checks that do not depend on the contents of the release.
///
/// # Errors
/// Returns an error if the root cannot be read.
pub(super) fn standing(root: &Root, now: &Snapshot, request: &Request) -> Result<Vec<CheckOutcome>> {
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

/// Returns the findings about the archive, its digest, its signature and the space that it takes.
pub(super) fn archive(fetched: &mut Fetch<'_>) -> Vec<CheckOutcome> {
    let Some(ArchiveFacts { sha256, has_digest, is_signed, room }) = fetched.looked.take() else {
        return vec![("archive", Ok("it is installed".to_owned()))];
    };
    let brings: Vec<String> = fetched.steps.iter().map(ToString::to_string).collect();
    let digest = match has_digest {
        true => format!("SHA-256 {sha256}, as the file beside it says"),
        false => format!("SHA-256 {sha256}; a digest file to compare it with is missing"),
    };
    let signature = match is_signed {
        true => "by a trusted key",
        false => "not needed: tenure.toml names no trusted keys",
    };
    vec![
        ("archive", Ok(format!("would {}", brings.join("; ")))),
        ("digest", Ok(digest)),
        ("signature", Ok(signature.to_owned())),
        ("space", room),
    ]
}

/// Returns the earlier failure of the requested release; `None` if it did not fail, or is current or permanent.
/// `sha256` is that of the archive to unpack. `again` is the command that retries it.
pub(super) fn failed_before(
    root: &Root,
    now: &Snapshot,
    request: &Request,
    sha256: Option<&str>,
    again: &str,
) -> Option<CheckOutcome> {
    let target = &request.target;
    let state = now.state(target);
    if matches!(state, Some(ReleaseState::Current | ReleaseState::Permanent)) {
        return None;
    }
    let failure = root.failure(target)?;
    let installed = state.and_then(|_| root.receipt(target)?.sha256);
    let found = format!("failed here on {}: {}", failure.when, failure.why);
    let outcome = if !failure.is_about(sha256.or(installed.as_deref())) {
        Ok(format!("another archive of it {found}"))
    } else if request.retry == Retry::Yes {
        Ok(format!("it {found}; it is tried again"))
    } else {
        let verb = match verb(now, request) {
            "install" => "install".to_owned(),
            verb => format!("{verb} to"),
        };
        Err(Error::refused(format!("cannot {verb} {target}: it {found}"))
            .hint(format!("run `{again}` to try it again")))
    };
    Some(("failed-before", outcome))
}

/// Returns the command that retries the release, in either direction.
pub(super) fn retry_command(now: &Snapshot, request: &Request) -> String {
    format!("tenure {} --retry{} {}", verb(now, request), restart_option(request), request.target)
}

/// Returns the command that retries several hops.
pub(super) fn retry_command_of_path(request: &Request) -> String {
    format!("tenure upgrade --multi-hop --retry{} {}", restart_option(request), request.target)
}

fn verb(now: &Snapshot, request: &Request) -> &'static str {
    match (request.direction, now.current.version()) {
        (Direction::Up, _) => "upgrade",
        (Direction::Down, _) => "downgrade",
        (Direction::Either, Some(current)) if *current < request.target => "upgrade",
        (Direction::Either, Some(_)) => "downgrade",
        (Direction::Either, None) => "install",
    }
}

fn restart_option(request: &Request) -> &'static str {
    match request.restart {
        Restart::Asked => " --restart",
        Restart::IfNeeded => " --restart-if-needed",
        Restart::Forbidden => "",
    }
}

/// Returns whether the release has run here. It must be able to run again, especially on a rollback.
pub(super) fn has_run(now: &Snapshot, target: &Version) -> bool {
    matches!(now.state(target), Some(ReleaseState::Permanent | ReleaseState::Old))
}

/// Runs the check hook of a release, from the staged release or in place; `None` if no hook is to be run.
pub(super) fn check_hook(
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

/// Checks the requirements of the release against this host.
///
/// # Errors
/// Returns an error if the host cannot be determined.
pub(super) fn requirements(
    root: &Root,
    manifest: Option<&Manifest>,
    claim: Reservation,
) -> Result<Vec<CheckOutcome>> {
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

/// Returns the checks of how the service moves and of its health, and how it moves.
pub(super) fn service(
    motion: Result<Option<ServiceMove>>,
    mode: Mode,
) -> (Vec<CheckOutcome>, Option<ServiceMove>) {
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
