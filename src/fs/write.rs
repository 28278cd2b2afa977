//! Creates, writes and appends to files, and creates directories. Writes to an existing file only if that cannot
//! change anything outside the root.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchown, fsync, syncfs, unlinkat};

use crate::error::{Context, Error, Result};

use super::dir_path::{ErrnoContext, LIST, Parent};
use super::read::exists;
use super::temp_file::TempFile;
use super::{DirPath, Owner, effective_uid, is_anothers, move_durable};

/// The mode of a directory that only its user can enter, read and write.
const PRIVATE: u32 = 0o700;

/// Flags to create a file that must not exist yet.
pub(super) const NEW: OFlag = OFlag::O_RDWR
    .union(OFlag::O_APPEND)
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

/// Creates a directory with the given mode and owner, unless it exists. A crash may leave it with neither. If `owner`
/// is another user, the next call sets both.
///
/// # Errors
/// Returns an error if the directory cannot be created or if something else is in its place.
pub fn ensure_dir(place: &DirPath, mode: u32, owner: Owner) -> Result<()> {
    let context = || format!("cannot make the directory {}", place.display());
    let (parent, name) = place.parent_and_name().tell(context)?;
    let first = if is_anothers(owner) { PRIVATE } else { mode };
    let made = match mkdirat(&parent, name, permissions(first)) {
        Err(Errno::EEXIST) => false,
        made => made.map(|()| true).tell(context)?,
    };
    let dir = openat(&parent, name, LIST, Mode::empty()).tell(context)?;
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

fn set_mode(dir: &OwnedFd, mode: u32, place: &DirPath) -> Result<()> {
    fchmod(dir, permissions(mode)).tell(|| format!("cannot set the mode of {}", place.display()))
}

fn is_private(stat: &FileStat) -> bool {
    stat.st_uid == effective_uid() && stat.st_mode & 0o777 == PRIVATE
}

/// Returns whether no other user can create entries in the directory.
fn is_closed(dir: &FileStat) -> bool {
    dir.st_uid == effective_uid() && dir.st_mode & 0o022 == 0
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
    match mkdirat(&parent, name, permissions(PRIVATE)) {
        Err(Errno::EEXIST) => {}
        made => made.tell(context)?,
    }
    let dir = openat(&parent, name, LIST, Mode::empty()).tell(context)?;
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
    set_mode(&place.open(LIST).tell(context)?, if passable { PRIVATE | 0o011 } else { PRIVATE }, place)
}

/// Gives the directory `to` of this user the mode of the directory `from`. Not durable.
///
/// # Errors
/// Returns an error if one of the directories does not exist.
pub fn copy_mode(from: &DirPath, to: &DirPath) -> Result<()> {
    let stat = from.open(LIST).and_then(fstat).tell(|| format!("cannot inspect {}", from.display()))?;
    let dir = to.open(LIST).tell(|| format!("cannot open {}", to.display()))?;
    set_mode(&dir, stat.st_mode & 0o7777, to)
}

/// Makes the entries of a directory durable. A failed sync is never tried again, because the second sync could
/// succeed although data is lost.
///
/// # Errors
/// Returns an error if the sync fails.
pub fn sync_dir(place: &DirPath) -> Result<()> {
    place.open(LIST).and_then(fsync).tell(|| format!("cannot make {} durable", place.display()))
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
    from.open(LIST).and_then(syncfs).tell(|| format!("cannot make {} durable", from.display()))
}

/// Writes a file in place of another, atomically and durably, by way of the directory `staging` on the same file
/// system. Returns the file, open for appending. A crash leaves the old or the new file, and perhaps a temporary file
/// in `staging`.
///
/// # Errors
/// Returns an error if a step fails. The old file then remains, unless only the last sync failed.
pub fn write_durable(
    place: &DirPath,
    staging: &DirPath,
    bytes: &[u8],
    mode: u32,
    owner: Owner,
) -> Result<File> {
    let context = || format!("cannot write {}", place.display());
    let draft = TempFile::open(staging, STAGED, NEW).tell(context)?;
    fill(draft.as_file(), bytes, mode, owner).context(context)?;
    draft.replace(place)
}

fn fill(mut file: &File, bytes: &[u8], mode: u32, owner: Owner) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    give_file(file, owner)?;
    file.sync_all()
}

/// The prefix of temporary files in staging.
const STAGED: &str = ".new.";

