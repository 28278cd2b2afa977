//! Reads the entries of a tar (ustar, GNU or pax), strictly and to the last byte, with the headers that extend the next
//! entry: pax records and the long names of GNU tar.

use std::io::{BufRead, ErrorKind, Read};

use tar::Header;

use super::{EntryType, RawEntry};
use crate::archive::extractor::Extractor;
use crate::archive::input::{ProgressMeter, corrupt, damaged, drain};
use crate::archive::rules::violation;
use crate::archive::unpack::{PackedData, PendingFile};
use crate::archive::workers::Workers;
use crate::error::{Error, Result};

const BLOCK: usize = 512;
/// The largest size that the octal digits of a header can hold. A larger size may be in a pax record alone.
const OCTAL_MAX: u64 = 0o777_7777_7777;
/// The maximum number of zeros after the end, in bytes: far more than any writer's record.
const PADDING_MAX: u64 = 16 << 20;

/// The maximum size of an extension, in bytes. A path takes at most 4 KiB.
const EXTENSION_MAX: u64 = 64 * 1024;

/// Reads every entry and passes it to the extractor, in order.
///
/// # Errors
/// Returns a `Refused` error if the tar is damaged, truncated, or contains a type of entry that is not allowed.
/// Returns the errors of the extractor.
pub fn read(reader: &mut dyn BufRead, workers: &mut Workers<'_, '_>) -> Result<()> {
    let mut extensions = Extensions::default();
    while let Some(header) = next_header(reader)? {
        workers.meter.tick()?;
        match ExtensionKind::of(header.as_old().linkflag[0]) {
            Some(kind) => {
                let size = size_of(&header)?;
                extensions.read(kind, size, reader)?;
                workers.extractor.extension(size)?;
            }
            None => {
                let (size, body) = read_entry(&header, &std::mem::take(&mut extensions), workers.extractor)?;
                let Some(body) = body else {
                    skip(reader, size, workers.meter)?;
                    continue;
                };
                let stored = PackedData { length: size, size, deflated: false, crc: None, ahead: None };
                workers.file(body, stored, reader)?;
                skip_padding(reader, size)?;
            }
        }
    }
    if extensions != Extensions::default() {
        return Err(corrupt("it ends after an extension header"));
    }
    read_end(reader, workers.meter)
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
        kind: entry_type(header.as_old().linkflag[0], name)?,
        target: extensions.target(&short_target),
        size,
        mode: header.mode().map_err(|_| no_number())?,
        mtime: header.mtime().ok(),
    };
    Ok((size, extractor.admit(&raw)?))
}

fn entry_type(flag: u8, name: &[u8]) -> Result<EntryType> {
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
fn no_number() -> Error {
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

/// The extensions of the entry that follows them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    seen: Vec<ExtensionKind>,
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    /// The size of the entry's data from a pax record.
    pub size: Option<u64>,
    /// The pax key of a feature that a release must not use.
    unwanted: Option<String>,
}

/// The type of a header that carries an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionKind {
    Pax,
    PaxGlobal,
    LongName,
    LongLink,
}

impl ExtensionKind {
    /// Returns the type for the flag of a header, or `None` if the header is not an extension.
    pub fn of(flag: u8) -> Option<Self> {
        match flag {
            b'x' => Some(Self::Pax),
            b'g' => Some(Self::PaxGlobal),
            b'L' => Some(Self::LongName),
            b'K' => Some(Self::LongLink),
            _ => None,
        }
    }
}

impl Extensions {
    /// Reads one extension, including its padding.
    ///
    /// # Errors
    /// Returns a `Refused` error if the extension is too long, truncated, malformed, or given twice for one entry.
    pub fn read(&mut self, kind: ExtensionKind, size: u64, reader: &mut dyn Read) -> Result<()> {
        if self.seen.contains(&kind) {
            return Err(malformed("an extension header appears twice"));
        }
        let data = read_data(size, reader)?;
        match kind {
            ExtensionKind::Pax => {
                records(&data)?.into_iter().try_for_each(|(key, value)| self.set(key, value))?;
            }
            ExtensionKind::PaxGlobal => return no_entry_in(&records(&data)?),
            ExtensionKind::LongName => set_once(&mut self.path, without_nul(data))?,
            ExtensionKind::LongLink => set_once(&mut self.target, without_nul(data))?,
        }
        self.seen.push(kind);
        Ok(())
    }

