//! The entries of a zip, in the order in which they lie in the file, with nothing between them.

mod directory;
mod end;
mod fields;
mod record;

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufReader, Read};

use blake3::Hasher;
use nix::sys::stat::SFlag;

use self::directory::Directory;
use self::record::{LOCAL_SIZE, Listed};
use super::crew::{BATCH, Crew};
use super::entry::{Raw, Shape};
use super::fault::{broken, damaged};
use super::inflate::{Inflater, Packed};
use super::input::{Input, Ledger, drain, read_ahead};
use super::intake::Intake;
use super::meter::Meter;
use super::path::{PATH_MAX, breach};
use crate::error::{Error, Result};
use crate::tree::Sum;

/// How many entries are read before the list of those to come is made shorter.
const SHRINK_EVERY: usize = 1 << 16;
/// The longest description that may follow an entry's data, in bytes.
const DESCRIPTION_MAX: u64 = 24;
/// The most that the text of a link may take in the archive, in bytes.
const SHORT_MAX: u64 = 64 << 10;

/// Reads every entry and takes it in.
///
/// # Errors
/// Refuses what is damaged, encrypted, ambiguous or of a kind that no release holds; else as the intake.
pub fn read(
    file: &File,
    length: u64,
    ledger: &Ledger<'_>,
    crew: &mut Crew,
    meter: &mut Meter<'_>,
    intake: &mut Intake<'_>,
) -> Result<()> {
    let directory = Directory::read(file, length, &mut |count| intake.expect(count))?;
    let mut reader = Reader { file, input: Input::new(file, ledger).buffered(), at: 0 };
    reader.entries(directory.entries, directory.start, crew, meter, intake)?;
    if reader.at != directory.start {
        return Err(stray());
    }
    let mut hash = Hasher::new();
    drain(&mut reader.input, &mut |bytes| {
        hash.update(bytes);
        meter.tick()
    })?;
    if Sum::of(&hash) == directory.sum { Ok(()) } else { Err(Error::failed("the archive was changed")) }
}

/// Reads the file from its beginning.
struct Reader<'a, 'l> {
    file: &'a File,
    input: BufReader<Input<'a, 'l>>,
    at: u64,
}

impl Reader<'_, '_> {
    /// Reads all entries, the last of which must end at `end`.
    fn entries(
        &mut self,
        mut entries: Vec<Listed>,
        end: u64,
        crew: &mut Crew,
        meter: &mut Meter<'_>,
        intake: &mut Intake<'_>,
    ) -> Result<()> {
        entries.reverse();
        while let Some(listed) = entries.pop() {
            meter.tick()?;
            // What is known of the entries so far takes the memory that they took here.
            if entries.len().is_multiple_of(SHRINK_EVERY) {
                entries.shrink_to_fit();
            }
            let end = entries.last().map_or(end, |next| next.at);
            self.entry(&listed, end, crew, meter, intake)?;
        }
        Ok(())
    }

    /// Reads one entry, which must end where the next begins.
    fn entry(
        &mut self,
        listed: &Listed,
        end: u64,
        crew: &mut Crew,
        meter: &mut Meter<'_>,
        intake: &mut Intake<'_>,
    ) -> Result<()> {
        let described = self.header(listed, end)?;
        let (shape, ends_at) = (shape(listed), self.at + listed.packed);
        let target = if shape == Shape::Symlink { self.target(listed)? } else { Vec::new() };
        let raw = Raw {
            name: &listed.name,
            shape,
            target: &target,
            size: if shape == Shape::Symlink { 0 } else { listed.size },
            mode: mode(listed.mode, shape),
            mtime: None,
        };
        match intake.admit(&raw)? {
            Some(body) => {
                let packed = match body.twins() {
                    Some(_) => self.look_ahead(listed.packing(), meter)?,
                    None => listed.packing(),
                };
                crew.file(body, packed, &mut self.input, meter, intake)?;
                self.at += listed.packed;
            }
            None if shape == Shape::Directory => drop(self.short(listed)?),
            None => self.skip(ends_at - self.at, meter)?,
        }
        listed.check_described(&self.take(described)?)
    }

    /// Takes the digest of a large entry's data, so that it need not be inflated where it is known. What is read
    /// here is read again in its turn, and compared.
    fn look_ahead(&self, packed: Packed, meter: &mut Meter<'_>) -> Result<Packed> {
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
        Ok(Packed { ahead: Some(Sum::of(&hash)), ..packed })
    }

    /// Reads the header ahead of an entry's data, and says how many bytes lie behind the data.
    fn header(&mut self, listed: &Listed, end: u64) -> Result<u64> {
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

    fn target(&mut self, listed: &Listed) -> Result<Vec<u8>> {
        if listed.size > PATH_MAX as u64 {
            return Err(breach(&listed.name, "links to more than 4096 bytes"));
        }
        self.short(listed)
    }

    /// The data of an entry that is no file.
    fn short(&mut self, listed: &Listed) -> Result<Vec<u8>> {
        if listed.packed > SHORT_MAX {
            return Err(breach(&listed.name, "takes more room than it needs"));
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

    /// Passes over the data of an entry that nobody takes.
    fn skip(&mut self, n: u64, meter: &mut Meter<'_>) -> Result<()> {
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
    broken("its entries overlap")
}

fn stray() -> Error {
    broken("something stands between its entries")
}

fn shape(listed: &Listed) -> Shape {
    let kind = SFlag::from_bits_truncate(listed.mode & SFlag::S_IFMT.bits());
    match (kind, listed.name.ends_with(b"/")) {
        (kind, true) if kind.is_empty() => Shape::Directory,
        (kind, false) if kind.is_empty() => Shape::File,
        (SFlag::S_IFDIR, true) => Shape::Directory,
        (SFlag::S_IFREG, false) => Shape::File,
        (SFlag::S_IFLNK, false) => Shape::Symlink,
        (SFlag::S_IFDIR | SFlag::S_IFREG | SFlag::S_IFLNK, _) => {
            Shape::Unfit("is of another kind than its name says")
        }
        _ => Shape::Unfit("is a device, pipe or socket"),
    }
}

/// Many writers leave the mode out: then it is what a umask of 022 gives.
fn mode(told: u32, shape: Shape) -> u32 {
    match told & 0o7777 {
        0 if shape == Shape::Directory => 0o755,
        0 => 0o644,
        mode => mode,
    }
}
