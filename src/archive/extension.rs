//! Reads the tar headers that extend the next entry: pax records and the long names of GNU tar.

use std::io::Read;

use super::fault::damaged;
use super::path::violation;
use crate::error::{Error, Result};

/// The maximum size of an extension, in bytes. A path takes at most 4 KiB.
const SIZE_MAX: u64 = 64 * 1024;

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
    if size > SIZE_MAX {
        return Err(malformed("the data is larger than 64 KiB"));
    }
    let mut data = Vec::new();
    let padded = size.next_multiple_of(512);
    reader.take(padded).read_to_end(&mut data).map_err(damaged)?;
    if (data.len() as u64) < padded {
        return Err(damaged(std::io::ErrorKind::UnexpectedEof.into()));
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
