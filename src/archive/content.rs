//! The data of entries on its way through: to the last byte, interruptible, its progress told.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use sha2::{Digest, Sha256};

use super::path::breach;
use crate::error::{Error, Result};
use crate::naming::Format;
use crate::tree::CHUNK;
use crate::watch::Watch;

/// How many bytes of an archive lie between two reports of progress.
const REPORT_EVERY: u64 = 1 << 20;
/// The largest window that a zstd frame may ask for, as a power of two: what `zstd -d` takes by itself.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The memory that an xz stream may ask for: a dictionary of 128 MiB, twice that of `xz -9`, and its overhead.
const XZ_MEMORY: u64 = 192 << 20;

/// What is known of the archive's bytes that went through.
#[derive(Default)]
pub struct Tally {
    /// How many were read.
    pub read: Cell<u64>,
    /// Their hash, where they are read in order and somebody wants it.
    pub hash: RefCell<Option<Sha256>>,
}

/// The bytes of the archive file. Reading never moves the position of the descriptor, which all passes share.
pub struct Input<'a> {
    file: &'a File,
    tally: &'a Tally,
    at: u64,
}

impl<'a> Input<'a> {
    /// Reads from the beginning.
    pub fn new(file: &'a File, tally: &'a Tally) -> Self {
        Self { file, tally, at: 0 }
    }

    /// The bytes after decompression, by the format of a tar.
    pub fn decoded(self, format: Format) -> io::Result<Box<dyn Read + 'a>> {
        let input = BufReader::with_capacity(CHUNK, self);
        Ok(match format {
            Format::Tar | Format::Zip => Box::new(input),
            Format::TarGz => Box::new(MultiGzDecoder::new(input)),
            Format::TarZst => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Format::TarXz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Box::new(XzDecoder::new_stream(input, stream))
            }
        })
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            match self.file.read_at(buffer, self.at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.at += n as u64;
        self.tally.read.set(self.tally.read.get() + n as u64);
        if let Some(hash) = self.tally.hash.borrow_mut().as_mut() {
            hash.update(&buffer[..n]);
        }
        Ok(n)
    }
}

impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Tells the watch how far a pass is, and learns from it whether to go on.
pub struct Meter<'a> {
    watch: &'a mut dyn Watch,
    tally: &'a Tally,
    total: u64,
    reported: u64,
    buffer: Vec<u8>,
}

impl<'a> Meter<'a> {
    /// Measures a pass over `total` bytes of archive.
    pub fn new(watch: &'a mut dyn Watch, tally: &'a Tally, total: u64) -> Self {
        Self { watch, tally, total, reported: 0, buffer: vec![0; CHUNK] }
    }

    /// Reports progress where there is enough of it.
    ///
    /// # Errors
    /// On interruption.
    pub fn tick(&mut self) -> Result<()> {
        let read = self.tally.read.get().min(self.total);
        if read >= self.reported + REPORT_EVERY || read == self.total && self.reported < read {
            self.watch.progress(read, self.total);
            self.reported = read;
        }
        self.watch.go_on()
    }

    /// Hands on all that the reader still has.
    ///
    /// # Errors
    /// When the reader or the receiver fails, or on interruption.
    pub fn rest(&mut self, reader: &mut dyn Read, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        loop {
            self.tick()?;
            match reader.read(&mut self.buffer).map_err(damaged)? {
                0 => return Ok(()),
                n => to(&self.buffer[..n])?,
            }
        }
    }
}

/// The data of one entry, as long as its archive says and no longer.
pub struct Content<'a, 'm> {
    name: &'a [u8],
    reader: &'a mut dyn Read,
    left: u64,
    meter: &'a mut Meter<'m>,
}

impl<'a, 'm> Content<'a, 'm> {
    /// The next `size` bytes of the reader.
    pub fn new(name: &'a [u8], reader: &'a mut dyn Read, size: u64, meter: &'a mut Meter<'m>) -> Self {
        Self { name, reader, left: size, meter }
    }

    /// Hands on all that is left.
    ///
    /// # Errors
    /// When it is damaged or cut short, when the receiver fails, or on interruption.
    pub fn each(&mut self, to: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.left > 0 {
            self.meter.tick()?;
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
            let n =
                self.reader.read(&mut self.meter.buffer[..most]).map_err(|e| damaged_entry(self.name, e))?;
            if n == 0 {
                return Err(damaged_entry(self.name, io::ErrorKind::UnexpectedEof.into()));
            }
            self.left -= n as u64;
            to(&self.meter.buffer[..n])?;
        }
        Ok(())
    }

    /// Reads what nobody wanted, then looks for the end, where decoders compare checksums.
    ///
    /// # Errors
    /// As [`Self::each`], and when more data follows.
    pub fn finish(mut self) -> Result<()> {
        self.each(&mut |_| Ok(()))?;
        match self.reader.read(&mut [0]).map_err(|e| damaged_entry(self.name, e))? {
            0 => Ok(()),
            _ => Err(breach(self.name, "is longer than it says")),
        }
    }
}

/// What a failure to read an archive means: a fault of its bytes, or of the disk under it.
pub fn damaged(error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::failed("cannot read the archive").because(error);
    }
    Error::refused(match error.kind() {
        io::ErrorKind::UnexpectedEof => "the archive is cut short".to_owned(),
        _ => format!("the archive is damaged: {}", printable(&error)),
    })
}

/// The same within the data of an entry.
pub fn damaged_entry(name: &[u8], error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return damaged(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => breach(name, "is cut short"),
        _ => breach(name, format!("is damaged: {}", printable(&error))),
    }
}

/// Decoders repeat bytes of the archive, which a terminal might obey.
fn printable(error: &io::Error) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    error.to_string().chars().map(escape).collect()
}
