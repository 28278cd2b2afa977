//! Which installed release a new one shares its files with, and how.

use std::sync::Arc;

use crate::archive::{Sharing, Twins};
use crate::execute::Staging;
use crate::fs as disk;
use crate::manifest::Manifest;
use crate::release::Snapshot;
use crate::root::Root;
use crate::settings::Share;

/// The most files that are compared: what is known of them is held in memory.
const FILES_MAX: usize = 200_000;

/// What the running release holds, or else the permanent one; none where nothing may or can be shared. Sharing
/// saves room and time, and where it cannot be had, nothing is amiss.
pub(super) fn twins(root: &Root, now: &Snapshot, staging: &Staging<'_>) -> Option<Arc<Twins>> {
    let share = root.settings().space.share;
    let version = now.current.version().or(now.permanent.version()).filter(|_| share != Share::None)?;
    let may_link = || share == Share::Hardlink || immutable(root.manifest(version).ok().flatten().as_ref());
    let sharing = if staging.shares_blocks(&root.tree_file(version)?) {
        Sharing::Blocks
    } else if may_link() {
        Sharing::Links
    } else {
        return None;
    };
    let release = disk::open_dir(&root.release(version)).ok()?;
    let tree = root.recorded_tree(version).ok().flatten()?.take(FILES_MAX + 1);
    let tree = tree.collect::<Result<Vec<_>, _>>().ok().filter(|tree| tree.len() <= FILES_MAX)?;
    Some(Arc::new(Twins::new(release, sharing, tree, root.recorded_packed(version))))
}

/// Whether a new release may keep the links that it was given: where its own vendor does not declare its files
/// immutable, writing to them would change the release before as well.
pub(super) fn may_keep(root: &Root, twins: &Twins, manifest: Option<&Manifest>) -> bool {
    let linked = twins.sharing() == Sharing::Links && twins.shared() > 0;
    !linked || root.settings().space.share == Share::Hardlink || immutable(manifest)
}

fn immutable(manifest: Option<&Manifest>) -> bool {
    manifest.is_some_and(|manifest| manifest.files.immutable)
}
