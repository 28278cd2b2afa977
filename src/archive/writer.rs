//! Puts files, directories and links into one directory, and never reaches anything outside it.
//!
//! Every path is opened from the target downwards, one component at a time and never through a link. Nothing
//! is made durable here; what a crash leaves is for the caller to remove. The target must be a directory that
//! nobody else can enter: then nobody meets a tree whose modes and owners are not set yet.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::Owner;
use super::layout::{DIRECTORY_MODE, Layout, PathUse};
use super::path::violation;
use super::share::BaseRelease;
use crate::error::{Context, Error, Result};

/// Writes a tree into an empty directory.
pub struct Writer {
    target: Arc<OwnedFd>,
    owner: Option<Owner>,
    twins: Option<Arc<BaseRelease>>,
    /// The directories from the target down to the one last written to.
    open: Vec<(String, Arc<OwnedFd>)>,
}

/// Where a file is going to be; it may be created and written by any thread.
pub struct FileSlot {
    parent: Arc<OwnedFd>,
    path: String,
    owner: Option<Owner>,
    twins: Option<Arc<BaseRelease>>,
}

impl Writer {
    /// Writes into `target`; with an owner, everything is given to it. What `twins` hold is shared with them.
    ///
    /// # Errors
    /// When no more files can be opened.
    pub fn new(
        target: BorrowedFd<'_>,
        owner: Option<Owner>,
        twins: Option<Arc<BaseRelease>>,
    ) -> Result<Self> {
        let target = target.try_clone_to_owned().context(|| "cannot open the directory to write into")?;
        Ok(Self { target: Arc::new(target), owner, twins, open: Vec::new() })
    }

    /// Creates a directory, and those above it.
    ///
    /// # Errors
    /// When it cannot be created.
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

    /// The place of a file whose directory there is from now on.
    ///
    /// # Errors
    /// When its directory cannot be created.
    pub fn slot(&mut self, layout: &mut Layout, path: &str) -> Result<FileSlot> {
        self.directory(layout, parent(path))?;
        let (parent, path) = (self.here(), path.to_owned());
        Ok(FileSlot { parent, path, owner: self.owner, twins: self.twins.clone() })
    }

    /// Creates a hard link to a file that is complete, or a copy where the file system has no hard links.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn hardlink(&mut self, layout: &mut Layout, path: &str, first: &str, mode: u32) -> Result<()> {
        let old = self.slot(layout, first)?;
        let new = self.slot(layout, path)?;
        match linkat(&*old.parent, old.name(), &*new.parent, new.name(), AtFlags::empty()) {
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK) => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let from = openat(&*old.parent, old.name(), flags, Mode::empty());
                let mut to = new.create(mode)?;
                io::copy(&mut File::from(from.context(|| cannot_create(path))?), &mut to)
                    .context(|| cannot_create(path))?;
                new.keep(&to, mode, None)
            }
            other => other.map_err(|errno| taken(path, errno)),
        }
    }

    /// Creates a symbolic link. Once there is one, nothing more may be created.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn symlink(&mut self, layout: &mut Layout, path: &str, target: &str) -> Result<()> {
        let slot = self.slot(layout, path)?;
        symlinkat(target, &*slot.parent, slot.name()).map_err(|errno| taken(path, errno))?;
        let Some(Owner { uid, gid }) = self.owner else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(&*slot.parent, slot.name(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            .context(|| format!("cannot set the owner of {path:?}"))
    }

    /// Gives a directory its mode: in the end, since it may forbid to write.
    ///
    /// # Errors
    /// When it cannot be set.
    pub fn seal(&mut self, layout: &mut Layout, path: &str, mode: u32) -> Result<()> {
        self.directory(layout, path)?;
        settle(&*self.here(), mode, self.owner, path).map(drop)
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
    /// When it cannot be created, or something is there.
    pub fn create(&self, mode: u32) -> Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = openat(&*self.parent, self.name(), flags, permissions(mode));
        Ok(file.map_err(|errno| taken(&self.path, errno))?.into())
    }

    /// Appends to the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, mut file: &File, bytes: &[u8]) -> Result<()> {
        file.write_all(bytes).context(|| format!("cannot write {:?}", self.path))
    }

    /// Completes the file: its mode, its owner and its time, in seconds since the epoch.
    ///
    /// # Errors
    /// When one of them cannot be set.
    pub fn keep(&self, file: &File, mode: u32, mtime: Option<u64>) -> Result<()> {
        settle(file, mode, self.owner, &self.path)?;
        let Some(seconds) = mtime.and_then(|seconds| i64::try_from(seconds).ok()) else { return Ok(()) };
        let time = TimeSpec::new(seconds, 0);
        futimens(file, &time, &time).context(|| format!("cannot set the time of {:?}", self.path))
    }

    /// Removes the file again.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        unlinkat(&*self.parent, self.name(), UnlinkatFlags::NoRemoveDir)
            .context(|| format!("cannot remove {:?}", self.path))
    }

    /// What an installed release holds, to be shared.
    pub fn twins(&self) -> Option<&BaseRelease> {
        self.twins.as_deref()
    }

    /// The directory that it is going to be in.
    pub fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    /// Who gets it.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Where it stands in the archive.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its name in its directory.
    pub fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }
}

/// Sets mode and owner where they are not so by themselves. The owner comes first: a change of owner may take
/// permissions away.
fn settle(fd: impl AsFd, mode: u32, owner: Option<Owner>, path: &str) -> Result<()> {
    let has = |stat: &FileStat| stat.st_mode & 0o7777 == mode;
    let now = fstat(&fd).context(|| format!("cannot inspect {path:?}"))?;
    let foreign = owner.filter(|to| (to.uid, to.gid) != (now.st_uid, now.st_gid));
    if let Some(Owner { uid, gid }) = foreign {
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .context(|| format!("cannot set the owner of {path:?}"))?;
    }
    if foreign.is_none() && has(&now) {
        return Ok(());
    }
    fchmod(fd, permissions(mode)).context(|| format!("cannot set the mode of {path:?}"))
}

/// What is there already differs only in its letters' case: the rules let no name come twice.
fn taken(path: &str, errno: Errno) -> Error {
    match errno {
        Errno::EEXIST => violation(
            path.as_bytes(),
            "exists already under a name that this file system does not distinguish",
        ),
        other => Error::failed(cannot_create(path)).because(other),
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

fn cannot_create(path: &str) -> String {
    format!("cannot create {path:?}")
}
