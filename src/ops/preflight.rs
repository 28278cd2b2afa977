//! The checks of a release before a switch, in order. `check`, `install`, `--prepare-only` and each hop of
//! `--multi-hop` run them here.

use crate::data::OnDisk;
use crate::error::{Error, Kind, Result};
use crate::execute::{Reporter, Staged};
use crate::manifest::Manifest;
use crate::plan::{self, Plan, PlanFacts, Request, ServiceMove, Step};
use crate::release::Snapshot;
use crate::root::Root;
use crate::version::Version;

use super::checks::{self, CheckOutcome};
use super::fetch::{FailedChecks, Fetch, fetch_or_tell};
use super::session::{Mode, Session};
use super::source::{self, ArchiveRequest};
use super::{data, service_move, upgrade_path};

/// The checks of a release so far, and the findings about the release.
#[derive(Default)]
pub(super) struct Preflight<'a> {
    /// The checks, in order.
    pub checks: Vec<CheckOutcome>,
    /// The release, fetched as far as requested; `None` if it was not checked yet or cannot be used.
    pub fetched: Option<Fetch<'a>>,
    /// How the service moves to the release; `None` if it does not move.
    pub service_move: Option<ServiceMove>,
    /// The step that prepares the release; `None` if not needed.
    prepare: Option<Step>,
    /// Whether the service is down and will be started.
    start: bool,
}

/// The state in which a release is checked. For a later hop, it is the predicted state.
#[derive(Clone, Copy)]
pub(super) struct CheckedState<'s, 'a> {
    pub root: &'a Root,
    pub now: &'s Snapshot,
    pub on_disk: &'s OnDisk,
    pub request: &'s Request,
    /// In a dry run, nothing of the release is executed.
    pub mode: Mode,
}

