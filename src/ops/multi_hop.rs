//! `--multi-hop`: upgrades over several hops. Each hop is healthy, permanent and migrated before the next.

use serde::Serialize;

use crate::data::{Migration, OnDisk, Stage};
use crate::error::{Error, Kind, Result};
use crate::execute::Reporter;
use crate::manifest::Manifest;
use crate::plan::{self, Hop, Plan, Request, Restart, Retry, Step};
use crate::release::Snapshot;
use crate::root::Root;
use crate::version::Version;

use super::checks::{self, CheckOutcome};
use super::disk_space::Reservation;
use super::fetch::Fetch;
use super::install::{Install, install_in, migrating, prepare_ahead, prepare_in};
use super::migrate::{failed, follow};
use super::preflight::{CheckedState, Preflight, all_or_nothing};
use super::session::{Mode, Report, Session};
use super::source::ArchiveRequest;
use super::upgrade_path::{PathQuery, route};
use super::{data, service_move};

/// How far a multi-hop upgrade goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// To the last release.
    Whole,
    /// `--prepare-only`: nothing is switched.
    Ahead,
}

/// The result of a multi-hop upgrade.
#[derive(Clone, Debug, Serialize)]
pub struct Walked {
    /// The release from which the upgrade started.
    pub from: Version,
    /// The release to which the upgrade leads.
    pub version: Version,
    /// The hops; empty if there was nothing to do.
    pub hops: Vec<Hop>,
    /// Whether the hops were made; otherwise they are only prepared.
    pub switched: bool,
    /// The data migration of the last release, which runs in the background or has failed; `None` if there is nothing
    /// to migrate.
    pub migration: Option<Migration>,
}

/// One hop, with the options of its upgrade.
struct HopPlan {
    hop: Hop,
    options: Install,
}

/// Upgrades to a release over the hops that the rules of its vendor allow.
///
/// # Errors
/// Returns a `Refused` error that lists the failed checks of all hops. If a hop fails later, returns its error; the
/// service is then on the last good hop, or on the failed one if that became permanent.
pub fn walk(
    root: &Root,
    options: &Install,
    extent: Extent,
    reporter: &mut dyn Reporter,
) -> Result<Report<Walked>> {
    if let Some(archive) = &options.archive {
        return Err(Error::refused(format!("cannot upgrade over several hops with {}", archive.display()))
            .hint("copy the archives of all hops into releases/, then name the version"));
    }
    let session = Session::begin(root, &options.common, reporter)?;
    let from = start(&session.now, &options.request)?;
    let version = options.request.target.clone();
    let query = PathQuery { to: version.clone(), from: Some(from.clone()), available: None, graph: false };
    let hops = route(root, &query, reporter)?.hops;
    let data = settled(&session, &hops, options.common.mode, reporter)?;
    let (plans, plan) = check_hops(&session, options, data, hops.clone(), reporter)?;
    let plan = if extent == Extent::Ahead { ahead(plan) } else { plan };
    let walked = |switched, migration| Walked { from: from.clone(), version, hops, switched, migration };
    if options.common.mode == Mode::DryRun {
        return session.finish(plan, None, reporter, |_| walked(false, None));
    }
    prepare(&session, &plans, reporter)?;
    if extent == Extent::Ahead {
        return session.finish(Plan::default(), None, reporter, |_| walked(false, None));
    }
    // A service that was failing before is not blamed on a hop. After a single hop, the health is not checked.
    let was_healthy = plans.len() < 2 || service_move::ailment(root, &from, reporter)?.is_none();
    for (at, hop_plan) in plans.iter().enumerate() {
        reporter.hop(&hop_plan.hop, at + 1, plans.len());
        let left = if at + 1 < plans.len() { NextHop::More { was_healthy } } else { NextHop::Nothing };
        make_hop(&session, hop_plan, left, reporter)
            .map_err(|error| stopped(root, error, &hop_plan.hop, at, plans.len()))?;
    }
    let migration = migrating(root, &options.request.target)?;
    session.finish(Plan::default(), None, reporter, |_| walked(true, migration))
}

/// Returns the release from which the hops start. It must be permanent.
fn start(now: &Snapshot, request: &Request) -> Result<Version> {
    request.allowed(now)?;
    let target = &request.target;
    now.without_trial(|| format!("cannot go on to {target} over several hops"))?;
    match now.current.version() {
        Some(current) if target < current => {
            Err(Error::refused(format!("a downgrade is one hop: {target} is lower than {current}"))
                .hint("remove `--multi-hop`"))
        }
        Some(current) => Ok(current.clone()),
        None => Err(Error::refused("cannot plan an upgrade path: no release is current")
            .hint(format!("run `tenure install {target}` to install the first release"))),
    }
}

