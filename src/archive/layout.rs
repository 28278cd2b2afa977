//! Records the entries of a release while it is read, and summarizes them. It holds the only copy of the names, to bound
//! memory.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tree::{Node, Sum, TreeEntry};

/// The maximum length of all names and link targets, in bytes, to bound memory.
const TEXT_MAX: usize = 64 << 20;

/// The mode of the release's own directory and of implied directories, which have no entry.
pub const DIRECTORY_MODE: u32 = 0o755;

/// The files, directories and links of an archive, by path.
#[derive(Debug, Default)]
pub struct Layout {
    nodes: BTreeMap<Box<str>, PathUse>,
    text: usize,
}

/// The entry at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathUse {
    /// A directory. `made` is true once it exists on disk.
    Directory { mode: u32, made: bool },
    /// A file. Its `sum` is set once its data is complete.
    File { mode: u32, size: u64, sum: Sum },
    /// Another name of the file at the path `first`.
    Hardlink { first: Box<str> },
    /// A symlink.
    Symlink { target: Box<str> },
}

impl PathUse {
    /// An implied directory.
    pub const DIRECTORY: Self = Self::Directory { mode: DIRECTORY_MODE, made: false };

    /// Returns whether the entry is a file or a hard link to a file.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Hardlink { .. })
    }

    /// Returns whether the entry is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

impl Layout {
    /// Returns the entry at a path, or `None` if the path is unused.
    pub fn get(&self, path: &str) -> Option<&PathUse> {
        self.nodes.get(path)
    }

    /// Returns the entry at a path for modification, or `None` if the path is unused.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut PathUse> {
        self.nodes.get_mut(path)
    }

    /// Returns the number of entries.
    pub fn count(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// Returns all entries, sorted by path.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &PathUse)> {
        self.nodes.iter().map(|(path, place)| (&**path, place))
    }

    /// Inserts an entry at an unused path.
    ///
    /// # Errors
    /// Returns a `Refused` error if the names are too long in total.
    pub fn insert(&mut self, path: &str, place: PathUse) -> Result<()> {
        self.text += path.len()
            + match &place {
                PathUse::Symlink { target: text } | PathUse::Hardlink { first: text } => text.len(),
                _ => 0,
            };
        if self.text > TEXT_MAX {
            return Err(Error::refused("the names in the archive are longer than 64 MiB together"));
        }
        self.nodes.insert(path.into(), place);
        Ok(())
    }

    /// Returns the first name of the file at a path, which differs from `path` for a hard link.
    pub fn first_name<'a>(&'a self, path: &'a str) -> &'a str {
        match self.get(path) {
            Some(PathUse::Hardlink { first }) => first,
            _ => path,
        }
    }

    /// Returns the entries below the directory `top`, or all entries if it is `None`, sorted by path.
    pub fn entries(&self, top: Option<&str>) -> impl Iterator<Item = TreeEntry> {
        let skip = top.map_or(0, |top| top.len() + 1);
        self.iter().filter_map(move |(path, place)| {
            let path = path.get(skip..).filter(|path| !path.is_empty())?.to_owned();
            let (mode, node) = self.recorded(place);
            Some(TreeEntry { path, mode, node })
        })
    }

    fn recorded(&self, place: &PathUse) -> (u32, Node) {
        match place {
            PathUse::Directory { mode, .. } => (*mode, Node::Directory),
            PathUse::File { mode, size, sum } => (*mode, Node::File { size: *size, sum: *sum }),
            PathUse::Symlink { target } => (0, Node::Symlink { target: target.to_string() }),
            PathUse::Hardlink { first } => {
                self.get(first).map_or((0, Node::Other), |file| self.recorded(file))
            }
        }
    }
}

/// A summary of a valid archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The top directory, which contains all entries and is not part of the release; `None` if there is none.
    pub top: Option<String>,
    /// The text of the release's manifest; `None` if there is none.
    pub manifest: Option<String>,
    entries: u64,
    sizes: Vec<u64>,
}

impl Survey {
    /// Returns the summary of the entries in `layout`.
    pub(super) fn new(layout: &Layout, manifest: Option<String>, top: Option<String>) -> Self {
        let size = |(_, place): (&str, &PathUse)| match place {
            PathUse::File { size, .. } => Some(*size),
            _ => None,
        };
        let sizes = layout.iter().filter_map(size).collect();
        Self { entries: layout.count() - u64::from(top.is_some()), top, manifest, sizes }
    }

    /// Returns the number of files, directories and links in the release, including implied directories.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns the length of all files together, in bytes. A file with hard links counts once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sizes.iter().fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// Returns the disk space in bytes for this block size: whole blocks for each file, one block for each other
    /// entry.
    #[must_use]
    pub fn space(&self, block: u64) -> u64 {
        let block = block.max(1);
        let others = self.entries.saturating_sub(self.sizes.len() as u64);
        let blocks = self.sizes.iter().fold(others, |sum, size| sum.saturating_add(size.div_ceil(block)));
        blocks.saturating_mul(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_total_limit() {
        let mut layout = Layout { text: TEXT_MAX - 2, ..Layout::default() };
        layout.insert("a", PathUse::DIRECTORY).unwrap();
        let error = layout.insert("b", PathUse::Symlink { target: "c".into() }).unwrap_err();
        assert!(error.to_string().contains("longer than 64 MiB"), "{error}");
    }
}
