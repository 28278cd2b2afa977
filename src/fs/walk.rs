//! Walks a directory tree by descriptors, in the order of paths, and never through a symlink.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::{Dir, Entry};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use crate::error::{Context, Result};

use super::dir_path::LIST;

/// A file, directory or symlink that a walk visits.
pub(crate) struct WalkEntry<'a> {
    /// The path relative to the start of the walk.
    pub path: &'a Path,
    pub parent: BorrowedFd<'a>,
    pub name: &'a OsStr,
    pub stat: FileStat,
}

impl WalkEntry<'_> {
    /// Returns the file type bits of `st_mode`.
    pub fn kind(&self) -> SFlag {
        file_type(&self.stat)
    }

    /// Opens the regular file. Fails if it has become a symlink, and does not block if it has become a pipe.
    pub fn open(&self) -> nix::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(self.parent, self.name, flags, Mode::empty()).map(File::from)
    }

    /// Returns the target of the symlink.
    pub fn target(&self) -> nix::Result<OsString> {
        readlinkat(self.parent, self.name)
    }
}

/// Visits everything under `dir`, each directory before its contents, sorted by the bytes of whole paths.
pub(crate) fn walk(dir: &Path, visit: &mut dyn FnMut(&WalkEntry<'_>) -> Result<()>) -> Result<()> {
    let top = openat(AT_FDCWD, dir, LIST, Mode::empty());
    walk_in(top.context(|| format!("cannot read {}", dir.display()))?, dir, visit)
}

/// Walks an open directory like [`walk`]; `dir` is only used in messages.
pub(crate) fn walk_in(
    top: OwnedFd,
    dir: &Path,
    visit: &mut dyn FnMut(&WalkEntry<'_>) -> Result<()>,
) -> Result<()> {
    let top = Dir::from_fd(top).context(|| format!("cannot read {}", dir.display()))?;
    Walk { base: dir, visit }.on(top, Path::new(""))
}

/// Returns the file type bits of `st_mode`.
pub(crate) fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Returns the names in a directory, sorted, including names that are not UTF-8.
pub(super) fn list(dir: &mut Dir) -> nix::Result<Vec<OsString>> {
    let name = |entry: nix::Result<Entry>| {
        entry.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
    };
    let mut names = dir.iter().map(name).collect::<nix::Result<Vec<_>>>()?;
    // Every directory lists itself and its parent.
    names.retain(|name| name != "." && name != "..");
    names.sort();
    Ok(names)
}

struct Walk<'a> {
    base: &'a Path,
    visit: &'a mut dyn FnMut(&WalkEntry<'_>) -> Result<()>,
}

impl Walk<'_> {
    /// The contents of a directory `a` wait until after its sibling `a-b`, because `-` sorts before `/`.
    fn on(&mut self, mut dir: Dir, at: &Path) -> Result<()> {
        let mut waiting: Vec<OsString> = Vec::new();
        for name in list(&mut dir).context(|| self.cannot_read(at))? {
            while let Some(inner) = waiting.pop_if(|inner| comes_before(inner, &name)) {
                self.into(&dir, at, &inner)?;
            }
            if self.is_directory(&dir, at, &name)? {
                waiting.push(name);
            }
        }
        waiting.iter().rev().try_for_each(|inner| self.into(&dir, at, inner))
    }

    fn is_directory(&mut self, dir: &Dir, at: &Path, name: &OsStr) -> Result<bool> {
        let path = at.join(name);
        let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(false),
            stat => stat.context(|| self.cannot_read(&path))?,
        };
        let found = WalkEntry { path: &path, parent: dir.as_fd(), name, stat };
        (self.visit)(&found)?;
        Ok(found.kind() == SFlag::S_IFDIR)
    }

    fn into(&mut self, dir: &Dir, at: &Path, name: &OsStr) -> Result<()> {
        let path = at.join(name);
        let inner = Dir::openat(dir, name, LIST, Mode::empty()).context(|| self.cannot_read(&path))?;
        self.on(inner, &path)
    }

    fn cannot_read(&self, path: &Path) -> String {
        format!("cannot read {}", self.base.join(path).display())
    }
}

/// Whether the contents of the directory `inner` come before its sibling `name`.
fn comes_before(inner: &OsStr, name: &OsStr) -> bool {
    inner.as_bytes().iter().chain(b"/").lt(name.as_bytes())
}
