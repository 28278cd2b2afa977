//! Reads the entries of a zip in the order in which they lie in the file, with nothing between them.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Read};

use blake3::Hasher;
use nix::sys::stat::SFlag;

use super::zip_directory::Directory;
use super::zip_record::{CentralEntry, LOCAL_SIZE};
use super::{EntryType, RawEntry};
use crate::archive::input::{Input, InputDigest, ProgressMeter, corrupt, damaged, drain, read_ahead};
use crate::archive::rules::{PATH_MAX, violation};
use crate::archive::unpack::{Inflater, PackedData};
use crate::archive::workers::{BATCH, Workers};
use crate::error::{Error, Result};
use crate::tree::Sum;

/// How many entries are read before the list of the remaining ones is shrunk.
const SHRINK_EVERY: usize = 1 << 16;
/// The maximum size of a data descriptor, in bytes.
const DESCRIPTION_MAX: u64 = 24;
/// The maximum compressed size of a symlink target or directory, in bytes.
const SHORT_MAX: u64 = 64 << 10;

/// Reads every entry and passes it to the extractor.
///
/// # Errors
/// Returns a `Refused` error if the archive is damaged, encrypted or ambiguous, or has an entry of a kind that no
/// release has. Also returns the errors of the extractor.
pub fn read(file: &File, length: u64, digest: &InputDigest<'_>, workers: &mut Workers<'_, '_>) -> Result<()> {
    let directory = Directory::read(file, length, &mut |count| workers.extractor.expect(count))?;
    let mut reader = Reader { file, input: Input::new(file, digest).buffered(), at: 0 };
    reader.entries(directory.entries, directory.start, workers)?;
    if reader.at != directory.start {
        return Err(stray());
    }
    let mut hash = Hasher::new();
    drain(&mut reader.input, &mut |bytes| {
        hash.update(bytes);
        workers.meter.tick()
    })?;
    if Sum::of(&hash) == directory.sum { Ok(()) } else { Err(Error::failed("the archive was changed")) }
}

/// A reader of the file from its beginning.
struct Reader<'a, 'l> {
    file: &'a File,
    input: BufReader<Input<'a, 'l>>,
    at: u64,
}

impl Reader<'_, '_> {
    /// Reads all entries. The last one must end at `end`.
    fn entries(
        &mut self,
        mut entries: Vec<CentralEntry>,
        end: u64,
        workers: &mut Workers<'_, '_>,
    ) -> Result<()> {
        entries.reverse();
        while let Some(listed) = entries.pop() {
            workers.meter.tick()?;
            // The records of the entries read so far need the memory that these entries used.
            if entries.len().is_multiple_of(SHRINK_EVERY) {
                entries.shrink_to_fit();
            }
            let end = entries.last().map_or(end, |next| next.at);
            self.entry(&listed, end, workers)?;
        }
        Ok(())
    }

    /// Reads one entry. It must end where the next one begins.
    fn entry(&mut self, listed: &CentralEntry, end: u64, workers: &mut Workers<'_, '_>) -> Result<()> {
        let described = self.header(listed, end)?;
        let (kind, ends_at) = (entry_type(listed), self.at + listed.packed);
        let target = if kind == EntryType::Symlink { self.target(listed)? } else { Vec::new() };
        let raw = RawEntry {
            name: &listed.name,
            kind,
            target: &target,
            size: if kind == EntryType::Symlink { 0 } else { listed.size },
            mode: mode(listed.mode, kind),
            mtime: None,
        };
        match workers.extractor.admit(&raw)? {
            Some(body) => {
                let packed = match body.base {
                    Some(_) => self.look_ahead(listed.packing(), workers.meter)?,
                    None => listed.packing(),
                };
                workers.file(body, packed, &mut self.input)?;
                self.at += listed.packed;
            }
            None if kind == EntryType::Directory => drop(self.short(listed)?),
            None => self.skip(ends_at - self.at, workers.meter)?,
        }
        listed.check_described(&self.take(described)?)
    }