impl<'a> Preflight<'a> {
    /// Runs all checks of a release, which is fetched as far as `want` says.
    ///
    /// # Errors
    /// Returns the failed check if there is only one, otherwise a `Refused` error with all failed checks.
    pub fn run(
        session: &Session<'a>,
        on_disk: &OnDisk,
        request: &Request,
        want: ArchiveRequest<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Self> {
        let (root, now) = (session.root, &session.now);
        let mut preflight = Self::default();
        preflight.check_root(root, now, request)?;
        preflight.check_archive(root, now, want, reporter)?;
        let state = CheckedState { root, now, on_disk, request, mode: want.mode };
        preflight.check_release(state, reporter)?;
        let mut failed = Vec::new();
        for (what, outcome) in std::mem::take(&mut preflight.checks) {
            match outcome {
                Ok(found) => reporter.checked(what, &found),
                Err(error) => failed.push(error),
            }
        }
        all_or_nothing(&request.target, failed)?;
        preflight.start = request.start && service_move::is_down(root, reporter)?;
        Ok(preflight)
    }

    /// Wraps a fetched release that is not checked yet.
    pub fn unchecked(root: &Root, now: &Snapshot, target: &Version, fetched: Fetch<'a>) -> Self {
        let prepare =
            data::preparing(root, now, target, fetched.manifest.as_ref(), !fetched.steps.is_empty());
        Self { fetched: Some(fetched), prepare, ..Self::default() }
    }

    /// Runs the checks that do not depend on the contents of the release.
    ///
    /// # Errors
    /// Returns an error if the root cannot be read.
    pub fn check_root(&mut self, root: &Root, now: &Snapshot, request: &Request) -> Result<()> {
        self.checks.extend(checks::standing(root, now, request)?);
        Ok(())
    }

    /// Fetches the release as far as `want` says and checks its archive. Returns whether these checks passed. If one
    /// fails, nothing remains in staging.
    ///
    /// # Errors
    /// Returns an error if the archive or the root cannot be read.
    pub fn check_archive(
        &mut self,
        root: &'a Root,
        now: &Snapshot,
        want: ArchiveRequest<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<bool> {
        let fetched = match fetch_or_tell(root, now, want, reporter) {
            Ok(Ok(fetched)) => fetched.declared(root, want.version),
            Ok(Err(faults)) => {
                self.refuse(faults);
                return Ok(false);
            }
            Err(error) => Err(error),
        };
        let (found, fetched) = match fetched {
            Ok(mut fetched) => {
                let mut found = checks::archive(&mut fetched);
                if fetched.steps.is_empty() {
                    let signature = source::signature(root, now, want.version, reporter)?;
                    found.extend(signature.map(|outcome| ("signature", outcome)));
                }
                (found, Some(fetched))
            }
            Err(error) if error.kind() == Kind::Refused => (vec![("archive", Err(error))], None),
            Err(error) => return Err(error),
        };
        let passed = found.iter().all(|(_, outcome)| outcome.is_ok());
        self.checks.extend(found);
        self.fetched = fetched;
        Ok(passed)
    }

    /// Adds the failed checks of an archive.
    fn refuse(&mut self, faults: FailedChecks<'a>) {
        match faults {
            FailedChecks::Foreign { first, also } => {
                self.checks.extend(also.into_iter().chain([first]).map(|(what, why)| (what, Err(why))));
            }
            FailedChecks::Broken(why) => self.checks.push(("archive", Err(why))),
            FailedChecks::TooLarge { why, mut fetched } => {
                let found = checks::archive(&mut fetched);
                if found.iter().all(|(_, outcome)| outcome.is_ok()) {
                    self.checks.push(("archive", Err(why)));
                } else {
                    self.checks.extend(found);
                    self.fetched = Some(*fetched);
                }
            }
        }
    }

    /// Runs the checks that depend on the manifest of the release, and determines how the service moves. If the
    /// manifest is unknown, adds only the errors that do not depend on it.
    ///
    /// # Errors
    /// Returns an error if the root or a manifest cannot be read.
    pub fn check_release(&mut self, state: CheckedState<'_, '_>, reporter: &mut dyn Reporter) -> Result<()> {
        let CheckedState { root, now, on_disk, request, mode } = state;
        let (target, found) = (&request.target, &mut self.checks);
        let Some(fetched) = &self.fetched else {
            found.extend(data::held_up(on_disk, now, target).map(|error| ("data", Err(error))));
            return Ok(());
        };
        let manifest = fetched.manifest.as_ref();
        let reached = || match now.current.version() {
            Some(current) if current < target => format!("{target} can be reached from {current}"),
            _ => "it is not an upgrade".to_owned(),
        };
        let path = upgrade_path::allowed(root, now, target, manifest, reporter);
        found.push(("path", path.map(|()| reached())));
        let again = checks::retry_command(now, request);
        found.extend(checks::failed_before(root, now, request, fetched.sha256.as_deref(), &again));
        if !checks::has_run(now, target) {
            found.extend(checks::requirements(root, manifest, fetched.claim)?);
        }
        found.push(("data", data::admitted(on_disk, now, target, manifest)));
        if mode == Mode::Act {
            found.extend(checks::check_hook(root, now, target, fetched, reporter));
        }
        let service_move = service_move::choose_method(root, now, request, manifest, mode, reporter);
        let (further, service_move) = checks::service(service_move, mode);
        found.extend(further);
        self.service_move = service_move;
        self.prepare = data::preparing(root, now, target, manifest, !fetched.steps.is_empty());
        Ok(())
    }

    /// Returns the facts about this release for the plan of a switch.
    pub fn facts(
        &self,
        now: &Snapshot,
        on_disk: &OnDisk,
        request: &Request,
        backup_command: Option<&str>,
    ) -> PlanFacts {
        let along = data::along(on_disk, now, request, self.manifest(), backup_command);
        let motion = self.service_move.clone();
        PlanFacts { fetch: self.ahead().steps, motion, start: self.start, ..along }
    }

    /// Returns the steps that can run before the switch.
    pub fn ahead(&self) -> Plan {
        let fetch = self.fetched.iter().flat_map(|fetched| &fetched.steps);
        plan::unpack(fetch.chain(&self.prepare).cloned().collect())
    }

    /// Returns the manifest of the release; `None` if it has none.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.fetched.as_ref()?.manifest.as_ref()
    }

    /// Returns the staged release that the steps publish; `None` if nothing is to be published.
    pub fn staged(&self) -> Option<&Staged<'a>> {
        self.fetched.as_ref()?.staged.as_ref()
    }
}

/// Combines the errors of all failed checks into one.
///
/// # Errors
/// Returns the only error as it is, and several as one `Refused` error.
pub(super) fn all_or_nothing(target: &Version, mut failed: Vec<Error>) -> Result<()> {
    match failed.len() {
        0 => Ok(()),
        1 => Err(failed.remove(0)),
        count => {
            let all = Error::refused(format!("cannot switch to {target}: {count} checks failed"));
            Err(all.because_all(failed.iter().map(|error| error.refused_in_one_line(""))))
        }
    }
}
