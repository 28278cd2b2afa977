//! The data of one file, on its way to the disk or nowhere; any thread may take it along.

use std::fs::File;

use blake3::Hasher;

use super::writer::Slot;
use crate::error::Result;
use crate::tree::Sum;

/// A file that has still to be read.
pub struct Body {
    /// Where it stands in the archive.
    pub path: String,
    /// The permission bits that it gets.
    pub mode: u32,
    /// Seconds since the epoch.
    pub mtime: Option<u64>,
    /// Where it is written; nowhere while an archive is only looked through.
    pub slot: Option<Slot>,
    /// Whether its text is wanted as well.
    pub wanted: bool,
}

/// A file whose data is going through.
pub struct Filling {
    body: Body,
    file: Option<File>,
    hash: Hasher,
    text: Option<Vec<u8>>,
}

/// A file whose data went through.
#[derive(Debug)]
pub struct Filled {
    /// Where it stands in the archive.
    pub path: String,
    /// What was written; nothing worth while an archive is only looked through.
    pub sum: Sum,
    /// Its text, where that was wanted.
    pub text: Option<Vec<u8>>,
}

impl Body {
    /// Creates the file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn open(self) -> Result<Filling> {
        let file = self.slot.as_ref().map(|slot| slot.create(self.mode)).transpose()?;
        let text = self.wanted.then(Vec::new);
        Ok(Filling { body: self, file, hash: Hasher::new(), text })
    }
}

impl Filling {
    /// Takes the next part of the data.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(text) = &mut self.text {
            text.extend_from_slice(bytes);
        }
        let (Some(slot), Some(file)) = (&self.body.slot, &self.file) else { return Ok(()) };
        self.hash.update(bytes);
        slot.write(file, bytes)
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When its mode, owner or time cannot be set.
    pub fn close(self) -> Result<Filled> {
        if let (Some(slot), Some(file)) = (&self.body.slot, &self.file) {
            slot.keep(file, self.body.mode, self.body.mtime)?;
        }
        Ok(Filled { path: self.body.path, sum: Sum::of(&self.hash), text: self.text })
    }
}
