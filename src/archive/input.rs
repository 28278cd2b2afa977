//! Reads the bytes of the archive file once and in order, and hashes them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use sha2::{Digest, Sha256};

use super::fault::damaged;
use crate::error::Result;
use crate::naming::ArchiveFormat;
use crate::tree::CHUNK;

/// The maximum window size of a zstd frame, as a power of two. It is the default limit of `zstd -d`.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The memory limit of an xz stream: a dictionary of 128 MiB, twice that of `xz -9`, and its overhead.
const XZ_MEMORY: u64 = 192 << 20;

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
    pub fn into_sha256(self) -> String {
        let sums = self.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        sums.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
    ledger: &'a InputDigest<'l>,
}

impl<'a, 'l> Input<'a, 'l> {
    /// Returns a reader that starts where `ledger` ends.
    pub fn new(file: &'a File, ledger: &'a InputDigest<'l>) -> Self {
        Self { file, ledger }
    }

    /// Returns this reader with a buffer of `CHUNK` bytes.
    pub fn buffered(self) -> BufReader<Self> {
        BufReader::with_capacity(CHUNK, self)
    }
}

impl Read for Input<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = read_at(self.file, buffer, self.ledger.read.load(Ordering::Relaxed))?;
        self.ledger.note(&buffer[..n]);
        Ok(n)
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
    let mut done = 0;
    while done < buffer.len() {
        match read_at(file, &mut buffer[done..], from + done as u64).map_err(damaged)? {
            0 => return Err(damaged(io::ErrorKind::UnexpectedEof.into())),
            n => done += n,
        }
    }
    Ok(())
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
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
