//! Archives of releases, and every guard against those that are damaged or hostile.
//!
//! An archive is read once: every byte is hashed, decoded, held against the rules and written into a directory
//! that nobody sees. What breaks a rule is refused, and whoever made the directory throws it away.

mod body;
mod copy;
mod crew;
mod entry;
mod extension;
mod fault;
mod inflate;
mod input;
mod inspect;
mod intake;
mod layout;
mod limits;
mod load;
mod look;
mod meter;
mod notes;
mod pack;
mod path;
mod pipe;
mod share;
mod survey;
mod tarball;
mod writer;
mod zipped;

use std::fs::{File, Metadata};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use self::crew::Crew;
use self::fault::damaged;
use self::input::{Input, Ledger, decoded, drain};
use self::intake::{Intake, Taken};
use self::meter::Meter;
use self::pipe::Pipe;
use self::writer::Writer;
use crate::error::{Doing, Error, Kind, Result};
use crate::fs::Origin;
use crate::naming::Format;
use crate::tree::TreeEntry;
use crate::watch::Watch;

pub use self::copy::{Copied, copy};
pub use self::input::Also;
pub use self::layout::Layout;
pub use self::limits::{ENTRIES_MAX, Excess, Limits};
pub use self::look::look;
pub use self::notes::{Looked, Whole};
pub use self::pack::{Recipe, pack};
pub use self::share::{PackedSum, Sharing, Twins, can_share_blocks};
pub use self::survey::Survey;
pub use crate::tree::Owner;

/// An archive, opened once: it stays the same file, whatever its name leads to meanwhile.
#[derive(Debug)]
pub struct Archive {
    file: File,
    name: String,
    format: Format,
    opened: Stamp,
}

/// An archive that was read and found sound.
#[derive(Debug)]
pub struct Reading {
    /// The SHA-256 of the archive file, in lowercase hex.
    pub sha256: String,
    /// What it holds, in figures.
    pub survey: Survey,
    layout: Layout,
    packed: Vec<PackedSum>,
}

impl Reading {
    /// The digests of packed data, each with that of the file which it becomes; for zips alone.
    pub fn packed(&self) -> &[PackedSum] {
        &self.packed
    }

    /// The release, sorted by path.
    pub fn tree(&self) -> impl Iterator<Item = TreeEntry> {
        self.layout.entries(self.survey.top.as_deref())
    }
}

/// What one reading of an archive told. Every byte of the file went by, also of an archive that is refused.
#[derive(Debug)]
pub struct Inspection {
    /// The SHA-256 of the archive file, in lowercase hex.
    pub sha256: String,
    /// What it holds, or the first rule that it breaks.
    pub read: Result<Inspected>,
}

/// What a sound archive holds.
#[derive(Debug)]
pub struct Inspected {
    /// What it holds.
    pub reading: Reading,
    /// Why it was looked through to its end and not unpacked, where it takes more than it may.
    pub excess: Option<Error>,
}

/// Where an archive is unpacked to.
#[derive(Clone)]
pub struct Target<'a> {
    /// An empty directory that nobody else can enter, open for reading.
    pub dir: BorrowedFd<'a>,
    /// Who gets all of it; none where it is to stay with this process's user.
    pub owner: Option<Owner>,
    /// What an installed release holds, to be shared instead of written.
    pub twins: Option<Arc<Twins>>,
}

/// Length and time of the last write. A file that is renamed or deleted meanwhile is still the same.
type Stamp = (u64, i64, i64);

impl Archive {
    /// Opens an archive of the format that its name tells.
    ///
    /// # Errors
    /// When it cannot be opened; refuses what is no regular file.
    pub fn open(path: &Path, format: Format) -> Result<Self> {
        let origin = Origin::Outside(path.to_owned());
        Self::of(origin.open()?, path, format)
    }

