//! A release that nothing is in the way of; and `--prepare-only`, which does all that can be done ahead of a switch.

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

/// A release that nothing is in the way of.
pub(super) struct Ready<'a> {
    /// What brings it onto the disk, and what it declares.
    pub fetched: Fetch<'a>,
    /// What prepares it; none where it is prepared.
    prepare: Option<Step>,
    /// How the service gets to it.
    pub motion: Option<ServiceMove>,
    /// Whether the service is down and is to be started.
    start: bool,
}

/// Holds a release against everything, on the data that is on disk.
///
/// # Errors
/// Refused with all that is in the way at once.
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
    /// A release that was held against everything, with what it declares.
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

    /// All that goes along with the links, of data as it is on disk.
    pub fn along(&self, now: &Snapshot, on_disk: &OnDisk, options: &Install) -> PlanFacts {
        let command = options.backup_command.as_deref();
        let along = data::along(on_disk, now, &options.request, self.fetched.manifest.as_ref(), command);
        PlanFacts { fetch: self.ahead().steps, motion: self.motion.clone(), start: self.start, ..along }
    }

    /// What can be done ahead.
    fn ahead(&self) -> Plan {
        plan::unpack(self.fetched.steps.iter().cloned().chain(self.prepare.clone()).collect())
    }
}

/// What became of a release that is not switched to yet.
#[derive(Clone, Debug, Serialize)]
pub struct Prepared {
    /// The release.
    pub version: Version,
    /// The state that it is in.
    pub state: ReleaseState,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Does all of an upgrade that can be done ahead, and switches nothing.
///
/// # Errors
/// As `install`.
pub fn prepare(root: &Root, options: &Install, reporter: &mut dyn Reporter) -> Result<Report<Prepared>> {
    let session = Session::begin(root, &options.common, reporter)?;
    prepare_in(session, options, reporter)
}

/// The same of a release that is gone to later, from another one than runs now: it is held against the checks then.
///
/// # Errors
/// Where it cannot be unpacked or prepared.
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

/// As [`prepare`].
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
