//! How much room a file system has.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::error::{Doing, Result};

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Bytes that an ordinary user may still take.
    pub bytes: u64,
    /// Bytes in all.
    pub size: u64,
    /// Files that can still be made; none where the file system sets no limit.
    pub files: Option<u64>,
    /// The unit in which files take room, in bytes.
    pub block: u64,
}

/// Looks up the room on the file system that holds `path`.
///
/// # Errors
/// Where the system does not tell.
pub fn free(path: &Path) -> Result<Free> {
    let stat = statvfs(path).doing(|| format!("cannot tell the free space on {}", path.display()))?;
    let unit = stat.fragment_size().max(1);
    Ok(Free {
        bytes: stat.blocks_available().saturating_mul(unit),
        size: stat.blocks().saturating_mul(unit),
        files: (stat.files() > 0).then(|| stat.files_available()),
        block: unit,
    })
}

/// The bytes in a tree, for people to read; links are not followed, and what cannot be read counts nothing.
#[must_use]
pub fn size(path: &Path) -> u64 {
    fs_extra::dir::get_size(path).unwrap_or(0)
}

/// The room that a copy of a tree takes where files take whole blocks: bytes, and the number of files.
///
/// # Errors
/// Where the tree cannot be read.
pub fn weigh(dir: &Path, block: u64) -> Result<(u64, u64)> {
    let (mut bytes, mut files, mut left) = (block, 1, vec![dir.to_owned()]);
    while let Some(dir) = left.pop() {
        let doing = || format!("cannot read {}", dir.display());
        for entry in fs::read_dir(&dir).doing(doing)? {
            let entry = entry.doing(doing)?;
            let meta = entry.metadata().doing(doing)?;
            files += 1;
            bytes += if meta.is_file() { meta.len().next_multiple_of(block) } else { block };
            if meta.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Ok((bytes, files))
}
