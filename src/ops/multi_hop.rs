//! `--multi-hop`: the whole way to a release, each hop proven, permanent and with its data migrated before the next.

use serde::Serialize;

use crate::data::{Migration, OnDisk, Stage};
use crate::error::{Error, Kind, Result};
use crate::execute::Reporter;
use crate::manifest::Manifest;
use crate::plan::{self, Hop, Plan, Request, Restart, Retry, Step};
use crate::release::Snapshot;
use crate::root::Root;
use crate::version::Version;

use super::check::CheckOutcome;
use super::disk_space::Reservation;
use super::fetch::Fetch;
use super::install::{install_in, migrating};
use super::migrate::{failed, follow};
use super::prepare::{Ready, prepare_ahead, prepare_in};
use super::source::ArchiveRequest;
use super::upgrade_path::{PathQuery, route};
use super::{Install, Mode, Report, Session, check, data, retry, service_move};

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// To the end.
    Whole,
    /// `--prepare-only`: nothing is switched.
    Ahead,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Walked {
    /// The release that it began at.
    pub from: Version,
    /// The release that it ends at.
    pub version: Version,
    /// The hops; none where there was nothing to do.
    pub hops: Vec<Hop>,
    /// Whether they were made; else all is ready for them.
    pub switched: bool,
    /// The data migration of the last release, which goes on in the background or has failed; none where there is nothing
    /// to migrate.
    pub migration: Option<Migration>,
}

/// One hop, with the options of an upgrade that makes it.
struct HopPlan {
    leg: Hop,
    options: Install,
}

/// Goes all the way to a release over the hops that its vendor's rules allow.
///
/// # Errors
/// Refused with all that is in the way of any hop; else as the hop that it stopped at, which was taken back: the service
/// is then on the last good hop.
pub fn walk(
    root: &Root,
    options: &Install,
    extent: Extent,
    reporter: &mut dyn Reporter,
) -> Result<Report<Walked>> {
    let session = Session::begin(root, &options.common, reporter)?;
    let from = start(&session.now, &options.request)?;
    let version = options.request.target.clone();
    let journey = PathQuery { to: version.clone(), from: Some(from.clone()), available: None, graph: false };
    let hops = route(root, &journey, reporter)?.hops;
    let data = settled(&session, &hops, options.common.mode, reporter)?;
    let (strides, plan) = survey(&session, options, data, hops.clone(), reporter)?;
    let plan = if extent == Extent::Ahead { ahead(plan) } else { plan };
    let walked = |switched, migration| Walked { from: from.clone(), version, hops, switched, migration };
    if options.common.mode == Mode::DryRun {
        return session.finish(plan, None, reporter, |_| walked(false, None));
    }
    prepare(&session, &strides, reporter)?;
    if extent == Extent::Ahead {
        return session.finish(Plan::default(), None, reporter, |_| walked(false, None));
    }
    // What was failing before is not blamed on a hop; after the only one nobody looks.
    let was_well = strides.len() < 2 || service_move::ailment(root, &from, reporter)?.is_none();
    for (at, stride) in strides.iter().enumerate() {
        reporter.hop(&stride.leg, at + 1, strides.len());
        let left =
            if at + 1 < strides.len() { RemainingSpace::More { was_well } } else { RemainingSpace::Nothing };
        go(&session, stride, left, reporter)
            .map_err(|error| stopped(root, error, &stride.leg, at, strides.len()))?;
    }
    let migration = migrating(root, &options.request.target)?;
    session.finish(Plan::default(), None, reporter, |_| walked(true, migration))
}

/// Where a walk begins: at a release that is there to stay.
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
            .hint(format!("`tenure install {target}` installs the first"))),
    }
}

/// The data once a migration at work has ended, as it has to before a hop: a walk that was cut short may have begun it.
fn settled(session: &Session<'_>, hops: &[Hop], mode: Mode, reporter: &mut dyn Reporter) -> Result<OnDisk> {
    if hops.is_empty() || mode == Mode::DryRun {
        return Ok(session.root.data(&session.now)?.foreseen());
    }
    let known = follow(session.root, reporter)?;
    reporter.go_on()?;
    Ok(known)
}

