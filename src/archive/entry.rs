//! Validates one entry of an archive of any format.

use super::path::{EntryPath, Name, link_target, shown, violation};
use crate::error::Result;

/// The permission bits that are kept: no setuid, setgid and sticky, no write permission for group and others.
pub const MODE_MASK: u32 = 0o755;

/// An entry as its format describes it, not validated.
pub struct RawEntry<'a> {
    pub name: &'a [u8],
    pub shape: EntryType,
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

/// A valid entry. The inspector checks it against the other entries.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: EntryPath,
    /// The permission bits of the unpacked entry.
    pub mode: u32,
    pub mtime: Option<u64>,
    pub kind: EntryKind,
}

/// The file system object that an entry becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File { size: u64 },
    Symlink { target: String },
    Hardlink { first: EntryPath },
}

impl Entry {
    /// Parses and validates a raw entry.
    ///
    /// # Errors
    /// Returns a `Refused` error if the type, name or target is not allowed, the name contradicts the type, or an
    /// entry other than a file has data.
    pub fn parse(raw: &RawEntry<'_>) -> Result<Self> {
        if let EntryType::Unfit(why) = raw.shape {
            return Err(violation(raw.name, why));
        }
        let Name { path, slash } = Name::parse(raw.name)?;
        if slash && raw.shape != EntryType::Directory {
            return Err(violation(raw.name, "has the name of a directory but is not one"));
        }
        if raw.size > 0 && raw.shape != EntryType::File {
            return Err(violation(raw.name, "contains data but is not a file"));
        }
        let kind = match raw.shape {
            EntryType::File => EntryKind::File { size: raw.size },
            EntryType::Symlink => EntryKind::Symlink { target: link_target(raw.name, raw.target)? },
            EntryType::Hardlink => EntryKind::Hardlink { first: hardlinked(raw)? },
            EntryType::Directory | EntryType::Unfit(_) => EntryKind::Directory,
        };
        Ok(Self { path, mode: raw.mode & MODE_MASK, mtime: raw.mtime, kind })
    }
}

fn hardlinked(raw: &RawEntry<'_>) -> Result<EntryPath> {
    match Name::parse(raw.target) {
        Ok(Name { path, slash: false }) => Ok(path),
        _ => Err(violation(
            raw.name,
            format!("is a hard link to {}, which is not a file in the archive", shown(raw.target)),
        )),
    }
}
