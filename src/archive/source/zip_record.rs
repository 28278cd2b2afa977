//! Reads the records of one entry of a zip: the one in the central directory, and the local header that repeats it.

use crate::archive::input::corrupt;
use crate::archive::rules::violation;
use crate::archive::unpack::PackedData;
use crate::error::{Error, Result};

const LISTED: &[u8; 4] = b"PK\x01\x02";
const LOCAL: &[u8; 4] = b"PK\x03\x04";
const DESCRIPTOR: &[u8; 4] = b"PK\x07\x08";
/// The size of the fixed part of a local header, in bytes.
pub const LOCAL_SIZE: usize = 30;
/// The value of a header field whose actual value is in an extra field.
const ELSEWHERE: u32 = 0xffff_ffff;

const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const DESCRIBED: u16 = 1 << 3;
/// The flags that decide how to read an entry. The others describe how it was compressed.
const MEANING: u16 = ENCRYPTED | DESCRIBED | 1 << 11;

const ZIP64: u16 = 1;
const UNICODE_PATH: u16 = 0x7075;

/// One entry, as the central directory lists it.
#[derive(Debug)]
pub struct CentralEntry {
    pub name: Vec<u8>,
    /// The offset of its local header, in bytes.
    pub at: u64,
    /// The compressed size in bytes.
    pub packed: u64,
    pub size: u64,
    pub crc: u32,
    /// Whether the data is deflated; otherwise it is stored.
    pub deflated: bool,
    /// The type and permission bits; 0 if the writer did not know them.
    pub mode: u32,
    flags: u16,
    time: u32,
}

impl CentralEntry {
    /// Reads the next entry of the central directory.
    ///
    /// # Errors
    /// Returns a `Refused` error if it is damaged, encrypted, compressed by another method, or has two names or
    /// sizes.
    pub fn read(fields: &mut Fields<'_>) -> Result<Self> {
        let (fixed, name, extra) =
            split_listed(fields).ok_or_else(|| corrupt("its central directory is malformed"))?;
        let [size, packed, at] = Extra::read(name, extra)?.resolve([fixed.size, fixed.packed, fixed.at])?;
        let deflated = match fixed.method {
            _ if fixed.flags & ENCRYPTED != 0 => return Err(violation(name, "is encrypted")),
            0 if packed == size => false,
            0 => return Err(violation(name, "has two sizes")),
            8 => true,
            other => {
                return Err(violation(name, format!("uses the unsupported compression method {other}")));
            }
        };
        let (flags, time, crc) = (fixed.flags, fixed.time, fixed.crc);
        Ok(Self { name: name.to_owned(), at, packed, size, crc, deflated, mode: fixed.mode, flags, time })
    }

    /// Checks the fixed part of the local header, and returns it with the lengths of the rest.
    ///
    /// # Errors
    /// Returns a `Refused` error if the header differs from the entry.
    pub fn check_local(&self, fixed: &[u8]) -> Result<Local> {
        let local = Local::read(fixed).ok_or_else(|| violation(&self.name, "has no header"))?;
        let method = if self.deflated { 8 } else { 0 };
        let same = (local.flags & MEANING, local.method, local.time, local.name_length)
            == (self.flags & MEANING, method, self.time, self.name.len());
        // If a data descriptor follows the data, the header may omit the CRC.
        let crc = local.crc == self.crc || self.is_described() && local.crc == 0;
        if same && crc { Ok(local) } else { Err(self.unlike()) }
    }

    /// Checks the rest of the local header: the name and the extra fields.
    ///
    /// # Errors
    /// Returns a `Refused` error if the header differs from the entry.
    pub fn check_names(&self, local: &Local, name: &[u8], extra: &[u8]) -> Result<()> {
        let told = Extra::read(&self.name, extra)?.resolve([local.size, local.packed])?;
        let unknown = told == [0, 0] && self.is_described();
        let same = name == self.name && (unknown || told == [self.size, self.packed]);
        if same { Ok(()) } else { Err(self.unlike()) }
    }

    /// Checks the bytes between the data and the next header: a data descriptor, or nothing.
    ///
    /// # Errors
    /// Returns a `Refused` error for all other bytes.
    pub fn check_described(&self, bytes: &[u8]) -> Result<()> {
        let mut fields = Fields(bytes);
        if matches!(bytes.len(), 16 | 24) && fields.bytes(4) != Some(DESCRIPTOR) {
            return Err(self.stray());
        }
        let crc = fields.u32();
        let (packed, size) = match fields.0.len() {
            8 => (fields.u32().map(u64::from), fields.u32().map(u64::from)),
            16 => (fields.u64(), fields.u64()),
            _ if bytes.is_empty() && !self.is_described() => return Ok(()),
            _ => return Err(self.stray()),
        };
        let agrees = (crc, packed, size) == (Some(self.crc), Some(self.packed), Some(self.size));
        match self.is_described() {
            true if agrees => Ok(()),
            true => Err(self.unlike()),
            false => Err(self.stray()),
        }
    }

