//! One entry of an archive, of whatever format.

use super::path::{EntryPath, Name, link_target, shown, violation};
use crate::error::Result;

/// What of an archive's permission bits is kept: no setuid, setgid and sticky, no writing by group and others.
pub const MODE_MASK: u32 = 0o755;

/// What a format says about an entry, not yet trusted.
pub struct RawEntry<'a> {
    pub name: &'a [u8],
    pub shape: EntryType,
    /// Where a link leads; empty for all else.
    pub target: &'a [u8],
    /// The bytes of data that follow.
    pub size: u64,
    pub mode: u32,
    /// Seconds since the epoch.
    pub mtime: Option<u64>,
}

/// The kinds of entries that may stand in a release.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EntryType {
    Directory,
    File,
    Symlink,
    Hardlink,
    /// None of these, in words that follow the name.
    Unfit(&'static str),
}

/// An entry that is sound by itself; whether it fits the others is for the inspector to say.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: EntryPath,
    /// The permission bits that it gets.
    pub mode: u32,
    pub mtime: Option<u64>,
    pub kind: EntryKind,
}

/// What an entry becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File { size: u64 },
    Symlink { target: String },
    Hardlink { first: EntryPath },
}

impl Entry {
    /// Parses what a format says.
    ///
    /// # Errors
    /// Refuses unsafe names and targets, data where none belongs, and a name that contradicts the kind.
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
