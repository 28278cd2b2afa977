//! What stands where in a release while it is read: the one copy of its names, so that memory is bounded.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tree::{Node, Sum, TreeEntry};

/// Bounds the memory that names and link targets take, in bytes.
const TEXT_MAX: usize = 64 << 20;

/// The mode of the release's own directory, and of those that an archive implies without naming them.
pub const DIRECTORY_MODE: u32 = 0o755;

/// The files, directories and links of an archive, by path.
#[derive(Debug, Default)]
pub struct Layout {
    nodes: BTreeMap<Box<str>, PathUse>,
    text: usize,
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum PathUse {
    /// A directory, and whether it is on disk.
    Directory { mode: u32, made: bool },
    /// A file; its sum is known once its data went through.
    File { mode: u32, size: u64, sum: Sum },
    /// Another name of the file at that path.
    Hardlink { first: Box<str> },
    /// A symbolic link.
    Symlink { target: Box<str> },
}

impl PathUse {
    /// A directory that nothing was said about.
    pub const DIRECTORY: Self = Self::Directory { mode: DIRECTORY_MODE, made: false };

    /// A file that has still to be read.
    pub fn file(mode: u32, size: u64) -> Self {
        Self::File { mode, size, sum: Sum::default() }
    }

    /// Whether it is a file, by whichever of its names.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Hardlink { .. })
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

impl Layout {
    /// What stands at a path.
    pub fn get(&self, path: &str) -> Option<&PathUse> {
        self.nodes.get(path)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, path: &str) -> Option<&mut PathUse> {
        self.nodes.get_mut(path)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// All of them, sorted by path.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &PathUse)> {
        self.nodes.iter().map(|(path, place)| (&**path, place))
    }

    /// Puts something where nothing stands.
    ///
    /// # Errors
    /// Refuses more names than memory is for.
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

    /// The file that a path names, where its first name stands.
    pub fn first_name<'a>(&'a self, path: &'a str) -> &'a str {
        match self.get(path) {
            Some(PathUse::Hardlink { first }) => first,
            _ => path,
        }
    }

    /// What the release consists of below the directory `top`, sorted by path.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_without_limit() {
        let mut layout = Layout { text: TEXT_MAX - 2, ..Layout::default() };
        layout.insert("a", PathUse::DIRECTORY).unwrap();
        let error = layout.insert("b", PathUse::Symlink { target: "c".into() }).unwrap_err();
        assert!(error.to_string().contains("longer than 64 MiB"), "{error}");
    }
}
