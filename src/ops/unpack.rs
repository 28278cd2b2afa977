//! `unpack`: unpacks a release without a switch.

use serde::Serialize;

use crate::error::Result;
use crate::execute::Reporter;
use crate::plan;
use crate::release::ReleaseState;
use crate::root::Root;
use crate::version::Version;

use super::archive_file::ReleaseOrArchive;
use super::fetch::fetch;
use super::session::{Common, Report, Session};
use super::source::{ArchiveRequest, Replace};

/// The options of `unpack`.
#[derive(Clone, Debug)]
pub struct Unpack {
    /// The options that all commands share.
    pub common: Common,
    /// The release to unpack.
    pub wanted: ReleaseOrArchive,
    /// Whether to unpack an installed release again that is not in use.
    pub replace: Replace,
}

/// The result of `unpack`.
#[derive(Clone, Debug, Serialize)]
pub struct Unpacked {
    /// The release.
    pub version: Version,
    /// The state of the release.
    pub state: ReleaseState,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Unpacks a release.
///
/// # Errors
/// Returns a `Refused` error if there is no archive or it breaks a rule, and a `Failed` error after a rollback.
pub fn unpack(root: &Root, options: &Unpack, reporter: &mut dyn Reporter) -> Result<Report<Unpacked>> {
    let session = Session::begin(root, &options.common, reporter)?;
    session.now.sound()?;
    let (version, given) = options.wanted.identify(root, reporter)?;
    let was = session.now.state(&version);
    let want = ArchiveRequest {
        given: given.as_deref(),
        ..ArchiveRequest::of(&version, options.replace, options.common.mode)
    };
    let fetched = fetch(root, &session.now, want, reporter)?;
    let plan = plan::unpack(fetched.steps);
    session.finish(plan, fetched.staged.as_ref(), reporter, |plan| {
        let changed = !plan.steps.is_empty();
        let state = was.filter(|_| !changed).unwrap_or(ReleaseState::Unpacked);
        Unpacked { version, state, changed }
    })
}
