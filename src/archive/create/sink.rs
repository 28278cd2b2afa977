//! Writes the entries of a new tar, in the format of GNU tar, or of a new zip.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use tar::{Builder, EntryType, Header};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::{Context, Result};

/// The deflate level: the highest.
pub const DEFLATE_LEVEL: u32 = 9;

/// The name of the entry for a link target that is too long for the next header.
const LONG: &[u8] = b"././@LongLink";

/// The largest file size without zip64 fields. Compression can make a larger file too long for the 32-bit fields.
const LARGE: u64 = 0xf000_0000;

/// The last second that a zip can store, since the epoch.
const LAST: u64 = 4_354_819_199;

/// Receives the entries of a new archive, in order.
pub trait Sink {
    fn directory(&mut self, path: &str, mode: u32) -> io::Result<()>;
    fn symlink(&mut self, path: &str, target: &str) -> io::Result<()>;
    fn file(&mut self, path: &str, mode: u32, size: u64, data: &mut dyn Read) -> io::Result<()>;
}

/// A tar that is being written.
pub struct TarSink<W: Write> {
    tar: Builder<W>,
    time: u64,
}

impl<W: Write> TarSink<W> {
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

impl<W: Write> Sink for TarSink<W> {
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

    fn file(&mut self, path: &str, mode: u32, size: u64, data: &mut dyn Read) -> io::Result<()> {
        let mut header = self.header(EntryType::Regular, mode, size);
        self.tar.append_data(&mut header, path, data)
    }
}

/// A zip that is being written.
pub struct ZipSink {
    /// Is dropped before the writer, which would otherwise finish an abandoned zip and print its errors.
    _guard: FailFastGuard,
    zip: ZipWriter<FailFastWriter<BufWriter<File>>>,
    options: SimpleFileOptions,
}

impl ZipSink {
    /// Creates a zip in `out`. Every entry has this time, as far as a zip can store it: from 1980 to 2107, in steps
    /// of two seconds.
    ///
    /// # Errors
    /// Never, because other times are replaced with the nearest one.
    pub fn new(out: BufWriter<File>, time: u64) -> Result<Self> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(DEFLATE_LEVEL.into()))
            .last_modified_time(moment(time).context(|| "cannot determine the time of the entries")?);
        let (out, guard) = FailFastWriter::new(out);
        Ok(Self { _guard: guard, zip: ZipWriter::new(out), options })
    }

    /// Writes the end.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn finish(self) -> io::Result<BufWriter<File>> {
        Ok(self.zip.finish()?.into_inner())
    }
}

impl Sink for ZipSink {
    fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let options = self.options.compression_method(CompressionMethod::Stored);
        Ok(self.zip.add_directory(path, options.compression_level(None).unix_permissions(mode))?)
    }

    fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let options = self.options.compression_level(None).unix_permissions(0o777);
        Ok(self.zip.add_symlink(path, target, options)?)
    }

    fn file(&mut self, path: &str, mode: u32, size: u64, data: &mut dyn Read) -> io::Result<()> {
        let options = self.options.unix_permissions(mode).large_file(size > LARGE);
        self.zip.start_file(path, options)?;
        io::copy(data, &mut self.zip).map(drop)
    }
}

/// Returns the time, or the nearest that a zip can store.
fn moment(time: u64) -> std::result::Result<DateTime, zip::result::DateTimeRangeError> {
    let told =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.min(LAST))).to_string();
    let mut numbers = told.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    let (year, month, day): (u16, u16, u16) = (next(), next(), next());
    let small = |n: u16| u8::try_from(n).unwrap_or_default();
    match year {
        ..1980 => Ok(DateTime::DEFAULT),
        _ => DateTime::from_date_and_time(
            year,
            small(month),
            small(day),
            small(next()),
            small(next()),
            small(next()),
        ),
    }
}

/// A file that is being written. It returns its first error. It then discards all writes without an error, so that
/// the cleanup after the first error reports nothing.
pub struct FailFastWriter<W> {
    out: W,
    at: u64,
    end: u64,
    shut: Rc<Cell<bool>>,
}

/// Stops the writer when it is dropped.
pub struct FailFastGuard(Rc<Cell<bool>>);

impl<W> FailFastWriter<W> {
    /// Creates a writer to the empty `out` that writes until the guard is dropped.
    pub fn new(out: W) -> (Self, FailFastGuard) {
        let shut = Rc::new(Cell::new(false));
        (Self { out, at: 0, end: 0, shut: Rc::clone(&shut) }, FailFastGuard(shut))
    }

    /// Returns the underlying writer.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn unless_shut<T>(&mut self, act: impl FnOnce(&mut W) -> io::Result<T>, otherwise: T) -> io::Result<T> {
        if self.shut.get() {
            return Ok(otherwise);
        }
        let done = act(&mut self.out);
        self.shut.set(done.as_ref().is_err_and(|e| e.kind() != ErrorKind::Interrupted));
        done
    }
}

impl<W: Write> Write for FailFastWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.unless_shut(|out| out.write(bytes), bytes.len())?;
        self.at += n as u64;
        self.end = self.end.max(self.at);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_shut(Write::flush, ())
    }
}

impl<W: Seek> Seek for FailFastWriter<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let there = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        let there = there.ok_or(ErrorKind::InvalidInput)?;
        self.at = self.unless_shut(|out| out.seek(SeekFrom::Start(there)), there)?;
        Ok(self.at)
    }
}

impl Drop for FailFastGuard {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_clamped_to_zip_range() {
        for (time, told) in [
            (0, "1980-01-01 00:00:00"),
            (315_532_800, "1980-01-01 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (u64::MAX, "2107-12-31 23:59:58"),
        ] {
            assert_eq!(moment(time).unwrap().to_string(), told, "{time}");
        }
    }
}
