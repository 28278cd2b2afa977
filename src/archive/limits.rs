//! How much an archive may unpack to.

use crate::error::{Error, Result};

/// Real releases have some ten thousand.
pub const ENTRIES_MAX: u64 = 1_000_000;

/// What an archive has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Files, directories and links.
    Entries,
    /// Bytes of disk.
    Bytes,
}

/// What a release may take, counted while it is read: an archive's own figures may be anything.
pub struct Limits<'a> {
    /// How many files, directories and links.
    pub entries: u64,
    /// How many bytes of disk.
    pub bytes: u64,
    /// The unit in which files take room, in bytes.
    pub block: u64,
    /// The bytes that each entry takes besides.
    pub each: u64,
    /// What is said of an archive that has more.
    pub refuse: &'a (dyn Fn(Excess) -> Error + Sync),
}

impl Limits<'_> {
    /// Admits so many entries and bytes.
    ///
    /// # Errors
    /// Refuses more than there may be.
    pub fn admit(&self, entries: u64, bytes: u64) -> Result<()> {
        if entries > self.entries {
            return Err((self.refuse)(Excess::Entries));
        }
        let bytes = entries.saturating_mul(self.each).saturating_add(bytes);
        if bytes > self.bytes { Err((self.refuse)(Excess::Bytes)) } else { Ok(()) }
    }

    /// The room that so many bytes of a file take.
    pub fn room(&self, bytes: u64) -> u64 {
        bytes.checked_next_multiple_of(self.block.max(1)).unwrap_or(u64::MAX)
    }
}
