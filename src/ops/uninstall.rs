//! `uninstall`: remove a release that nothing needs.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::Reporter;
use crate::plan;
use crate::process;
use crate::release::ReleaseState;
use crate::root::Root;
use crate::version::Version;

use super::{Common, Report, Session};

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Uninstalled {
    /// The release.
    pub version: Version,
    /// The state that it was in.
    pub was: ReleaseState,
}

/// Removes a release.
///
/// # Errors
/// Refused where it is current or permanent, or where a process runs from it; failed where it was taken back.
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

/// Refuses to remove what a process runs from, or what is mounted there.
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
