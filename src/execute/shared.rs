//! Shared directories, which outlive releases. Every release has a symlink in their place, and the first release that
//! ships such a directory provides its content. That content is never overwritten or removed.

use std::iter;
use std::os::fd::AsFd;
use std::path::Path;

use crate::archive::{self, Target};
use crate::error::{Context, Error, Result};
use crate::fs::{self as disk, DirPath, FileKind};
use crate::progress::NoProgress;
use crate::root::Root;
use crate::settings::SharedDirectory;
use crate::tree::{Node, TreeEntry};

use super::stage::Parts;

/// The directory in which copies are made. No shared directory can have this name.
const COPIES: &str = ".tenure-copies";

/// Moves the shared directories out of a release in staging, and puts symlinks in their places.
pub(super) fn link(root: &Root, parts: &Parts) -> Result<()> {
    let owner = root.owner();
    for name in &root.settings().shared.directories {
        let (shipped, seed) = (parts.tree.join(name), parts.seed.join(name));
        let cannot = || format!("cannot share the directory {name} that tenure.toml names");
        match disk::standing(&shipped)? {
            FileKind::Nothing => {}
            FileKind::Directory => {
                disk::break_hard_links(&shipped).context(cannot)?;
                disk::ensure_dir(&parts.seed, 0o755, owner)?;
                disk::move_staged(&shipped, &seed)?;
            }
            FileKind::File | FileKind::Link(_) => {
                return Err(Error::refused(format!("{}: the release has a file or link there", cannot())));
            }
        }
        disk::link_staged(&shipped, Path::new(&root.shared_target(name)), owner)?;
    }
    Ok(())
}

/// Returns the entries of a release with its symlinks to the shared directories, sorted by path.
pub(super) fn linked<'a>(
    root: &'a Root,
    tree: impl Iterator<Item = TreeEntry> + 'a,
) -> impl Iterator<Item = TreeEntry> + 'a {
    let names = &root.settings().shared.directories;
    let is_shared = move |entry: &TreeEntry| {
        let top = entry.path.split('/').next();
        names.iter().any(|name| Some(name.as_ref()) == top)
    };
    let mut sorted: Vec<&SharedDirectory> = names.iter().collect();
    sorted.sort();
    let link = |name: &SharedDirectory| {
        let node = Node::Symlink { target: root.shared_target(name) };
        TreeEntry { path: name.to_string(), mode: 0, node }
    };
    let mut links = sorted.into_iter().map(link).peekable();
    let mut others = tree.filter(move |entry| !is_shared(entry)).peekable();
    iter::from_fn(move || match (links.peek(), others.peek()) {
        (Some(link), Some(other)) if other.path < link.path => others.next(),
        (Some(_), _) => links.next(),
        (None, _) => others.next(),
    })
}

/// Creates the missing shared directories, with the content that the release ships in them, or empty.
pub(super) fn appear(root: &Root, parts: &Parts) -> Result<()> {
    let names = &root.settings().shared.directories;
    if names.is_empty() {
        return Ok(());
    }
    let shared = root.shared();
    disk::ensure_dir(&shared, 0o755, root.owner())?;
    disk::sync_dir(root.place())?;
    names.iter().try_for_each(|name| fill(root, &shared.join(name), &parts.seed.join(name)))?;
    disk::sync_dir(&shared)
}

fn fill(root: &Root, directory: &DirPath, seed: &DirPath) -> Result<()> {
    // An empty directory was made for releases that ship no content for it.
    let is_empty = || disk::names(directory).is_ok_and(|names| names.is_empty());
    match (disk::exists(seed), disk::standing(directory)?) {
        (true, FileKind::Nothing) => carry(root, seed, directory),
        (true, FileKind::Directory) if is_empty() => {
            disk::remove_empty(directory)?;
            carry(root, seed, directory)
        }
        (false, FileKind::Nothing) => disk::ensure_dir(directory, 0o755, root.owner()),
        _ => Ok(()),
    }
}

/// Publishes a directory as a whole. If it lies on another disk, it is copied first; a crash leaves that copy, which
/// the next attempt deletes.
fn carry(root: &Root, seed: &DirPath, directory: &DirPath) -> Result<()> {
    let shared = root.shared();
    if !disk::is_elsewhere(seed, &shared)? {
        return disk::move_durable(seed, directory);
    }
    let context = || format!("cannot copy {} to {}", seed.display(), directory.display());
    let copies = shared.join(COPIES);
    let held = disk::private_dir(&copies)?;
    disk::purge(&held, &mut |_| true)?;
    let copy = held.join("copy");
    disk::ensure_dir(&copy, 0o755, root.owner())?;
    let to = disk::open_dir(&copy)?;
    let owner = (disk::effective_uid() == 0).then(|| root.owner());
    archive::copy(seed.path(), &Target { dir: to.as_fd(), owner, twins: None }, &mut NoProgress)
        .context(context)?;
    disk::copy_mode(seed, &copy)?;
    disk::sync_tree(&held)?;
    disk::move_durable(&copy, directory)?;
    disk::remove_empty(&copies)
}
