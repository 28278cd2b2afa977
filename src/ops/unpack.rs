//! `unpack`: put a release on disk, and no more.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::Result;
use crate::execute::Reporter;
use crate::plan;
use crate::release::ReleaseState;
use crate::root::Root;
use crate::version::Version;

use super::fetch::fetch;
use super::source::{ArchiveRequest, Replace, version_in};
use super::{Common, Report, Session};

/// Which release to unpack.
#[derive(Clone, Debug)]
pub enum UnpackTarget {
    /// The one of this version, from the archive in releases/ that holds it.
    Version(Version),
    /// The one in this archive.
    Archive(PathBuf),
}

/// What `unpack` is told.
#[derive(Clone, Debug)]
pub struct Unpack {
    /// What every command is told.
    pub common: Common,
    /// Which release.
    pub wanted: UnpackTarget,
    /// Whether an installed release that is not in use is unpacked anew.
    pub replace: Replace,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Unpacked {
    /// The release.
    pub version: Version,
    /// The state that it is in.
    pub state: ReleaseState,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Unpacks a release.
///
/// # Errors
/// Refused where there is nothing to unpack it from, or where the archive is not fit; failed where it was
/// taken back.
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
