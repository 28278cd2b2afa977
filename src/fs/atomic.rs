//! Writes files that appear complete or not at all, and appends to files durably. Writes to an existing file only if
//! that cannot change anything outside the root.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Context, Error, Result};

use super::dir_path::ErrnoContext;
use super::dirs::{give, permissions, sync_around};
use super::moves::move_durable;
use super::read::{exists, names, open_file};
use super::{DirPath, Owner, effective_uid, is_anothers};

/// Flags to create a file that must not exist yet.
pub(super) const NEW: OFlag = OFlag::O_RDWR
    .union(OFlag::O_APPEND)
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The prefix of temporary files in a directory of any user. The creator of such a file holds a lock on it.
const NAME: &str = ".tenure-draft.";

/// The prefix of temporary files in staging.
const STAGED: &str = ".new.";

/// A new file under a temporary name. A drop without publishing removes the file; a crash leaves it.
#[must_use = "the file is removed on drop unless it is published"]
#[derive(Debug)]
pub struct TempFile {
    spare: Spare,
    file: File,
}

/// A temporary name, which is removed on drop unless the file was moved to another name.
#[derive(Debug)]
struct Spare {
    at: DirPath,
    moved: bool,
}

impl TempFile {
    /// Creates an empty file in this directory, which only this user can read until it is published. Removes the
    /// files that crashes left there.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn new(dir: &DirPath) -> Result<Self> {
        sweep(dir);
        loop {
            let mut draft = Self::open(dir, NAME, NEW.difference(OFlag::O_APPEND))
                .tell(|| format!("cannot write into {}", dir.display()))?;
            // On a file system without locks, no file is swept.
            let _ = draft.file.lock();
            if is_at(&draft.file, &draft.spare.at) {
                return Ok(draft);
            }
            // Another process swept the file before it was locked. Its name may belong to another file by now.
            draft.spare.moved = true;
        }
    }

    /// Creates a file whose name is `begin` and a number. Does not sweep the directory.
    fn open(dir: &DirPath, begin: &str, flags: OFlag) -> nix::Result<Self> {
        let mut count = 0;
        loop {
            let at = dir.join(format!("{begin}{count}"));
            let (parent, name) = at.parent_and_name()?;
            match openat(parent, name, flags, permissions(0o600)) {
                Err(Errno::EEXIST) => count += 1,
                file => return Ok(Self { file: file?.into(), spare: Spare { at, moved: false } }),
            }
        }
    }

    /// Returns another handle of the file.
    ///
    /// # Errors
    /// Returns an error if no more files can be opened.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().context(|| format!("cannot open {}", self.spare.at.display()))
    }

    /// Makes the file durable and readable for everyone, and moves it to `place` in the same directory. Replaces an
    /// existing file. A crash leaves the old or the new file.
    ///
    /// # Errors
    /// Returns an error if a step fails.
    pub fn publish(self, place: &DirPath) -> Result<()> {
        let context = || format!("cannot write {}", place.display());
        self.file.set_permissions(Permissions::from_mode(0o644)).context(context)?;
        self.file.sync_all().context(context)?;
        self.replace(place).map(drop)
    }

    /// Moves the file, whose contents are durable, to `place`, durably. Replaces an existing file. Returns the file.
    ///
    /// # Errors
    /// Returns an error if a step fails.
    fn replace(self, place: &DirPath) -> Result<File> {
        let context = || format!("cannot write {}", place.display());
        let Self { mut spare, file } = self;
        let (from, name) = spare.at.parent_and_name().tell(context)?;
        let (parent, to) = place.parent_and_name().tell(context)?;
        renameat(&from, name, &parent, to).tell(context)?;
        spare.moved = true;
        sync_around(place, &parent)?;
        Ok(file)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if !self.moved {
            unlink(&self.at);
        }
    }
}

/// Removes this user's temporary files in the directory that no process holds a lock on.
fn sweep(dir: &DirPath) {
    let left = names(dir).unwrap_or_default().into_iter().filter(|name| name.starts_with(NAME));
    for place in left.map(|name| dir.join(name)) {
        let Ok(file) = open_file(&place) else { continue };
        let is_own = file.metadata().is_ok_and(|meta| meta.is_file() && meta.uid() == effective_uid());
        if is_own && file.try_lock().is_ok() && is_at(&file, &place) {
            unlink(&place);
        }
    }
}

/// Removes a temporary file. Errors are ignored, because a leftover file does no harm.
fn unlink(place: &DirPath) {
    let _ = place.parent_and_name().and_then(|(dir, name)| unlinkat(dir, name, UnlinkatFlags::NoRemoveDir));
}

/// Returns whether `place` is still the name of this file.
fn is_at(file: &File, place: &DirPath) -> bool {
    let there = open_file(place).and_then(|there| there.metadata().context(|| "a draft"));
    let same = |there: Metadata| {
        file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
    };
    there.is_ok_and(same)
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
    fill(&draft.file, bytes, mode, owner).context(context)?;
    draft.replace(place)
}

fn fill(mut file: &File, bytes: &[u8], mode: u32, owner: Owner) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    give_file(file, owner)?;
    file.sync_all()
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

/// Returns whether no other user can create entries in the directory.
fn is_closed(dir: &FileStat) -> bool {
    dir.st_uid == effective_uid() && dir.st_mode & 0o022 == 0
}

/// Creates an empty file that has its owner before it appears. If another file appears meanwhile, that file stays.
fn make_kept(place: &DirPath, staging: &DirPath, mode: u32, owner: Owner) -> Result<()> {
    let context = || format!("cannot write {}", place.display());
    let mut draft = TempFile::open(staging, STAGED, NEW).tell(context)?;
    let filled = fill(&draft.file, b"", mode, owner).context(context);
    let moved = filled.and_then(|()| move_durable(&draft.spare.at, place));
    draft.spare.moved = moved.is_ok();
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
