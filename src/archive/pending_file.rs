//! The data of one file, on its way to the disk or nowhere; any thread may take it along.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use blake3::Hasher;

use super::lint_report::FileMagic;
use super::share::BaseRelease;
use super::writer::FileSlot;
use crate::error::{Context, Result};
use crate::tree::Sum;

/// A file that has still to be read.
pub struct PendingFile {
    /// Where it stands in the archive.
    pub path: String,
    /// The permission bits that it gets.
    pub mode: u32,
    /// Seconds since the epoch.
    pub mtime: Option<u64>,
    /// Where it is written; nowhere while an archive is only looked through.
    pub slot: Option<FileSlot>,
    /// What of its text is wanted as well.
    pub wanted: Captured,
}

/// What of a file's text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captured {
    /// Nothing.
    Nothing,
    /// What its first bytes say of it.
    FileMagic,
    /// All of it.
    Text,
}

impl Captured {
    /// How many bytes are held for it.
    pub fn bytes(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::FileMagic => FileMagic::BYTES,
            Self::Text => usize::MAX,
        }
    }
}

/// A file whose data is going through.
pub struct OpenFile {
    body: PendingFile,
    file: Option<File>,
    /// Where the file was cloned from one that may be the same: how much of it turned out to be.
    cloned: Option<u64>,
    hash: Hasher,
    text: Vec<u8>,
}

/// A file whose data went through.
#[derive(Debug)]
pub struct WrittenFile {
    /// Where it stands in the archive.
    pub path: String,
    /// What was written; nothing worth while an archive is only looked through.
    pub sum: Sum,
    /// Its text, where that was wanted.
    pub text: Option<Vec<u8>>,
    /// What its first bytes say of it, where that was wanted and they say something.
    pub head: Option<FileMagic>,
    /// The digest of its packed data, where that was taken.
    pub packed: Option<Sum>,
}

impl PendingFile {
    /// What an installed release holds, to be shared; nothing for a file whose text is wanted.
    pub fn twins(&self) -> Option<&BaseRelease> {
        self.slot.as_ref().filter(|_| self.wanted == Captured::Nothing).and_then(FileSlot::twins)
    }

    /// Brings the file about by sharing it, where an installed release holds these contents.
    ///
    /// # Errors
    /// When it cannot be created, or not completed.
    pub fn share(&self, sum: Sum) -> Result<Option<WrittenFile>> {
        let (Some(slot), Some(twins)) = (&self.slot, self.twins()) else { return Ok(None) };
        let shared = twins.share(sum, slot, self.mode, self.mtime)?;
        let filled = || WrittenFile { path: self.path.clone(), sum, text: None, head: None, packed: None };
        Ok(shared.then(filled))
    }

    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(self) -> Result<OpenFile> {
        let file = self.slot.as_ref().map(|slot| slot.create(self.mode)).transpose()?;
        Ok(self.filling(file, None))
    }

    /// Creates the file, of a size that is known; where an installed release may hold the same, as its clone.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open_over(self, size: u64) -> Result<OpenFile> {
        let twins = self.slot.as_ref().zip(self.twins());
        let clone =
            twins.map(|(slot, twins)| twins.clone_or_link(slot, self.mode, size)).transpose()?.flatten();
        if clone.is_some() { Ok(self.filling(clone, Some(0))) } else { self.open() }
    }

    fn filling(self, file: Option<File>, cloned: Option<u64>) -> OpenFile {
        OpenFile { body: self, file, cloned, hash: Hasher::new(), text: Vec::new() }
    }
}

impl OpenFile {
    /// Takes the next part of the data.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let room = self.body.wanted.bytes().saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let (Some(slot), Some(file)) = (&self.body.slot, &self.file) else { return Ok(()) };
        self.hash.update(bytes);
        let Some(same) = self.cloned else { return slot.write(file, bytes) };
        let mut there = vec![0; bytes.len()];
        if file.read_exact_at(&mut there, same).is_ok() && there == bytes {
            self.cloned = Some(same + bytes.len() as u64);
            return Ok(());
        }
        // From here on it is written, over what was cloned.
        self.cloned = None;
        let mut end: &File = file;
        end.seek(SeekFrom::Start(same)).context(|| format!("cannot write {:?}", self.body.path))?;
        slot.write(file, bytes)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When its mode, owner or time cannot be set.
    pub fn close(self) -> Result<WrittenFile> {
        if let (Some(slot), Some(file)) = (&self.body.slot, &self.file) {
            slot.keep(file, self.body.mode, self.body.mtime)?;
            slot.twins().zip(self.cloned).into_iter().for_each(|(twins, bytes)| twins.count(bytes));
        }
        let (text, head) = match self.body.wanted {
            Captured::Nothing => (None, None),
            Captured::FileMagic => (None, FileMagic::of(&self.text)),
            Captured::Text => (Some(self.text), None),
        };
        Ok(WrittenFile { path: self.body.path, sum: Sum::of(&self.hash), text, head, packed: None })
    }
}
