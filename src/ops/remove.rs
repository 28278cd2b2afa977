//! Removes releases: `uninstall` one, and `prune` those that are no longer needed, with their archives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::{self, Reporter};
use crate::fs::{self as disk, FileKind};
use crate::naming::ArchiveFormat;
use crate::plan::{self, Item, Step};
use crate::process;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::version::Version;

use super::session::{Common, Report, Session};

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

/// A release or archive that was removed.
#[derive(Clone, Debug, Serialize)]
pub struct Removed {
    /// The release or archive.
    pub item: Item,
    /// The state of the release.
    pub was: Option<ReleaseState>,
    /// The bytes that it used.
    pub bytes: u64,
}

/// The result of `prune`.
#[derive(Clone, Debug, Serialize)]
pub struct Pruned {
    /// Releases and archives, in the order of their removal.
    pub removed: Vec<Removed>,
    /// Releases that stay because they are in use by a process, or are mount points.
    pub in_use: Vec<Version>,
}

/// Removes unpacked and old releases beyond `keep`, or else beyond the number in the settings.
///
/// # Errors
/// Returns a `Refused` error if a link is broken, and a `Failed` error after a rollback.
pub fn prune(
    root: &Root,
    common: &Common,
    keep: Option<usize>,
    reporter: &mut dyn Reporter,
) -> Result<Report<Pruned>> {
    let session = Session::begin(root, common, reporter)?;
    let keep = keep.unwrap_or(root.settings().retention.keep);
    let in_use = in_use(root, &session.now);
    let archives = archives(root, &session.now)?;
    let wanted = plan::prune(&session.now, keep, &BTreeSet::new(), &archives)?;
    let plan = plan::prune(&session.now, keep, &in_use, &archives)?;
    let spared = |version: &&Version| discards(&wanted.steps, version);
    let in_use = in_use.iter().filter(spared).cloned().collect();
    let removed = plan.steps.iter().filter_map(|step| weigh(root, &session.now, step)).collect();
    let lock = session.lock.clone();
    let report = session.finish(plan, None, reporter, |_| Pruned { removed, in_use })?;
    // The caller wants the space now.
    if lock.is_some() {
        execute::make_room(root, reporter);
        if reporter.interrupted() {
            reporter.warn("interrupted: the next command deletes the rest");
        }
    }
    Ok(report)
}

fn discards(steps: &[Step], version: &Version) -> bool {
    steps.iter().any(|step| matches!(step, Step::Trash { item: Item::Release(v) } if v == version))
}

fn in_use(root: &Root, now: &Snapshot) -> BTreeSet<Version> {
    let used = |version: &&Version| {
        root.is_mount(version) || !process::running_from(root.release(version).path()).is_empty()
    };
    now.releases.keys().filter(used).cloned().collect()
}

/// Returns the archives of each release: those with its name, and the one that it was unpacked from.
fn archives(root: &Root, now: &Snapshot) -> Result<BTreeMap<Version, Vec<String>>> {
    let of = |version: &Version| {
        let mut files: BTreeSet<String> = root.archives(version)?.into_iter().collect();
        let from = root.receipt(version).and_then(|receipt| receipt.archive);
        // This root owns only the archives in releases/.
        files.extend(from.filter(|file| ArchiveFormat::split(file).is_some() && is_beside(root, file)));
        Ok(files.into_iter().collect())
    };
    now.releases.keys().map(|version| Ok((version.clone(), of(version)?))).collect()
}

fn is_beside(root: &Root, file: &str) -> bool {
    Path::new(file).components().count() == 1
        && matches!(disk::standing(&root.releases().join(file)), Ok(FileKind::File))
}

fn weigh(root: &Root, now: &Snapshot, step: &Step) -> Option<Removed> {
    let Step::Trash { item } = step else { return None };
    let (place, was) = match item {
        Item::Release(version) => (root.release(version), now.state(version)),
        Item::Archive(file) => (root.releases().join(file), None),
    };
    Some(Removed { item: item.clone(), was, bytes: disk::size(&place) })
}
