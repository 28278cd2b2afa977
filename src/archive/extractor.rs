//! Processes an archive entry by entry: applies the rules, writes admitted entries, and returns the result.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::dedup::{BaseRelease, PackedSum};
use super::inspector::Inspector;
use super::layout::{Layout, PathUse, Survey};
use super::lint_report::{LintReport, Notes};
use super::rules::{Entry, EntryResult, Limits, violation};
use super::source::RawEntry;
use super::unpack::{Captured, PendingFile, WrittenFile};
use super::writer::Writer;
use crate::error::{Error, Kind, Result};
use crate::fs::Owner;
use crate::manifest::MANIFEST;
use crate::tree::TreeEntry;

/// The minimum size that is counted for an extension, in bytes: its header and one block of data.
const EXTENSION_MIN: u64 = 1 << 10;

/// The maximum number of packed-data digests, to bound the memory. Releases have far fewer files.
const PACKED_MAX: usize = 200_000;

/// The maximum length of a manifest, in bytes.
const MANIFEST_MAX: u64 = 64 * 1024;

/// The directory that an archive is unpacked into.
#[derive(Clone)]
pub struct Target<'a> {
    /// An empty directory that no other user can enter, open for reading.
    pub dir: BorrowedFd<'a>,
    /// The owner of everything that is written; `None` keeps this process's user.
    pub owner: Option<Owner>,
    /// The installed release whose files are shared instead of written; `None` shares nothing.
    pub twins: Option<Arc<BaseRelease>>,
}

/// The result of reading a valid archive.
#[derive(Debug)]
pub struct Reading {
    /// The SHA-256 of the archive file, in lowercase hex.
    pub sha256: String,
    /// The summary of the archive.
    pub survey: Survey,
    layout: Layout,
    packed: Vec<PackedSum>,
}

impl Reading {
    /// Returns the digests of packed data, each with the digest of its file; for deflated files of zips only.
    pub fn packed(&self) -> &[PackedSum] {
        &self.packed
    }

    /// Returns the entries of the release, sorted by path.
    pub fn tree(&self) -> impl Iterator<Item = TreeEntry> {
        self.layout.entries(self.survey.top.as_deref())
    }
}

/// The contents of a valid archive.
#[derive(Debug)]
pub struct Inspected {
    /// The result of the reading.
    pub reading: Reading,
    /// The error for an exceeded limit, because of which the archive was inspected but not unpacked; `None` if there
    /// is none.
    pub excess: Option<Error>,
}

/// The state of an archive that is being processed.
pub struct Extractor<'a> {
    inspector: Inspector,
    /// `None` if the archive is only inspected.
    writer: Option<Writer>,
    /// The installed release to share with; `None` shares nothing.
    base: Option<Arc<BaseRelease>>,
    limits: &'a Limits<'a>,
    /// The limits for inspecting an archive that exceeds `limits`. If `None`, such an archive is refused at once.
    beyond: Option<&'a Limits<'a>>,
    excess: Option<Error>,
    manifests: Manifests,
    /// The findings, if violations are noted instead of refused.
    notes: Option<Notes>,
    entries: u64,
    files: u64,
    /// The disk space of the files, in bytes.
    bytes: u64,
    packed: Vec<PackedSum>,
    /// The size of all extensions, in bytes.
    extensions: u64,
}

impl<'a> Extractor<'a> {
    /// Returns an extractor that refuses violations. Without a target, it writes nothing.
    ///
    /// # Errors
    /// Returns an error if no more files can be opened.
    pub fn new(target: Option<Target<'_>>, limits: &'a Limits<'a>) -> Result<Self> {
        let mut extractor = Self::inspecting(limits);
        if let Some(Target { dir, owner, twins }) = target {
            (extractor.writer, extractor.base) = (Some(Writer::new(dir, owner)?), twins);
        }
        Ok(extractor)
    }

    fn inspecting(limits: &'a Limits<'a>) -> Self {
        Self {
            inspector: Inspector::default(),
            writer: None,
            base: None,
            limits,
            beyond: None,
            excess: None,
            manifests: Manifests::default(),
            notes: None,
            entries: 0,
            files: 0,
            bytes: 0,
            packed: Vec::new(),
            extensions: 0,
        }
    }

    /// Returns an extractor that writes nothing, and notes violations instead of refusing them.
    pub fn noting(limits: &'a Limits<'a>) -> Self {
        Self { notes: Some(Notes::default()), ..Self::inspecting(limits) }
    }

    /// Inspects an archive that exceeds the limits up to the limits `beyond`, instead of refusing it at once. Nothing
    /// more of it is written.
    pub fn and_beyond(self, beyond: &'a Limits<'a>) -> Self {
        Self { beyond: Some(beyond), ..self }
    }

    /// Checks these totals against the limits.
    fn within(&mut self, entries: u64, bytes: u64) -> Result<()> {
        let Some(beyond) = self.beyond else { return self.limits.admit(entries, bytes) };
        if self.excess.is_none()
            && let Err(excess) = self.limits.admit(entries, bytes)
        {
            (self.excess, self.writer) = (Some(excess), None);
        }
        beyond.admit(entries, bytes)
    }

    /// Checks an announced number of entries before any of them is read.
    ///
    /// # Errors
    /// Returns a `Refused` error if there are too many.
    pub fn expect(&mut self, entries: u64) -> Result<()> {
        self.within(entries, 0)
    }

