//! Makes directories and files, writes and appends. What is there already is written to only where that can
//! change nothing outside the root.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, syncfs, unlinkat};

use crate::error::{Context, Error, Result};
use crate::tree::Owner;

use super::dir_path::{ErrnoContext, LIST, Parent};
use super::read::exists;
use super::temp_file::TempFile;
use super::{DirPath, effective_uid, is_anothers, move_durable};

/// What only its user can enter, read and write.
const PRIVATE: u32 = 0o700;

/// A file that is made here, and was not there.
pub(super) const NEW: OFlag = OFlag::O_RDWR
    .union(OFlag::O_APPEND)
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

/// Makes a directory of the given mode and owner, unless it is there. A crash may leave it with neither;
/// made once more, it gets both.
///
/// # Errors
/// Where it cannot be made, or where something else stands in its place.
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
        // Another's directory cannot have been put in its place: nobody else could have moved such a one.
        if is_private(&stat) && is_empty(&dir).tell(context)? {
            give(&dir, &stat, owner).tell(|| format!("cannot set the owner of {}", place.display()))?;
            set_mode(&dir, mode, place)?;
        }
    } else if made && stat.st_uid == owner.uid && stat.st_mode & 0o777 != mode {
        // The umask has taken bits away.
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

/// Whether nobody else can put anything into it.
fn is_closed(dir: &FileStat) -> bool {
    dir.st_uid == effective_uid() && dir.st_mode & 0o022 == 0
}

fn is_empty(dir: &OwnedFd) -> nix::Result<bool> {
    let mut dir = Dir::from_fd(openat(dir, ".", LIST, Mode::empty())?)?;
    // Every directory names itself and the one above it.
    Ok(dir.iter().take(3).count() == 2)
}

/// Makes a directory that only this user can enter, or takes it up again, and holds it open: whatever is made
/// in it nobody else can exchange or reach, until it is moved away.
///
/// # Errors
/// Where it cannot be made, or where other users can enter it.
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

/// Lets others pass through a private directory, to what they know the name of, or shuts them out again.
///
/// # Errors
/// Where it is not there, or not this user's.
pub fn set_passable(place: &DirPath, passable: bool) -> Result<()> {
    let context = || format!("cannot set the mode of {}", place.display());
    set_mode(&place.open(LIST).tell(context)?, if passable { PRIVATE | 0o011 } else { PRIVATE }, place)
}

/// Gives a directory of this user's the mode of another one. Not durable.
///
/// # Errors
/// Where one of them is not there.
pub fn copy_mode(from: &DirPath, to: &DirPath) -> Result<()> {
    let stat = from.open(LIST).and_then(fstat).tell(|| format!("cannot inspect {}", from.display()))?;
    let dir = to.open(LIST).tell(|| format!("cannot open {}", to.display()))?;
    set_mode(&dir, stat.st_mode & 0o7777, to)
}

/// Makes the entries of a directory durable. A sync that failed is never tried again: what it would then
/// call durable may be lost already.
///
/// # Errors
/// Where the system reports one.
pub fn sync_dir(place: &DirPath) -> Result<()> {
    place.open(LIST).and_then(fsync).tell(|| format!("cannot make {} durable", place.display()))
}

/// As [`sync_dir`], of the directory that a place lies in.
pub(super) fn sync_around(place: &DirPath, parent: &Parent) -> Result<()> {
    let dir = openat(parent, ".", LIST, Mode::empty());
    dir.and_then(fsync).tell(|| format!("cannot make {} durable", place.around()))
}

/// Makes everything under `from` durable, by one sync of its whole file system.
///
/// # Errors
/// Where anything written since it was opened could not be stored (reported since Linux 5.8).
pub fn sync_tree(from: &DirPath) -> Result<()> {
    from.open(LIST).and_then(syncfs).tell(|| format!("cannot make {} durable", from.display()))
}

/// Writes a file in place of another, atomically and durably, by way of the directory `staging` on the same
/// file system, and returns it, open to be appended to. A crash leaves the old one, and perhaps a temporary
/// file in `staging`.
///
/// # Errors
/// Where any part of it fails; the old file is then still there.
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

/// How the names of temporary files in staging begin.
const STAGED: &str = ".new.";

/// A new file, its name such a beginning and a number, which until it is filled only this user can read.
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

/// Writes a new file in a directory that nobody sees yet. Not durable: what publishes the directory is.
///
/// # Errors
/// Where it cannot be written, or is there already.
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

/// Opens a file that stays where it is and is written to by one command after another; made, empty, where it
/// is not there.
///
/// # Errors
/// Where it cannot be opened; refused where it is not the owner's own, or has another name somewhere: what
/// is written to it would then change what is none of this root's.
pub fn open_kept(place: &DirPath, staging: &DirPath, mode: u32, owner: Owner) -> Result<File> {
    let context = || format!("cannot open {}", place.display());
    let (parent, name) = place.parent_and_name().tell(context)?;
    let mut flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Opening a pipe or a terminal has effects of its own.
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
    // The owner could write to its own anyway; to the directories of this process's user it can move nothing.
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

/// Removes a file that nobody will miss, where that can be done.
pub(super) fn unlink(place: &DirPath) {
    let _ = place.parent_and_name().and_then(|(dir, name)| unlinkat(dir, name, UnlinkatFlags::NoRemoveDir));
}

/// Lets an empty file appear that has its owner already; another one that appears meanwhile stays.
fn make_kept(place: &DirPath, staging: &DirPath, mode: u32, owner: Owner) -> Result<()> {
    let context = || format!("cannot write {}", place.display());
    let (temporary, file) = temporary(staging, STAGED, NEW).tell(context)?;
    let moved = fill(&file, b"", mode, owner).context(context).and_then(|()| move_durable(&temporary, place));
    if moved.is_err() {
        unlink(&temporary);
    }
    if exists(place) { Ok(()) } else { moved }
}

/// Appends a line to a file, durably. A crash may leave a part of the line at the file's end, so a line
/// that is begun later starts on a line of its own.
///
/// # Errors
/// Where it cannot be written, or must not be, as [`open_kept`] says.
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

/// As [`append_durable`], to a file that is open and that nobody else writes to.
///
/// # Errors
/// Where it cannot be written.
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

/// Gives a file that was made here to its owner.
fn give_file(file: &File, owner: Owner) -> io::Result<()> {
    let stat = fstat(file)?;
    Ok(give(file, &stat, owner)?)
}

fn give(fd: impl AsFd, now: &FileStat, to: Owner) -> nix::Result<()> {
    if (now.st_uid, now.st_gid) == (to.uid, to.gid) {
        return Ok(());
    }
    fchown(fd, Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)))
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

    /// A directory with an empty one that all may read, a link to it, and a private one that holds something.
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
    fn a_private_directory_is_new_or_private_already() {
        let (dir, root) = ground();
        private_dir(&root.join("new")).unwrap();
        assert_eq!(mode(&dir.path().join("new")), PRIVATE);
        private_dir(&root.join("new")).unwrap();
        private_dir(&root.join("closed")).unwrap();
        for (name, why) in [("open", "others can enter"), ("link", "a link"), ("closed/file", "no directory")]
        {
            let error = private_dir(&root.join(name)).unwrap_err().in_one_line();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert_eq!(mode(&dir.path().join("open")), 0o755);
    }

    #[test]
    fn what_is_there_already_is_given_to_nobody() {
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