    /// Computes the digest of a large entry's data, so that known data need not be inflated. The data is read again
    /// in order, and compared.
    fn look_ahead(&self, packed: PackedData, meter: &mut ProgressMeter<'_>) -> Result<PackedData> {
        if packed.length <= BATCH as u64 {
            return Ok(packed);
        }
        let (mut hash, mut at, end) = (packed.hasher(), self.at, self.at + packed.length);
        let mut buffer = vec![0; BATCH];
        while at < end {
            meter.tick()?;
            let most = usize::try_from(end - at).unwrap_or(BATCH).min(BATCH);
            read_ahead(self.file, at, &mut buffer[..most])?;
            hash.update(&buffer[..most]);
            at += most as u64;
        }
        Ok(PackedData { ahead: Some(Sum::of(&hash)), ..packed })
    }

    /// Reads the local header of an entry, and returns the number of bytes after the data.
    fn header(&mut self, listed: &CentralEntry, end: u64) -> Result<u64> {
        match listed.at.cmp(&self.at) {
            Ordering::Less => return Err(overlap()),
            Ordering::Greater => return Err(stray()),
            Ordering::Equal => {}
        }
        let local = listed.check_local(&self.take(LOCAL_SIZE as u64)?)?;
        let name = self.take(local.name_length as u64)?;
        let extra = self.take(local.extra_length as u64)?;
        listed.check_names(&local, &name, &extra)?;
        let behind = end.checked_sub(self.at).and_then(|room| room.checked_sub(listed.packed));
        behind
            .ok_or_else(overlap)
            .and_then(|bytes| if bytes > DESCRIPTION_MAX { Err(stray()) } else { Ok(bytes) })
    }

    fn target(&mut self, listed: &CentralEntry) -> Result<Vec<u8>> {
        if listed.size > PATH_MAX as u64 {
            return Err(violation(&listed.name, "links to more than 4096 bytes"));
        }
        self.short(listed)
    }

    /// Returns the data of an entry that is not a file.
    fn short(&mut self, listed: &CentralEntry) -> Result<Vec<u8>> {
        if listed.packed > SHORT_MAX {
            return Err(violation(&listed.name, "is not a file but has more than 64 KiB of compressed data"));
        }
        let mut data = Vec::new();
        let packed = self.take(listed.packed)?;
        Inflater::default().inflate(
            &listed.name,
            listed.packing(),
            &mut std::iter::once(packed),
            &mut |bytes| {
                data.extend_from_slice(bytes);
                Ok(())
            },
        )?;
        Ok(data)
    }

    /// Skips the data of an entry that the extractor does not want.
    fn skip(&mut self, n: u64, meter: &mut ProgressMeter<'_>) -> Result<()> {
        drain(&mut self.input.by_ref().take(n), &mut |_| meter.tick())?;
        self.at += n;
        Ok(())
    }

    fn take(&mut self, n: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(n).unwrap_or_default()];
        self.input.read_exact(&mut bytes).map_err(damaged)?;
        self.at += n;
        Ok(bytes)
    }
}

fn overlap() -> Error {
    corrupt("its entries overlap")
}

fn stray() -> Error {
    corrupt("it has data between its entries")
}

fn entry_type(listed: &CentralEntry) -> EntryType {
    let kind = SFlag::from_bits_truncate(listed.mode & SFlag::S_IFMT.bits());
    match (kind, listed.name.ends_with(b"/")) {
        (kind, true) if kind.is_empty() => EntryType::Directory,
        (kind, false) if kind.is_empty() => EntryType::File,
        (SFlag::S_IFDIR, true) => EntryType::Directory,
        (SFlag::S_IFREG, false) => EntryType::File,
        (SFlag::S_IFLNK, false) => EntryType::Symlink,
        (SFlag::S_IFDIR | SFlag::S_IFREG | SFlag::S_IFLNK, _) => {
            EntryType::Unfit("has a type that does not match its name")
        }
        _ => EntryType::Unfit("is a device, pipe or socket"),
    }
}

/// Returns the permission bits. Many writers omit them; the result is then that of a umask of 022.
fn mode(told: u32, kind: EntryType) -> u32 {
    match told & 0o7777 {
        0 if kind == EntryType::Directory => 0o755,
        0 => 0o644,
        mode => mode,
    }
}
