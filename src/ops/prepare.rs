//! Checks a release before a switch; and `--prepare-only`, which does everything short of the switch.

use serde::Serialize;

use crate::data::OnDisk;
use crate::error::Result;
use crate::execute::Reporter;
use crate::plan::{self, Plan, PlanFacts, ServiceMove, Step};
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::version::Version;

use super::fetch::{Fetch, fetch};
use super::source::ArchiveRequest;
use super::{Install, Report, Session, check, data, service_move};

/// A release that passed all checks.
pub(super) struct Ready<'a> {
    /// The steps that unpack it, and its manifest.
    pub fetched: Fetch<'a>,
    /// The step that prepares it; `None` if not needed.
    prepare: Option<Step>,
    /// How the service moves to the release.
    pub motion: Option<ServiceMove>,
    /// Whether the service is down and will be started.
    start: bool,
}

/// Runs all checks on a release, with the data on disk.
///
/// # Errors
/// Returns a `Refused` error with all failed checks.
pub(super) fn ready<'a>(
    session: &Session<'a>,
    on_disk: &OnDisk,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Ready<'a>> {
    let request = &options.request;
    let (fetched, motion) = check::require_all(session, on_disk, request, want(options), reporter)?;
    let start = request.start && service_move::is_down(session.root, reporter)?;
    let ready = Ready::of(session.root, &session.now, &request.target, fetched, motion);
    Ok(Ready { start, ..ready })
}

fn want(options: &Install) -> ArchiveRequest<'_> {
    ArchiveRequest::of(&options.request.target, options.replace, options.common.mode)
}

impl<'a> Ready<'a> {
    /// Wraps a release that passed all checks, with its manifest.
    pub fn of(
        root: &Root,
        now: &Snapshot,
        target: &Version,
        fetched: Fetch<'a>,
        motion: Option<ServiceMove>,
    ) -> Self {
        let is_fetched = !fetched.steps.is_empty();
        let prepare = data::preparing(root, now, target, fetched.manifest.as_ref(), is_fetched);
        Self { fetched, prepare, motion, start: false }
    }

    /// Returns what accompanies the switch of the links, for the data on disk.
    pub fn along(&self, now: &Snapshot, on_disk: &OnDisk, options: &Install) -> PlanFacts {
        let command = options.backup_command.as_deref();
        let along = data::along(on_disk, now, &options.request, self.fetched.manifest.as_ref(), command);
        PlanFacts { fetch: self.ahead().steps, motion: self.motion.clone(), start: self.start, ..along }
    }

    /// Returns the steps that can run before the switch.
    fn ahead(&self) -> Plan {
        plan::unpack(self.fetched.steps.iter().cloned().chain(self.prepare.clone()).collect())
    }
}

/// The result of a preparation without a switch.
#[derive(Clone, Debug, Serialize)]
pub struct Prepared {
    /// The release.
    pub version: Version,
    /// The state of the release.
    pub state: ReleaseState,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Does everything of an upgrade short of the switch.
///
/// # Errors
/// Returns the errors of `install`.
pub fn prepare(root: &Root, options: &Install, reporter: &mut dyn Reporter) -> Result<Report<Prepared>> {
    let session = Session::begin(root, &options.common, reporter)?;
    prepare_in(session, options, reporter)
}

/// Prepares a release for a later hop, from a release that does not run yet. The checks run before that hop.
///
/// # Errors
/// Returns an error if the release cannot be unpacked or prepared.
pub(super) fn prepare_ahead(
    session: Session<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<Prepared>> {
    let target = &options.request.target;
    let fetched = fetch(session.root, &session.now, want(options), reporter)?;
    let fetched = fetched.declared(session.root, target)?;
    let ready = Ready::of(session.root, &session.now, target, fetched, None);
    finish(session, &ready, options, reporter)
}

/// Works like [`prepare`].
pub(super) fn prepare_in(
    session: Session<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<Prepared>> {
    options.request.allowed(&session.now)?;
    let on_disk = session.root.data(&session.now)?;
    let ready = ready(&session, &on_disk, options, reporter)?;
    finish(session, &ready, options, reporter)
}

fn finish(
    session: Session<'_>,
    ready: &Ready<'_>,
    options: &Install,
    reporter: &mut dyn Reporter,
) -> Result<Report<Prepared>> {
    let version = options.request.target.clone();
    let state = session.now.state(&version).unwrap_or(ReleaseState::Unpacked);
    session.finish(ready.ahead(), ready.fetched.staged.as_ref(), reporter, |plan| Prepared {
        version,
        state,
        changed: !plan.steps.is_empty(),
    })
}