    /// Takes up an archive that is open; its path is for messages alone.
    ///
    /// # Errors
    /// Refuses what is no regular file.
    pub fn of(file: File, path: &Path, format: Format) -> Result<Self> {
        let cannot_open = || format!("cannot open {}", path.display());
        let metadata = file.metadata().doing(cannot_open)?;
        if !metadata.is_file() {
            return Err(Error::refused(format!("{} is no regular file", path.display())));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file, name, format, opened: stamp(&metadata) })
    }

    /// The length of the file, in bytes.
    pub fn length(&self) -> u64 {
        self.opened.0
    }

    /// The SHA-256 of the whole file, in lowercase hex. `also` is handed every byte in order.
    ///
    /// # Errors
    /// When it cannot be read or changes meanwhile, or on interruption.
    pub fn sha256(&self, also: &mut Also<'_>, watch: &mut dyn Watch) -> Result<String> {
        let ledger = Ledger::new(also);
        self.read_on(&ledger, watch)?;
        Ok(ledger.into_sha256())
    }

    /// Reads the whole archive, applies every rule and decodes every byte. Writes nothing. `also` is handed
    /// every byte of the file in order.
    ///
    /// # Errors
    /// Refuses an archive that is damaged or breaks a rule, naming the entry. Fails when the file cannot be
    /// read or changes meanwhile, or on interruption.
    pub fn survey(&self, limits: &Limits<'_>, also: &mut Also<'_>, watch: &mut dyn Watch) -> Result<Reading> {
        self.read(None, limits, also, watch)
    }

    /// The same, and unpacks it into `target`, a directory at its top included.
    ///
    /// Permission bits are kept, but for setuid, setgid, sticky, and writing by group and others; owners, times
    /// of directories and attributes are not. With an owner, everything is given to it, the target included.
    /// Nothing is made durable here.
    ///
    /// # Errors
    /// As [`Self::survey`], and when something cannot be written; what is written so far is left.
    pub fn unpack(
        &self,
        target: Target<'_>,
        limits: &Limits<'_>,
        also: &mut Also<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Reading> {
        self.read(Some(target), limits, also, watch)
    }

    /// Looks through the whole archive and notes all that breaks a rule, instead of refusing the first of it.
    ///
    /// # Errors
    /// When the file cannot be read or changes meanwhile, or on interruption.
    pub fn examine(&self, limits: &Limits<'_>, watch: &mut dyn Watch) -> Result<Looked> {
        let mut nobody = |_: &[u8]| {};
        let ledger = Ledger::new(&mut nobody);
        let mut intake = Intake::noting(limits);
        let read = self.entries(&ledger, &mut Meter::new(watch, &ledger.read, self.opened.0), &mut intake);
        self.unchanged()?;
        intake.looked(read)
    }

    /// Unpacks the archive, where there is a target, and tells all that one reading can tell. What takes more than
    /// `limits` allow is looked through up to the limits `beyond`; no more of it is written.
    ///
    /// # Errors
    /// When the file cannot be read or changes meanwhile, when something cannot be written, or on interruption.
    pub fn inspect(
        &self,
        target: Option<Target<'_>>,
        limits: &Limits<'_>,
        beyond: &Limits<'_>,
        also: &mut Also<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Inspection> {
        let writer = target.map(|t| Writer::new(t.dir, t.owner, t.twins)).transpose()?;
        let ledger = Ledger::new(also);
        let read = self.take(Intake::new(writer, limits).and_beyond(beyond), &ledger, watch);
        let read = match read {
            Err(error) if error.kind() == Kind::Refused => {
                self.read_on(&ledger, watch)?;
                Err(error)
            }
            read => Ok(read?),
        };
        let sha256 = ledger.into_sha256();
        let read = read.map(|Taken { survey, layout, packed, excess }| Inspected {
            reading: Reading { sha256: sha256.clone(), survey, layout, packed },
            excess,
        });
        Ok(Inspection { sha256, read })
    }

    fn read(
        &self,
        target: Option<Target<'_>>,
        limits: &Limits<'_>,
        also: &mut Also<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Reading> {
        let writer = target.map(|t| Writer::new(t.dir, t.owner, t.twins)).transpose()?;
        let ledger = Ledger::new(also);
        let Taken { survey, layout, packed, .. } = self.take(Intake::new(writer, limits), &ledger, watch)?;
        Ok(Reading { sha256: ledger.into_sha256(), survey, layout, packed })
    }

    fn take(&self, mut intake: Intake<'_>, ledger: &Ledger<'_>, watch: &mut dyn Watch) -> Result<Taken> {
        let meter = &mut Meter::new(watch, &ledger.read, self.opened.0);
        let read = self.entries(ledger, meter, &mut intake).and_then(|()| intake.finish());
        // What is amiss in a file that is being written to is no fault of the archive.
        self.unchanged().and(read).map_err(|e| self.explain(e))
    }

    /// Reads what is left of the file, and decodes none of it.
    fn read_on(&self, ledger: &Ledger<'_>, watch: &mut dyn Watch) -> Result<()> {
        let mut meter = Meter::new(watch, &ledger.read, self.opened.0);
        drain(&mut Input::new(&self.file, ledger).buffered(), &mut |_| meter.tick())
            .doing(|| format!("cannot read {}", self.name))?;
        self.unchanged()
    }

    fn entries(&self, ledger: &Ledger<'_>, meter: &mut Meter<'_>, intake: &mut Intake<'_>) -> Result<()> {
        let length = self.opened.0;
        thread::scope(|scope| {
            let mut crew = Crew::new(scope, if self.format == Format::Zip { 2 } else { 1 });
            let read = match self.format {
                Format::Zip => zipped::read(&self.file, length, ledger, &mut crew, meter, intake),
                format => {
                    let input = Pipe::new(scope, Box::new(Input::new(&self.file, ledger)));
                    decoded(input, format).map_err(damaged).and_then(|decoded| {
                        tarball::read(&mut Pipe::new(scope, decoded), &mut crew, meter, intake)
                    })
                }
            };
            // Where a file failed, reading on came to nothing.
            crew.finish(intake).and(read)
        })?;
        meter.tick()?;
        // Whatever was decoded, all of the file is to be vouched for.
        if ledger.read.load(Ordering::Relaxed) == length {
            Ok(())
        } else {
            Err(fault::broken("something follows its end"))
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

    fn explain(&self, error: Error) -> Error {
        let cannot_unpack = format!("cannot unpack {}", self.name);
        let hint = "get the archive again from its vendor; nothing was unpacked";
        match error.kind() {
            Kind::Refused if error.hints().is_empty() => {
                Error::refused(format!("{cannot_unpack}: {error}")).hint(hint)
            }
            Kind::Refused => error,
            kind => Error::new(kind, cannot_unpack).because(error),
        }
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}