/// Returns the data after a running migration, which an interrupted upgrade may have begun. No hop may start before
/// its end.
fn settled(session: &Session<'_>, hops: &[Hop], mode: Mode, reporter: &mut dyn Reporter) -> Result<OnDisk> {
    if hops.is_empty() || mode == Mode::DryRun {
        return Ok(session.root.data(&session.now)?.foreseen());
    }
    let known = follow(session.root, reporter)?;
    reporter.go_on()?;
    Ok(known)
}

/// Checks each hop against the state that the hops before it will leave. Returns the hops and the whole plan.
fn check_hops(
    session: &Session<'_>,
    options: &Install,
    data: OnDisk,
    hops: Vec<Hop>,
    reporter: &mut dyn Reporter,
) -> Result<(Vec<HopPlan>, Plan)> {
    let (found, claimed) = check_archives(session, options, &hops, reporter);
    let mut ahead = PredictedRoot {
        request: &options.request,
        root: session.root,
        now: session.now.clone(),
        data,
        claimed,
        plan: Plan { from: session.now.current.version().cloned(), to: None, steps: Vec::new() },
    };
    let (mut plans, mut failed) = (Vec::new(), Vec::new());
    if !hops.is_empty() {
        let standing = checks::standing(session.root, &session.now, &options.request)?;
        failed.extend(standing.into_iter().filter_map(|(_, outcome)| outcome.err()));
    }
    for (at, (hop, preflight)) in hops.into_iter().zip(found).enumerate() {
        match ahead.check_hop(&hop, preflight, options_for(options, &hop, at == 0), reporter) {
            Ok(options) => plans.push(HopPlan { hop, options }),
            Err(errors) => failed.extend(errors.into_iter().map(|error| at_hop(&hop, &error))),
        }
    }
    all_or_nothing(&options.request.target, failed)?;
    Ok((plans, ahead.plan))
}

/// Inspects all archives, each of which must fit beside those before it. Also returns their total space.
fn check_archives<'a>(
    session: &Session<'a>,
    options: &Install,
    hops: &[Hop],
    reporter: &mut dyn Reporter,
) -> (Vec<Result<Preflight<'a>>>, Reservation) {
    let mut claimed = Reservation::default();
    let look = |hop: &Hop| {
        let want = ArchiveRequest { claimed, ..ArchiveRequest::of(&hop.to, options.replace, Mode::DryRun) };
        let mut preflight = Preflight::default();
        preflight.check_archive(session.root, &session.now, want, reporter)?;
        claimed = claimed.and(preflight.fetched.as_ref().map(|fetched| fetched.claim).unwrap_or_default());
        Ok(preflight)
    };
    (hops.iter().map(look).collect(), claimed)
}

fn options_for(options: &Install, hop: &Hop, is_first: bool) -> Install {
    let mut options = options.clone();
    options.request.target = hop.to.clone();
    // Only the hops that need a restart get one.
    options.request.restart = match options.request.restart {
        Restart::Asked => Restart::IfNeeded,
        other => other,
    };
    // `PredictedRoot::failed_before` checks this for the whole path.
    options.request.retry = Retry::Yes;
    // The operator's backup is made once, before the first hop.
    options.backup_command = options.backup_command.filter(|_| is_first);
    options
}

/// The predicted state of the root.
struct PredictedRoot<'a> {
    /// The request for the whole path.
    request: &'a Request,
    root: &'a Root,
    now: Snapshot,
    data: OnDisk,
    /// The space for all releases of the path, which are unpacked before the first hop.
    claimed: Reservation,
    plan: Plan,
}

impl<'a> PredictedRoot<'a> {
    /// Checks the next hop, then updates the state as if the hop were made.
    fn check_hop(
        &mut self,
        hop: &Hop,
        preflight: Result<Preflight<'a>>,
        options: Install,
        reporter: &mut dyn Reporter,
    ) -> std::result::Result<Install, Vec<Error>> {
        let manifest = preflight.as_ref().ok().and_then(Preflight::manifest).cloned();
        let steps = preflight
            .map_err(|error| vec![error])
            .and_then(|preflight| self.steps(&options, preflight, reporter));
        // Do this even if a check failed, so that the problems of later hops are reported too.
        self.arrive(hop, manifest.as_ref());
        self.plan.steps.extend(steps?);
        self.plan.to = Some(hop.to.clone());
        Ok(options)
    }

    /// Returns the steps of an upgrade with these options, or all errors that prevent it.
    fn steps(
        &self,
        options: &Install,
        mut preflight: Preflight<'_>,
        reporter: &mut dyn Reporter,
    ) -> std::result::Result<Vec<Step>, Vec<Error>> {
        let one = |error| vec![error];
        let (now, on_disk, request) = (&self.now, &self.data, &options.request);
        preflight.checks.extend(self.failed_before(&request.target, preflight.fetched.as_ref()));
        if let Some(fetched) = &mut preflight.fetched {
            fetched.claim = self.claimed;
        }
        let state = CheckedState { root: self.root, now, on_disk, request, mode: Mode::DryRun };
        preflight.check_release(state, reporter).map_err(one)?;
        let failed = std::mem::take(&mut preflight.checks).into_iter();
        let failed: Vec<Error> = failed.filter_map(|(_, outcome)| outcome.err()).collect();
        if !failed.is_empty() {
            return Err(failed);
        }
        let facts = preflight.facts(now, on_disk, request, options.backup_command.as_deref());
        plan::install(now, request, facts).map(|plan| plan.steps).map_err(one)
    }

