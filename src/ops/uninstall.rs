//! `uninstall`: removes a release that is not in use.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::Reporter;
use crate::plan;
use crate::process;
use crate::release::ReleaseState;
use crate::root::Root;
use crate::version::Version;

use super::{Common, Report, Session};

/// The result of `uninstall`.
#[derive(Clone, Debug, Serialize)]
pub struct Uninstalled {
    /// The release.
    pub version: Version,
    /// The state of the release before.
    pub was: ReleaseState,
}

/// Removes a release.
///
/// # Errors
/// Returns a `Refused` error if it is current, permanent or in use, and a `Failed` error after a rollback.
pub fn uninstall(
    root: &Root,
    common: &Common,
    version: &Version,
    reporter: &mut dyn Reporter,
) -> Result<Report<Uninstalled>> {
    let session = Session::begin(root, common, reporter)?;
    let plan = plan::uninstall(&session.now, version)?;
    refuse_running(root, version, "uninstall")?;
    let was = session.now.state(version).unwrap_or(ReleaseState::Unpacked);
    if session.acts_on(&plan) {
        reporter.opening(version, Some(was));
    }
    session.finish(plan, None, reporter, |_| Uninstalled { version: version.clone(), was })
}

/// Refuses a release that a process runs from, or that is a mount point.
pub(super) fn refuse_running(root: &Root, version: &Version, action: &str) -> Result<()> {
    if root.is_mount(version) {
        let path = root.release(version);
        return Err(Error::refused(format!(
            "cannot {action} {version}: {} is a mount point",
            path.display()
        ))
        .hint(format!("unmount it first: `umount {}`", path.display())));
    }
    let running = process::running_from(root.release(version).path());
    if running.is_empty() {
        return Ok(());
    }
    let who: Vec<String> = running.iter().map(|p| format!("{} (pid {})", p.name, p.pid)).collect();
    Err(Error::refused(format!("cannot {action} {version}: in use by {}", who.join(", ")))
        .hint("stop these processes first"))
}
