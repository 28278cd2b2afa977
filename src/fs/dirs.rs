//! Creates directories, sets the owner and mode of what is created, and makes trees durable.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{fchown, fsync, syncfs};

use crate::error::{Error, Result};

use super::dir_path::{ErrnoContext, LIST, Parent};
use super::{DirPath, Owner, effective_uid, is_anothers};

/// The mode of a directory that only its user can enter, read and write.
const PRIVATE: u32 = 0o700;

/// Creates a directory with the given mode and owner, unless it exists. A crash may leave it with neither. If `owner`
/// is another user, the next call sets both.
///
/// # Errors
/// Returns an error if the directory cannot be created or if something else is in its place.
pub fn ensure_dir(place: &DirPath, mode: u32, owner: Owner) -> Result<()> {
    let context = || format!("cannot make the directory {}", place.display());
    let (parent, name) = place.parent_and_name().tell(context)?;
    let first = if is_anothers(owner) { PRIVATE } else { mode };
    let (dir, made) = make(&parent, name, first).tell(context)?;
    let stat = fstat(&dir).tell(context)?;
    if is_anothers(owner) {
        // No other user can have put this directory here: only its owner can move a private directory.
        if is_private(&stat) && is_empty(&dir).tell(context)? {
            give(&dir, &stat, owner).tell(|| format!("cannot set the owner of {}", place.display()))?;
            set_mode(&dir, mode, place)?;
        }
    } else if made && stat.st_uid == owner.uid && stat.st_mode & 0o777 != mode {
        // The umask removed bits from the mode.
        set_mode(&dir, mode, place)?;
    }
    Ok(())
}

/// Opens a directory, which is created if the name is free. Also returns whether it was created.
fn make(parent: &Parent, name: &OsStr, mode: u32) -> nix::Result<(OwnedFd, bool)> {
    let made = match mkdirat(parent, name, permissions(mode)) {
        Err(Errno::EEXIST) => false,
        made => made.map(|()| true)?,
    };
    Ok((openat(parent, name, LIST, Mode::empty())?, made))
}

fn set_mode(dir: &OwnedFd, mode: u32, place: &DirPath) -> Result<()> {
    fchmod(dir, permissions(mode)).tell(|| format!("cannot set the mode of {}", place.display()))
}

fn is_private(stat: &FileStat) -> bool {
    stat.st_uid == effective_uid() && stat.st_mode & 0o777 == PRIVATE
}

fn is_empty(dir: &OwnedFd) -> nix::Result<bool> {
    let mut dir = Dir::from_fd(openat(dir, ".", LIST, Mode::empty())?)?;
    // Every directory lists itself and its parent.
    Ok(dir.iter().take(3).count() == 2)
}

/// Creates a directory that only this user can enter, or reuses it, and holds it open. Other users cannot replace or
/// reach its entries until they are moved out.
///
/// # Errors
/// Returns an error if the directory cannot be created or if other users can enter it.
pub fn private_dir(place: &DirPath) -> Result<DirPath> {
    let context = || format!("cannot make the directory {}", place.display());
    let (parent, name) = place.parent_and_name().tell(context)?;
    let (dir, _) = make(&parent, name, PRIVATE).tell(context)?;
    if is_private(&fstat(&dir).tell(context)?) {
        return Ok(DirPath::of(dir, place.path().to_owned()));
    }
    Err(Error::failed(format!("{}: other users can enter it", context())))
}

/// Lets other users pass through a private directory to entries whose names they know, or ends this permission.
///
/// # Errors
/// Returns an error if the directory does not exist or does not belong to this user.
pub fn set_passable(place: &DirPath, passable: bool) -> Result<()> {
    let context = || format!("cannot set the mode of {}", place.display());
    set_mode(&place.open_fd(LIST).tell(context)?, if passable { PRIVATE | 0o011 } else { PRIVATE }, place)
}

/// Gives the directory `to` of this user the mode of the directory `from`. Not durable.
///
/// # Errors
/// Returns an error if one of the directories does not exist.
pub fn copy_mode(from: &DirPath, to: &DirPath) -> Result<()> {
    let stat = from.open_fd(LIST).and_then(fstat).tell(|| format!("cannot inspect {}", from.display()))?;
    let dir = to.open_fd(LIST).tell(|| format!("cannot open {}", to.display()))?;
    set_mode(&dir, stat.st_mode & 0o7777, to)
}

/// Makes the entries of a directory durable. A failed sync is never tried again, because the second sync could
/// succeed although data is lost.
///
/// # Errors
/// Returns an error if the sync fails.
pub fn sync_dir(place: &DirPath) -> Result<()> {
    place.open_fd(LIST).and_then(fsync).tell(|| format!("cannot make {} durable", place.display()))
}

/// Like [`sync_dir`], for the parent directory of a path.
pub(super) fn sync_around(place: &DirPath, parent: &Parent) -> Result<()> {
    let dir = openat(parent, ".", LIST, Mode::empty());
    dir.and_then(fsync).tell(|| format!("cannot make {} durable", place.around()))
}

/// Makes everything under `from` durable, with one sync of its whole file system.
///
/// # Errors
/// Returns an error if data could not be stored after this function opened `from` (reported since Linux 5.8).
pub fn sync_tree(from: &DirPath) -> Result<()> {
    from.open_fd(LIST).and_then(syncfs).tell(|| format!("cannot make {} durable", from.display()))
}

pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

/// Gives an open file or directory to another owner, unless it belongs to it already.
pub(super) fn give(fd: impl AsFd, now: &FileStat, to: Owner) -> nix::Result<()> {
    if Owner::of(now) == to {
        return Ok(());
    }
    let (uid, gid) = to.ids();
    fchown(fd, uid, gid)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::fs::effective_owner;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    /// Creates an empty directory that all can read, a private one with a file, and a symlink to the private one.
    fn ground() -> (tempfile::TempDir, DirPath) {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("open", 0o755), ("closed", 0o700)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
        }
        fs::write(dir.path().join("closed/file"), "x").unwrap();
        symlink("closed", dir.path().join("link")).unwrap();
        let place = DirPath::of(File::open(dir.path()).unwrap().into(), dir.path().to_owned());
        (dir, place)
    }

    #[test]
    fn private_dir_refuses_other_modes_and_kinds() {
        let (dir, root) = ground();
        private_dir(&root.join("new")).unwrap();
        assert_eq!(mode(&dir.path().join("new")), PRIVATE);
        private_dir(&root.join("new")).unwrap();
        private_dir(&root.join("closed")).unwrap();
        for (name, why) in [("open", "can enter it"), ("link", "a symlink"), ("closed/file", "or a file")] {
            let error = private_dir(&root.join(name)).unwrap_err().in_one_line();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert_eq!(mode(&dir.path().join("open")), 0o755);
    }

    #[test]
    fn ensure_dir_keeps_existing_owner_and_mode() {
        let (dir, root) = ground();
        let other = Owner { gid: effective_owner().gid + 1, ..effective_owner() };
        for name in ["open", "closed"] {
            let before = mode(&dir.path().join(name));
            ensure_dir(&root.join(name), 0o711, other).unwrap();
            let meta = fs::symlink_metadata(dir.path().join(name)).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.gid()), (before, effective_owner().gid), "{name}");
        }
        ensure_dir(&root.join("link"), 0o711, other).unwrap_err();
        assert_eq!(mode(&dir.path().join("closed")), 0o700);
    }
}
