//! Switches symlinks, and replaces hard links by copies.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat, renameat};
use nix::sys::stat::{SFlag, fchmod, fstat};
use nix::unistd::{fchownat, symlinkat};
use rustix::fs::RenameFlags;

use crate::error::{Context, Error, Result};

use super::atomic::NEW;
use super::dir_path::{ErrnoContext, Parent};
use super::dirs::{give, permissions, private_dir, sync_around, sync_dir};
use super::moves::{remove_empty, remove_file_durable, rename_with};
use super::read::{FileKind, open_dir, standing};
use super::walk::{WalkEntry, walk_in};
use super::{DirPath, Owner, is_anothers};

/// The name of an incomplete copy.
const COPY: &str = ".tenure-copy";

/// Switches the symlink DIR/NAME to `target`, atomically and durably: a reader never finds it missing. If the file
/// system can exchange names, the previous link stays as [`spare_link`], so that switching back takes no disk space.
/// A crash leaves the old or the new link, and perhaps a directory in `staging`.
///
/// # Errors
/// Returns an error if the switch fails. The link is then old, or new and not yet durable.
pub fn switch_link(dir: &DirPath, name: &str, target: &Path, staging: &DirPath, owner: Owner) -> Result<()> {
    let (link, spare) = (dir.join(name), spare_link(dir, name));
    let context = || format!("cannot switch {}", link.display());
    let leads = |link: &DirPath| matches!(standing(link), Ok(FileKind::Link(to)) if to == target);
    if leads(&link) {
        return sync_dir(dir);
    }
    if !leads(&spare) {
        remove_file_durable(&spare)?;
        make_link(&spare, target, staging, owner)?;
    }
    let (parent, new) = spare.parent_and_name().tell(context)?;
    match rename_with(&parent, new, &parent, name, RenameFlags::EXCHANGE) {
        // The link does not exist yet, or the file system cannot exchange names.
        Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS) => {
            renameat(&parent, new, &parent, name).tell(context)?;
        }
        other => other.tell(context)?,
    }
    sync_around(&link, &parent)
}

/// Creates a symlink. A link for another owner is created where no other user can replace it before it has its owner.
fn make_link(link: &DirPath, target: &Path, staging: &DirPath, owner: Owner) -> Result<()> {
    let context = || format!("cannot make the link {}", link.display());
    let (parent, name) = link.parent_and_name().tell(context)?;
    if !is_anothers(owner) {
        return symlinkat(target, parent, name).tell(context);
    }
    let private = staging.join("link");
    let made = private_dir(&private)?.join("new");
    remove_file_durable(&made)?;
    let (inside, new) = made.parent_and_name().tell(context)?;
    symlink(target, &inside, new, owner).and_then(|()| renameat(&inside, new, parent, name)).tell(context)?;
    // If this directory stays, it is removed when staging is swept.
    let _ = remove_empty(&private);
    Ok(())
}

/// Creates a symlink in staging.
///
/// # Errors
/// Returns an error if the symlink cannot be created.
pub fn link_staged(link: &DirPath, target: &Path, owner: Owner) -> Result<()> {
    let context = || format!("cannot make the link {}", link.display());
    let (parent, name) = link.parent_and_name().tell(context)?;
    symlink(target, &parent, name, owner).tell(context)
}

/// Creates a symlink in a directory that no other user can enter, and gives it to its owner.
fn symlink(target: &Path, parent: &Parent, name: &OsStr, owner: Owner) -> nix::Result<()> {
    symlinkat(target, parent, name)?;
    if !is_anothers(owner) {
        return Ok(());
    }
    let (uid, gid) = owner.ids();
    fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Returns the path of the spare link: the new link before a switch, and the replaced link until it is swept.
#[must_use]
pub fn spare_link(dir: &DirPath, name: &str) -> DirPath {
    dir.join(format!(".{name}.spare"))
}

/// Removes the symlink DIR/NAME durably. Does nothing if it does not exist.
///
/// # Errors
/// Returns an error if the link cannot be removed.
pub fn remove_link(dir: &DirPath, name: &str) -> Result<()> {
    remove_file_durable(&dir.join(name))
}

/// Replaces hard links in a directory in staging by copies, so that a write to one of its files changes no other
/// file.
///
/// # Errors
/// Returns a `Refused` error if a symlink in the directory leads out of it, because its target changes when the
/// directory moves. Returns a `Failed` error if the directory cannot be read or written.
pub fn break_hard_links(dir: &DirPath) -> Result<()> {
    walk_in(open_dir(dir)?, dir.path(), &mut |found| match found.kind() {
        SFlag::S_IFLNK => {
            let target = found.target().context(|| format!("cannot read {}", found.path.display()))?;
            match leaves(found.path, Path::new(&target)) {
                true => Err(Error::refused(format!(
                    "its link {} to {} points out of it",
                    found.path.display(),
                    Path::new(&target).display()
                ))),
                false => Ok(()),
            }
        }
        SFlag::S_IFREG if found.stat.st_nlink > 1 => {
            copy(found).context(|| format!("cannot copy {}", found.path.display()))
        }
        _ => Ok(()),
    })
}

/// Returns whether a symlink at `path` is absolute or leads above the directory where both begin.
fn leaves(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    !target.components().all(|component| match component {
        Component::ParentDir => depth.checked_sub(1).is_some_and(|less| {
            depth = less;
            true
        }),
        Component::Normal(_) => {
            depth += 1;
            true
        }
        other => other == Component::CurDir,
    })
}

fn copy(found: &WalkEntry<'_>) -> io::Result<()> {
    let mut from = found.open()?;
    let mut to = File::from(openat(found.parent, COPY, NEW, permissions(0o600))?);
    io::copy(&mut from, &mut to)?;
    // The owner comes first, because a change of owner may clear bits of the mode.
    give(&to, &fstat(&to)?, Owner::of(&found.stat))?;
    fchmod(&to, permissions(found.stat.st_mode & 0o7777))?;
    renameat(found.parent, COPY, found.parent, found.name)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_the_tree_are_detected() {
        let leaves = |path, target| leaves(Path::new(path), Path::new(target));
        for (path, target) in [("a", ".."), ("a", "b/../../c"), ("d/a", "../../b"), ("a", "/etc")] {
            assert!(leaves(path, target), "{path} -> {target}");
        }
        for (path, target) in [("a", "b"), ("a", "./b/../c"), ("d/a", "../b"), ("d/e/a", "../../b/c")] {
            assert!(!leaves(path, target), "{path} -> {target}");
        }
    }
}
