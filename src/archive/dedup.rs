//! Shares files of an installed release with a new release instead of writing them again: their blocks, or if allowed
//! the files themselves.
//!
//! The record tells which file may be identical. Reading the file again verifies that it is.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::linkat;
use rustix::fs::ioctl_ficlone;

use super::writer::FileSlot;
use crate::error::Result;
use crate::fs::{Owner, file_type};
use crate::tree::{CHUNK, Node, Sum, TreeEntry, hash};

/// The digest of a zip entry's packed data, and the digest of the unpacked file.
pub type PackedSum = (Sum, Sum);

/// The way a file is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// The files share blocks. Writing to one file does not change the other.
    Blocks,
    /// The file gets another name by a hard link. Only for files that are never written to.
    Links,
}

/// Returns whether files on this file system can share blocks, by trying it.
#[must_use]
pub fn can_share_blocks(from: &File, to: &File) -> bool {
    ioctl_ficlone(to, from).is_ok()
}

/// The files of an installed release that a new release may share.
#[derive(Debug)]
pub struct BaseRelease {
    release: OwnedFd,
    sharing: Sharing,
    files: HashMap<Sum, BaseFile>,
    /// The digests of unpacked files, by the digests of their packed data.
    unpacked: HashMap<Sum, Sum>,
    /// Set once the file system fails to share blocks.
    off: AtomicBool,
    shared: AtomicU64,
}

#[derive(Debug)]
struct BaseFile {
    path: String,
    size: u64,
}

impl BaseRelease {
    /// Returns the files in the directory of a release, according to its record.
    #[must_use]
    pub fn new(release: OwnedFd, sharing: Sharing, tree: Vec<TreeEntry>, packed: Vec<PackedSum>) -> Self {
        let file = |entry: TreeEntry| match entry.node {
            Node::File { size, sum } if size > 0 => Some((sum, BaseFile { path: entry.path, size })),
            _ => None,
        };
        let (files, unpacked) = (tree.into_iter().filter_map(file).collect(), packed.into_iter().collect());
        Self { release, sharing, files, unpacked, off: AtomicBool::new(false), shared: AtomicU64::new(0) }
    }

    /// Returns the way files are shared.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Returns the number of shared bytes.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// Returns the digest of the unpacked file, or `None` if the release does not have the packed data.
    pub fn unpacked(&self, packed: &Sum) -> Option<Sum> {
        self.unpacked.get(packed).copied()
    }

    /// Creates a file with the digest `sum` as a clone or a hard link, if the release has one. Returns whether it was
    /// created.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created or completed.
    pub fn clone_or_link(&self, sum: Sum, slot: &FileSlot) -> Result<bool> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some((file, before)) = self.files.get(&sum).and_then(|file| self.same(file, sum)) else {
            return Ok(false);
        };
        let done = match self.sharing {
            Sharing::Blocks => self.clone_blocks(&file, &before, slot)?,
            Sharing::Links => link(&file, &before, slot),
        };
        if done {
            self.count(u64::try_from(before.st_size).unwrap_or_default());
        }
        Ok(done)
    }

    /// Creates a file as a clone of the release's file at this path, or at this path without its first component.
    /// Returns `None` if neither has the same size. Only the data that differs must be written over the clone.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn clone_by_path(&self, slot: &FileSlot, size: u64) -> Result<Option<File>> {
        if self.sharing != Sharing::Blocks || self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let below = slot.path.split_once('/').map(|(_, below)| below);
        let candidates = below.into_iter().chain([slot.path.as_str()]);
        let fits = |stat: &FileStat| u64::try_from(stat.st_size) == Ok(size);
        let Some((from, _)) = candidates.filter_map(|path| self.open(path)).find(|(_, stat)| fits(stat))
        else {
            return Ok(None);
        };
        let file = slot.create()?;
        let cloned = ioctl_ficlone(&file, &from).is_ok() && fstat(&file).is_ok_and(|stat| fits(&stat));
        if cloned { Ok(Some(file)) } else { slot.remove().map(|()| None) }
    }

    /// Adds to the number of shared bytes.
    pub fn count(&self, bytes: u64) {
        self.shared.fetch_add(bytes, Ordering::Relaxed);
    }

    fn open(&self, path: &str) -> Option<(File, FileStat)> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let file = File::from(openat2(&self.release, path, how).ok()?);
        let stat = fstat(&file).ok()?;
        (file_type(&stat) == SFlag::S_IFREG).then_some((file, stat))
    }

    /// Returns the file and its status before it was read, or `None` if it does not match its record.
    fn same(&self, recorded: &BaseFile, sum: Sum) -> Option<(File, FileStat)> {
        let (mut file, before) = self.open(&recorded.path)?;
        if u64::try_from(before.st_size) != Ok(recorded.size) {
            return None;
        }
        let most = usize::try_from(recorded.size).unwrap_or(CHUNK).min(CHUNK);
        let (_, found) = hash(&mut file, most, &mut |_| Ok(())).ok()?;
        (found == sum).then_some((file, before))
    }

    fn clone_blocks(&self, from: &File, before: &FileStat, slot: &FileSlot) -> Result<bool> {
        let file = slot.create()?;
        let cloned = ioctl_ficlone(&file, from);
        if cloned.is_err() {
            self.off.store(true, Ordering::Relaxed);
        }
        if cloned.is_ok() && is_unchanged(from, before) {
            return slot.keep(&file).map(|()| true);
        }
        slot.remove().map(|()| false)
    }
}

fn is_unchanged(file: &File, before: &FileStat) -> bool {
    let state = |s: &FileStat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    fstat(file).is_ok_and(|now| state(&now) == state(before))
}

/// Links exactly the file that was read, by its descriptor. The link has the same mode and owner, so they must match.
/// Its time may differ.
fn link(file: &File, before: &FileStat, slot: &FileSlot) -> bool {
    let owned = slot.owner.is_none_or(|owner| owner == Owner::of(before));
    if before.st_mode & 0o7777 != slot.mode || !owned {
        return false;
    }
    let this = format!("/proc/self/fd/{}", file.as_raw_fd());
    let linked = linkat(AT_FDCWD, this.as_str(), &*slot.parent, slot.name(), AtFlags::AT_SYMLINK_FOLLOW);
    linked.is_ok()
}
