//! The entries of a zip, as its central directory lists them.

use nix::sys::stat::SFlag;
use zip::read::{ArchiveOffset, Config, OwnedZipFileEntry, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use super::Take;
use super::content::{Content, Input, Meter, damaged, damaged_entry};
use super::entry::{Entry, Raw, Shape};
use super::inspect::{ENTRIES_MAX, too_many};
use super::path::{PATH_MAX, breach};
use crate::error::{Error, Result};

/// The fixed part of the header ahead of each entry's data.
const LOCAL_HEADER: u64 = 30;

/// Reads every entry through two readers of the same file and hands it on, in the order of the directory.
///
/// # Errors
/// Refuses what is damaged, encrypted, ambiguous or of a kind that no release holds; else as `take`.
pub fn read(
    directory: Input<'_>,
    mut bodies: Input<'_>,
    meter: &mut Meter<'_>,
    take: &mut Take<'_>,
) -> Result<()> {
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut zip =
        ZipIterable::try_new(directory, config).map_err(damaged_zip)?.enforce_header_consistency(true);
    if zip.len() as u64 > ENTRIES_MAX {
        return Err(too_many());
    }
    refuse_overlaps(&mut zip, meter)?;
    for entry in zip.files().map_err(damaged_zip)? {
        meter.tick()?;
        read_entry(entry.map_err(damaged_zip)?, &mut bodies, meter, take)?;
    }
    Ok(())
}

/// Entries that share their data make a small archive expand without bound.
fn refuse_overlaps(zip: &mut ZipIterable<Input<'_>>, meter: &mut Meter<'_>) -> Result<()> {
    let mut spans = Vec::new();
    for entry in zip.files().map_err(damaged_zip)? {
        meter.tick()?;
        let entry = entry.map_err(damaged_zip)?;
        let least = LOCAL_HEADER + entry.name_raw().len() as u64;
        let end = entry.header_start().saturating_add(least).saturating_add(entry.compressed_size());
        spans.push((entry.header_start(), end));
    }
    spans.sort_unstable();
    match spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(_) => Err(Error::refused("the archive is damaged: its entries overlap")),
        None => Ok(()),
    }
}

fn read_entry(
    listed: ZipFileEntry<'_>,
    bodies: &mut Input<'_>,
    meter: &mut Meter<'_>,
    take: &mut Take<'_>,
) -> Result<()> {
    // An entry that owns its description would read itself to the end when it is dropped.
    let listed = OwnedZipFileEntry::from(listed);
    let (name, size, shape) = (listed.name_raw(), listed.size(), shape(&listed)?);
    refuse_unreadable(&listed)?;
    let opened = listed.as_ref().with_reader(bodies, ZipReadOptions::new());
    let mut file = opened.map_err(|e| damaged_entry(name, into_io(e)))?;
    let mut content = Content::new(name, &mut file, size, meter);
    let mut raw = Raw { name, shape, target: &[], size, mode: mode(&listed), mtime: None };
    let target = if shape == Shape::Symlink { read_target(name, &mut content, size)? } else { Vec::new() };
    if shape == Shape::Symlink {
        (raw.target, raw.size) = (&target, 0);
    }
    take(&Entry::parse(&raw)?, &mut content)?;
    content.finish()
}

fn shape(listed: &OwnedZipFileEntry) -> Result<Shape> {
    let name = listed.name_raw();
    let kind = listed.unix_mode().unwrap_or_default() & SFlag::S_IFMT.bits();
    match (SFlag::from_bits_truncate(kind), name.ends_with(b"/")) {
        (kind, true) if kind.is_empty() => Ok(Shape::Directory),
        (kind, false) if kind.is_empty() => Ok(Shape::File),
        (SFlag::S_IFDIR, true) => Ok(Shape::Directory),
        (SFlag::S_IFREG, false) => Ok(Shape::File),
        (SFlag::S_IFLNK, false) => Ok(Shape::Symlink),
        (SFlag::S_IFDIR | SFlag::S_IFREG | SFlag::S_IFLNK, _) => {
            Err(breach(name, "is of another kind than its name says"))
        }
        _ => Err(breach(name, "is a device, pipe or socket")),
    }
}

/// Many writers leave the mode out: then it is what a umask of 022 gives.
fn mode(listed: &OwnedZipFileEntry) -> u32 {
    match listed.unix_mode().unwrap_or_default() & 0o7777 {
        0 if listed.is_dir() => 0o755,
        0 => 0o644,
        mode => mode,
    }
}

fn refuse_unreadable(listed: &OwnedZipFileEntry) -> Result<()> {
    let name = listed.name_raw();
    if listed.flags().is_encrypted() {
        return Err(breach(name, "is encrypted"));
    }
    match listed.compression() {
        CompressionMethod::Stored | CompressionMethod::Deflated => Ok(()),
        other => Err(breach(name, format!("is compressed by a method that is not read here: {other}"))),
    }
}

fn read_target(name: &[u8], content: &mut Content<'_, '_>, size: u64) -> Result<Vec<u8>> {
    if size > PATH_MAX as u64 {
        return Err(breach(name, "links to more than 4096 bytes"));
    }
    let mut target = Vec::new();
    content.each(&mut |bytes| {
        target.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(target)
}

fn damaged_zip(error: ZipError) -> Error {
    damaged(into_io(error))
}

fn into_io(error: ZipError) -> std::io::Error {
    match error {
        ZipError::Io(error) => error,
        other => std::io::Error::other(other),
    }
}
