//! Summarizes an archive: its counts, sizes and manifest.

use super::entry::{Entry, EntryKind};
use super::layout::{Layout, PathUse};
use super::path::{EntryResult, violation};
use crate::error::Result;
use crate::manifest::MANIFEST;

/// The maximum length of a manifest, in bytes.
const MANIFEST_MAX: u64 = 64 * 1024;

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

/// The candidates for the manifest. Only at the end is it known whether there is a top directory. Until then two are
/// kept: the one at the top, and the first one that is one directory deeper.
#[derive(Default)]
pub struct Manifests {
    at_top: Option<ManifestText>,
    nested: Option<(String, ManifestText)>,
}

/// The text of a manifest as far as it was read, or why it cannot be one.
type ManifestText = EntryResult<Vec<u8>>;

impl Manifests {
    /// Notes an entry, and returns whether its text must be captured.
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

    /// Stores the captured text of an entry.
    pub fn put(&mut self, path: &str, text: Vec<u8>) {
        match (path.split_once('/'), &mut self.nested) {
            (None, _) => self.at_top = Some(Ok(text)),
            (Some((top, _)), Some((dir, found))) if *dir == top => *found = Ok(text),
            _ => {}
        }
    }

    /// Returns the manifest of the release, or `None` if it has none. The release is the directory `top`, or else the
    /// whole archive.
    ///
    /// # Errors
    /// Returns a `Refused` error if the manifest is not a regular file, is too long, or is not UTF-8.
    pub fn of(self, top: Option<&str>) -> Result<Option<String>> {
        let found = match top {
            Some(top) => self.nested.filter(|(dir, _)| dir == top).map(|(_, found)| found),
            None => self.at_top,
        };
        let text = found.map(|found| String::from_utf8(found?).map_err(|_| "is not UTF-8")).transpose();
        text.map_err(|why| violation(MANIFEST.as_bytes(), why))
    }
}
