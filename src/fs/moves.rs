//! Moves and removes files and directories. Moves a directory entry by entry if one rename cannot move it: overlayfs
//! does not rename a directory of a lower layer, such as a container's image, but renames the files in it.

use std::error::Error as _;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, openat, renameat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use rustix::fs::{RenameFlags, renameat_with};
use rustix::path::Arg;

use crate::error::{Error, Result};

use super::dir_path::{ErrnoContext, LIST, Parent, REACH};
use super::dirs::{give, permissions, sync_around, sync_dir};
use super::read::{exists, is_dir};
use super::walk::list;
use super::{DirPath, Owner, effective_uid};

/// The suffix of a directory that is moved entry by entry and is not complete yet.
const PARTS: &str = ".parts";

/// Moves a directory or file to a name that must be free, atomically and durably. If two callers move to one name,
/// one call fails.
///
/// # Errors
/// Returns an error if the name is taken or the move fails.
pub fn move_durable(from: &DirPath, to: &DirPath) -> Result<()> {
    let context = || format!("cannot move {} to {}", from.display(), to.display());
    let (old, new) = (from.parent_and_name().tell(context)?, to.parent_and_name().tell(context)?);
    match rename_new(&old, &new, to) {
        // A directory that its owner may not write cannot move to another parent.
        Err(Errno::EACCES) => unlock(&old.0, old.1)
            .and_then(|()| rename_new(&old, &new, to))
            .or(Err(Errno::EACCES))
            .tell(context)?,
        other => other.tell(context)?,
    }
    sync_around(to, &new.0)?;
    if from.path().parent() != to.path().parent() {
        sync_around(from, &old.0)?;
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

/// Moves a file or directory into the trash like [`move_durable`]. If one rename cannot move a directory, moves it
/// entry by entry. A crash then leaves a part in place and the rest in the trash; [`bring_back`] puts them together
/// again.
///
/// # Errors
/// Returns an error if the name is taken or the move fails.
pub fn throw_durable(from: &DirPath, to: &DirPath) -> Result<()> {
    match move_durable(from, to) {
        Err(error) if is_dir(from) && !exists(to) && is_indivisible(&error) => {
            let parts = parts(to);
            merge(from, &parts)?;
            move_durable(&parts, to)
        }
        moved => moved,
    }
}

/// Moves back what [`throw_durable`] moved in full or in part. Does nothing if it is already back.
///
/// # Errors
/// Returns an error if a move fails. Another call does the rest.
pub fn bring_back(thrown: &DirPath, place: &DirPath) -> Result<()> {
    let parts = parts(thrown);
    if is_dir(&parts) {
        return merge(&parts, place);
    }
    if exists(thrown) && !exists(place) {
        return move_durable(thrown, place);
    }
    Ok(())
}

fn parts(thrown: &DirPath) -> DirPath {
    thrown.renamed(|path| {
        let mut path = path.as_os_str().to_owned();
        path.push(PARTS);
        path.into()
    })
}

/// Returns whether a move failed because the two paths are, or appear to be, on different file systems.
fn is_indivisible(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.and_then(io::Error::raw_os_error) == Some(Errno::EXDEV as i32)
}

/// Moves all entries of one directory into another, which is created if missing, and removes the first.
fn merge(from: &DirPath, to: &DirPath) -> Result<()> {
    let context = || format!("cannot move {} to {}", from.display(), to.display());
    let stat = from.open_fd(REACH).and_then(fstat).tell(context)?;
    let (old_dir, old) = from.parent_and_name().tell(context)?;
    open_up(&old_dir, old).tell(context)?;
    let is_new = make(to, &stat).tell(context)?;
    for name in list(&mut from.open_fd(LIST).and_then(Dir::from_fd).tell(context)?).tell(context)? {
        let (one, other) = (from.join(&name), to.join(&name));
        let moved = one.parent_and_name().and_then(|old| rename_new(&old, &other.parent_and_name()?, &other));
        match moved {
            Err(Errno::EXDEV | Errno::EEXIST | Errno::EACCES) if is_dir(&one) => merge(&one, &other)?,
            moved => moved.tell(|| format!("cannot move {} to {}", one.display(), other.display()))?,
        }
    }
    if is_new {
        to.open_fd(LIST).and_then(|dir| fchmod(dir, permissions(stat.st_mode & 0o7777))).tell(context)?;
    }
    // The moved entries must be durable before their old directory is removed.
    sync_dir(to)?;
    let (new_dir, _) = to.parent_and_name().tell(context)?;
    sync_around(to, &new_dir)?;
    unlinkat(&old_dir, old, UnlinkatFlags::RemoveDir).tell(context)?;
    sync_around(from, &old_dir)
}

/// Lets this user write to its own directory; root needs no permission. A crash may leave it writable.
fn open_up(parent: &Parent, name: &OsStr) -> nix::Result<()> {
    if effective_uid() == 0 { Ok(()) } else { unlock(parent, name) }
}

/// Creates a directory like another one, writable for this user for now. Returns whether it did not exist before.
fn make(to: &DirPath, like: &FileStat) -> nix::Result<bool> {
    let (parent, name) = to.parent_and_name()?;
    match mkdirat(&parent, name, permissions(0o700)) {
        Err(Errno::EEXIST) => open_up(&parent, name).map(|()| false),
        made => {
            made?;
            let dir = openat(&parent, name, LIST, Mode::empty())?;
            let stat = fstat(&dir)?;
            give(&dir, &stat, Owner::of(like))?;
            let writable = if effective_uid() == 0 { 0 } else { 0o700 };
            fchmod(&dir, permissions(like.st_mode & 0o7777 | writable)).map(|()| true)
        }
    }
}

/// Renames to a name that must be free; `to` is its path.
fn rename_new(old: &(Parent, &OsStr), new: &(Parent, &OsStr), to: &DirPath) -> nix::Result<()> {
    match rename_with(&old.0, old.1, &new.0, new.1, RenameFlags::NOREPLACE) {
        // The file system does not know the flag: look first, under the lock that every writer holds.
        Err(Errno::EINVAL | Errno::ENOSYS) if !exists(to) => renameat(&old.0, old.1, &new.0, new.1),
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(Errno::EEXIST),
        renamed => renamed,
    }
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn partly_moved_tree_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let place = DirPath::of(File::open(top).unwrap().into(), top.to_owned());
        fs::create_dir_all(top.join("release/bin/deep")).unwrap();
        fs::write(top.join("release/bin/deep/a"), "a").unwrap();
        fs::write(top.join("release/b"), "b").unwrap();
        fs::set_permissions(top.join("release/bin"), fs::Permissions::from_mode(0o555)).unwrap();
        let (release, thrown) = (place.join("release"), place.join("thrown"));
        merge(&release, &parts(&thrown)).unwrap();
        assert!(!top.join("release").exists() && top.join("thrown.parts/bin/deep/a").exists());
        // A crash during the move into the trash, or during the move back, leaves this state.
        fs::create_dir_all(top.join("release/bin")).unwrap();
        fs::rename(top.join("thrown.parts/b"), top.join("release/b")).unwrap();
        bring_back(&thrown, &release).unwrap();
        bring_back(&thrown, &release).unwrap();
        assert_eq!(fs::read(top.join("release/bin/deep/a")).unwrap(), b"a");
        assert_eq!(fs::read(top.join("release/b")).unwrap(), b"b");
        assert!(!top.join("thrown.parts").exists());
    }
}
