//! Archives of releases, and every guard against those that are damaged or hostile.
//!
//! An archive is read twice: a survey decodes every byte and applies every rule before anything is written,
//! and the unpacking applies them all again, since the file may have changed in between.

mod content;
mod copy;
mod entry;
mod extension;
mod inspect;
mod path;
mod survey;
mod tarball;
mod writer;
mod zipped;

use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use self::content::{Content, Input, Meter, Tally, damaged};
use self::entry::{Entry, EntryKind};
use self::inspect::{Inspector, Verdict};
use self::survey::Surveyor;
use self::writer::Writer;
use crate::error::{Doing, Error, Kind, Result};
use crate::naming::Format;
use crate::tree::{TreeEntry, hex};
use crate::watch::Watch;

pub use self::copy::{Copied, copy};
pub use self::survey::Survey;
pub use crate::tree::Owner;

/// An archive, opened once: every pass reads the same file, whatever its name leads to meanwhile.
#[derive(Debug)]
pub struct Archive {
    file: File,
    name: String,
    format: Format,
    opened: Stamp,
}

/// What unpacking put in place.
#[derive(Debug)]
pub struct Unpacked {
    /// The SHA-256 of the archive file, in lowercase hex.
    pub sha256: String,
    /// The release, sorted by path.
    pub tree: Vec<TreeEntry>,
}

/// Receives one admitted entry and its data, of which it may leave some.
type Take<'t> = dyn FnMut(&Entry, &mut Content<'_, '_>) -> Result<()> + 't;

/// Length, times of change and of the last write: no file that was written to keeps all of them.
type Stamp = (u64, i64, i64, i64, i64);

