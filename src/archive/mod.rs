//! Archives of releases, and every guard against those that are damaged or hostile.
//!
//! An archive is read once: every byte is hashed, decoded, held against the rules and written into a directory
//! that nobody sees. What breaks a rule is refused, and whoever made the directory throws it away.

mod pending_file;
mod copy;
mod workers;
mod entry;
mod extension;
mod fault;
mod inflate;
mod input;
mod inspect;
mod extractor;
mod layout;
mod limits;
mod buffer_pool;
mod look;
mod progress_meter;
mod lint_report;
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

use self::extractor::{Extractor, Taken};
use self::fault::damaged;
use self::input::{Input, InputDigest, decoded, drain};
use self::pipe::Pipe;
use self::progress_meter::ProgressMeter;
use self::workers::Workers;
use self::writer::Writer;
use crate::error::{Context, Error, Kind, Result};
use crate::fs::Origin;
use crate::naming::ArchiveFormat;
use crate::progress::Progress;
use crate::tree::TreeEntry;

pub use self::copy::{Copied, copy};
pub use self::input::Also;
pub use self::layout::Layout;
pub use self::limits::{ENTRIES_MAX, Excess, Limits};
pub use self::lint_report::{LintReport, Whole};
pub use self::look::look;
pub use self::pack::{Recipe, pack};
pub use self::share::{BaseRelease, PackedSum, Sharing, can_share_blocks};
pub use self::survey::Survey;
pub use crate::tree::Owner;

/// An archive, opened once: it stays the same file, whatever its name leads to meanwhile.
#[derive(Debug)]
pub struct Archive {
    file: File,
    name: String,
    format: ArchiveFormat,
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
    pub twins: Option<Arc<BaseRelease>>,
}

/// Length and time of the last write. A file that is renamed or deleted meanwhile is still the same.
type Stamp = (u64, i64, i64);

impl Archive {
    /// Opens an archive of the format that its name tells.
    ///
    /// # Errors
    /// When it cannot be opened; refuses what is not a regular file.
    pub fn open(path: &Path, format: ArchiveFormat) -> Result<Self> {
        let origin = Origin::Outside(path.to_owned());
        Self::of(origin.open()?, path, format)
    }

    /// Takes up an archive that is open; its path is for messages alone.
    ///
    /// # Errors
    /// Refuses what is not a regular file.
    pub fn of(file: File, path: &Path, format: ArchiveFormat) -> Result<Self> {
        let cannot_open = || format!("cannot open {}", path.display());
        let metadata = file.metadata().context(cannot_open)?;
        if !metadata.is_file() {
            return Err(Error::refused(format!("{} is not a regular file", path.display())));
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
    pub fn sha256(&self, also: &mut Also<'_>, progress: &mut dyn Progress) -> Result<String> {
        let ledger = InputDigest::new(also);
        self.read_on(&ledger, progress)?;
        Ok(ledger.into_sha256())
    }

    /// Reads the whole archive, applies every rule and decodes every byte. Writes nothing. `also` is handed
    /// every byte of the file in order.
    ///
    /// # Errors
    /// Refuses an archive that is damaged or breaks a rule, naming the entry. Fails when the file cannot be
    /// read or changes meanwhile, or on interruption.
    pub fn survey(
        &self,
        limits: &Limits<'_>,
        also: &mut Also<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Reading> {
        self.read(None, limits, also, progress)
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
        progress: &mut dyn Progress,
    ) -> Result<Reading> {
        self.read(Some(target), limits, also, progress)
    }

    /// Looks through the whole archive and notes all that breaks a rule, instead of refusing the first of it.
    ///
    /// # Errors
    /// When the file cannot be read or changes meanwhile, or on interruption.
    pub fn examine(&self, limits: &Limits<'_>, progress: &mut dyn Progress) -> Result<LintReport> {
        let mut ignore = |_: &[u8]| {};
        let ledger = InputDigest::new(&mut ignore);
        let mut extractor = Extractor::noting(limits);
        let read = self.entries(
            &ledger,
            &mut ProgressMeter::new(progress, &ledger.read, self.opened.0),
            &mut extractor,
        );
        self.unchanged()?;
        extractor.looked(read)
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
        progress: &mut dyn Progress,
    ) -> Result<Inspection> {
        let writer = target.map(|t| Writer::new(t.dir, t.owner, t.twins)).transpose()?;
        let ledger = InputDigest::new(also);
        let read = self.take(Extractor::new(writer, limits).and_beyond(beyond), &ledger, progress);
        let read = match read {
            Err(error) if error.kind() == Kind::Refused => {
                self.read_on(&ledger, progress)?;
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
        progress: &mut dyn Progress,
    ) -> Result<Reading> {
        let writer = target.map(|t| Writer::new(t.dir, t.owner, t.twins)).transpose()?;
        let ledger = InputDigest::new(also);
        let Taken { survey, layout, packed, .. } =
            self.take(Extractor::new(writer, limits), &ledger, progress)?;
        Ok(Reading { sha256: ledger.into_sha256(), survey, layout, packed })
    }

    fn take(
        &self,
        mut extractor: Extractor<'_>,
        ledger: &InputDigest<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Taken> {
        let meter = &mut ProgressMeter::new(progress, &ledger.read, self.opened.0);
        let read = self.entries(ledger, meter, &mut extractor).and_then(|()| extractor.finish());
        // What is amiss in a file that is being written to is no fault of the archive.
        self.unchanged().and(read).map_err(|e| self.explain(e))
    }

    /// Reads what is left of the file, and decodes none of it.
    fn read_on(&self, ledger: &InputDigest<'_>, progress: &mut dyn Progress) -> Result<()> {
        let mut meter = ProgressMeter::new(progress, &ledger.read, self.opened.0);
        drain(&mut Input::new(&self.file, ledger).buffered(), &mut |_| meter.tick())
            .context(|| format!("cannot read {}", self.name))?;
        self.unchanged()
    }

    fn entries(
        &self,
        ledger: &InputDigest<'_>,
        meter: &mut ProgressMeter<'_>,
        extractor: &mut Extractor<'_>,
    ) -> Result<()> {
        let length = self.opened.0;
        thread::scope(|scope| {
            let mut workers = Workers::new(scope, if self.format == ArchiveFormat::Zip { 2 } else { 1 });
            let read = match self.format {
                ArchiveFormat::Zip => {
                    zipped::read(&self.file, length, ledger, &mut workers, meter, extractor)
                }
                format => {
                    let input = Pipe::new(scope, Box::new(Input::new(&self.file, ledger)));
                    decoded(input, format).map_err(damaged).and_then(|decoded| {
                        tarball::read(&mut Pipe::new(scope, decoded), &mut workers, meter, extractor)
                    })
                }
            };
            // Where a file failed, reading on came to nothing.
            workers.finish(extractor).and(read)
        })?;
        meter.tick()?;
        // Whatever was decoded, all of the file is to be vouched for.
        if ledger.read.load(Ordering::Relaxed) == length {
            Ok(())
        } else {
            Err(fault::corrupt("it has data after its end"))
        }
    }

    fn unchanged(&self) -> Result<()> {
        let now = self.file.metadata().context(|| "cannot inspect the archive")?;
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
