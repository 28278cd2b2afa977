//! Reads and unpacks archives of releases, and refuses archives that are damaged or hostile.
//!
//! An archive is read once: every byte is hashed, decoded, checked against the rules and written into a directory
//! that no other user can enter. If an archive breaks a rule, it is refused and the caller deletes the directory.

mod layout;
mod source;
mod rules;
mod inspector;
mod input;
mod writer;
mod dedup;
mod lint_report;
mod unpack;
mod extractor;
mod workers;
mod create;

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;

use self::extractor::Extractor;
use self::input::{Input, InputDigest, Pipe, ProgressMeter, corrupt, damaged, decoded, drain};
use self::source::{tar, zip};
use self::workers::Workers;
use crate::error::{Context, Error, Kind, Result};
use crate::fs::Origin;
use crate::naming::ArchiveFormat;
use crate::progress::Progress;

pub use self::create::{Recipe, pack};
pub use self::dedup::{BaseRelease, PackedSum, Sharing, can_share_blocks};
pub use self::extractor::{Inspected, Reading, Target};
pub use self::input::Also;
pub use self::layout::{Layout, Survey};
pub use self::lint_report::{LintReport, Whole};
pub use self::rules::{ENTRIES_MAX, Excess, Limits};
pub use self::source::dir::{Copied, copy, lint_dir};
pub use crate::fs::Owner;

/// An open archive. It remains the same file even if its name leads to another file meanwhile.
#[derive(Debug)]
pub struct Archive {
    file: File,
    name: String,
    format: ArchiveFormat,
    opened: Stamp,
}

/// The result of reading an archive once. Every byte of the file is read, even if the archive is refused.
#[derive(Debug)]
pub struct Inspection {
    /// The SHA-256 of the archive file, in lowercase hex.
    pub sha256: String,
    /// The contents of the archive, or the error for the first rule that it breaks.
    pub read: Result<Inspected>,
}

/// Length and modification time. Renaming or deleting the file does not change them.
type Stamp = (u64, i64, i64);

impl Archive {
    /// Opens an archive of the given format.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened. Returns a `Refused` error if it is not a regular file.
    pub fn open(path: &Path, format: ArchiveFormat) -> Result<Self> {
        let origin = Origin::Outside(path.to_owned());
        Self::of(origin.open()?, path, format)
    }

    /// Returns an archive for an open file. `path` is used only for messages.
    ///
    /// # Errors
    /// Returns a `Refused` error if the file is not a regular file.
    pub fn of(file: File, path: &Path, format: ArchiveFormat) -> Result<Self> {
        let cannot_open = || format!("cannot open {}", path.display());
        let metadata = file.metadata().context(cannot_open)?;
        if !metadata.is_file() {
            return Err(Error::refused(format!("{} is not a regular file", path.display())));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { file, name, format, opened: stamp(&metadata) })
    }

    /// Returns the length of the file, in bytes.
    pub fn length(&self) -> u64 {
        self.opened.0
    }

    /// Returns the SHA-256 of the whole file, in lowercase hex. `also` receives every byte in order.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or changes meanwhile, or on interruption.
    pub fn sha256(&self, also: &mut Also<'_>, progress: &mut dyn Progress) -> Result<String> {
        let digest = InputDigest::new(also);
        self.read_on(&digest, progress)?;
        Ok(digest.sha256())
    }

