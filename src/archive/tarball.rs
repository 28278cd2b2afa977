//! Reads the entries of a tar (ustar, GNU or pax), strictly and to the last byte.

use std::io::{BufRead, ErrorKind, Read};

use tar::Header;

use super::entry::{EntryType, RawEntry};
use super::extension::{ExtensionKind, Extensions};
use super::extractor::Extractor;
use super::fault::{corrupt, damaged};
use super::inflate::PackedData;
use super::input::drain;
use super::path::violation;
use super::pending_file::PendingFile;
use super::progress_meter::ProgressMeter;
use super::workers::Workers;
use crate::error::Result;

const BLOCK: usize = 512;
/// The largest size that the octal digits of a header can hold. A larger size may be in a pax record alone.
const OCTAL_MAX: u64 = 0o777_7777_7777;
/// The maximum number of zeros after the end, in bytes: far more than any writer's record.
const PADDING_MAX: u64 = 16 << 20;

/// Reads every entry and passes it to the extractor, in order.
///
/// # Errors
/// Returns a `Refused` error if the tar is damaged, truncated, or contains a type of entry that is not allowed.
/// Returns the errors of the extractor.
pub fn read(
    reader: &mut dyn BufRead,
    workers: &mut Workers,
    meter: &mut ProgressMeter<'_>,
    extractor: &mut Extractor<'_>,
) -> Result<()> {
    let mut extensions = Extensions::default();
    while let Some(header) = next_header(reader)? {
        meter.tick()?;
        match ExtensionKind::of(header.as_old().linkflag[0]) {
            Some(kind) => {
                let size = size_of(&header)?;
                extensions.read(kind, size, reader)?;
                extractor.extension(size)?;
            }
            None => {
                let (size, body) = read_entry(&header, &std::mem::take(&mut extensions), extractor)?;
                let Some(body) = body else {
                    skip(reader, size, meter)?;
                    continue;
                };
                workers.file(
                    body,
                    PackedData { length: size, size, deflated: false, crc: None, ahead: None },
                    reader,
                    meter,
                    extractor,
                )?;
                skip_padding(reader, size)?;
            }
        }
    }
    if extensions != Extensions::default() {
        return Err(corrupt("it ends after an extension header"));
    }
    read_end(reader, meter)
}

/// Returns the size of an entry's data, and the file that it belongs to; `None` if the data is skipped.
fn read_entry(
    header: &Header,
    extensions: &Extensions,
    extractor: &mut Extractor<'_>,
) -> Result<(u64, Option<PendingFile>)> {
    let (short_name, short_target) = (header.path_bytes(), header.link_name_bytes().unwrap_or_default());
    let name = extensions.name(&short_name)?;
    let size = entry_size(header, extensions, name)?;
    let raw = RawEntry {
        name,
        shape: shape(header.as_old().linkflag[0], name)?,
        target: extensions.target(&short_target),
        size,
        mode: header.mode().map_err(|_| no_number())?,
        mtime: header.mtime().ok(),
    };
    Ok((size, extractor.admit(&raw)?))
}

fn shape(flag: u8, name: &[u8]) -> Result<EntryType> {
    let what = match flag {
        0 | b'0' | b'7' => return Ok(EntryType::File),
        b'1' => return Ok(EntryType::Hardlink),
        b'2' => return Ok(EntryType::Symlink),
        b'5' => return Ok(EntryType::Directory),
        b'3' | b'4' => return Ok(EntryType::Unfit("is a device")),
        b'6' => return Ok(EntryType::Unfit("is a named pipe")),
        b'S' => "a sparse file, which a release must not contain".to_owned(),
        b'M' => "part of a file from another volume".to_owned(),
        b'D' => "a directory of an incremental dump".to_owned(),
        other => format!("of the unknown type {:?}", char::from(other)),
    };
    Err(violation(name, format!("is {what}")))
}

/// The parser of the tar crate accepts signs, and reads only the last eight bytes of a binary number.
fn size_of(header: &Header) -> Result<u64> {
    let field = &header.as_old().size;
    let plain = match field[0] {
        first if first & 0x80 != 0 => first == 0x80 && is_zero(&field[1..4]),
        _ => field.iter().all(|byte| matches!(byte, b'0'..=b'7' | b' ' | 0)),
    };
    if plain { header.entry_size().map_err(|_| no_number()) } else { Err(no_number()) }
}

fn entry_size(header: &Header, extensions: &Extensions, name: &[u8]) -> Result<u64> {
    match (size_of(header)?, extensions.size) {
        (size, None) => Ok(size),
        (size, Some(extended)) if size == extended => Ok(size),
        (0, Some(extended)) if extended > OCTAL_MAX => Ok(extended),
        _ => Err(violation(name, "has two sizes")),
    }
}

/// The tar crate's message repeats bytes of the archive, which may be terminal escape sequences.
fn no_number() -> crate::error::Error {
    corrupt("a field of a header is not a number")
}

/// Returns `None` at the first block of zeros.
fn next_header(reader: &mut dyn BufRead) -> Result<Option<Header>> {
    let mut header = Header::new_old();
    reader.read_exact(header.as_mut_bytes()).map_err(damaged)?;
    if is_zero(header.as_bytes()) {
        return Ok(None);
    }
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148].iter().chain(&[b' '; 8]).chain(&bytes[156..]).map(|b| u32::from(*b)).sum();
    match header.cksum() {
        Ok(expected) if expected == sum => Ok(Some(header)),
        _ => Err(corrupt("the checksum of a header is wrong")),
    }
}

/// Skips the data of an entry that is not written.
fn skip(reader: &mut dyn BufRead, size: u64, meter: &mut ProgressMeter<'_>) -> Result<()> {
    let mut rest = reader.take(size);
    drain(&mut rest, &mut |_| meter.tick())?;
    if rest.limit() > 0 {
        return Err(damaged(ErrorKind::UnexpectedEof.into()));
    }
    skip_padding(reader, size)
}

/// Data is padded to whole blocks with arbitrary bytes.
fn skip_padding(reader: &mut dyn BufRead, size: u64) -> Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    let mut padding = [0; BLOCK];
    reader.read_exact(&mut padding[..(BLOCK - over) % BLOCK]).map_err(damaged)
}

/// A second block of zeros ends a tar. More zeros may follow to fill the last record.
fn read_end(reader: &mut dyn BufRead, meter: &mut ProgressMeter<'_>) -> Result<()> {
    let mut block = [0; BLOCK];
    reader.read_exact(&mut block).map_err(damaged)?;
    let mut only_zeros = is_zero(&block);
    let mut length = 0;
    drain(reader, &mut |bytes| {
        only_zeros &= is_zero(bytes);
        length += bytes.len() as u64;
        meter.tick()?;
        if only_zeros && length <= PADDING_MAX { Ok(()) } else { Err(corrupt("it has data after its end")) }
    })?;
    if only_zeros { Ok(()) } else { Err(corrupt("it has data after its end")) }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}
