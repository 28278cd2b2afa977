//! Selects the installed release that a new release shares files with, and how they are shared.

use std::fs::File;
use std::sync::Arc;

use crate::archive::{BaseRelease, Sharing};
use crate::execute::Staging;
use crate::fs as disk;
use crate::manifest::{MANIFEST, Manifest};
use crate::release::Snapshot;
use crate::root::Root;
use crate::settings::Share;
use crate::version::Version;

/// The maximum number of files to compare; their records are held in memory.
const FILES_MAX: usize = 200_000;

/// Returns the files of the current release, or else of the permanent one; `None` if sharing is off or impossible.
/// That is not an error: sharing only saves space and time.
pub(super) fn twins(root: &Root, now: &Snapshot, staging: &Staging<'_>) -> Option<Arc<BaseRelease>> {
    let share = root.settings().space.share;
    let version = now.current.version().or(now.permanent.version()).filter(|_| share != Share::None)?;
    let may_link = || share == Share::Hardlink || immutable(root.manifest(version).ok().flatten().as_ref());
    let sharing = if staging.shares_blocks(&sample(root, version)?) {
        Sharing::Blocks
    } else if may_link() {
        Sharing::Links
    } else {
        return None;
    };
    let release = disk::open_dir(&root.release(version)).ok()?;
    let tree = root.recorded_tree(version).ok().flatten()?.take(FILES_MAX + 1);
    let tree = tree.collect::<Result<Vec<_>, _>>().ok().filter(|tree| tree.len() <= FILES_MAX)?;
    Some(Arc::new(BaseRelease::new(release, sharing, tree, root.recorded_packed(version))))
}

/// Returns a file on the disk of the release whose blocks a new one may share.
fn sample(root: &Root, version: &Version) -> Option<File> {
    let inside = || disk::open_file(&root.release(version).join(MANIFEST)).ok();
    if root.is_spread() { inside().or_else(|| root.tree_file(version)) } else { root.tree_file(version) }
}

/// Returns whether a new release may keep its hard links. If its own manifest does not declare the files immutable,
/// writes to them would also change the old release.
pub(super) fn may_keep(root: &Root, twins: &BaseRelease, manifest: Option<&Manifest>) -> bool {
    let linked = twins.sharing() == Sharing::Links && twins.shared() > 0;
    !linked || root.settings().space.share == Share::Hardlink || immutable(manifest)
}

fn immutable(manifest: Option<&Manifest>) -> bool {
    manifest.is_some_and(|manifest| manifest.files.immutable)
}