    /// Reads the whole archive, applies every rule and decodes every byte. Writes nothing. `also` receives every byte
    /// of the file in order.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the entry if the archive is damaged or breaks a rule. Returns a `Failed`
    /// error if the file cannot be read or changes meanwhile, or on interruption.
    pub fn survey(
        &self,
        limits: &Limits<'_>,
        also: &mut Also<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Reading> {
        self.read(None, limits, also, progress)
    }

    /// Reads the archive like [`Self::survey`] and unpacks it into `target`, including a top directory.
    ///
    /// Permission bits are kept except setuid, setgid, sticky, and write permission for group and others. Owners,
    /// times of directories and attributes are not kept. With an owner, everything including the target is given to
    /// it. Nothing is made durable here.
    ///
    /// # Errors
    /// Returns the errors of [`Self::survey`], and an error if something cannot be written. The files written so far
    /// remain.
    pub fn unpack(
        &self,
        target: Target<'_>,
        limits: &Limits<'_>,
        also: &mut Also<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Reading> {
        self.read(Some(target), limits, also, progress)
    }

    /// Reads the whole archive and notes all broken rules, instead of refusing the archive at the first one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or changes meanwhile, or on interruption.
    pub fn examine(&self, limits: &Limits<'_>, progress: &mut dyn Progress) -> Result<LintReport> {
        let mut ignore = |_: &[u8]| {};
        let digest = InputDigest::new(&mut ignore);
        let mut extractor = Extractor::noting(limits);
        let read = self.entries(&digest, progress, &mut extractor);
        self.unchanged()?;
        extractor.report(read)
    }

    /// Reads the archive once, unpacks it if there is a target, and returns all results. An archive that exceeds
    /// `limits` is inspected up to the limits `beyond`, and nothing more of it is written.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or changes meanwhile, if something cannot be written, or on
    /// interruption.
    pub fn inspect(
        &self,
        target: Option<Target<'_>>,
        limits: &Limits<'_>,
        beyond: &Limits<'_>,
        also: &mut Also<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Inspection> {
        let digest = InputDigest::new(also);
        let read = self.take(Extractor::new(target, limits)?.and_beyond(beyond), &digest, progress);
        let read = match read {
            Err(error) if error.kind() == Kind::Refused => {
                self.read_on(&digest, progress)?;
                Err(error)
            }
            read => Ok(read?),
        };
        Ok(Inspection { sha256: digest.sha256(), read })
    }

    fn read(
        &self,
        target: Option<Target<'_>>,
        limits: &Limits<'_>,
        also: &mut Also<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Reading> {
        let digest = InputDigest::new(also);
        self.take(Extractor::new(target, limits)?, &digest, progress).map(|inspected| inspected.reading)
    }

    fn take<'a>(
        &self,
        mut extractor: Extractor<'a>,
        digest: &'a InputDigest<'_>,
        progress: &'a mut dyn Progress,
    ) -> Result<Inspected> {
        let read = self.entries(digest, progress, &mut extractor);
        let read = read.and_then(|()| extractor.finish(digest.sha256()));
        // A file that changes while it is read is reported as such, not as a damaged archive.
        self.unchanged().and(read).map_err(|e| self.explain(e))
    }

    /// Reads the rest of the file without decoding it.
    fn read_on(&self, digest: &InputDigest<'_>, progress: &mut dyn Progress) -> Result<()> {
        let mut meter = ProgressMeter::new(progress, &digest.read, self.opened.0);
        drain(&mut Input::new(&self.file, digest).buffered(), &mut |_| meter.tick())
            .context(|| format!("cannot read {}", self.name))?;
        self.unchanged()
    }

    fn entries<'a>(
        &self,
        digest: &'a InputDigest<'_>,
        progress: &'a mut dyn Progress,
        extractor: &mut Extractor<'a>,
    ) -> Result<()> {
        let length = self.opened.0;
        let meter = &mut ProgressMeter::new(progress, &digest.read, length);
        thread::scope(|scope| {
            let threads = if self.format == ArchiveFormat::Zip { 2 } else { 1 };
            let mut workers = Workers::new(scope, threads, extractor, meter);
            let read = match self.format {
                ArchiveFormat::Zip => zip::read(&self.file, length, digest, &mut workers),
                format => {
                    let input = Pipe::new(scope, Box::new(Input::new(&self.file, digest)));
                    decoded(input, format)
                        .map_err(damaged)
                        .and_then(|decoded| tar::read(&mut Pipe::new(scope, decoded), &mut workers))
                }
            };
            // A file's error comes first: it may be the reason why the reading failed.
            workers.finish().and(read)
        })?;
        meter.tick()?;
        // The digest must cover the whole file, so the decoder must have read all of it.
        if digest.read.load(Ordering::Relaxed) == length {
            Ok(())
        } else {
            Err(corrupt("it has data after its end"))
        }
    }

    fn unchanged(&self) -> Result<()> {
        let now = self.file.metadata().context(|| "cannot inspect the archive")?;
        if stamp(&now) == self.opened {
            return Ok(());
        }
        Err(Error::failed(format!("{} was changed while it was read", self.name))
            .hint("wait until it is copied completely, then try again"))
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
