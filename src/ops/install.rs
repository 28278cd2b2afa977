//! `install`, `upgrade`, `downgrade` and `confirm`: make a release current, then permanent.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::Observer;
use crate::plan::{self, Permanence, Request};
use crate::release::ReleaseState;
use crate::root::Root;
use crate::version::Version;

use super::fetch::{Replace, Want, fetch};
use super::{Common, Report, Session, motion};

/// What install, upgrade and downgrade are told.
#[derive(Clone, Debug)]
pub struct Install {
    /// What every command is told.
    pub common: Common,
    /// Which release, which way, and for how long.
    pub request: Request,
    /// Whether an installed release that is not in use is unpacked anew.
    pub replace: Replace,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Installed {
    /// The release.
    pub version: Version,
    /// The state that it was in before; none where it was not on disk.
    pub was: Option<ReleaseState>,
    /// The state that it is in now.
    pub state: ReleaseState,
    /// The release that ran before.
    pub previous: Option<Version>,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Makes a release current and, unless told otherwise, permanent.
///
/// # Errors
/// Refused where a rule forbids it; failed where it was taken back.
pub fn install(root: &Root, options: &Install, observer: &mut dyn Observer) -> Result<Report<Installed>> {
    let session = Session::begin(root, &options.common, observer)?;
    let (request, target) = (&options.request, &options.request.target);
    request.allowed(&session.now)?;
    let was = session.now.state(target);
    let want = Want { version: target, given: None, replace: options.replace, mode: options.common.mode };
    let fetched = fetch(root, &session.now, want, observer)?;
    let motion = motion::onward(root, &session.now, request, &fetched, options.common.mode, observer)?;
    let brought = !fetched.steps.is_empty();
    let plan = plan::install(&session.now, request, fetched.steps, motion)?;
    if session.acts_on(&plan) {
        observer.opening(target, was.filter(|_| !brought));
    }
    let previous = session.now.current.version().cloned();
    let permanent = request.permanence == Permanence::Permanent || was == Some(ReleaseState::Permanent);
    session.finish(plan, fetched.staged.as_ref(), observer, |plan| Installed {
        version: target.clone(),
        was,
        state: if permanent { ReleaseState::Permanent } else { ReleaseState::Current },
        previous,
        changed: !plan.steps.is_empty(),
    })
}

/// Makes the current release permanent.
///
/// # Errors
/// Refused where no release is current.
pub fn confirm(root: &Root, common: &Common, observer: &mut dyn Observer) -> Result<Report<Installed>> {
    let session = Session::begin(root, common, observer)?;
    let plan = plan::confirm(&session.now)?;
    let current = session.now.current.version().cloned();
    // The plan is refused without one.
    let version = current.clone().ok_or_else(|| Error::refused("no release is current"))?;
    let was = session.now.state(&version);
    if session.acts_on(&plan) {
        observer.opening(&version, was);
    }
    session.finish(plan, None, observer, |plan| Installed {
        version,
        was,
        state: ReleaseState::Permanent,
        previous: current,
        changed: !plan.steps.is_empty(),
    })
}
