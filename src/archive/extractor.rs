//! Takes in an archive entry by entry: applies the rules, writes what they admit, and says in the end what it is.

use super::entry::{Entry, EntryKind, RawEntry};
use super::inspect::Inspector;
use super::layout::{DIRECTORY_MODE, Layout, PathUse};
use super::limits::Limits;
use super::lint_report::{LintReport, Notes};
use super::pending_file::{Captured, PendingFile, WrittenFile};
use super::share::PackedSum;
use super::survey::{Manifests, Survey};
use super::writer::Writer;
use crate::error::{Error, Kind, Result};

/// What an extension counts at least, in bytes: its header and a block of data.
const EXTENSION_MIN: u64 = 1 << 10;

/// Of how many files the digest of the packed data is kept: far more than any release has, and in bounded memory.
const PACKED_MAX: usize = 200_000;

/// What was taken in.
pub struct Taken {
    /// In figures.
    pub survey: Survey,
    pub layout: Layout,
    pub packed: Vec<PackedSum>,
    /// Why no more than a part of it was written, where it takes more than it may.
    pub excess: Option<Error>,
}

/// What has been taken in so far.
pub struct Extractor<'a> {
    inspector: Inspector,
    /// Nothing where the archive is only looked through.
    writer: Option<Writer>,
    limits: &'a Limits<'a>,
    /// How much is looked through, without being written, of what takes more than it may; no more without it.
    beyond: Option<&'a Limits<'a>>,
    excess: Option<Error>,
    manifests: Manifests,
    /// What breaks a rule, where that is noted and not refused.
    notes: Option<Notes>,
    entries: u64,
    files: u64,
    /// The room that the files take.
    bytes: u64,
    packed: Vec<PackedSum>,
    /// The bytes of all extensions.
    extensions: u64,
}

impl<'a> Extractor<'a> {
    /// Takes in nothing yet.
    pub fn new(writer: Option<Writer>, limits: &'a Limits<'a>) -> Self {
        let (inspector, manifests) = (Inspector::default(), Manifests::default());
        Self {
            inspector,
            writer,
            limits,
            beyond: None,
            excess: None,
            manifests,
            notes: None,
            entries: 0,
            files: 0,
            bytes: 0,
            packed: Vec::new(),
            extensions: 0,
        }
    }

    /// Takes in nothing yet, writes nothing, and notes what breaks a rule instead of refusing it.
    pub fn noting(limits: &'a Limits<'a>) -> Self {
        Self { notes: Some(Notes::default()), ..Self::new(None, limits) }
    }

    /// The same, and looks through what takes more than it may, up to these limits, instead of refusing it at once. No
    /// more of it is written.
    pub fn and_beyond(self, beyond: &'a Limits<'a>) -> Self {
        Self { beyond: Some(beyond), ..self }
    }

    /// Admits so many entries and bytes.
    fn within(&mut self, entries: u64, bytes: u64) -> Result<()> {
        let Some(beyond) = self.beyond else { return self.limits.admit(entries, bytes) };
        if self.excess.is_none()
            && let Err(excess) = self.limits.admit(entries, bytes)
        {
            (self.excess, self.writer) = (Some(excess), None);
        }
        beyond.admit(entries, bytes)
    }

    /// Refuses so many more entries where they are too many, before any of them is read.
    ///
    /// # Errors
    /// As it says.
    pub fn expect(&mut self, entries: u64) -> Result<()> {
        self.within(entries, 0)
    }

    /// Counts what extends an entry or all of them: it takes no room, but somebody has to read it.
    ///
    /// # Errors
    /// Refuses more than there may be of what is written.
    pub fn extension(&mut self, size: u64) -> Result<()> {
        self.extensions = self.extensions.saturating_add(size.max(EXTENSION_MIN));
        self.within(0, self.extensions)
    }

