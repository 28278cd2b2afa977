//! Reads a file to pack: exactly as many bytes as it had when it was opened.

use std::fs::File;
use std::io::{self, Read};

use crate::error::{Context, Result};
use crate::fs::WalkEntry;
use crate::progress::Count;

/// A file to be packed.
pub struct Source<'a, 'w> {
    file: File,
    /// Its size in bytes.
    pub size: u64,
    left: u64,
    count: &'a mut Count<'w>,
}

impl<'a, 'w> Source<'a, 'w> {
    /// Opens a file of a walk. `count` receives the number of bytes read.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn open(found: &WalkEntry<'_>, count: &'a mut Count<'w>) -> Result<Self> {
        let file = found.open().context(|| "cannot open it")?;
        let size = file.metadata().context(|| "cannot inspect it")?.len();
        Ok(Self { file, size, left: size, count })
    }

    /// Checks that the whole file was read.
    ///
    /// # Errors
    /// Returns an error if the file became shorter or longer meanwhile.
    pub fn finish(mut self) -> io::Result<()> {
        let more = self.file.read(&mut [0])?;
        if self.left == 0 && more == 0 { Ok(()) } else { Err(changed()) }
    }
}

impl Read for Source<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.file.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(changed());
        }
        self.left -= n as u64;
        self.count.pass(n as u64).map_err(io::Error::other)?;
        Ok(n)
    }
}

fn changed() -> io::Error {
    io::Error::other("it was changed while it was packed")
}
