//! Measures the free space on a file system and the size of a tree.

use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::Result;

use super::DirPath;
use super::dir_path::{ErrnoContext, LIST};
use super::read::open_dir;
use super::walk::{WalkEntry, file_type, walk, walk_in};

/// The space on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// The bytes that are available to an ordinary user.
    pub bytes: u64,
    /// The total size in bytes.
    pub size: u64,
    /// The number of files that can still be created; `None` if the file system sets no limit.
    pub files: Option<u64>,
    /// The unit in which files take space, in bytes.
    pub block: u64,
}

/// Returns the space on the file system that holds a directory.
///
/// # Errors
/// Returns an error if the system does not provide the numbers.
pub fn free(dir: &DirPath) -> Result<Free> {
    let stat = dir.open_fd(LIST).and_then(fstatvfs);
    let stat = stat.tell(|| format!("cannot determine the free space on {}", dir.display()))?;
    let unit = stat.fragment_size().max(1);
    Ok(Free {
        bytes: stat.blocks_available().saturating_mul(unit),
        size: stat.blocks().saturating_mul(unit),
        files: (stat.files() > 0).then(|| stat.files_available()),
        block: unit,
    })
}

/// Returns whether the file system that holds a directory is read-only.
#[must_use]
pub fn is_read_only(dir: &DirPath) -> bool {
    let stat = dir.open_fd(LIST).and_then(fstatvfs);
    stat.is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY))
}

/// Returns the size of a tree or file in bytes, for display, or 0 if it cannot be read. Does not follow symlinks.
#[must_use]
pub fn size(place: &DirPath) -> u64 {
    let is_dir = |found: &WalkEntry<'_>| found.kind() == SFlag::S_IFDIR;
    let mut bytes = 0;
    let walked = open_dir(place).and_then(|dir| {
        walk_in(dir, place.path(), &mut |found| {
            bytes += if is_dir(found) { 0 } else { length(&found.stat) };
            Ok(())
        })
    });
    match (walked, place.open_fd(OFlag::O_PATH).and_then(fstat)) {
        (Err(_), Ok(stat)) if file_type(&stat) != SFlag::S_IFDIR => length(&stat),
        (walked, _) => walked.map_or(0, |()| bytes),
    }
}

pub(super) fn length(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Returns the space that a copy of a tree takes if files take whole blocks: the bytes, and the number of files and
/// directories.
///
/// # Errors
/// Returns an error if the tree cannot be read.
pub fn weigh(dir: &Path, block: u64) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (block, 1);
    walk(dir, &mut |found| {
        let is_file = found.kind() == SFlag::S_IFREG;
        files += 1;
        bytes += if is_file { length(&found.stat).next_multiple_of(block) } else { block };
        Ok(())
    })?;
    Ok((bytes, files))
}
