//! The end of a zip: the records that tell where its directory is. There must be one way to read them.

use super::le_fields::Fields;
use crate::archive::fault::corrupt;
use crate::error::{Error, Result};

const END: &[u8; 4] = b"PK\x05\x06";
const END_SIZE: usize = 22;
const LOCATOR: &[u8; 4] = b"PK\x06\x07";
const LOCATOR_SIZE: usize = 20;
const END64: &[u8; 4] = b"PK\x06\x06";
const END64_SIZE: usize = 56;
/// What an end record of the second kind tells of its own size, which leaves out what comes before.
const END64_REST: u64 = 44;

/// How far from its end the records of a zip may begin, a comment of the greatest length included.
pub const END_MAX: u64 = (END_SIZE + LOCATOR_SIZE + END64_SIZE) as u64 + 0xffff;

/// Where the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRecord {
    /// Where it begins, from the beginning of the file.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
    /// How many entries it lists.
    pub count: u64,
}

impl EndRecord {
    /// Reads the records at the end of `tail`, the last part of a file that begins at `base`.
    ///
    /// # Errors
    /// Refuses what has no such records, has them twice, or has ones that contradict each other.
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

/// Where the one end record is. A reader that looks for it from behind must find the same as one that looks
/// for a comment of the right length.
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

/// What stands ahead of the end record.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// The record of a zip with more or larger entries, and the pointer to it.
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
    // The directory ends where the record begins, so the pointer can be checked without knowing the base.
    if record.start.checked_add(record.size) != Some(pointed) {
        return Err(contradicts());
    }
    Ok((end, Before::End64 { record, at: record_at }))
}

fn contradicts() -> Error {
    corrupt("its zip64 records contradict each other")
}

/// A field that is too small for its figure has all bits set; any other must be right.
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

/// Where the record is that the pointer leads to.
fn read_locator(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes.get(LOCATOR.len()..)?);
    let (part, at, parts) = (fields.u32()?, fields.u64()?, fields.u32()?);
    (part == 0 && parts <= 1).then_some(at)
}
