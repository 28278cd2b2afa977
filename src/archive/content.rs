//! The data of one entry of a tar on its way through.

use std::io::{self, BufRead};

use super::fault::damaged_entry;
use super::meter::Meter;
use crate::error::Result;

/// Hands on the next `size` bytes of the reader.
///
/// # Errors
/// When they are damaged or cut short, when the receiver fails, or on interruption.
pub fn pass(
    name: &[u8],
    reader: &mut dyn BufRead,
    size: u64,
    meter: &mut Meter<'_>,
    to: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut left = size;
    while left > 0 {
        meter.tick()?;
        let bytes = reader.fill_buf().map_err(|e| damaged_entry(name, e))?;
        if bytes.is_empty() {
            return Err(damaged_entry(name, io::ErrorKind::UnexpectedEof.into()));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        to(&bytes[..most])?;
        reader.consume(most);
        left -= most as u64;
    }
    Ok(())
}