    /// Admits an entry, and writes all of it but the data of a file, which is for the caller to put through.
    /// Data that nobody takes is for the caller to pass over.
    ///
    /// # Errors
    /// Refuses what breaks a rule, or notes it; fails where it cannot be written.
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
        match (&entry.kind, &mut self.writer) {
            (EntryKind::File { .. }, writer) => {
                let slot = writer.as_mut().map(|writer| writer.slot(layout, path)).transpose()?;
                let (path, mode, mtime) = (path.to_owned(), entry.mode, entry.mtime);
                return Ok(Some(PendingFile { path, mode, mtime, slot, wanted }));
            }
            (EntryKind::Directory, Some(writer)) => writer.directory(layout, path)?,
            (EntryKind::Symlink { .. } | EntryKind::Directory | EntryKind::Hardlink { .. }, _) => {}
        }
        Ok(None)
    }

    /// Directories that are only implied count as well.
    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        if let EntryKind::File { size } = entry.kind {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(self.limits.room(size));
        }
        let known = self.inspector.layout.count().max(self.entries);
        let others = known.saturating_sub(self.files).saturating_mul(self.limits.room(1));
        self.within(known, self.bytes.saturating_add(others))
    }

    /// Notes a file whose data went through.
    pub fn put(&mut self, filled: WrittenFile) {
        if let Some(PathUse::File { sum, .. }) = self.inspector.layout.get_mut(&filled.path) {
            *sum = filled.sum;
        }
        if let Some(packed) = filled.packed.filter(|_| self.packed.len() < PACKED_MAX) {
            self.packed.push((packed, filled.sum));
        }
        if let (Some(head), Some(notes)) = (filled.head, &mut self.notes) {
            notes.heads.push((filled.path.clone(), head));
        }
        if let Some(text) = filled.text {
            self.manifests.put(&filled.path, text);
        }
    }

    /// Decides about the whole, creates the links, and gives the directories their modes.
    ///
    /// # Errors
    /// Refuses what breaks a rule; fails where something cannot be written.
    pub fn finish(mut self) -> Result<Taken> {
        // The last entry may have implied directories.
        self.within(self.inspector.layout.count(), 0)?;
        self.inspector.refuse_empty()?;
        let top = self.inspector.top();
        if let Some((_, error)) = self.inspector.stray(top.as_deref()).next() {
            return Err(error);
        }
        let mut layout = self.inspector.layout;
        let survey = Survey::new(&layout, self.manifests.of(top.as_deref())?, top);
        if let Some(writer) = self.writer {
            complete(writer, &mut layout, survey.top.as_deref())?;
        }
        Ok(Taken { survey, layout, packed: self.packed, excess: self.excess })
    }

    /// What was noted, where the reading ended like this.
    ///
    /// # Errors
    /// When it failed for another reason than a rule.
    pub fn looked(self, read: Result<()>) -> Result<LintReport> {
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
        notes.looked(whole, top.as_deref())
    }
}

/// Creates the links of a tree whose files are all there, and gives the directories their modes: in descending
/// order every directory follows all that is in it.
///
/// # Errors
/// When something cannot be written.
pub fn complete(mut writer: Writer, layout: &mut Layout, top: Option<&str>) -> Result<()> {
    if let Some(PathUse::Directory { mode, .. }) = top.and_then(|top| layout.get_mut(top)) {
        *mode = DIRECTORY_MODE;
    }
    let links = |(path, place): (&str, &PathUse)| match place {
        PathUse::Symlink { target } => Some((path.to_owned(), target.to_string())),
        _ => None,
    };
    let unusual = |(path, place): (&str, &PathUse)| match place {
        PathUse::Directory { mode, .. } if *mode != DIRECTORY_MODE => Some((path.to_owned(), *mode)),
        _ => None,
    };
    let names = |(path, place): (&str, &PathUse)| match place {
        PathUse::Hardlink { first } => Some((path.to_owned(), first.to_string())),
        _ => None,
    };
    for (path, first) in layout.iter().filter_map(names).collect::<Vec<_>>() {
        let Some(PathUse::File { mode, .. }) = layout.get(&first) else { continue };
        let mode = *mode;
        writer.hardlink(layout, &path, &first, mode)?;
    }
    for (path, target) in layout.iter().filter_map(links).collect::<Vec<_>>() {
        writer.symlink(layout, &path, &target)?;
    }
    for (path, mode) in layout.iter().rev().filter_map(unusual).collect::<Vec<_>>() {
        writer.seal(layout, &path, mode)?;
    }
    writer.seal(layout, "", DIRECTORY_MODE)
}
