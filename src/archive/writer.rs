//! Creates files, directories and links in one directory, and never accesses anything outside it.
//!
//! Every path is opened from the target down, one component at a time and never through a symlink. Nothing is made
//! durable here, and the caller removes what a crash leaves behind. The target must be a directory that no other user
//! can enter, because modes and owners are set last.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::Owner;
use super::layout::{DIRECTORY_MODE, Layout, PathUse};
use super::rules::violation;
use crate::error::{Context, Error, Result};

/// A writer that creates a tree in an empty directory.
pub struct Writer {
    target: Arc<OwnedFd>,
    owner: Option<Owner>,
    /// The open directories from the target down to the one last written to.
    open: Vec<(String, Arc<OwnedFd>)>,
}

/// The place, mode and owner of a file. Any thread may create and write the file.
pub struct FileSlot {
    /// The parent directory.
    pub parent: Arc<OwnedFd>,
    /// The path in the archive.
    pub path: String,
    /// The permission bits that the file gets.
    pub mode: u32,
    /// The owner that the file gets; `None` keeps this process's user.
    pub owner: Option<Owner>,
    /// The modification time that the file gets, in seconds since the epoch.
    pub mtime: Option<u64>,
}

impl Writer {
    /// Returns a writer into `target`. With an owner, everything is given to it.
    ///
    /// # Errors
    /// Returns an error if no more files can be opened.
    pub fn new(target: BorrowedFd<'_>, owner: Option<Owner>) -> Result<Self> {
        let target = target.try_clone_to_owned().context(|| "cannot open the directory to write into")?;
        Ok(Self { target: Arc::new(target), owner, open: Vec::new() })
    }

    /// Creates a directory and its parents.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be created.
    pub fn directory(&mut self, layout: &mut Layout, path: &str) -> Result<()> {
        let parts = || path.split('/').filter(|part| !part.is_empty());
        let shared = parts().zip(&self.open).take_while(|(part, (name, _))| part == name).count();
        self.open.truncate(shared);
        let mut end = self.open.iter().map(|(name, _)| name.len() + 1).sum::<usize>();
        for part in parts().skip(shared) {
            end += part.len();
            let fd = self.enter(layout, part, &path[..end])?;
            self.open.push((part.to_owned(), Arc::new(fd)));
            end += 1;
        }
        Ok(())
    }

    /// Creates the parent directory of a file, and returns the place of the file.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be created.
    pub fn slot(
        &mut self,
        layout: &mut Layout,
        path: &str,
        mode: u32,
        mtime: Option<u64>,
    ) -> Result<FileSlot> {
        let parent = self.parent(layout, path)?;
        Ok(FileSlot { parent, path: path.to_owned(), mode, owner: self.owner, mtime })
    }

