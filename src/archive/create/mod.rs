//! Creates an archive of a directory. The same files yield the same bytes for every user, on every host and at any
//! time.
//!
//! Entries are sorted by path and lie in one top directory. They belong to user and group 0 and have the same time.
//! Only the owner's mode bits count: all users get the owner's read and execute bits, so that the umask does not
//! change the archive.

mod sink;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use nix::sys::stat::SFlag;

use self::sink::{DEFLATE_LEVEL, Sink, TarSink, ZipSink};
use crate::error::{Context, Error, Result};
use crate::fs::{WalkEntry, walk};
use crate::naming::ArchiveFormat;
use crate::progress::Count;

/// The zstd level: the highest before it becomes slow. For releases of 120 and 250 MB, level 19 is an eighth smaller
/// but takes more than twenty times as long.
const ZSTD_LEVEL: i32 = 12;
/// The operating system in a gzip header: unknown (RFC 1952).
const GZIP_UNKNOWN: u8 = 255;

/// How to pack a directory.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The archive format.
    pub format: ArchiveFormat,
    /// The top directory of all entries.
    pub top: &'a str,
    /// The time of every entry, in seconds since the epoch.
    pub time: u64,
}

/// Packs the contents of the directory `from` into `to`, an empty file that is open for writing. The caller must
/// refuse contents that no release may have. `count` receives the number of bytes read.
///
/// # Errors
/// Returns an error if a file cannot be read or written, if it changes meanwhile, or on interruption.
pub fn pack(from: &Path, to: File, recipe: Recipe<'_>, count: &mut Count<'_>) -> Result<File> {
    let to = io::BufWriter::with_capacity(1 << 20, to);
    let whole = || "cannot write the archive";
    let mut out = match recipe.format {
        ArchiveFormat::Zip => {
            let mut sink = ZipSink::new(to, recipe.time)?;
            fill(from, recipe.top, &mut sink, count)?;
            sink.finish().context(whole)?
        }
        ArchiveFormat::TarGz => {
            let gzip = GzBuilder::new().mtime(0).operating_system(GZIP_UNKNOWN);
            let mut sink = TarSink::new(gzip.write(to, Compression::new(DEFLATE_LEVEL)), recipe.time);
            fill(from, recipe.top, &mut sink, count)?;
            sink.finish().and_then(flate2::write::GzEncoder::finish).context(whole)?
        }
        ArchiveFormat::TarZst => {
            let mut sink = TarSink::new(zstd(to).context(whole)?, recipe.time);
            fill(from, recipe.top, &mut sink, count)?;
            sink.finish().and_then(zstd::Encoder::finish).context(whole)?
        }
        ArchiveFormat::Tar | ArchiveFormat::TarXz => {
            return Err(Error::refused("use .tar.zst, .tar.gz or .zip"));
        }
    };
    out.flush().context(whole)?;
    out.into_inner().map_err(io::IntoInnerError::into_error).context(whole)
}

/// Creates an encoder with a checksum and threads. The number of threads does not change the output.
fn zstd<W: Write>(to: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(to, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    Ok(encoder)
}

fn fill(from: &Path, top: &str, sink: &mut dyn Sink, count: &mut Count<'_>) -> Result<()> {
    sink.directory(top, 0o755).context(|| "cannot write the archive")?;
    walk(from, &mut |found| {
        let cannot_pack = || format!("cannot pack {}", from.join(found.path).display());
        add(found, top, sink, count).context(cannot_pack)
    })
}

fn add(found: &WalkEntry<'_>, top: &str, sink: &mut dyn Sink, count: &mut Count<'_>) -> Result<()> {
    count.pass(0)?;
    let path = found.path.to_str().ok_or_else(|| Error::refused("its name is not UTF-8"))?;
    let path = format!("{top}/{path}");
    match found.kind() {
        SFlag::S_IFDIR => sink.directory(&path, shared(found.stat.st_mode | 0o500)),
        SFlag::S_IFREG => {
            let mut source = Source::open(found, count)?;
            let added = sink.file(&path, shared(found.stat.st_mode | 0o400), source.size, &mut source);
            added.and_then(|()| source.finish())
        }
        SFlag::S_IFLNK => {
            let target = found.target().context(|| "cannot read the link")?;
            let target = target.to_str().ok_or_else(|| Error::refused("its target is not UTF-8"))?;
            sink.symlink(&path, target)
        }
        _ => return Err(Error::refused("it is a device, pipe or socket")),
    }
    .context(|| "cannot write the archive")
}

/// Derives the mode from the owner's bits: all users get the owner's read and execute bits.
fn shared(mode: u32) -> u32 {
    let others = mode & 0o500;
    mode & 0o700 | others >> 3 | others >> 6
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_do_not_depend_on_umask() {
        for (mode, expected) in [
            (0o644, 0o644),
            (0o600, 0o644),
            (0o664, 0o644),
            (0o4755, 0o755),
            (0o700, 0o755),
            (0o400, 0o444),
            (0o555, 0o555),
            (0o604, 0o644),
        ] {
            assert_eq!(shared(mode), expected, "{mode:o}");
        }
    }
}
