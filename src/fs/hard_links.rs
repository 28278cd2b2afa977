//! Moves trees that one rename cannot move. overlayfs does not rename a directory of a lower layer, such as a
//! container's image, but renames the files in it.

use std::error::Error as _;
use std::ffi::OsStr;
use std::io;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use rustix::fs::RenameFlags;

use crate::error::{Error, Result};

use super::dir_path::{ErrnoContext, LIST, Parent, REACH};
use super::links::{move_durable, rename_with, unlock};
use super::read::{exists, is_dir};
use super::walk::list;
use super::write::{give, permissions, sync_around, sync_dir};
use super::{DirPath, Owner, effective_uid};

/// The suffix of a directory that is moved entry by entry and is not complete yet.
const PARTS: &str = ".parts";

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
    let stat = from.open(REACH).and_then(fstat).tell(context)?;
    let (old_dir, old) = from.parent_and_name().tell(context)?;
    open_up(&old_dir, old).tell(context)?;
    let is_new = make(to, &stat).tell(context)?;
    for name in list(&mut from.open(LIST).and_then(Dir::from_fd).tell(context)?).tell(context)? {
        let (one, other) = (from.join(&name), to.join(&name));
        match shift(&one, &other) {
            Err(Errno::EXDEV | Errno::EEXIST | Errno::EACCES) if is_dir(&one) => merge(&one, &other)?,
            moved => moved.tell(|| format!("cannot move {} to {}", one.display(), other.display()))?,
        }
    }
    if is_new {
        to.open(LIST).and_then(|dir| fchmod(dir, permissions(stat.st_mode & 0o7777))).tell(context)?;
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

/// Returns the mode bits that a directory needs in addition while this user fills it.
fn writable() -> u32 {
    if effective_uid() == 0 { 0 } else { 0o700 }
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
            fchmod(&dir, permissions(like.st_mode & 0o7777 | writable())).map(|()| true)
        }
    }
}

fn shift(from: &DirPath, to: &DirPath) -> nix::Result<()> {
    let ((old_dir, old), (new_dir, new)) = (from.parent_and_name()?, to.parent_and_name()?);
    match rename_with(&old_dir, old, &new_dir, new, RenameFlags::NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS) if !exists(to) => {
            nix::fcntl::renameat(&old_dir, old, &new_dir, new)
        }
        moved => moved,
    }
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