    /// Returns the name from an extension, or else `short`, the name from the header.
    ///
    /// # Errors
    /// Returns a `Refused` error if an extension marks the entry as a sparse file or a dump.
    pub fn name<'a>(&'a self, short: &'a [u8]) -> Result<&'a [u8]> {
        let name = self.path.as_deref().unwrap_or(short);
        match &self.unwanted {
            Some(key) => {
                Err(violation(name, format!("has the extension {key:?}, which a release must not contain")))
            }
            None => Ok(name),
        }
    }

    /// Returns the link target from an extension, or else `short`, the target from the header.
    pub fn target<'a>(&'a self, short: &'a [u8]) -> &'a [u8] {
        self.target.as_deref().unwrap_or(short)
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<()> {
        match key {
            "path" => set_once(&mut self.path, value.to_owned()),
            "linkpath" => set_once(&mut self.target, value.to_owned()),
            "size" => {
                let size = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                let size =
                    size.and_then(|v| v.parse().ok()).ok_or_else(|| malformed("a size is not a number"))?;
                set_once(&mut self.size, size)
            }
            key if is_unwanted(key) => {
                self.unwanted = Some(key.to_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a second value, because programs differ in which one they use.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed("a name or size appears twice")),
    }
}

/// Returns whether the key belongs to a sparse file, including star's, or to a dump.
fn is_unwanted(key: &str) -> bool {
    key.starts_with("GNU.sparse.") || matches!(key, "GNU.dumpdir" | "SCHILY.realsize")
}

fn no_entry_in(records: &[PaxRecord<'_>]) -> Result<()> {
    let tells_an_entry = |key: &str| matches!(key, "path" | "linkpath" | "size") || is_unwanted(key);
    match records.iter().find(|(key, _)| tells_an_entry(key)) {
        Some((key, _)) => Err(malformed(&format!("{key:?} applies to all entries"))),
        None => Ok(()),
    }
}

fn read_data(size: u64, reader: &mut dyn Read) -> Result<Vec<u8>> {
    if size > EXTENSION_MAX {
        return Err(malformed("the data is larger than 64 KiB"));
    }
    let mut data = Vec::new();
    let padded = size.next_multiple_of(512);
    reader.take(padded).read_to_end(&mut data).map_err(damaged)?;
    if (data.len() as u64) < padded {
        return Err(damaged(ErrorKind::UnexpectedEof.into()));
    }
    data.truncate(usize::try_from(size).unwrap_or_default());
    Ok(data)
}

/// GNU tar ends a long name with a NUL and includes it in the size.
fn without_nul(mut data: Vec<u8>) -> Vec<u8> {
    if data.last() == Some(&0) {
        data.pop();
    }
    data
}

/// Splits a pax header into records of the form `LENGTH KEY=VALUE\n`, where LENGTH is that of the whole record.
fn records(mut data: &[u8]) -> Result<Vec<PaxRecord<'_>>> {
    let mut records = Vec::new();
    while !data.is_empty() {
        let (record, rest) = split_record(data).ok_or_else(|| malformed("a pax record is malformed"))?;
        records.push(record);
        data = rest;
    }
    Ok(records)
}

type PaxRecord<'a> = (&'a str, &'a [u8]);

fn split_record(data: &[u8]) -> Option<(PaxRecord<'_>, &[u8])> {
    let space = data.iter().position(|b| *b == b' ')?;
    let digits = data[..space].iter().all(u8::is_ascii_digit).then_some(&data[..space])?;
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let key = std::str::from_utf8(&record[..equals]).ok().filter(|key| !key.is_empty())?;
    Some(((key, &record[equals + 1..]), rest))
}

fn malformed(why: &str) -> Error {
    Error::refused(format!("the archive is damaged: in the extension of an entry, {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_are_split_by_length() {
        let table: [(&[u8], Option<Vec<PaxRecord<'_>>>); 12] = [
            (b"", Some(vec![])),
            (b"9 path=a\n", Some(vec![("path", b"a")])),
            (b"9 a=b\nc=d\n", None),
            (b"10 a=b\nc=\n", Some(vec![("a", b"b\nc=")])),
            (b"5 a=\n9 path=a\n", Some(vec![("a", b""), ("path", b"a")])),
            (b"4 =\n", None),
            (b"8 path=a\n", None),
            (b"11 path=a\n", None),
            (b"+9 path=a\n", None),
            (b" 9 path=a\n", None),
            (b"99999999999999999999 path=a\n", None),
            (b"0 ", None),
        ];
        for (data, expected) in table {
            assert_eq!(records(data).ok(), expected, "{:?}", String::from_utf8_lossy(data));
        }
    }
}
