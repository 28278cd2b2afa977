//! Writes a tar in the format of GNU tar.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use super::{Sink, Source};

/// The name of the entry for a link target that is too long for the next header.
const LONG: &[u8] = b"././@LongLink";

/// A tar that is being written.
pub struct Tarred<W: Write> {
    tar: Builder<W>,
    time: u64,
}

impl<W: Write> Tarred<W> {
    /// Creates a tar in `out`. Every entry has this time, in seconds since the epoch.
    pub fn new(out: W, time: u64) -> Self {
        Self { tar: Builder::new(out), time }
    }

    /// Writes the end.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header
    }
}

impl<W: Write> Sink for Tarred<W> {
    fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, mode, 0);
        self.tar.append_data(&mut header, format!("{path}/"), io::empty())
    }

    fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        // Write the target verbatim: the builder's own method drops slashes and dots.
        if header.set_link_name_literal(target).is_err() {
            let text = [target.as_bytes(), b"\0"].concat();
            let mut long = self.header(EntryType::GNULongLink, 0o644, text.len() as u64);
            long.as_old_mut().name[..LONG.len()].copy_from_slice(LONG);
            long.set_cksum();
            self.tar.append(&long, text.as_slice())?;
        }
        self.tar.append_data(&mut header, path, io::empty())
    }

    fn file(&mut self, path: &str, mode: u32, source: &mut Source<'_, '_>) -> io::Result<()> {
        let mut header = self.header(EntryType::Regular, mode, source.size);
        self.tar.append_data(&mut header, path, source)
    }
}
