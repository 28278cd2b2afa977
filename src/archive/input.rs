//! Reads the bytes of an archive once and in order: hashes them, decompresses them on another thread, reports the
//! progress, and names the fault if they cannot be read.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use sha2::{Digest, Sha256};

use super::rules::violation;
use crate::error::{Error, Result};
use crate::naming::ArchiveFormat;
use crate::progress::Progress;
use crate::tree::CHUNK;

/// The maximum window size of a zstd frame, as a power of two. It is the default limit of `zstd -d`.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The memory limit of an xz stream: a dictionary of 128 MiB, twice that of `xz -9`, and its overhead.
const XZ_MEMORY: u64 = 192 << 20;

/// The size of a piece, in bytes.
const PIECE: usize = 256 << 10;
/// The maximum number of pieces that wait to be read.
const AHEAD: usize = 8;

/// The number of bytes between two progress reports.
const REPORT_EVERY: u64 = 1 << 20;

/// A callback that receives every byte of an archive, in order.
pub type Also<'a> = dyn FnMut(&[u8]) + Send + 'a;

/// The number and digest of the bytes read so far, shared by the threads that read and that report progress.
pub struct InputDigest<'a> {
    /// The number of bytes read so far.
    pub read: AtomicU64,
    sums: Mutex<Sums<'a>>,
}

struct Sums<'a> {
    sha256: Sha256,
    also: &'a mut Also<'a>,
}

impl<'a> InputDigest<'a> {
    /// Returns the digest of no bytes. `also` receives every byte that is read.
    pub fn new(also: &'a mut Also<'a>) -> Self {
        Self { read: AtomicU64::new(0), sums: Mutex::new(Sums { sha256: Sha256::new(), also }) }
    }

    /// Returns the SHA-256 of the bytes read, in lowercase hex.
    pub fn sha256(&self) -> String {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.sha256.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn note(&self, bytes: &[u8]) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.sha256.update(bytes);
        (sums.also)(bytes);
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

/// A reader that adds every byte to the digest. The descriptor's offset does not change.
pub struct Input<'a, 'l> {
    file: &'a File,
    digest: &'a InputDigest<'l>,
}

impl<'a, 'l> Input<'a, 'l> {
    /// Returns a reader that starts where `digest` ends.
    pub fn new(file: &'a File, digest: &'a InputDigest<'l>) -> Self {
        Self { file, digest }
    }

    /// Returns this reader with a buffer of `CHUNK` bytes.
    pub fn buffered(self) -> BufReader<Self> {
        BufReader::with_capacity(CHUNK, self)
    }
}

impl Read for Input<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, self.digest.read.load(Ordering::Relaxed)) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    self.digest.note(&buffer[..n]);
                    return Ok(n);
                }
            }
        }
    }
}

/// Returns a reader that decompresses a tar of this format.
///
/// # Errors
/// Returns an error if memory for a decoder cannot be allocated.
pub fn decoded<'a>(
    input: impl BufRead + Send + 'a,
    format: ArchiveFormat,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match format {
        ArchiveFormat::Tar | ArchiveFormat::Zip => Box::new(input),
        ArchiveFormat::TarGz => Box::new(MultiGzDecoder::new(input)),
        ArchiveFormat::TarZst => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        ArchiveFormat::TarXz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
    })
}

/// Reads a part of the file out of order. It is added to the digest only when it is read again in order.
///
/// # Errors
/// Returns a `Failed` error if the file cannot be read, and a `Refused` error if it is truncated.
pub fn read_ahead(file: &File, from: u64, buffer: &mut [u8]) -> Result<()> {
    file.read_exact_at(buffer, from).map_err(damaged)
}

/// Passes the rest of a reader to `each`.
///
/// # Errors
/// Returns an error if the reader fails, and the errors of `each`.
pub fn drain(reader: &mut dyn BufRead, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    loop {
        let bytes = reader.fill_buf().map_err(damaged)?;
        if bytes.is_empty() {
            return Ok(());
        }
        each(bytes)?;
        let n = bytes.len();
        reader.consume(n);
    }
}

/// A buffer of fixed size, and the number of bytes filled.
#[derive(Default)]
struct Piece {
    buffer: Vec<u8>,
    filled: usize,
}