impl Archive {
    /// Opens an archive of the format that its name tells.
    ///
    /// # Errors
    /// When it cannot be opened; refuses what is no regular file.
    pub fn open(path: &Path, format: Format) -> Result<Self> {
        let cannot_open = || format!("cannot open {}", path.display());
        // Opening a pipe would wait for a writer.
        let flags = OFlag::O_NONBLOCK.bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).doing(cannot_open)?;
        let metadata = file.metadata().doing(cannot_open)?;
        if !metadata.is_file() {
            return Err(Error::refused(format!("{} is no regular file", path.display())));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file, name, format, opened: stamp(&metadata) })
    }

    /// The SHA-256 of the whole file, in lowercase hex.
    ///
    /// # Errors
    /// When it cannot be read or changes meanwhile, or on interruption.
    pub fn sha256(&self, watch: &mut dyn Watch) -> Result<String> {
        self.hash_with(watch, &mut |_| {})
    }

    /// The same, while every byte that is hashed is handed on as well.
    ///
    /// # Errors
    /// When it cannot be read, or on interruption.
    pub fn hash_with(&self, watch: &mut dyn Watch, also: &mut dyn FnMut(&[u8])) -> Result<String> {
        let tally = Tally::default();
        let mut hash = Sha256::new();
        let mut input = Input::new(&self.file, &tally);
        Meter::new(watch, &tally, self.opened.0)
            .rest(&mut input, &mut |bytes| {
                hash.update(bytes);
                also(bytes);
                Ok(())
            })
            .doing(|| format!("cannot read {}", self.name))?;
        self.unchanged()?;
        Ok(hex(hash))
    }

    /// Reads the whole archive, applies every rule and decodes every byte. Writes nothing.
    ///
    /// # Errors
    /// Refuses an archive that is damaged or breaks a rule, naming the entry. Fails when the file cannot be
    /// read or changes meanwhile, or on interruption.
    pub fn survey(&self, watch: &mut dyn Watch) -> Result<Survey> {
        let mut surveyor = Surveyor::default();
        self.pass(&Tally::default(), watch, &mut |entry, content| surveyor.take(entry, content))
            .and_then(|verdict| surveyor.finish(verdict))
            .map_err(|e| self.explain(e, "get the archive again from its vendor; nothing was unpacked"))
    }

    /// Unpacks into `target`, an empty directory that is open for reading, and gives it the mode 0755.
    ///
    /// The top directory that the survey found is left out. Permission bits are kept, but for setuid, setgid,
    /// sticky, and writing by group and others; owners, times of directories and attributes are not. With an
    /// owner, everything is given to it, `target` included. Nothing is made durable here.
    ///
    /// # Errors
    /// When something cannot be written, when the archive changed since the survey, or on interruption; what
    /// is written so far is left.
    pub fn unpack(
        &self,
        survey: &Survey,
        target: BorrowedFd<'_>,
        owner: Option<Owner>,
        watch: &mut dyn Watch,
    ) -> Result<Unpacked> {
        let tally = Tally::default();
        if self.format != Format::Zip {
            tally.hash.replace(Some(Sha256::new()));
        }
        let mut writer = Writer::new(target, owner);
        let top = survey.top.as_deref();
        self.pass(&tally, watch, &mut |entry, content| write(entry, content, top, &mut writer))
            .and_then(|verdict| if verdict.top == survey.top { writer.finish() } else { Err(self.changed()) })
            .and_then(|tree| Ok(Unpacked { sha256: self.hash_after(&tally, watch)?, tree }))
            .map_err(|e| self.explain(e, "the archive was sound before: try again").as_kind(Kind::Failed))
    }

    /// One pass; what it finds amiss in a file that is being written to is no fault of the archive.
    fn pass(&self, tally: &Tally, watch: &mut dyn Watch, take: &mut Take<'_>) -> Result<Verdict> {
        let verdict = self.read(tally, watch, take);
        self.unchanged()?;
        verdict
    }

    /// Hands every entry on that is admitted, and says what the archive is as a whole.
    fn read(&self, tally: &Tally, watch: &mut dyn Watch, take: &mut Take<'_>) -> Result<Verdict> {
        let mut inspector = Inspector::default();
        let mut admit = |entry: &Entry, content: &mut Content<'_, '_>| {
            inspector.admit(entry)?;
            take(entry, content)
        };
        let meter = &mut Meter::new(watch, tally, self.opened.0);
        let input = || Input::new(&self.file, tally);
        match self.format {
            Format::Zip => zipped::read(input(), input(), meter, &mut admit)?,
            format => {
                let mut reader = input().decoded(format).map_err(damaged)?;
                tarball::read(&mut *reader, meter, &mut admit)?;
            }
        }
        inspector.finish()
    }

    /// A zip is read in no order that a hash could follow.
    fn hash_after(&self, tally: &Tally, watch: &mut dyn Watch) -> Result<String> {
        match tally.hash.take() {
            Some(hash) => Ok(hex(hash)),
            None => self.sha256(&mut Quiet(watch)),
        }
    }

    fn unchanged(&self) -> Result<()> {
        let now = self.file.metadata().doing(|| "cannot look at the archive")?;
        if stamp(&now) == self.opened { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Error {
        Error::failed(format!("{} was changed while it was read", self.name))
            .hint("wait until it is copied completely, then try again")
    }

    fn explain(&self, error: Error, hint: &str) -> Error {
        let cannot_unpack = format!("cannot unpack {}", self.name);
        match error.kind() {
            Kind::Refused => Error::refused(format!("{cannot_unpack}: {error}")).hint(hint),
            kind => Error::new(kind, cannot_unpack).because(error),
        }
    }
}

/// Hides the progress of work that was not announced.
struct Quiet<'a>(&'a mut dyn Watch);

impl Watch for Quiet<'_> {
    fn progress(&mut self, _done: u64, _total: u64) {}

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

fn write(
    entry: &Entry,
    content: &mut Content<'_, '_>,
    top: Option<&str>,
    writer: &mut Writer<'_>,
) -> Result<()> {
    let below = |path: &path::EntryPath| match top {
        _ if path.as_str().is_empty() => Ok(path.clone()),
        Some(top) => path.below(top).ok_or_else(|| Error::refused("it is another archive than was surveyed")),
        None => Ok(path.clone()),
    };
    let path = below(&entry.path)?;
    match (path.as_str(), &entry.kind) {
        ("", EntryKind::Directory) => Ok(()),
        ("", _) => Err(Error::refused("it is another archive than was surveyed")),
        (path, EntryKind::Directory) => writer.directory(path, entry.mode),
        (path, EntryKind::Hardlink { first }) => writer.hardlink(path, below(first)?.as_str()),
        (path, EntryKind::Symlink { target }) => {
            writer.symlink(path, target);
            Ok(())
        }
        (path, EntryKind::File { .. }) => {
            let mut file = writer.create(path)?;
            content.each(&mut |bytes| file.write(bytes))?;
            writer.keep(file, entry.mode, entry.mtime)
        }
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
}