    /// Runs the check of a single upgrade, but with a hint that retries the whole path.
    fn failed_before(&self, target: &Version, fetched: Option<&Fetch<'_>>) -> Option<CheckOutcome> {
        let request = Request { target: target.clone(), ..self.request.clone() };
        let sha256 = fetched.and_then(|fetched| fetched.sha256.as_deref());
        let again = checks::retry_command_of_path(self.request);
        checks::failed_before(self.root, &self.now, &request, sha256, &again)
    }

    fn arrive(&mut self, hop: &Hop, manifest: Option<&Manifest>) {
        let formats = std::mem::take(&mut self.data.formats);
        self.data = data::after(formats, &self.now, &hop.to, manifest);
        self.now.arrive(&hop.to);
    }
}

fn at_hop(hop: &Hop, error: &Error) -> Error {
    error.refused_in_one_line(&format!("from {} to {}: ", hop.from, hop.to))
}

/// Returns the part of a plan that switches nothing.
fn ahead(plan: Plan) -> Plan {
    let steps = plan.steps.into_iter().filter(Step::is_ahead).collect();
    plan::unpack(steps)
}

/// Unpacks and prepares the releases of all hops. Only the first hop is checked here.
fn prepare(session: &Session<'_>, plans: &[HopPlan], reporter: &mut dyn Reporter) -> Result<()> {
    for (at, HopPlan { options, hop }) in plans.iter().enumerate() {
        let session = session.again()?;
        match at {
            0 => prepare_in(session, options, reporter)?,
            _ => prepare_ahead(session, options, reporter).map_err(|error| unready(error, &hop.to))?,
        };
    }
    Ok(())
}

/// What follows a hop.
#[derive(Clone, Copy)]
enum NextHop {
    /// The hop is the last one.
    Nothing,
    /// Another hop; `was_healthy` tells whether the service was healthy before the first one.
    More { was_healthy: bool },
}

/// Makes one hop. If another hop follows, waits for the migration and checks that the service is still healthy.
fn make_hop(
    session: &Session<'_>,
    hop_plan: &HopPlan,
    left: NextHop,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    install_in(session.again()?, &hop_plan.options, reporter)?;
    reporter.arrived(&hop_plan.hop);
    let NextHop::More { was_healthy } = left else { return Ok(()) };
    let known = follow(session.root, reporter)?;
    reporter.go_on()?;
    if let Some(migration) = known.migration.filter(|migration| migration.stage == Stage::Failed) {
        return Err(failed(&migration));
    }
    let to = &hop_plan.hop.to;
    match service_move::ailment(session.root, to, reporter)? {
        Some(why) if was_healthy => {
            Err(Error::failed(format!("the service is not healthy on {to}, which was made permanent: {why}")))
        }
        _ => Ok(()),
    }
}

/// Returns the error for a release that cannot be prepared. Earlier releases are on disk already, so it is not a
/// refusal.
fn unready(error: Error, version: &Version) -> Error {
    let kind = if error.kind() == Kind::Refused { Kind::Failed } else { error.kind() };
    Error::new(kind, format!("stopped before the first hop: {version} is not ready; nothing was switched"))
        .because(error)
        .hint("prepared releases are kept; fix the cause, then run the same command again")
}

/// Adds where the upgrade stopped: at the release before the hop, or after it if a problem was found later.
fn stopped(root: &Root, error: Error, hop: &Hop, at: usize, of: usize) -> Error {
    let kind = match error.kind() {
        // Earlier hops were made, so something has changed.
        Kind::Refused if at > 0 => Kind::Failed,
        kind => kind,
    };
    let now = root.observe().ok();
    let stands = match now.as_ref().map(|now| (now.current.version(), now.permanent.version())) {
        Some((Some(current), permanent)) if permanent == Some(current) => {
            format!("; {current} is current and permanent")
        }
        Some((Some(current), Some(permanent))) => {
            format!("; {current} is current, and {permanent} permanent")
        }
        _ => String::new(),
    };
    let what = format!("stopped at hop {} of {of}, from {} to {}{stands}", at + 1, hop.from, hop.to);
    let stopped = Error::new(kind, what).because(error);
    match kind {
        Kind::Stuck => stopped,
        _ => stopped
            .hint("run `tenure status`; once the cause is fixed, the same command continues from there"),
    }
}
