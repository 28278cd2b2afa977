//! Finds the central directory by the end records of a zip. There must be only one way to read them.

use super::le_fields::Fields;
use crate::archive::fault::corrupt;
use crate::error::{Error, Result};

const END: &[u8; 4] = b"PK\x05\x06";
const END_SIZE: usize = 22;
const LOCATOR: &[u8; 4] = b"PK\x06\x07";
const LOCATOR_SIZE: usize = 20;
const END64: &[u8; 4] = b"PK\x06\x06";
const END64_SIZE: usize = 56;
/// The size that a zip64 end record states for itself, without its first 12 bytes.
const END64_REST: u64 = 44;

/// The maximum distance of the end records from the end of a zip, including a comment of maximum length.
pub const END_MAX: u64 = (END_SIZE + LOCATOR_SIZE + END64_SIZE) as u64 + 0xffff;

/// The location of the central directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRecord {
    /// Its offset in the file, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The number of entries.
    pub count: u64,
}

impl EndRecord {
    /// Reads the end records in `tail`, the end of a file from offset `base`.
    ///
    /// # Errors
    /// Returns a `Refused` error if the records are missing, exist twice, or contradict each other.
    pub fn find(tail: &[u8], base: u64) -> Result<Self> {
        let at = find(tail)?;
        let (end, before) = split(tail, at)?;
        let told = match before {
            Before::Nothing => end,
            Before::End64 { record, .. } => agree(end, record)?,
        };
        let ends_at = base + before.at(at) as u64;
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

/// The records before the end record.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// The zip64 end record, for more or larger entries, and its locator.
    End64 {
        record: EndRecord,
        at: usize,
    },
}

impl Before {
    fn at(self, end: usize) -> usize {
        match self {
            Self::Nothing => end,
            Self::End64 { at, .. } => at,
        }
    }
}

fn split(tail: &[u8], at: usize) -> Result<(EndRecord, Before)> {
    let end =
        read_end(&tail[at..]).ok_or_else(|| corrupt("its end record says that it has several parts"))?;
    let Some(locator_at) = at.checked_sub(LOCATOR_SIZE).filter(|at| tail[*at..].starts_with(LOCATOR)) else {
        return Ok((end, Before::Nothing));
    };
    let record_at = locator_at.checked_sub(END64_SIZE).filter(|at| tail[*at..].starts_with(END64));
    let record_at = record_at.ok_or_else(contradicts)?;
    let record = read_end64(&tail[record_at..]).ok_or_else(contradicts)?;
    let pointed = read_locator(&tail[locator_at..]).ok_or_else(contradicts)?;
    // The directory ends where the zip64 record begins, so the locator can be checked without the base.
    if record.start.checked_add(record.size) != Some(pointed) {
        return Err(contradicts());
    }
    Ok((end, Before::End64 { record, at: record_at }))
}

fn contradicts() -> Error {
    corrupt("its zip64 records contradict each other")
}

/// Compares both records. A field that is too small for its value has all bits set; every other field must match.
fn agree(end: EndRecord, record: EndRecord) -> Result<EndRecord> {
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
