//! `check`: all that an upgrade is held against before anything is changed, told at once. An upgrade runs the same.

use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::execute::Observer;
use crate::fs::{self as disk, Place};
use crate::hook::{Errand, Hook, Task};
use crate::journal;
use crate::manifest::Manifest;
use crate::plan::{Motion, Request};
use crate::platform;
use crate::release::{ReleaseState, Snapshot};
use crate::requires::{Finding, Named, Platform, Requires};
use crate::root::{Root, RootLock};
use crate::version::Version;
use crate::watch::Watch;

use super::fetch::{Fetch, Replace, Want, fetch};
use super::{Common, Mode, Session, data, motion, route};

/// What was found of one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// What it is about.
    pub check: &'static str,
    /// Whether it is in nobody's way.
    pub ok: bool,
    /// What was found, and what is needed where that is another thing.
    pub found: String,
    /// What to do about it.
    pub hints: Vec<String>,
}

/// What a release was held against.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// The release.
    pub version: Version,
    /// The release that runs.
    pub from: Option<Version>,
    /// Whether nothing is in its way.
    pub ok: bool,
    /// Everything that was looked at.
    pub checks: Vec<Told>,
}

/// The name of the check that a release makes itself.
const CHECK_HOOK: &str = "check hook";

/// One check: what was found, or what is in the way.
type Outcome = (&'static str, std::result::Result<String, Error>);

/// Holds a release against everything that an upgrade would, and changes nothing.
///
/// # Errors
/// Where the root cannot be read.
pub fn check(
    root: &Root,
    common: &Common,
    request: &Request,
    observer: &mut dyn Observer,
) -> Result<Checked> {
    let session = Session::begin(root, common, observer)?;
    let (now, target) = (&session.now, &request.target);
    let mut outcomes = vec![("links", request.allowed(now).map(|()| running(now)))];
    let want = Want { version: target, given: None, replace: Replace::No, mode: Mode::DryRun };
    let (fetched, _lock) = match fetch(root, now, want, observer) {
        Ok(fetched) => {
            let brings = fetched.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let found =
                if brings.is_empty() { "it is installed".to_owned() } else { format!("would {brings}") };
            outcomes.push(("archive", Ok(found)));
            match to_be_asked(root, &session, target, fetched, observer) {
                Ok(held) => held,
                Err(error) => {
                    outcomes.push((CHECK_HOOK, Err(error)));
                    (Fetch::default(), None)
                }
            }
        }
        Err(error) => {
            outcomes.push(("archive", Err(error)));
            (Fetch::default(), None)
        }
    };
    let (further, _) = held(root, now, request, &fetched, Mode::Act, observer)?;
    outcomes.extend(further);
    let checks: Vec<Told> = outcomes.into_iter().map(told).collect();
    let ok = checks.iter().all(|told| told.ok);
    Ok(Checked { version: target.clone(), from: now.current.version().cloned(), ok, checks })
}

/// The release where its own check can run: one in an archive is unpacked for that, under the lock, and nothing of it
/// stays.
fn to_be_asked<'a>(
    root: &'a Root,
    session: &Session<'_>,
    target: &Version,
    fetched: Fetch<'a>,
    observer: &mut dyn Observer,
) -> Result<(Fetch<'a>, Option<RootLock>)> {
    let hooks = fetched.manifest.as_ref().map(|manifest| &manifest.hooks);
    if fetched.steps.is_empty() || hooks.is_none_or(|hooks| hooks.check.is_none()) {
        return Ok((fetched, None));
    }
    let lock = RootLock::take(root, &session.common.order.command, session.common.wait, observer)?;
    if journal::is_open(root)? {
        return Err(Error::refused("the release cannot be asked while another command is not at its end")
            .hint("`tenure status` tells which one it is; the next command that changes something recovers from it"));
    }
    let want = Want { version: target, given: None, replace: Replace::No, mode: Mode::Act };
    Ok((fetch(root, &session.now, want, observer)?, Some(lock)))
}

fn running(now: &Snapshot) -> String {
    now.current
        .version()
        .map_or_else(|| "no release is current".to_owned(), |current| format!("{current} is current"))
}

fn told((check, outcome): Outcome) -> Told {
    match outcome {
        Ok(found) => Told { check, ok: true, found, hints: Vec::new() },
        Err(error) => {
            let hints = error.hints().into_iter().map(str::to_owned).collect();
            Told { check, ok: false, found: error.in_one_line(), hints }
        }
    }
}

/// How the service gets to a release that nothing is in the way of.
///
/// # Errors
/// Refused with all that is in the way at once.
pub(super) fn passed(
    root: &Root,
    now: &Snapshot,
    request: &Request,
    fetched: &Fetch<'_>,
    mode: Mode,
    observer: &mut dyn Observer,
) -> Result<Option<Motion>> {
    let (outcomes, motion) = held(root, now, request, fetched, mode, observer)?;
    let mut failed: Vec<Error> = outcomes.into_iter().filter_map(|(_, outcome)| outcome.err()).collect();
    match failed.len() {
        0 => Ok(motion),
        1 => Err(failed.remove(0)),
        count => {
            let as_one = |later: Option<Error>, error: Error| {
                let first = Error::refused(error.in_one_line());
                let hinted = error.hints().into_iter().fold(first, Error::hint);
                Some(match later {
                    Some(later) => hinted.because(later),
                    None => hinted,
                })
            };
            let all =
                Error::refused(format!("cannot go to {}: {count} things are in the way", request.target));
            Err(match failed.into_iter().rev().fold(None, as_one) {
                Some(failed) => all.because(failed),
                None => all,
            })
        }
    }
}