    /// Creates a hard link to a complete file, or a copy if the file system cannot create the link.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    fn hardlink(&mut self, layout: &mut Layout, path: &str, first: &str, mode: u32) -> Result<()> {
        let (old_dir, old) = (self.parent(layout, first)?, file_name(first));
        let new = self.slot(layout, path, mode, None)?;
        match linkat(&*old_dir, old, &*new.parent, new.name(), AtFlags::empty()) {
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK) => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let from = openat(&*old_dir, old, flags, Mode::empty());
                let mut to = new.create()?;
                io::copy(&mut File::from(from.context(|| cannot_create(path))?), &mut to)
                    .context(|| cannot_create(path))?;
                new.keep(&to)
            }
            other => other.map_err(|errno| taken(path, errno)),
        }
    }

    /// Creates a symlink. After the first symlink, only symlinks may be created.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    fn symlink(&mut self, layout: &mut Layout, path: &str, target: &str) -> Result<()> {
        let (parent, name) = (self.parent(layout, path)?, file_name(path));
        symlinkat(target, &*parent, name).map_err(|errno| taken(path, errno))?;
        let Some((uid, gid)) = self.owner.map(Owner::ids) else { return Ok(()) };
        fchownat(&*parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            .context(|| format!("cannot set the owner of {path:?}"))
    }

    /// Creates the links of a tree whose files are complete, and sets the modes of its directories, each after its
    /// contents because the order is descending. The mode of the directory `top` does not count.
    ///
    /// # Errors
    /// Returns an error if something cannot be written.
    pub fn finish(mut self, layout: &mut Layout, top: Option<&str>) -> Result<()> {
        if let Some(PathUse::Directory { mode, .. }) = top.and_then(|top| layout.get_mut(top)) {
            *mode = DIRECTORY_MODE;
        }
        let links = |(path, place): (&str, &PathUse)| match place {
            PathUse::Symlink { target } => Some((path.to_owned(), target.to_string())),
            _ => None,
        };
        let unusual = |(path, place): (&str, &PathUse)| match place {
            PathUse::Directory { mode, .. } if *mode != DIRECTORY_MODE => Some((path.to_owned(), *mode)),
            _ => None,
        };
        let names = |(path, place): (&str, &PathUse)| match place {
            PathUse::Hardlink { first } => Some((path.to_owned(), first.to_string())),
            _ => None,
        };
        for (path, first) in layout.iter().filter_map(names).collect::<Vec<_>>() {
            let Some(PathUse::File { mode, .. }) = layout.get(&first) else { continue };
            let mode = *mode;
            self.hardlink(layout, &path, &first, mode)?;
        }
        for (path, target) in layout.iter().filter_map(links).collect::<Vec<_>>() {
            self.symlink(layout, &path, &target)?;
        }
        for (path, mode) in layout.iter().rev().filter_map(unusual).collect::<Vec<_>>() {
            self.seal(layout, &path, mode)?;
        }
        self.seal(layout, "", DIRECTORY_MODE)
    }

    /// Sets the mode of a directory. Call it last, because the mode may forbid writing.
    ///
    /// # Errors
    /// Returns an error if the mode cannot be set.
    fn seal(&mut self, layout: &mut Layout, path: &str, mode: u32) -> Result<()> {
        self.directory(layout, path)?;
        settle(&*self.here(), mode, self.owner, path).map(drop)
    }

    /// Creates the parent directory of a path, and returns it.
    fn parent(&mut self, layout: &mut Layout, path: &str) -> Result<Arc<OwnedFd>> {
        self.directory(layout, path.rsplit_once('/').map_or("", |(parent, _)| parent))?;
        Ok(self.here())
    }

    fn here(&self) -> Arc<OwnedFd> {
        Arc::clone(self.open.last().map_or(&self.target, |(_, fd)| fd))
    }

    fn enter(&self, layout: &mut Layout, name: &str, path: &str) -> Result<OwnedFd> {
        let here = self.here();
        let made = match layout.get_mut(path) {
            Some(PathUse::Directory { made, .. }) => std::mem::replace(made, true),
            _ => return Err(Error::failed(format!("{path:?} is not a directory"))),
        };
        if !made {
            mkdirat(&*here, name, permissions(DIRECTORY_MODE)).map_err(|errno| taken(path, errno))?;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&*here, name, flags, Mode::empty()).context(|| format!("cannot open {path:?}"))?;
        if !made {
            settle(&fd, DIRECTORY_MODE, self.owner, path)?;
        }
        Ok(fd)
    }
}

impl FileSlot {
    /// Creates the file, empty.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created, or a `Refused` error if it exists already.
    pub fn create(&self) -> Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = openat(&*self.parent, self.name(), flags, permissions(self.mode));
        Ok(file.map_err(|errno| taken(&self.path, errno))?.into())
    }

    /// Writes to the file at its current offset.
    ///
    /// # Errors
    /// Returns an error if the data cannot be written.
    pub fn write(&self, mut file: &File, bytes: &[u8]) -> Result<()> {
        file.write_all(bytes).context(|| format!("cannot write {:?}", self.path))
    }

    /// Sets the mode, the owner and the modification time.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be set.
    pub fn keep(&self, file: &File) -> Result<()> {
        settle(file, self.mode, self.owner, &self.path)?;
        let Some(seconds) = self.mtime.and_then(|seconds| i64::try_from(seconds).ok()) else { return Ok(()) };
        let time = TimeSpec::new(seconds, 0);
        futimens(file, &time, &time).context(|| format!("cannot set the time of {:?}", self.path))
    }

    /// Removes the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        unlinkat(&*self.parent, self.name(), UnlinkatFlags::NoRemoveDir)
            .context(|| format!("cannot remove {:?}", self.path))
    }

    /// Returns the file name without its directory.
    pub fn name(&self) -> &str {
        file_name(&self.path)
    }
}

/// Sets the mode and owner if they differ. The owner comes first, because changing it may clear permission bits.
fn settle(fd: impl AsFd, mode: u32, owner: Option<Owner>, path: &str) -> Result<()> {
    let has = |stat: &FileStat| stat.st_mode & 0o7777 == mode;
    let now = fstat(&fd).context(|| format!("cannot inspect {path:?}"))?;
    let foreign = owner.filter(|to| *to != Owner::of(&now));
    if let Some((uid, gid)) = foreign.map(Owner::ids) {
        fchown(&fd, uid, gid).context(|| format!("cannot set the owner of {path:?}"))?;
    }
    if foreign.is_none() && has(&now) {
        return Ok(());
    }
    fchmod(fd, permissions(mode)).context(|| format!("cannot set the mode of {path:?}"))
}

/// The rules admit no name twice, so an existing name differs only in case.
fn taken(path: &str, errno: Errno) -> Error {
    match errno {
        Errno::EEXIST => {
            violation(path.as_bytes(), "already exists under a name that this file system treats as the same")
        }
        other => Error::failed(cannot_create(path)).because(other),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

fn cannot_create(path: &str) -> String {
    format!("cannot create {path:?}")
}
