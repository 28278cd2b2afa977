//! `check`: runs the checks of an upgrade and reports all results at once. An upgrade runs the same checks.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::Reporter;
use crate::journal;
use crate::plan::Request;
use crate::platform;
use crate::release::{ReleaseState, Snapshot};
use crate::requires::{Named, Platform, Requires};
use crate::root::{Root, RootLock};
use crate::version::Version;

use super::checks::{CHECK_HOOK, CheckOutcome};
use super::fetch::{Fetch, fetch};
use super::preflight::{CheckedState, Preflight};
use super::session::{Common, Mode, Session};
use super::source::{ArchiveRequest, Replace};

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckRow {
    /// The name of the check.
    pub check: &'static str,
    /// Whether the check passed.
    pub ok: bool,
    /// What the check found, and what is needed if that differs.
    pub found: String,
    /// What to do about a failed check.
    pub hints: Vec<String>,
}

/// The results of all checks of a release.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The release.
    pub version: Version,
    /// The current release.
    pub from: Option<Version>,
    /// Whether all checks passed.
    pub ok: bool,
    /// The checks, in order.
    pub checks: Vec<CheckRow>,
}

/// Runs all checks of an upgrade to a release, and changes nothing.
///
/// # Errors
/// Returns an error if the root or the archive cannot be read.
pub fn check(
    root: &Root,
    common: &Common,
    request: &Request,
    reporter: &mut dyn Reporter,
) -> Result<CheckReport> {
    let session = Session::begin(root, common, reporter)?;
    let (now, target) = (&session.now, &request.target);
    let mut preflight = Preflight::default();
    preflight.checks.push(("lock", unlocked(root)?));
    preflight.checks.push(("links", request.allowed(now).map(|()| running(now))));
    preflight.check_root(root, now, request)?;
    let want = ArchiveRequest::of(target, Replace::No, Mode::DryRun);
    let is_sound = preflight.check_archive(root, now, want, reporter)?;
    let staged = match &preflight.fetched {
        Some(fetched) if is_sound => staged(root, &session, fetched, target, reporter),
        _ => Ok(None),
    };
    // If the release cannot be unpacked for its check hook, the other checks still run.
    let _lock = match staged {
        Ok(Some((staged, lock))) => {
            preflight.fetched = Some(staged);
            Some(lock)
        }
        Ok(None) => None,
        Err(error) => {
            preflight.checks.push((CHECK_HOOK, Err(error)));
            preflight.fetched = None;
            None
        }
    };
    let on_disk = root.data(now)?;
    let state = CheckedState { root, now, on_disk: &on_disk, request, mode: Mode::Act };
    preflight.check_release(state, reporter)?;
    let checks: Vec<CheckRow> = preflight.checks.into_iter().map(told).collect();
    let ok = checks.iter().all(|told| told.ok);
    Ok(CheckReport { version: target.clone(), from: now.current.version().cloned(), ok, checks })
}

/// Checks that no other command works on the root.
fn unlocked(root: &Root) -> Result<std::result::Result<String, Error>> {
    let is_open = journal::is_open(root)?;
    Ok(match root.at_work() {
        Some(busy) => Err(busy),
        None if is_open => Ok("a command was interrupted; the next command recovers".to_owned()),
        None => Ok("no other command is running".to_owned()),
    })
}

/// Unpacks an archive under the lock if its release has a check hook. The files are deleted at the end.
fn staged<'a>(
    root: &'a Root,
    session: &Session<'_>,
    fetched: &Fetch<'_>,
    target: &Version,
    reporter: &mut dyn Reporter,
) -> Result<Option<(Fetch<'a>, RootLock)>> {
    let has_check = fetched.manifest.as_ref().is_some_and(|manifest| manifest.hooks.check.is_some());
    if fetched.steps.is_empty() || !has_check || root.check_modes().is_err() {
        return Ok(None);
    }
    let lock = RootLock::take(root, &session.common.invocation.command, session.common.wait, reporter)?;
    if journal::is_open(root)? {
        return Err(Error::refused("cannot run the check hook: another command was interrupted")
            .hint("run `tenure status` to see that command; the next command that changes something recovers from it"));
    }
    let want = ArchiveRequest::of(target, Replace::No, Mode::Act);
    Ok(Some((fetch(root, &session.now, want, reporter)?, lock)))
}

fn running(now: &Snapshot) -> String {
    now.current
        .version()
        .map_or_else(|| "no release is current".to_owned(), |current| format!("{current} is current"))
}

fn told((check, outcome): CheckOutcome) -> CheckRow {
    match outcome {
        Ok(found) => CheckRow { check, ok: true, found, hints: Vec::new() },
        Err(error) => {
            let hints = error.hints().into_iter().map(str::to_owned).collect();
            CheckRow { check, ok: false, found: error.in_one_line(), hints }
        }
    }
}

/// The installed releases, and whether each supports another operating system.
#[derive(Clone, Debug, Serialize)]
pub struct Supported {
    /// The operating system.
    pub os: String,
    /// The releases, newest first.
    pub releases: Vec<Support>,
}

/// Whether a release supports another operating system.
#[derive(Clone, Debug, Serialize)]
pub struct Support {
    /// The release.
    pub version: Version,
    /// The state of the release.
    pub state: ReleaseState,
    /// Whether the release supports it; `None` if its manifest does not say.
    pub runs: Option<bool>,
}

/// Determines which installed releases support another operating system, before the host is upgraded to it.
///
/// # Errors
/// Returns an error if the root or a manifest cannot be read.
pub fn supported(root: &Root, os: &Named) -> Result<Supported> {
    let now = root.observe()?;
    let host = platform::this(0)?;
    let there = Platform { os: os.clone().as_of(&host.os), ..host };
    let releases = now.states().map(|(version, state)| {
        let requires = root.manifest(version)?.map(|manifest| manifest.requires).unwrap_or_default();
        let findings = Requires { os: requires.os, ..Requires::default() }.met_by(&there);
        let runs = findings.first().map(|finding| finding.ok);
        Ok(Support { version: version.clone(), state, runs })
    });
    Ok(Supported { os: os.to_string(), releases: releases.collect::<Result<_>>()? })
}