    /// Counts an extension of one or all entries. It takes no disk space, but must be read.
    ///
    /// # Errors
    /// Returns a `Refused` error if the extensions exceed the limit for written bytes.
    pub fn extension(&mut self, size: u64) -> Result<()> {
        self.extensions = self.extensions.saturating_add(size.max(EXTENSION_MIN));
        self.within(0, self.extensions)
    }

    /// Admits an entry and creates its directories; [`Self::finish`] creates links. The caller must write a file's
    /// data to the returned [`PendingFile`], or skip the data if the result is `None`.
    ///
    /// # Errors
    /// Returns a `Refused` error if the entry breaks a rule, unless violations are noted. Returns an error if the
    /// entry cannot be written.
    pub fn admit(&mut self, raw: &RawEntry<'_>) -> Result<Option<PendingFile>> {
        let parsed = Entry::parse(raw).and_then(|entry| {
            self.count(&entry)?;
            self.inspector.admit(&entry)?;
            Ok(entry)
        });
        match (parsed, &mut self.notes) {
            (Ok(entry), notes) => {
                notes.iter_mut().for_each(|notes| notes.admitted(raw, &entry));
                self.write(&entry)
            }
            (Err(error), Some(notes)) if error.kind() == Kind::Refused => notes.violation(raw, error),
            (Err(error), _) => Err(error),
        }
    }

    fn write(&mut self, entry: &Entry) -> Result<Option<PendingFile>> {
        let path = entry.path.as_str();
        let wanted = match (self.manifests.note(entry), &self.notes) {
            (true, _) => Captured::Text,
            (false, Some(_)) => Captured::FileMagic,
            (false, None) => Captured::Nothing,
        };
        let layout = &mut self.inspector.layout;
        match (&entry.node, &mut self.writer) {
            (PathUse::File { mode, .. }, writer) => {
                let slot = |writer: &mut Writer| writer.slot(layout, path, *mode, entry.mtime);
                let slot = writer.as_mut().map(slot).transpose()?;
                // A file whose contents are captured must be read.
                let base = self.base.clone().filter(|_| slot.is_some() && wanted == Captured::Nothing);
                return Ok(Some(PendingFile { path: path.to_owned(), slot, wanted, base }));
            }
            (PathUse::Directory { .. }, Some(writer)) => writer.directory(layout, path)?,
            _ => {}
        }
        Ok(None)
    }

    /// Counts an entry. Directories that earlier entries imply count as well.
    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        if let PathUse::File { size, .. } = entry.node {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(self.limits.room(size));
        }
        let known = self.inspector.layout.count().max(self.entries);
        let others = known.saturating_sub(self.files).saturating_mul(self.limits.room(1));
        self.within(known, self.bytes.saturating_add(others))
    }

    /// Records a file whose data is complete.
    pub fn put(&mut self, written: WrittenFile) {
        if let Some(PathUse::File { sum, .. }) = self.inspector.layout.get_mut(&written.path) {
            *sum = written.sum;
        }
        if let Some(packed) = written.packed.filter(|_| self.packed.len() < PACKED_MAX) {
            self.packed.push((packed, written.sum));
        }
        if let (Some(head), Some(notes)) = (written.head, &mut self.notes) {
            notes.heads.push((written.path.clone(), head));
        }
        if let Some(text) = written.text {
            self.manifests.put(&written.path, text);
        }
    }

    /// Checks the archive as a whole, creates the links, and sets the modes of the directories. `sha256` is the digest
    /// of the archive file.
    ///
    /// # Errors
    /// Returns a `Refused` error if a rule is broken. Returns an error if something cannot be written.
    pub fn finish(mut self, sha256: String) -> Result<Inspected> {
        // The last entry may imply further directories.
        self.within(self.inspector.layout.count(), 0)?;
        self.inspector.refuse_empty()?;
        let top = self.inspector.top();
        if let Some((_, error)) = self.inspector.stray(top.as_deref()).next() {
            return Err(error);
        }
        let mut layout = self.inspector.layout;
        let survey = Survey::new(&layout, self.manifests.of(top.as_deref())?, top);
        if let Some(writer) = self.writer {
            writer.finish(&mut layout, survey.top.as_deref())?;
        }
        let reading = Reading { sha256, survey, layout, packed: self.packed };
        Ok(Inspected { reading, excess: self.excess })
    }

    /// Returns the findings, given the result of reading the archive.
    ///
    /// # Errors
    /// Returns an error if the reading failed for a reason other than a broken rule.
    pub fn report(self, read: Result<()>) -> Result<LintReport> {
        let mut notes = self.notes.unwrap_or_default();
        let top = self.inspector.top();
        let read = read.and_then(|()| self.limits.admit(self.inspector.layout.count(), 0)).and_then(|()| {
            self.inspector.stray(top.as_deref()).try_for_each(|(path, error)| notes.stray(path, error))?;
            self.inspector.refuse_empty()
        });
        let whole = read.and_then(|()| {
            let manifest = self.manifests.of(top.as_deref()).or_else(|error| notes.no_manifest(error))?;
            Ok((Survey::new(&self.inspector.layout, manifest, top.clone()), self.inspector.layout))
        });
        notes.report(whole, top.as_deref())
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
        let found = match entry.node {
            PathUse::File { size, .. } if size <= MANIFEST_MAX => Ok(Vec::new()),
            PathUse::File { .. } => Err("is longer than 64 KiB"),
            _ => Err("is not a regular file"),
        };
        let wanted = found.is_ok();
        match entry.path.split_once('/') {
            None if entry.path == MANIFEST => self.at_top = Some(found),
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
