//! Switches symlinks, and moves and removes files and directories.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat};
use nix::unistd::{UnlinkatFlags, fchownat, symlinkat, unlinkat};
use rustix::fs::{RenameFlags, renameat_with};
use rustix::path::Arg;

use crate::error::Result;

use super::dir_path::{ErrnoContext, REACH};
use super::read::{FileKind, exists, standing};
use super::write::{permissions, private_dir, sync_around, sync_dir};
use super::{DirPath, Owner, effective_uid, is_anothers};

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

/// Calls renameat2(2), which not every C library provides.
pub(super) fn rename_with(
    old_dir: &impl AsFd,
    old: impl Arg,
    new_dir: &impl AsFd,
    new: impl Arg,
    flags: RenameFlags,
) -> nix::Result<()> {
    renameat_with(old_dir, old, new_dir, new, flags).map_err(|e| Errno::from_raw(e.raw_os_error()))
}

/// Creates a symlink. A link for another owner is created where no other user can replace it before it has its owner.
fn make_link(link: &DirPath, target: &Path, staging: &DirPath, owner: Owner) -> Result<()> {
    let context = || format!("cannot make the link {}", link.display());
    let (parent, name) = link.parent_and_name().tell(context)?;
    if !is_anothers(owner) {
        return symlinkat(target, parent, name).tell(context);
    }
    let private = staging.join("link");
    let (made, new) = (private_dir(&private)?.join("new"), "new");
    remove_file_durable(&made)?;
    let (inside, _) = made.parent_and_name().tell(context)?;
    let (uid, gid) = owner.ids();
    symlinkat(target, &inside, new)
        .and_then(|()| fchownat(&inside, new, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW))
        .and_then(|()| renameat(&inside, new, parent, name))
        .tell(context)?;
    // If this directory stays, it is removed when staging is swept.
    let _ = private
        .parent_and_name()
        .and_then(|(staging, name)| unlinkat(staging, name, UnlinkatFlags::RemoveDir));
    Ok(())
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

/// Removes a file or symlink durably. Does nothing if it does not exist.
///
/// # Errors
/// Returns an error if the file cannot be removed.
pub fn remove_file_durable(place: &DirPath) -> Result<()> {
    let context = || format!("cannot remove {}", place.display());
    let (parent, name) = match place.parent_and_name() {
        Err(Errno::ENOENT) => return Ok(()),
        parent_and_name => parent_and_name.tell(context)?,
    };
    match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed.tell(context).and_then(|()| sync_around(place, &parent)),
    }
}

/// Moves a directory or file to a name that must be free, atomically and durably. If two callers move to one name,
/// one call fails.
///
/// # Errors
/// Returns an error if the name is taken or the move fails.
pub fn move_durable(from: &DirPath, to: &DirPath) -> Result<()> {
    let context = || format!("cannot move {} to {}", from.display(), to.display());
    let ((old_dir, old), (new_dir, new)) =
        (from.parent_and_name().tell(context)?, to.parent_and_name().tell(context)?);
    let rename = || rename_with(&old_dir, old, &new_dir, new, RenameFlags::NOREPLACE);
    match rename() {
        // The file system does not know the flag: look first, under the lock that every writer holds.
        Err(Errno::EINVAL | Errno::ENOSYS) if !exists(to) => {
            renameat(&old_dir, old, &new_dir, new).tell(context)?;
        }
        Err(Errno::EINVAL | Errno::ENOSYS) => return Err(Errno::EEXIST).tell(context),
        // A directory that its owner may not write cannot move to another parent.
        Err(Errno::EACCES) => {
            unlock(&old_dir, old).and_then(|()| rename()).or(Err(Errno::EACCES)).tell(context)?;
        }
        other => other.tell(context)?,
    }
    sync_around(to, &new_dir)?;
    if from.path().parent() != to.path().parent() {
        sync_around(from, &old_dir)?;
    }
    Ok(())
}

/// Moves a directory that is not published yet. Not durable: publishing it makes it durable.
///
/// # Errors
/// Returns an error if the directory cannot be moved.
pub fn move_staged(from: &DirPath, to: &DirPath) -> Result<()> {
    let context = || format!("cannot move {} to {}", from.display(), to.display());
    let ((old_dir, old), (new_dir, new)) =
        (from.parent_and_name().tell(context)?, to.parent_and_name().tell(context)?);
    renameat(&old_dir, old, &new_dir, new).tell(context)
}

/// Removes an empty directory. Does nothing if it does not exist. Not durable.
///
/// # Errors
/// Returns an error if the directory cannot be removed.
pub fn remove_empty(dir: &DirPath) -> Result<()> {
    match dir.parent_and_name().and_then(|(parent, name)| unlinkat(parent, name, UnlinkatFlags::RemoveDir)) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed.tell(|| format!("cannot remove {}", dir.display())),
    }
}

/// Lets this user list and change a directory that it owns. Directories of other users stay unchanged.
pub(super) fn unlock(parent: impl AsFd + Copy, name: &(impl nix::NixPath + ?Sized)) -> nix::Result<()> {
    let dir = openat(parent, name, REACH, Mode::empty())?;
    let stat = fstat(&dir)?;
    if stat.st_uid != effective_uid() || stat.st_mode & 0o700 == 0o700 {
        return Ok(());
    }
    // The directory is open without read permission (`O_PATH`), and only this name can change such a directory.
    let itself = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let mode = permissions(0o700 | stat.st_mode & 0o7777);
    fchmodat(AT_FDCWD, itself.as_str(), mode, FchmodatFlags::FollowSymlink)
}
