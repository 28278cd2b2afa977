//! Limits how much an archive may unpack to.

use crate::error::{Error, Result};

/// The default maximum number of entries. Real releases have about ten thousand.
pub const ENTRIES_MAX: u64 = 1_000_000;

/// The limit that an archive exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The number of files, directories and links.
    Entries,
    /// The disk space in bytes.
    Bytes,
}

/// The limits of a release. Its size is counted while it is read: an archive's own totals may be wrong.
pub struct Limits<'a> {
    /// The maximum number of files, directories and links.
    pub entries: u64,
    /// The maximum disk space, in bytes.
    pub bytes: u64,
    /// The unit in which files take disk space, in bytes.
    pub block: u64,
    /// The additional bytes that each entry takes.
    pub each: u64,
    /// The function that makes the error for an exceeded limit.
    pub refuse: &'a (dyn Fn(Excess) -> Error + Sync),
}

impl Limits<'_> {
    /// Checks these totals of entries and bytes.
    ///
    /// # Errors
    /// Returns the error of `refuse` if a total exceeds its limit.
    pub fn admit(&self, entries: u64, bytes: u64) -> Result<()> {
        if entries > self.entries {
            return Err((self.refuse)(Excess::Entries));
        }
        let bytes = entries.saturating_mul(self.each).saturating_add(bytes);
        if bytes > self.bytes { Err((self.refuse)(Excess::Bytes)) } else { Ok(()) }
    }

    /// Returns the disk space that so many bytes of a file take.
    pub fn room(&self, bytes: u64) -> u64 {
        bytes.checked_next_multiple_of(self.block.max(1)).unwrap_or(u64::MAX)
    }
}
