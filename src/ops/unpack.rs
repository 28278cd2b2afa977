//! `unpack`: unpacks a release without a switch.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Result;
use crate::execute::Reporter;
use crate::plan;
use crate::release::ReleaseState;
use crate::root::Root;
use crate::version::Version;

use super::fetch::fetch;
use super::session::{Common, Report, Session};
use super::source::{ArchiveRequest, Replace, version_in};

/// The release to unpack.
#[derive(Clone, Debug)]
pub enum UnpackTarget {
    /// The release of this version, from its archive in releases/.
    Version(Version),
    /// The release in this archive.
    Archive(PathBuf),
}

/// The options of `unpack`.
#[derive(Clone, Debug)]
pub struct Unpack {
    /// The options that all commands share.
    pub common: Common,
    /// The release to unpack.
    pub wanted: UnpackTarget,
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
    let (version, given) = match &options.wanted {
        UnpackTarget::Version(version) => (version.clone(), None),
        UnpackTarget::Archive(path) => (version_in(root, path, reporter)?, Some(path.as_path())),
    };
    let was = session.now.state(&version);
    let want = ArchiveRequest { given, ..ArchiveRequest::of(&version, options.replace, options.common.mode) };
    let fetched = fetch(root, &session.now, want, reporter)?;
    let plan = plan::unpack(fetched.steps);
    session.finish(plan, fetched.staged.as_ref(), reporter, |plan| {
        let changed = !plan.steps.is_empty();
        let state = was.filter(|_| !changed).unwrap_or(ReleaseState::Unpacked);
        Unpacked { version, state, changed }
    })
}
