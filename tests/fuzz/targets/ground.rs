//! Helpers shared by all fuzz targets. They render archives around arbitrary bytes, so that most of them pass the
//! checksums.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use tenure::archive::{Archive, Excess, Limits, Reading};
use tenure::error::{Error, Result};
use tenure::naming::ArchiveFormat;
use tenure::progress::NoProgress;

const BLOCK: usize = 512;

/// Creates a directory in memory for one run.
pub fn place() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm")
}

/// Writes an archive and returns its path.
pub fn write(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("archive");
    fs::write(&path, bytes).expect("the archive can be written");
    path
}

/// Returns small limits; a larger archive is refused.
pub fn limits(refuse: &(dyn Fn(Excess) -> Error + Sync)) -> Limits<'_> {
    Limits { entries: 2_000, bytes: 16 << 20, block: 1, each: 0, refuse }
}

pub fn excess(excess: Excess) -> Error {
    Error::refused(format!("too much: {excess:?}"))
}

/// Reads an archive to its end and writes nothing. Panics if an error message contains a control character.
pub fn survey(bytes: &[u8], format: ArchiveFormat) -> Result<Reading> {
    let dir = place();
    let archive = Archive::open(&write(dir.path(), bytes), format)?;
    told(archive.survey(&limits(&excess), &mut |_| {}, &mut NoProgress))
}

/// Panics if an error message contains a control character or is too long.
pub fn told<T>(result: Result<T>) -> Result<T> {
    if let Err(error) = &result {
        let line = error.in_one_line();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.len() < 16_000, "{line:?}");
    }
    result
}

/// Renders an archive from the bytes after the first one. The first byte selects the kind of archive.
pub fn render(data: &[u8]) -> Option<(Vec<u8>, ArchiveFormat)> {
    let (kind, bytes) = data.split_first()?;
    Some(match kind % 10 {
        0 => (bytes.to_vec(), ArchiveFormat::Tar),
        1 => (bytes.to_vec(), ArchiveFormat::TarGz),
        2 => (bytes.to_vec(), ArchiveFormat::TarZst),
        3 => (bytes.to_vec(), ArchiveFormat::TarXz),
        4 => (bytes.to_vec(), ArchiveFormat::Zip),
        5 => (gzip(&summed(bytes)), ArchiveFormat::TarGz),
        6 | 7 => (zip(bytes), ArchiveFormat::Zip),
        _ => (summed(bytes), ArchiveFormat::Tar),
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory is written to")
}

/// Returns a tar with valid header checksums and a valid end.
pub fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    tar.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let mut at = 0;
    while at + BLOCK <= tar.len() {
        let header = &mut tar[at..at + BLOCK];
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = header[124..136].iter().take_while(|byte| byte.is_ascii_digit());
        let size = digits.fold(0_usize, |size, digit| size.saturating_mul(8) + usize::from(digit & 7));
        at = at.saturating_add(BLOCK).saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
    }
    tar.truncate(at.min(tar.len()));
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

/// Returns a zip of stored entries. Each line of the text is one entry: its name, a space and its contents. The last
/// line selects bytes of the archive to change.
pub fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let changes = lines.pop().unwrap_or_default();
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for line in &lines {
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (name, data) = (&line[..end], line.get(end + 1..).unwrap_or_default());
        let at = u32::try_from(zip.len()).unwrap_or(u32::MAX);
        let fields = fields(name, data);
        zip.extend([b"PK\x03\x04".as_slice(), &fields, name, data].concat());
        let rest = [[0; 10].as_slice(), &at.to_le_bytes(), name].concat();
        directory.extend([b"PK\x01\x02\x14\x03".as_slice(), &fields, &rest].concat());
    }
    let count = u16::try_from(lines.len()).unwrap_or(u16::MAX).to_le_bytes();
    let [at, size] = [zip.len(), directory.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
    zip.extend(directory);
    zip.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &size, &at, b"\0\0"].concat());
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % zip.len();
        zip[at] = change[2];
    }
    zip
}

/// Returns the fields that both headers of an entry have in common.
fn fields(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes();
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes();
    [[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0].as_slice(), &crc.sum().to_le_bytes(), &size, &size, &length, &[0, 0]].concat()
}