fn held(
    root: &Root,
    now: &Snapshot,
    request: &Request,
    fetched: &Fetch<'_>,
    mode: Mode,
    observer: &mut dyn Observer,
) -> Result<(Vec<Outcome>, Option<Motion>)> {
    let target = &request.target;
    let manifest = fetched.declared(root, target)?;
    let reached = || match now.current.version() {
        Some(current) if current < target => format!("{target} is reached from {current}"),
        _ => "it is no upgrade".to_owned(),
    };
    let path = route::allowed(root, now, target, fetched).map(|()| reached());
    let mut outcomes = vec![("path", path)];
    if !has_run(now, target) {
        outcomes.extend(requirements(root, manifest.as_ref())?);
    }
    outcomes.push(("data", data::admitted(root, now, target, manifest.as_ref())));
    if mode == Mode::Act {
        outcomes.extend(agreed(root, now, target, fetched, manifest.as_ref(), observer));
    }
    let motion = motion::onward(root, now, request, fetched, mode, observer);
    let (way, motion) = match motion {
        Ok(Some(motion)) => (Ok(format!("the service moves {}", motion.way)), Some(motion)),
        Ok(None) => (Ok("no service is moved".to_owned()), None),
        Err(error) => (Err(error), None),
    };
    outcomes.push(("service", way));
    Ok((outcomes, motion))
}

/// What has run here is not kept from running again, least of all on the way back.
fn has_run(now: &Snapshot, target: &Version) -> bool {
    matches!(now.state(target), Some(ReleaseState::Permanent | ReleaseState::Old))
}

/// What the release's own check says, where it has one.
fn agreed(
    root: &Root,
    now: &Snapshot,
    target: &Version,
    fetched: &Fetch<'_>,
    manifest: Option<&Manifest>,
    watch: &dyn Watch,
) -> Option<Outcome> {
    let hook = Hook::of(root, manifest?, Task::Check)?;
    let old = now.current.version();
    if old == Some(target) || has_run(now, target) {
        return None;
    }
    let ask = |staged: Option<&Place>| {
        let errand = Errand { action: "check", old, new: Some(target), staged, ..Errand::default() };
        hook.ask(&errand, watch).map_err(|error| error.as_kind(Kind::Refused))
    };
    let said = match &fetched.staged {
        Some(staged) => staged.let_in(|place| ask(Some(place))).and_then(|said| said),
        // It is looked at where it is; an archive that was only looked through is asked nothing.
        None if fetched.steps.is_empty() => ask(None),
        None => return None,
    };
    let last = |said: String| said.lines().last().map(str::to_owned);
    Some((CHECK_HOOK, said.map(|said| last(said).unwrap_or_else(|| "it has no objection".to_owned()))))
}

fn requirements(root: &Root, manifest: Option<&Manifest>) -> Result<Vec<Outcome>> {
    let Some(requires) = manifest.map(|manifest| &manifest.requires).filter(|r| **r != Requires::default())
    else {
        return Ok(Vec::new());
    };
    let host = platform::this(disk::free(root.place())?.bytes)?;
    Ok(requires.met_by(&host).into_iter().map(outcome).collect())
}

fn outcome(finding: Finding) -> Outcome {
    let Finding { check, ok, found, needed } = finding;
    match ok {
        true => (check, Ok(found)),
        false => {
            (check, Err(Error::refused(format!("this host has {found}, and the release needs {needed}"))))
        }
    }
}

/// Which of the installed releases run on another system.
#[derive(Clone, Debug, Serialize)]
pub struct Supported {
    /// The system.
    pub os: String,
    /// Each release with its state, and whether it runs there; none where it does not say.
    pub releases: Vec<(Version, ReleaseState, Option<bool>)>,
}

/// Tells which of the installed releases run on another system, ahead of its upgrade.
///
/// # Errors
/// Where the root or a manifest cannot be read.
pub fn supported(root: &Root, os: &Named) -> Result<Supported> {
    let now = root.observe()?;
    let host = platform::this(0)?;
    let there = Platform { os: os.clone(), ..host };
    let releases = now.states().map(|(version, state)| {
        let requires = root.manifest(version)?.map(|manifest| manifest.requires).unwrap_or_default();
        let findings = Requires { os: requires.os, ..Requires::default() }.met_by(&there);
        Ok((version.clone(), state, findings.first().map(|finding| finding.ok)))
    });
    Ok(Supported { os: os.to_string(), releases: releases.collect::<Result<_>>()? })
}
