//! The data of one entry of a zip, unpacked to its last byte and no further.

use std::io;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::record::{Listed, Method};
use crate::archive::fault::damaged_entry;
use crate::archive::path::breach;
use crate::error::Result;

/// How much is handed on at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// Unpacks entries one after the other.
pub struct Inflater {
    state: Decompress,
    buffer: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(false), buffer: vec![0; BUFFER] }
    }
}

/// Whoever takes what was unpacked.
type To<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

impl Inflater {
    /// Unpacks an entry from the pieces of its data.
    ///
    /// # Errors
    /// When it is damaged, is not as long as it says or has another checksum; else as `to`.
    pub fn inflate(
        &mut self,
        listed: &Listed,
        pieces: impl Iterator<Item = impl AsRef<[u8]>>,
        to: &mut To<'_>,
    ) -> Result<()> {
        let name = listed.name.as_slice();
        let (mut crc, mut size) = (Crc::new(), 0);
        let mut check = |bytes: &[u8]| {
            size += bytes.len() as u64;
            if size > listed.size {
                return Err(breach(name, "is longer than it says"));
            }
            crc.update(bytes);
            to(bytes)
        };
        match listed.method {
            Method::Stored => pieces.into_iter().try_for_each(|piece| check(piece.as_ref()))?,
            Method::Deflated => self.run(name, pieces, &mut check)?,
        }
        if size < listed.size {
            return Err(damaged_entry(name, io::ErrorKind::UnexpectedEof.into()));
        }
        if crc.sum() == listed.crc { Ok(()) } else { Err(breach(name, "is damaged: its checksum is wrong")) }
    }

    fn run(
        &mut self,
        name: &[u8],
        pieces: impl Iterator<Item = impl AsRef<[u8]>>,
        to: &mut To<'_>,
    ) -> Result<()> {
        self.state.reset(false);
        let (mut filled, mut ended) = (0, false);
        for piece in pieces {
            let mut rest = piece.as_ref();
            loop {
                if ended && !rest.is_empty() {
                    return Err(breach(name, "holds something behind the end of its data"));
                }
                let (used, made, end) = self.step(name, rest, filled)?;
                rest = &rest[used..];
                filled += made;
                ended = end;
                // A full buffer may leave some of the data where it cannot be seen.
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

    /// How many bytes were used, how many made, and whether the data is at its end.
    fn step(&mut self, name: &[u8], input: &[u8], filled: usize) -> Result<(usize, usize, bool)> {
        let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
        let status = self.state.decompress(input, &mut self.buffer[filled..], FlushDecompress::None);
        let status = status.map_err(|e| damaged_entry(name, e.into()))?;
        let used = usize::try_from(self.state.total_in() - before_in).unwrap_or_default();
        let made = usize::try_from(self.state.total_out() - before_out).unwrap_or_default();
        if used == 0 && made == 0 && !input.is_empty() && status != Status::StreamEnd {
            return Err(breach(name, "is damaged: its data leads nowhere"));
        }
        Ok((used, made, status == Status::StreamEnd))
    }
}
