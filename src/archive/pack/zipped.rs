//! Writes a zip.

use std::fs::File;
use std::io::{self, BufWriter};
use std::time::{Duration, UNIX_EPOCH};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::fail_fast::{FailFastGuard, FailFastWriter};
use super::{DEFLATE_LEVEL, Sink, Source};
use crate::error::{Context, Result};

/// The largest file size without zip64 fields. Compression can make a larger file too long for the 32-bit fields.
const LARGE: u64 = 0xf000_0000;

/// The last second that a zip can store, since the epoch.
const LAST: u64 = 4_354_819_199;

/// A zip that is being written.
pub struct Zipped {
    /// Is dropped before the writer, which would otherwise finish an abandoned zip and print its errors.
    _guard: FailFastGuard,
    zip: ZipWriter<FailFastWriter<BufWriter<File>>>,
    options: SimpleFileOptions,
}

impl Zipped {
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

impl Sink for Zipped {
    fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let options = self.options.compression_method(CompressionMethod::Stored);
        Ok(self.zip.add_directory(path, options.compression_level(None).unix_permissions(mode))?)
    }

    fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let options = self.options.compression_level(None).unix_permissions(0o777);
        Ok(self.zip.add_symlink(path, target, options)?)
    }

    fn file(&mut self, path: &str, mode: u32, source: &mut Source<'_, '_>) -> io::Result<()> {
        let options = self.options.unix_permissions(mode).large_file(source.size > LARGE);
        self.zip.start_file(path, options)?;
        io::copy(source, &mut self.zip).map(drop)
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
