//! Reads the central directory of a zip strictly. A second reader must agree.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use blake3::Hasher;
use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use super::central_entry::{CentralEntry, Compression};
use super::eocd::{END_MAX, EndRecord};
use super::le_fields::Fields;
use crate::archive::fault::{corrupt, damaged};
use crate::archive::input::read_ahead;
use crate::error::{Error, Result};
use crate::tree::Sum;

/// The maximum size of a central directory in bytes, to bound its memory.
const SIZE_MAX: u64 = 96 << 20;

/// The central directory of a zip.
pub struct Directory {
    /// The entries, in the order of their offsets.
    pub entries: Vec<CentralEntry>,
    /// The offset of the central directory, where the last entry ends.
    pub start: u64,
    /// The digest of the file from `start` to its end.
    pub sum: Sum,
}

impl Directory {
    /// Reads the central directory of a file of `length` bytes. `expect` receives the number of entries before they
    /// are read.
    ///
    /// # Errors
    /// Returns a `Refused` error if the directory is damaged or ambiguous, and the errors of `expect`.
    pub fn read(file: &File, length: u64, expect: &mut dyn FnMut(u64) -> Result<()>) -> Result<Self> {
        let base = length.saturating_sub(END_MAX);
        let end = EndRecord::find(&read_from(file, base, length)?, base)?;
        expect(end.count)?;
        if length - end.start > SIZE_MAX {
            return Err(Error::refused("the central directory of the archive is larger than 96 MiB"));
        }
        let tail = read_from(file, end.start, length)?;
        if EndRecord::find(&tail, end.start)? != end {
            return Err(damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut entries = list(&tail, end)?;
        agree(&tail, end, &entries)?;
        entries.sort_by_key(|entry| entry.at);
        Ok(Self { entries, start: end.start, sum: Sum::of(Hasher::new().update(&tail)) })
    }
}

fn read_from(file: &File, from: u64, to: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
    read_ahead(file, from, &mut bytes)?;
    Ok(bytes)
}

fn list(tail: &[u8], end: EndRecord) -> Result<Vec<CentralEntry>> {
    let size = usize::try_from(end.size).unwrap_or(usize::MAX);
    let mut fields = Fields(tail.get(..size).ok_or_else(|| corrupt("its central directory is malformed"))?);
    let mut entries = Vec::new();
    for _ in 0..end.count {
        entries.push(CentralEntry::read(&mut fields)?);
    }
    if fields.0.is_empty() {
        Ok(entries)
    } else {
        Err(corrupt("it has more entries than its end record says"))
    }
}

/// Compares with a second reader, which may see what the first one overlooks in a malicious archive.
fn agree(tail: &[u8], end: EndRecord, entries: &[CentralEntry]) -> Result<()> {
    let refuse = |error| match error {
        ZipError::Io(error) => damaged(error),
        other => damaged(io::Error::other(other)),
    };
    let reader = Tail { bytes: tail, start: end.start, at: 0 };
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut second = ZipIterable::try_new(reader, config).map_err(refuse)?;
    let mut same = second.len() == entries.len();
    for (listed, entry) in second.files().map_err(refuse)?.zip(entries) {
        let listed = listed.map_err(refuse)?;
        let method = match entry.method {
            Compression::Stored => CompressionMethod::Stored,
            Compression::Deflated => CompressionMethod::Deflated,
        };
        same &= listed.name_raw() == entry.name
            && (listed.header_start(), listed.compressed_size(), listed.size())
                == (entry.at, entry.packed, entry.size)
            && (listed.crc32(), listed.compression()) == (entry.crc, method);
    }
    if same { Ok(()) } else { Err(corrupt("two readers of its central directory disagree")) }
}

/// The end of a file. All bytes before it read as zeros.
struct Tail<'a> {
    bytes: &'a [u8],
    start: u64,
    at: u64,
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = if self.at < self.start {
            let most = usize::try_from(self.start - self.at).unwrap_or(usize::MAX).min(buffer.len());
            buffer[..most].fill(0);
            most
        } else {
            let from = usize::try_from(self.at - self.start).unwrap_or(usize::MAX);
            self.bytes.get(from..).unwrap_or_default().read(buffer)?
        };
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Tail<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => (self.start + self.bytes.len() as u64).checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