/// The reading end of the pipe.
pub struct Pipe {
    full: Receiver<io::Result<Piece>>,
    /// Used buffers return to the thread.
    spent: SyncSender<Vec<u8>>,
    piece: Piece,
    at: usize,
}

impl Pipe {
    /// Starts to read ahead. The thread ends with `reader`, at its first error, or when the pipe is dropped.
    pub fn new<'scope>(scope: &'scope Scope<'scope, '_>, mut reader: Box<dyn Read + Send + 'scope>) -> Self {
        let (filled, full) = sync_channel(AHEAD);
        let (spent, empty) = sync_channel::<Vec<u8>>(AHEAD + 1);
        scope.spawn(move || {
            loop {
                let buffer = empty.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
                let (piece, error) = fill(&mut *reader, buffer);
                let last = piece.filled < PIECE;
                if filled.send(Ok(piece)).is_err() {
                    break;
                }
                if let Some(error) = error {
                    // The consumer may have dropped the pipe.
                    let _ = filled.send(Err(error));
                }
                if last {
                    break;
                }
            }
        });
        Self { full, spent, piece: Piece::default(), at: 0 }
    }
}

/// Fills a buffer. Only the last buffer, or the buffer before an error, is not full.
fn fill(reader: &mut dyn Read, mut buffer: Vec<u8>) -> (Piece, Option<io::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (Piece { buffer, filled }, Some(e)),
        }
    }
    (Piece { buffer, filled }, None)
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.filled {
            // The thread closes the channel after its last piece.
            let Ok(next) = self.full.recv() else { return Ok(&[]) };
            let spent = std::mem::replace(&mut self.piece, next?).buffer;
            // If the channel is full, the thread allocates a new buffer.
            let _ = if spent.is_empty() { Ok(()) } else { self.spent.try_send(spent) };
            self.at = 0;
        }
        Ok(&self.piece.buffer[self.at..self.piece.filled])
    }

    fn consume(&mut self, amount: usize) {
        self.at = (self.at + amount).min(self.piece.filled);
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let n = bytes.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

/// A progress meter for one reading of an archive.
pub struct ProgressMeter<'a> {
    progress: &'a mut dyn Progress,
    read: &'a AtomicU64,
    total: u64,
    reported: u64,
}

impl<'a> ProgressMeter<'a> {
    /// Returns a meter for a reading of `total` bytes; `read` counts the bytes read so far.
    pub fn new(progress: &'a mut dyn Progress, read: &'a AtomicU64, total: u64) -> Self {
        Self { progress, read, total, reported: 0 }
    }

    /// Reports progress if enough bytes were read since the last report.
    ///
    /// # Errors
    /// Returns an error on interruption.
    pub fn tick(&mut self) -> Result<()> {
        let read = self.read.load(Ordering::Relaxed).min(self.total);
        if read >= self.reported + REPORT_EVERY || read == self.total && self.reported < read {
            self.progress.advance(read, self.total);
            self.reported = read;
        }
        self.progress.go_on()
    }
}

/// Returns the error for a failed read: `Failed` if the operating system reports it, `Refused` if the bytes are
/// damaged.
pub fn damaged(error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::failed("cannot read the archive").because(error);
    }
    Error::refused(match error.kind() {
        io::ErrorKind::UnexpectedEof => "the archive is truncated".to_owned(),
        _ if asks_too_much(&error) => {
            "the archive needs more than 128 MiB of memory to be decoded".to_owned()
        }
        _ => format!("the archive is damaged: {}", printable(&error)),
    })
}

/// Returns the error for a failed read in the data of an entry, like [`damaged`].
pub fn damaged_entry(name: &[u8], error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return damaged(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => violation(name, "is truncated"),
        _ => violation(name, format!("is damaged: {}", printable(&error))),
    }
}

/// Returns a `Refused` error for a damaged archive.
pub fn corrupt(why: impl Display) -> Error {
    Error::refused(format!("the archive is damaged: {why}"))
}

/// Returns whether a decoder needs a larger window or dictionary than allowed. The zstd decoder reports this only in
/// its message.
fn asks_too_much(error: &io::Error) -> bool {
    let limit = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    limit == Some(&liblzma::stream::Error::MemLimit)
        || error.to_string() == "Frame requires too much memory for decoding"
}

/// Decoders' messages repeat bytes of the archive, which may be terminal escape sequences.
fn printable(error: &io::Error) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    error.to_string().chars().map(escape).collect()
}
