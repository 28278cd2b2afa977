//! What an archive holds, known before anything is written.

use super::content::Content;
use super::entry::{Entry, EntryKind};
use super::inspect::Verdict;
use super::path::{Checked, breach};
use crate::error::Result;

/// The manifest's name at the top of a release.
const MANIFEST: &str = "release.toml";
/// The longest manifest that is read.
const MANIFEST_MAX: u64 = 64 * 1024;

/// A sound archive in figures.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The directory that everything lies in, and that is left out of the release.
    pub top: Option<String>,
    /// The text of the release's manifest.
    pub manifest: Option<String>,
    entries: u64,
    sizes: Vec<u64>,
}

impl Survey {
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

/// Collects a survey.
///
/// Whether everything lies in one directory is known only in the end, so two manifests may be held until then:
/// the one at the top, and the first that lies one directory deeper.
#[derive(Default)]
pub struct Surveyor {
    sizes: Vec<u64>,
    manifest: Option<Found>,
    nested: Option<(String, Found)>,
}

/// A manifest, or why it cannot be one.
type Found = Checked<Vec<u8>>;

impl Surveyor {
    /// Notes one entry, and reads its data only if it may be the manifest.
    ///
    /// # Errors
    /// When the data cannot be read.
    pub fn take(&mut self, entry: &Entry, content: &mut Content<'_, '_>) -> Result<()> {
        if let EntryKind::File { size } = entry.kind {
            self.sizes.push(size);
        }
        match entry.path.as_str().split_once('/') {
            None if entry.path.as_str() == MANIFEST => self.manifest = Some(read(entry, content)?),
            Some((top, MANIFEST)) if self.nested.is_none() => {
                self.nested = Some((top.to_owned(), read(entry, content)?));
            }
            _ => {}
        }
        Ok(())
    }

    /// The survey of an archive that was found sound.
    ///
    /// # Errors
    /// Refuses a manifest that is no short text.
    pub fn finish(self, verdict: Verdict) -> Result<Survey> {
        let found = match &verdict.top {
            Some(top) => self.nested.filter(|(dir, _)| dir == top).map(|(_, found)| found),
            None => self.manifest,
        };
        let text = found.map(|found| String::from_utf8(found?).map_err(|_| "is not UTF-8")).transpose();
        let manifest = text.map_err(|why| breach(MANIFEST.as_bytes(), why))?;
        Ok(Survey { top: verdict.top, manifest, entries: verdict.entries, sizes: self.sizes })
    }
}

fn read(entry: &Entry, content: &mut Content<'_, '_>) -> Result<Found> {
    match entry.kind {
        EntryKind::File { size } if size <= MANIFEST_MAX => {
            let mut text = Vec::new();
            content.each(&mut |bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            })?;
            Ok(Ok(text))
        }
        EntryKind::File { .. } => Ok(Err("is longer than 64 KiB")),
        _ => Ok(Err("is no plain file")),
    }
}
