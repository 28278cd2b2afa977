//! Finds and reads the central directory of a zip strictly: there must be only one way to read it, and a second reader
//! must agree.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use blake3::Hasher;
use zip::CompressionMethod;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use super::zip_record::{CentralEntry, Fields};
use crate::archive::input::{corrupt, damaged, read_ahead};
use crate::error::{Error, Result};
use crate::tree::Sum;

/// The maximum size of a central directory in bytes, to bound its memory.
const SIZE_MAX: u64 = 96 << 20;

const END: &[u8; 4] = b"PK\x05\x06";
const END_SIZE: usize = 22;
const LOCATOR: &[u8; 4] = b"PK\x06\x07";
const LOCATOR_SIZE: usize = 20;
const END64: &[u8; 4] = b"PK\x06\x06";
const END64_SIZE: usize = 56;
/// The size that a zip64 end record states for itself, without its first 12 bytes.
const END64_REST: u64 = 44;

/// The maximum distance of the end records from the end of a zip, including a comment of maximum length.
const END_MAX: u64 = (END_SIZE + LOCATOR_SIZE + END64_SIZE) as u64 + 0xffff;

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
        let method = if entry.deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
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

/// The location of the central directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EndRecord {
    /// Its offset in the file, in bytes.
    start: u64,
    /// Its length in bytes.
    size: u64,
    /// The number of entries.
    count: u64,
}

impl EndRecord {
    /// Reads the end records in `tail`, the end of a file from offset `base`.
    ///
    /// # Errors
    /// Returns a `Refused` error if the records are missing, exist twice, or contradict each other.
    fn find(tail: &[u8], base: u64) -> Result<Self> {
        let at = find(tail)?;
        let (end, zip64) = split(tail, at)?;
        let (told, first_at) = match zip64 {
            Some((record, record_at)) => (same_location(end, record)?, record_at),
            None => (end, at),
        };
        let ends_at = base + first_at as u64;
        if told.start.checked_add(told.size) != Some(ends_at) {
            return Err(corrupt("its central directory does not end where its end record begins"));
        }
        Ok(told)
    }
}

/// Returns the position of the end record. A reader that searches backwards must find the same record as one that
/// searches for a comment of the right length.
fn find(tail: &[u8]) -> Result<usize> {
    let places = || tail.windows(END.len()).enumerate().filter(|(_, w)| w == END).map(|(at, _)| at);
    let comment = |at: usize| tail.get(at + 20..).and_then(|rest| Fields(rest).u16());
    let mut fitting =
        places().filter(|at| comment(*at).is_some_and(|n| at + END_SIZE + usize::from(n) == tail.len()));
    match (fitting.next(), fitting.next()) {
        (Some(at), None) if places().next_back() == Some(at) => Ok(at),
        (Some(_), _) => Err(corrupt("it has two end records")),
        (None, _) if places().next().is_some() => {
            Err(corrupt("it has data after its end record, or is truncated"))
        }
        (None, _) => Err(corrupt("it has no end record")),
    }
}

/// Returns the end record at `at`; and if the zip has more or larger entries than it can state, the zip64 end record
/// before it and its position.
fn split(tail: &[u8], at: usize) -> Result<(EndRecord, Option<(EndRecord, usize)>)> {
    let end =
        read_end(&tail[at..]).ok_or_else(|| corrupt("its end record says that it has several parts"))?;
    let Some(locator_at) = at.checked_sub(LOCATOR_SIZE).filter(|at| tail[*at..].starts_with(LOCATOR)) else {
        return Ok((end, None));
    };
    let record_at = locator_at.checked_sub(END64_SIZE).filter(|at| tail[*at..].starts_with(END64));
    let record_at = record_at.ok_or_else(contradicts)?;
    let record = read_end64(&tail[record_at..]).ok_or_else(contradicts)?;
    let pointed = read_locator(&tail[locator_at..]).ok_or_else(contradicts)?;
    // The directory ends where the zip64 record begins, so the locator can be checked without the base.
    if record.start.checked_add(record.size) != Some(pointed) {
        return Err(contradicts());
    }
    Ok((end, Some((record, record_at))))
}

fn contradicts() -> Error {
    corrupt("its zip64 records contradict each other")
}

/// Compares both records. A field that is too small for its value has all bits set; every other field must match.
fn same_location(end: EndRecord, record: EndRecord) -> Result<EndRecord> {
    let same = |small: u64, large: u64, limit: u64| small == large || small == limit;
    let agree = same(end.count, record.count, 0xffff)
        && same(end.size, record.size, 0xffff_ffff)
        && same(end.start, record.start, 0xffff_ffff);
    if agree { Ok(record) } else { Err(contradicts()) }
}

fn read_end(bytes: &[u8]) -> Option<EndRecord> {
    let mut fields = Fields(bytes.get(END.len()..)?);
    let parts = (fields.u16()?, fields.u16()?);
    let (here, count) = (fields.u16()?, fields.u16()?);
    let (size, start) = (fields.u32()?, fields.u32()?);
    let whole = matches!(parts, (0, 0) | (0xffff, 0xffff)) && here == count;
    whole.then_some(EndRecord { start: start.into(), size: size.into(), count: count.into() })
}

fn read_end64(bytes: &[u8]) -> Option<EndRecord> {
    let mut fields = Fields(bytes.get(END64.len()..)?);
    let rest = fields.u64()?;
    let _versions = fields.u32()?;
    let parts = (fields.u32()?, fields.u32()?);
    let (here, count) = (fields.u64()?, fields.u64()?);
    let (size, start) = (fields.u64()?, fields.u64()?);
    (rest == END64_REST && parts == (0, 0) && here == count).then_some(EndRecord { start, size, count })
}

/// Returns the offset that the locator points to.
fn read_locator(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes.get(LOCATOR.len()..)?);
    let (part, at, parts) = (fields.u32()?, fields.u64()?, fields.u32()?);
    (part == 0 && parts <= 1).then_some(at)
}
