//! Hashes, captures and writes the data of one file, on any thread.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use blake3::Hasher;

use super::dedup::BaseRelease;
use super::lint_report::FileMagic;
use super::writer::FileSlot;
use crate::error::{Context, Result};
use crate::tree::Sum;

/// A file whose data is not read yet.
pub struct PendingFile {
    /// The path in the archive.
    pub path: String,
    /// The place where it is written; `None` if the archive is only inspected.
    pub slot: Option<FileSlot>,
    /// The part of the contents that is captured.
    pub wanted: Captured,
    /// The installed release to share with; `None` if the file must be read and written.
    pub base: Option<Arc<BaseRelease>>,
}

/// The part of a file's contents that is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captured {
    /// Nothing.
    Nothing,
    /// The first bytes, which determine the file magic.
    FileMagic,
    /// The whole contents.
    Text,
}

impl Captured {
    /// Returns the maximum number of bytes that are captured.
    pub fn bytes(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::FileMagic => FileMagic::BYTES,
            Self::Text => usize::MAX,
        }
    }
}

/// A file whose data is being processed.
pub struct OpenFile {
    body: PendingFile,
    file: Option<File>,
    /// The number of bytes found identical, if the file was cloned from one that may be identical.
    cloned: Option<u64>,
    hash: Hasher,
    text: Vec<u8>,
}

/// A file whose data is complete.
#[derive(Debug)]
pub struct WrittenFile {
    /// The path in the archive.
    pub path: String,
    /// The digest of the written data. It is meaningless if the archive is only inspected.
    pub sum: Sum,
    /// The contents, if they are captured.
    pub text: Option<Vec<u8>>,
    /// The file magic, if it is captured and known.
    pub head: Option<FileMagic>,
    /// The digest of the packed data, if it is computed.
    pub packed: Option<Sum>,
}

impl PendingFile {
    /// Creates the file by sharing, or returns `None` if no installed release has a file with this digest.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created or completed.
    pub fn share(&self, sum: Sum) -> Result<Option<WrittenFile>> {
        let (Some(slot), Some(base)) = (&self.slot, &self.base) else { return Ok(None) };
        let shared = base.share(sum, slot)?;
        let written = || WrittenFile { path: self.path.clone(), sum, text: None, head: None, packed: None };
        Ok(shared.then(written))
    }

    /// Creates the file, unless the archive is only inspected.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn open(self) -> Result<OpenFile> {
        let file = self.slot.as_ref().map(FileSlot::create).transpose()?;
        Ok(self.opened(file, None))
    }

    /// Creates a file of known size, as a clone if an installed release has a file of this path and size.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn open_over(self, size: u64) -> Result<OpenFile> {
        let place = self.slot.as_ref().zip(self.base.as_ref());
        let clone = place.map(|(slot, base)| base.clone_or_link(slot, size)).transpose()?.flatten();
        if clone.is_some() { Ok(self.opened(clone, Some(0))) } else { self.open() }
    }

    fn opened(self, file: Option<File>, cloned: Option<u64>) -> OpenFile {
        OpenFile { body: self, file, cloned, hash: Hasher::new(), text: Vec::new() }
    }
}

impl OpenFile {
    /// Processes the next part of the data.
    ///
    /// # Errors
    /// Returns an error if the data cannot be written.
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
        // The data differs: overwrite the clone from here on.
        self.cloned = None;
        let mut end: &File = file;
        end.seek(SeekFrom::Start(same)).context(|| format!("cannot write {:?}", self.body.path))?;
        slot.write(file, bytes)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// Returns an error if its mode, owner or modification time cannot be set.
    pub fn close(self) -> Result<WrittenFile> {
        if let (Some(slot), Some(file)) = (&self.body.slot, &self.file) {
            slot.keep(file)?;
            self.body.base.iter().zip(self.cloned).for_each(|(base, bytes)| base.count(bytes));
        }
        let (text, head) = match self.body.wanted {
            Captured::Nothing => (None, None),
            Captured::FileMagic => (None, FileMagic::of(&self.text)),
            Captured::Text => (Some(self.text), None),
        };
        Ok(WrittenFile { path: self.body.path, sum: Sum::of(&self.hash), text, head, packed: None })
    }
}