/// Holds every hop against the checks, as it will be once the ones before it are made, and tells the whole plan.
fn survey(
    session: &Session<'_>,
    options: &Install,
    data: OnDisk,
    hops: Vec<Hop>,
    reporter: &mut dyn Reporter,
) -> Result<(Vec<HopPlan>, Plan)> {
    let (found, claimed) = look_through(session, options, &hops, reporter);
    let mut ahead = Ahead {
        request: &options.request,
        root: session.root,
        now: session.now.clone(),
        data,
        claimed,
        plan: Plan { from: session.now.current.version().cloned(), to: None, steps: Vec::new() },
    };
    let (mut strides, mut failed) = (Vec::new(), Vec::new());
    if !hops.is_empty() {
        let standing = check::standing(session.root, &session.now, &options.request)?;
        failed.extend(standing.into_iter().filter_map(|(_, outcome)| outcome.err()));
    }
    for (at, (leg, looked)) in hops.into_iter().zip(found).enumerate() {
        match ahead.look(&leg, looked, options_for(options, &leg, at == 0), reporter) {
            Ok(options) => strides.push(HopPlan { leg, options }),
            Err(errors) => failed.extend(errors.into_iter().map(|error| at_hop(&leg, &error))),
        }
    }
    check::all_or_nothing(&options.request.target, failed)?;
    Ok((strides, ahead.plan))
}

/// What was found of the archive of one release, or all that is wrong with it.
type HopChecks<'a> = Result<(Vec<CheckOutcome>, Option<Fetch<'a>>)>;

/// Looks through all archives of the way, each of which has to find room beside those before it; and tells what they
/// take together.
fn look_through<'a>(
    session: &Session<'a>,
    options: &Install,
    hops: &[Hop],
    reporter: &mut dyn Reporter,
) -> (Vec<HopChecks<'a>>, Reservation) {
    let mut claimed = Reservation::default();
    let look = |leg: &Hop| {
        let want = ArchiveRequest { claimed, ..ArchiveRequest::of(&leg.to, options.replace, Mode::DryRun) };
        let looked = check::check_archive(session.root, &session.now, want, reporter);
        let fetched = looked.as_ref().ok().and_then(|(_, fetched)| fetched.as_ref());
        claimed = claimed.and(fetched.map(|fetched| fetched.claim).unwrap_or_default());
        looked
    };
    (hops.iter().map(look).collect(), claimed)
}

/// The options of the upgrade that makes a hop.
fn options_for(options: &Install, leg: &Hop, is_first: bool) -> Install {
    let mut options = options.clone();
    options.request.target = leg.to.clone();
    // Of several hops only those are made by a restart that need it.
    options.request.restart = match options.request.restart {
        Restart::Asked => Restart::IfNeeded,
        other => other,
    };
    // Whether one failed before is looked at for the whole way.
    options.request.retry = Retry::Yes;
    // What the operator wants to be saved is saved once, at the start.
    options.backup_command = options.backup_command.filter(|_| is_first);
    options
}

/// The root as it will be.
struct Ahead<'a> {
    /// What the whole way was asked for by.
    request: &'a Request,
    root: &'a Root,
    now: Snapshot,
    data: OnDisk,
    /// What all releases of the way take, which are unpacked before the first hop.
    claimed: Reservation,
    plan: Plan,
}

impl<'a> Ahead<'a> {
    /// Looks at the next hop, and goes on as if it were made.
    fn look(
        &mut self,
        leg: &Hop,
        looked: HopChecks<'a>,
        options: Install,
        reporter: &mut dyn Reporter,
    ) -> std::result::Result<Install, Vec<Error>> {
        let declared = looked.as_ref().ok().and_then(|(_, fetched)| fetched.as_ref());
        let manifest = declared.and_then(|fetched| fetched.manifest.clone());
        let steps = looked.map_err(|error| vec![error]).and_then(|(mut found, fetched)| {
            found.extend(self.failed_before(&leg.to, fetched.as_ref()));
            let fetched = fetched.map(|fetched| Fetch { claim: self.claimed, ..fetched });
            self.steps(&options, found, fetched, reporter)
        });
        // As if it were made, whatever is in its way: the hops behind it are to be told of, too.
        self.pass(leg, manifest.as_ref());
        self.plan.steps.extend(steps?);
        self.plan.to = Some(leg.to.clone());
        Ok(options)
    }

