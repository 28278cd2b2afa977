//! Unpacks the data of one file exactly to its last byte: inflates it, hashes it, captures a part of it, and writes it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use blake3::Hasher;
use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::dedup::BaseRelease;
use super::input::damaged_entry;
use super::lint_report::FileMagic;
use super::rules::violation;
use super::writer::FileSlot;
use crate::error::{Context, Result};
use crate::tree::Sum;

/// The size of the output buffer, in bytes.
const BUFFER: usize = 256 << 10;

/// The form of an entry's data in the archive.
#[derive(Clone, Copy, Debug)]
pub struct PackedData {
    /// The length of the packed data, in bytes.
    pub length: u64,
    /// The length of the unpacked data, in bytes.
    pub size: u64,
    /// Whether the data is deflated; otherwise it is stored.
    pub deflated: bool,
    /// The expected checksum of the unpacked data.
    pub crc: Option<u32>,
    /// The digest of the packed data, if it was read ahead.
    pub ahead: Option<Sum>,
}

impl PackedData {
    /// Returns a hasher that covers every field that determines the unpacked data or whether it is refused.
    pub fn hasher(&self) -> Hasher {
        let mut hash = Hasher::new();
        for figure in [self.length, self.size, self.crc.map_or(u64::MAX, u64::from)] {
            hash.update(&figure.to_le_bytes());
        }
        hash.update(&[u8::from(self.deflated)]);
        hash
    }

    /// Returns the digest of the packed data.
    pub fn digest(&self, data: &[u8]) -> Sum {
        Sum::of(self.hasher().update(data))
    }

    /// Compares the expected checksum with the checksum `found`.
    ///
    /// # Errors
    /// Returns a `Refused` error if they differ.
    pub fn check(&self, name: &[u8], found: u32) -> Result<()> {
        if self.crc.is_none_or(|expected| expected == found) {
            Ok(())
        } else {
            Err(violation(name, "is damaged: its checksum is wrong"))
        }
    }
}

/// A decoder that unpacks one entry after another.
pub struct Inflater {
    state: Decompress,
    buffer: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(false), buffer: vec![0; BUFFER] }
    }
}

/// The callback that receives unpacked data.
type To<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

impl Inflater {
    /// Unpacks an entry from the pieces of its data, and passes the unpacked data to `to`.
    ///
    /// # Errors
    /// Returns a `Refused` error if the data is damaged or its length or checksum is wrong. Returns the errors of
    /// `to`.
    pub fn inflate(
        &mut self,
        name: &[u8],
        packed: PackedData,
        pieces: &mut dyn Iterator<Item = impl AsRef<[u8]>>,
        to: &mut To<'_>,
    ) -> Result<()> {
        let (mut crc, mut size) = (Crc::new(), 0);
        let mut check = |bytes: &[u8]| {
            size += bytes.len() as u64;
            if size > packed.size {
                return Err(violation(name, "is longer than its header says"));
            }
            if packed.crc.is_some() {
                crc.update(bytes);
            }
            to(bytes)
        };
        if packed.deflated {
            self.run(name, pieces, &mut check)?;
        } else {
            for piece in pieces {
                check(piece.as_ref())?;
            }
        }
        if size < packed.size {
            return Err(damaged_entry(name, io::ErrorKind::UnexpectedEof.into()));
        }
        packed.check(name, crc.sum())
    }

    fn run(
        &mut self,
        name: &[u8],
        pieces: &mut dyn Iterator<Item = impl AsRef<[u8]>>,
        to: &mut To<'_>,
    ) -> Result<()> {
        self.state.reset(false);
        let (mut filled, mut ended) = (0, false);
        for piece in pieces {
            let mut rest = piece.as_ref();
            loop {
                if ended && !rest.is_empty() {
                    return Err(violation(name, "has data after its end"));
                }
                let (used, made, end) = self.step(name, rest, filled)?;
                rest = &rest[used..];
                filled += made;
                ended = end;
                // With a full buffer, the decoder may still hold output when it has used all input.
                if filled == self.buffer.len() && !ended {
                    to(&self.buffer)?;
                    filled = 0;
                } else if rest.is_empty() {
                    break;
                }
            }
        }
        if !ended {
            return Err(damaged_entry(name, io::ErrorKind::UnexpectedEof.into()));
        }
        if filled > 0 { to(&self.buffer[..filled]) } else { Ok(()) }
    }

    /// Returns the number of bytes used, the number of bytes made, and whether the data is at its end.
    fn step(&mut self, name: &[u8], input: &[u8], filled: usize) -> Result<(usize, usize, bool)> {
        let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
        let status = self.state.decompress(input, &mut self.buffer[filled..], FlushDecompress::None);
        let status = status.map_err(|e| damaged_entry(name, e.into()))?;
        let used = usize::try_from(self.state.total_in() - before_in).unwrap_or_default();
        let made = usize::try_from(self.state.total_out() - before_out).unwrap_or_default();
        if used == 0 && made == 0 && !input.is_empty() && status != Status::StreamEnd {
            return Err(violation(name, "is damaged: its data cannot be decoded"));
        }
        Ok((used, made, status == Status::StreamEnd))
    }
}

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
        let shared = base.clone_or_link(sum, slot)?;
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
        let clone = place.map(|(slot, base)| base.clone_by_path(slot, size)).transpose()?.flatten();
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
