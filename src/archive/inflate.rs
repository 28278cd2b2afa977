//! Unpacks the data of one entry, exactly to its last byte.

use std::io;

use blake3::Hasher;
use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::input::damaged_entry;
use super::rules::violation;
use crate::error::Result;
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