    /// What an upgrade with these options does, or all that is in its way.
    fn steps(
        &self,
        options: &Install,
        found: Vec<CheckOutcome>,
        fetched: Option<Fetch<'_>>,
        reporter: &mut dyn Reporter,
    ) -> std::result::Result<Vec<Step>, Vec<Error>> {
        let one = |error| vec![error];
        let (root, now, data, request) = (self.root, &self.now, &self.data, &options.request);
        let (further, motion) =
            check::run_checks(root, now, data, request, fetched.as_ref(), Mode::DryRun, reporter)
                .map_err(one)?;
        let outcomes = found.into_iter().chain(further);
        let failed: Vec<Error> = outcomes.filter_map(|(_, outcome)| outcome.err()).collect();
        if !failed.is_empty() {
            return Err(failed);
        }
        let ready = Ready::of(root, now, &request.target, fetched.unwrap_or_default(), motion);
        let plan = plan::install(now, request, ready.along(now, data, options));
        plan.map(|plan| plan.steps).map_err(one)
    }

    /// As of one upgrade, with the command that tries the whole way again.
    fn failed_before(&self, target: &Version, fetched: Option<&Fetch<'_>>) -> Option<CheckOutcome> {
        let request = Request { target: target.clone(), ..self.request.clone() };
        let sha256 = fetched.and_then(|fetched| fetched.sha256.as_deref());
        retry::failed_before(self.root, &self.now, &request, sha256, &retry::command_of_walk(self.request))
    }

    fn pass(&mut self, leg: &Hop, manifest: Option<&Manifest>) {
        let formats = std::mem::take(&mut self.data.formats);
        self.data = data::after(formats, &self.now, &leg.to, manifest);
        self.now.arrive(&leg.to);
    }
}

fn at_hop(leg: &Hop, error: &Error) -> Error {
    error.refused_in_one_line(&format!("from {} to {}: ", leg.from, leg.to))
}

/// Of a whole plan, what switches nothing.
fn ahead(plan: Plan) -> Plan {
    let steps = plan.steps.into_iter().filter(Step::is_ahead).collect();
    plan::unpack(steps)
}

/// Unpacks and prepares all releases of the way; the first of them is asked whether it may be gone to.
fn prepare(session: &Session<'_>, strides: &[HopPlan], reporter: &mut dyn Reporter) -> Result<()> {
    for (at, HopPlan { options, leg }) in strides.iter().enumerate() {
        let session = session.again()?;
        match at {
            0 => prepare_in(session, options, reporter)?,
            _ => prepare_ahead(session, options, reporter).map_err(|error| unready(error, &leg.to))?,
        };
    }
    Ok(())
}

/// What comes after a hop.
#[derive(Clone, Copy)]
enum RemainingSpace {
    /// It was the last.
    Nothing,
    /// Another hop, from a service that was well when the walk began, or was not.
    More { was_well: bool },
}

/// Makes one hop; where another one follows, waits for the end of its migration, and looks whether the service is still
/// well after it.
fn go(
    session: &Session<'_>,
    stride: &HopPlan,
    left: RemainingSpace,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    install_in(session.again()?, &stride.options, reporter)?;
    reporter.arrived(&stride.leg);
    let RemainingSpace::More { was_well } = left else { return Ok(()) };
    let known = follow(session.root, reporter)?;
    reporter.go_on()?;
    if let Some(migration) = known.migration.filter(|migration| migration.stage == Stage::Failed) {
        return Err(failed(&migration));
    }
    let to = &stride.leg.to;
    match service_move::ailment(session.root, to, reporter)? {
        Some(why) if was_well => {
            Err(Error::failed(format!("the service is not healthy on {to}, which was made permanent: {why}")))
        }
        _ => Ok(()),
    }
}

/// Releases before it are on disk by now.
fn unready(error: Error, version: &Version) -> Error {
    let kind = if error.kind() == Kind::Refused { Kind::Failed } else { error.kind() };
    Error::new(kind, format!("stopped before the first hop: {version} is not ready; nothing was switched"))
        .because(error)
        .hint("prepared releases are kept; fix the cause, then run the same command again")
}

/// Says where the walk stands now: on the hop before, or on this one where it was made and something is wrong with it.
fn stopped(root: &Root, error: Error, leg: &Hop, at: usize, of: usize) -> Error {
    let kind = match error.kind() {
        // Earlier hops were made.
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
    let what = format!("stopped at hop {} of {of}, from {} to {}{stands}", at + 1, leg.from, leg.to);
    let stopped = Error::new(kind, what).because(error);
    match kind {
        Kind::Stuck => stopped,
        _ => stopped
            .hint("run `tenure status`; once the cause is fixed, the same command continues from there"),
    }
}