/// Creates a file whose name is `begin` and a number. Only this user can read the file until it is filled.
pub(super) fn temporary(dir: &DirPath, begin: &str, flags: OFlag) -> nix::Result<(DirPath, File)> {
    let mut count = 0;
    loop {
        let place = dir.join(format!("{begin}{count}"));
        let (parent, name) = place.parent_and_name()?;
        match openat(parent, name, flags, permissions(0o600)) {
            Err(Errno::EEXIST) => count += 1,
            file => return file.map(|file| (place, file.into())),
        }
    }
}

/// Writes a new file in a directory that is not published yet. Not durable: publishing the directory makes it
/// durable.
///
/// # Errors
/// Returns an error if the file cannot be written or already exists.
pub fn write_staged(
    place: &DirPath,
    owner: Owner,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let context = || format!("cannot write {}", place.display());
    let (parent, name) = place.parent_and_name().tell(context)?;
    let file = File::from(openat(parent, name, NEW, permissions(0o644)).tell(context)?);
    let mut out = BufWriter::new(file);
    write(&mut out).and_then(|()| out.flush()).context(context)?;
    give_file(out.get_ref(), owner).context(context)
}

/// Opens a file that stays in place and that one command after another writes to. Creates an empty file if it is
/// missing.
///
/// # Errors
/// Returns an error if the file cannot be opened. Returns a `Refused` error if the file belongs to another user or
/// has another hard link, because a write could then change a file outside this root.
pub fn open_kept(place: &DirPath, staging: &DirPath, mode: u32, owner: Owner) -> Result<File> {
    let context = || format!("cannot open {}", place.display());
    let (parent, name) = place.parent_and_name().tell(context)?;
    let mut flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Without these flags, opening a pipe or a terminal has side effects.
    flags |= OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    if !is_anothers(owner) {
        flags |= OFlag::O_CREAT;
    } else if !exists(place) {
        make_kept(place, staging, mode, owner)?;
    }
    let file = File::from(openat(&parent, name, flags, permissions(mode)).tell(context)?);
    let meta = file.metadata().context(context)?;
    let refuse = |why: String, hint: &str| {
        Err(Error::refused(format!("cannot write {}: {why}", place.display())).hint(hint))
    };
    // The owner can write to its own file anyway, and can move nothing into a closed directory of this user.
    let own = meta.uid() == owner.uid || is_closed(&fstat(&parent).tell(context)?);
    match (meta.is_file(), own, meta.nlink()) {
        (false, ..) => refuse("it is not a file".into(), "move it away"),
        (_, false, _) => refuse(
            format!("it belongs to user {}, and the root to user {}", meta.uid(), owner.uid),
            "move it away, or give it to the owner of the root if it is the root's own",
        ),
        (.., 1) => Ok(file),
        _ => refuse("it is a hard link to a file that has other names".into(), "move it away"),
    }
}

/// Removes a temporary file. Errors are ignored, because a leftover file does no harm.
pub(super) fn unlink(place: &DirPath) {
    let _ = place.parent_and_name().and_then(|(dir, name)| unlinkat(dir, name, UnlinkatFlags::NoRemoveDir));
}

/// Creates an empty file that has its owner before it appears. If another file appears meanwhile, that file stays.
fn make_kept(place: &DirPath, staging: &DirPath, mode: u32, owner: Owner) -> Result<()> {
    let context = || format!("cannot write {}", place.display());
    let (temporary, file) = temporary(staging, STAGED, NEW).tell(context)?;
    let moved = fill(&file, b"", mode, owner).context(context).and_then(|()| move_durable(&temporary, place));
    if moved.is_err() {
        unlink(&temporary);
    }
    if exists(place) { Ok(()) } else { moved }
}

/// Appends a line to a file durably. A crash may leave a part of the line at the end of the file, so the next line
/// starts on a new line.
///
/// # Errors
/// Returns an error if the file cannot be written, or if [`open_kept`] refuses it.
pub fn append_durable(place: &DirPath, staging: &DirPath, line: &str, owner: Owner) -> Result<()> {
    let context = || format!("cannot write {}", place.display());
    let made = !exists(place);
    let file = open_kept(place, staging, 0o644, owner)?;
    append(&file, line).context(context)?;
    if made {
        let (parent, _) = place.parent_and_name().tell(context)?;
        sync_around(place, &parent)?;
    }
    Ok(())
}

/// Like [`append_durable`], for an open file that no other process writes to.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn append(mut file: &File, line: &str) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    let begin = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{begin}{line}\n").as_bytes())?;
    file.sync_data()
}

/// Gives a new file to its owner.
fn give_file(file: &File, owner: Owner) -> io::Result<()> {
    let stat = fstat(file)?;
    Ok(give(file, &stat, owner)?)
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
    use std::fs;
    use std::os::unix::fs::symlink;
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
