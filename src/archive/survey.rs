//! What an archive holds, in figures, and the manifest in it.

use super::entry::{Entry, EntryKind};
use super::layout::{Layout, PathUse};
use super::path::{EntryResult, violation};
use crate::error::Result;
use crate::manifest::MANIFEST;

/// The longest manifest that is read, in bytes.
const MANIFEST_MAX: u64 = 64 * 1024;

/// A sound archive in figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The directory that everything lies in, and that is left out of the release.
    pub top: Option<String>,
    /// The text of the release's manifest.
    pub manifest: Option<String>,
    entries: u64,
    sizes: Vec<u64>,
}

impl Survey {
    /// The figures of what was read.
    pub(super) fn new(layout: &Layout, manifest: Option<String>, top: Option<String>) -> Self {
        let size = |(_, place): (&str, &PathUse)| match place {
            PathUse::File { size, .. } => Some(*size),
            _ => None,
        };
        let sizes = layout.iter().filter_map(size).collect();
        Self { entries: layout.count() - u64::from(top.is_some()), top, manifest, sizes }
    }

    /// How many files, directories and links the release has, directories that are only implied included.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// How many bytes its files have together, those of hard links once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sizes.iter().fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// How many bytes it takes on a disk of such blocks: whole blocks for each file, and one for all else.
    #[must_use]
    pub fn space(&self, block: u64) -> u64 {
        let block = block.max(1);
        let others = self.entries.saturating_sub(self.sizes.len() as u64);
        let blocks = self.sizes.iter().fold(others, |sum, size| sum.saturating_add(size.div_ceil(block)));
        blocks.saturating_mul(block)
    }
}

/// What may be the manifest. Whether everything lies in one directory is known only in the end, so two are
/// held until then: the one at the top, and the first that lies one directory deeper.
#[derive(Default)]
pub struct Manifests {
    at_top: Option<ManifestText>,
    nested: Option<(String, ManifestText)>,
}

/// A manifest's text, as far as it was read, or why it cannot be one.
type ManifestText = EntryResult<Vec<u8>>;

impl Manifests {
    /// Notes one entry, and says whether its text is wanted.
    pub fn note(&mut self, entry: &Entry) -> bool {
        let found = match entry.kind {
            EntryKind::File { size } if size <= MANIFEST_MAX => Ok(Vec::new()),
            EntryKind::File { .. } => Err("is longer than 64 KiB"),
            _ => Err("is not a regular file"),
        };
        let wanted = found.is_ok();
        match entry.path.as_str().split_once('/') {
            None if entry.path.as_str() == MANIFEST => self.at_top = Some(found),
            Some((top, MANIFEST)) if self.nested.is_none() => self.nested = Some((top.to_owned(), found)),
            _ => return false,
        }
        wanted
    }

    /// Takes the text of one that was wanted.
    pub fn put(&mut self, path: &str, text: Vec<u8>) {
        match (path.split_once('/'), &mut self.nested) {
            (None, _) => self.at_top = Some(Ok(text)),
            (Some((top, _)), Some((dir, found))) if *dir == top => *found = Ok(text),
            _ => {}
        }
    }

    /// The manifest of the release, whose top is the directory `top` or else that of the archive.
    ///
    /// # Errors
    /// Refuses one that is no short text.
    pub fn of(self, top: Option<&str>) -> Result<Option<String>> {
        let found = match top {
            Some(top) => self.nested.filter(|(dir, _)| dir == top).map(|(_, found)| found),
            None => self.at_top,
        };
        let text = found.map(|found| String::from_utf8(found?).map_err(|_| "is not UTF-8")).transpose();
        text.map_err(|why| violation(MANIFEST.as_bytes(), why))
    }
}