    /// Returns how to unpack the data.
    pub fn packing(&self) -> PackedData {
        let (deflated, crc) = (self.deflated, Some(self.crc));
        PackedData { length: self.packed, size: self.size, deflated, crc, ahead: None }
    }

    fn is_described(&self) -> bool {
        self.flags & DESCRIBED != 0
    }

    fn unlike(&self) -> Error {
        violation(&self.name, "has a header that differs from the central directory")
    }

    fn stray(&self) -> Error {
        violation(&self.name, "is followed by bytes that belong to no entry")
    }
}

/// The fixed fields of a central directory record.
struct Fixed {
    flags: u16,
    method: u16,
    time: u32,
    crc: u32,
    packed: u32,
    size: u32,
    at: u32,
    mode: u32,
}

fn split_listed<'a>(fields: &mut Fields<'a>) -> Option<(Fixed, &'a [u8], &'a [u8])> {
    fields.bytes(4).filter(|magic| magic == LISTED)?;
    let (writer, _needed) = (fields.u16()?, fields.u16()?);
    let (flags, method, time) = (fields.u16()?, fields.u16()?, fields.u32()?);
    let (crc, packed, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let lengths = [fields.u16()?, fields.u16()?, fields.u16()?].map(usize::from);
    let (part, _internal, external) = (fields.u16()?, fields.u16()?, fields.u32()?);
    let at = fields.u32()?;
    let [name, extra, _comment] =
        [fields.bytes(lengths[0])?, fields.bytes(lengths[1])?, fields.bytes(lengths[2])?];
    // Unix and macOS store the mode in the upper half.
    let mode = if matches!(writer >> 8, 3 | 19) { external >> 16 } else { 0 };
    (part == 0).then_some((Fixed { flags, method, time, crc, packed, size, at, mode }, name, extra))
}

/// The local header of an entry.
pub struct Local {
    /// The length of the name, in bytes.
    pub name_length: usize,
    /// The length of the extra fields, in bytes.
    pub extra_length: usize,
    flags: u16,
    method: u16,
    time: u32,
    crc: u32,
    packed: u32,
    size: u32,
}

impl Local {
    fn read(fixed: &[u8]) -> Option<Self> {
        let mut fields = Fields(fixed);
        fields.bytes(4).filter(|magic| magic == LOCAL)?;
        let _needed = fields.u16()?;
        let (flags, method, time) = (fields.u16()?, fields.u16()?, fields.u32()?);
        let (crc, packed, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name_length, extra_length) = (fields.u16()?.into(), fields.u16()?.into());
        Some(Self { name_length, extra_length, flags, method, time, crc, packed, size })
    }
}

/// The extra fields that change the meaning of an entry.
struct Extra<'a> {
    name: &'a [u8],
    /// The values that are too large for their fields.
    zip64: Option<&'a [u8]>,
}

impl<'a> Extra<'a> {
    fn read(name: &'a [u8], bytes: &'a [u8]) -> Result<Self> {
        let (mut zip64, mut named) = (None, false);
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            let (tag, length) = (fields.u16(), fields.u16());
            let data = length.and_then(|n| fields.bytes(n.into()));
            let data = data.ok_or_else(|| violation(name, "has a malformed extra field"))?;
            let twice = match tag {
                Some(ZIP64) => zip64.replace(data).is_some(),
                // The field contains a version, a checksum, and the name.
                Some(UNICODE_PATH) if data.get(5..) != Some(name) => {
                    return Err(violation(name, "has another name in an extra field"));
                }
                Some(UNICODE_PATH) => std::mem::replace(&mut named, true),
                _ => false,
            };
            if twice {
                return Err(violation(name, "has the same extra field twice"));
            }
        }
        Ok(Self { name, zip64 })
    }

    /// Returns the actual values of these fields. Some writers store only the large ones here, others all.
    fn resolve<const N: usize>(&self, short: [u32; N]) -> Result<[u64; N]> {
        let Some(zip64) = self.zip64 else { return Ok(short.map(u64::from)) };
        let long: Vec<u64> = zip64.chunks_exact(8).filter_map(|bytes| Fields(bytes).u64()).collect();
        let large = short.iter().filter(|field| **field == ELSEWHERE).count();
        let mut given = long.iter().copied();
        let resolved = if long.len() == large {
            short.map(|field| if field == ELSEWHERE { given.next() } else { Some(field.into()) })
        } else {
            short.map(|field| match given.next() {
                Some(long) => Some(long).filter(|long| field == ELSEWHERE || *long == u64::from(field)),
                None => Some(field.into()).filter(|_| field != ELSEWHERE),
            })
        };
        match resolved.iter().all(Option::is_some) {
            true => Ok(resolved.map(Option::unwrap_or_default)),
            false => Err(violation(self.name, "has two sizes")),
        }
    }
}

/// The little-endian fields that are left to read. A field that exceeds the bytes is `None`.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// Returns the next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    /// Returns the next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes(2)?.try_into().ok()?))
    }

    /// Returns the next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// Returns the next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }
}
