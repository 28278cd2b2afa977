//! Files that an installed release holds already. A new release shares their blocks, or where that is allowed
//! the files themselves, instead of having them written once more.
//!
//! Which file may be the same is told by what was recorded; that it is the same, by reading it now.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use blake3::Hasher;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::linkat;
use rustix::fs::ioctl_ficlone;

use super::writer::FileSlot;
use crate::error::Result;
use crate::tree::{CHUNK, Node, Sum, TreeEntry};

/// The digest of a zip's packed data, and that of the file which it becomes.
pub type PackedSum = (Sum, Sum);

/// How a file is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Its blocks: whoever writes to one of the files leaves the other as it is.
    Blocks,
    /// The file itself, under another name: only for files that nobody writes to.
    Links,
}

/// Whether files on this file system can share their blocks, by trying it.
#[must_use]
pub fn can_share_blocks(from: &File, to: &File) -> bool {
    ioctl_ficlone(to, from).is_ok()
}

/// What an installed release holds.
#[derive(Debug)]
pub struct BaseRelease {
    release: OwnedFd,
    sharing: Sharing,
    files: HashMap<Sum, Twin>,
    /// What packed data becomes, by the digest of it.
    unpacked: HashMap<Sum, Sum>,
    /// Set once the file system turns out to be unable to.
    off: AtomicBool,
    shared: AtomicU64,
}

#[derive(Debug)]
struct Twin {
    path: String,
    size: u64,
}

impl BaseRelease {
    /// What is in the directory of a release, by what was recorded of it.
    #[must_use]
    pub fn new(release: OwnedFd, sharing: Sharing, tree: Vec<TreeEntry>, packed: Vec<PackedSum>) -> Self {
        let twin = |entry: TreeEntry| match entry.node {
            Node::File { size, sum } if size > 0 => Some((sum, Twin { path: entry.path, size })),
            _ => None,
        };
        let (files, unpacked) = (tree.into_iter().filter_map(twin).collect(), packed.into_iter().collect());
        Self { release, sharing, files, unpacked, off: AtomicBool::new(false), shared: AtomicU64::new(0) }
    }

    /// How they are shared.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The bytes that were shared.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.shared.load(Ordering::Relaxed)
    }

    /// What packed data becomes, where the release holds that.
    pub fn unpacked(&self, packed: &Sum) -> Option<Sum> {
        self.unpacked.get(packed).copied()
    }

    /// Brings a file with these contents about, where the release holds them; says whether it did.
    ///
    /// # Errors
    /// When the file cannot be created, or not completed.
    pub fn share(&self, sum: Sum, slot: &FileSlot, mode: u32, mtime: Option<u64>) -> Result<bool> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some((file, before)) = self.files.get(&sum).and_then(|twin| self.same(twin, sum)) else {
            return Ok(false);
        };
        let done = match self.sharing {
            Sharing::Blocks => self.clone_blocks(&file, &before, slot, mode, mtime)?,
            Sharing::Links => link(&file, &before, slot, mode),
        };
        if done {
            self.count(u64::try_from(before.st_size).unwrap_or_default());
        }
        Ok(done)
    }

    /// Creates a file as a clone of the one that the release has at this path, or below its first component,
    /// where that has the same size: only what differs needs to be written over it.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn clone_or_link(&self, slot: &FileSlot, mode: u32, size: u64) -> Result<Option<File>> {
        if self.sharing != Sharing::Blocks || self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let below = slot.path().split_once('/').map(|(_, below)| below);
        let candidates = below.into_iter().chain([slot.path()]);
        let fits = |stat: &FileStat| u64::try_from(stat.st_size) == Ok(size);
        let Some((from, _)) = candidates.filter_map(|path| self.open(path)).find(|(_, stat)| fits(stat))
        else {
            return Ok(None);
        };
        let file = slot.create(mode)?;
        let cloned = ioctl_ficlone(&file, &from).is_ok() && fstat(&file).is_ok_and(|stat| fits(&stat));
        if cloned { Ok(Some(file)) } else { slot.remove().map(|()| None) }
    }

    /// Counts bytes that were shared.
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
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        (kind == SFlag::S_IFREG).then_some((file, stat))
    }

    /// The file, where it is what was recorded, and its state before it was read.
    fn same(&self, twin: &Twin, sum: Sum) -> Option<(File, FileStat)> {
        let (mut file, before) = self.open(&twin.path)?;
        if u64::try_from(before.st_size) != Ok(twin.size) {
            return None;
        }
        let most = usize::try_from(twin.size).unwrap_or(CHUNK).min(CHUNK);
        let (mut buffer, mut hash) = (vec![0; most], Hasher::new());
        loop {
            match file.read(&mut buffer).ok()? {
                0 => break,
                n => hash.update(&buffer[..n]),
            };
        }
        (Sum::of(&hash) == sum).then_some((file, before))
    }

    fn clone_blocks(
        &self,
        from: &File,
        before: &FileStat,
        slot: &FileSlot,
        mode: u32,
        mtime: Option<u64>,
    ) -> Result<bool> {
        let file = slot.create(mode)?;
        let cloned = ioctl_ficlone(&file, from);
        if cloned.is_err() {
            self.off.store(true, Ordering::Relaxed);
        }
        if cloned.is_ok() && is_unchanged(from, before) {
            return slot.keep(&file, mode, mtime).map(|()| true);
        }
        slot.remove().map(|()| false)
    }
}

fn is_unchanged(file: &File, before: &FileStat) -> bool {
    let state = |s: &FileStat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    fstat(file).is_ok_and(|now| state(&now) == state(before))
}

/// Links the very file that was read, by its descriptor. Its mode and owner become the new file's as well, so
/// they must be what is asked for; its time is no matter.
fn link(file: &File, before: &FileStat, slot: &FileSlot, mode: u32) -> bool {
    let owned = slot.owner().is_none_or(|owner| (owner.uid, owner.gid) == (before.st_uid, before.st_gid));
    if before.st_mode & 0o7777 != mode || !owned {
        return false;
    }
    let this = format!("/proc/self/fd/{}", file.as_raw_fd());
    let linked = linkat(AT_FDCWD, this.as_str(), slot.parent(), slot.name(), AtFlags::AT_SYMLINK_FOLLOW);
    linked.is_ok()
}
