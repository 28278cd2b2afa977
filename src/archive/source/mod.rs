//! Reads entries from archives of each format, and from directories.

pub mod dir;
pub mod tar;
pub mod zip;
mod zip_directory;
mod zip_record;

/// An entry as its format describes it, not validated.
pub struct RawEntry<'a> {
    pub name: &'a [u8],
    pub kind: EntryType,
    /// The target of a symlink or hard link; empty for other types.
    pub target: &'a [u8],
    /// The length of the data that follows, in bytes.
    pub size: u64,
    pub mode: u32,
    /// The modification time, in seconds since the epoch.
    pub mtime: Option<u64>,
}

/// The type of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EntryType {
    Directory,
    File,
    Symlink,
    Hardlink,
    /// A type that is not allowed. The text follows the entry's name in a message.
    Unfit(&'static str),
}
