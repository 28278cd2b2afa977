//! Computes the disk space that is available for a release, and refuses a release that needs more.

use bytesize::ByteSize;

use crate::archive::{ENTRIES_MAX, Excess, Limits, Survey};
use crate::error::{Error, Result};
use crate::fs::{self as disk, Free};
use crate::root::Root;
use crate::version::Version;

/// The default reserve: 64 MiB, or 1% of the file system if that is less.
const RESERVE: u64 = 64 << 20;

/// The approximate length of a line in a receipt, in bytes. A receipt has one line for each file.
const LINE: u64 = 256;

/// The highest ratio of unpacked size to archive length that a release has. Real releases reach about 10.
const RATIO_MAX: u64 = 64;

/// The maximum number of files and directories that Tenure creates for itself on the way.
const OWN_FILES: u64 = 16;

/// Disk space that will be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reservation {
    bytes: u64,
    files: u64,
}

impl Reservation {
    /// Returns the sum of two reservations.
    pub fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }

    /// Returns how many of `bytes` remain after this reservation.
    pub fn left_of(self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.bytes)
    }
}

/// The disk space that is available for one release, with the figures that explain it.
pub(super) struct SpaceBudget<'a> {
    root: &'a Root,
    /// The release.
    pub version: &'a Version,
    free: Free,
    reserve: u64,
    claimed: Reservation,
}

impl<'a> SpaceBudget<'a> {
    /// Determines the free space. `claimed` is the space that other releases take first.
    ///
    /// # Errors
    /// Returns an error if the free space cannot be determined.
    pub fn of(root: &'a Root, version: &'a Version, claimed: Reservation) -> Result<Self> {
        let free = disk::free(&root.disk())?;
        Ok(Self { root, version, free, reserve: reserve(root, &free), claimed })
    }

    /// Checks that any space and any inodes are available.
    ///
    /// # Errors
    /// Returns a `Refused` error if there are none.
    pub fn any(&self) -> Result<()> {
        match (self.bytes(), self.files()) {
            (0, _) => Err(self.lacking("it needs more")),
            (_, 0) => Err(self.lacking("it needs more files (inodes)")),
            _ => Ok(()),
        }
    }

    /// Returns the allocation unit of files, in bytes.
    pub fn block(&self) -> u64 {
        self.free.block
    }

    /// Returns the limits for unpacking an archive. `refuse` should return the error from [`Self::excess`].
    pub fn limits<'f>(&self, refuse: &'f (dyn Fn(Excess) -> Error + Sync)) -> Limits<'f> {
        let set = &self.root.settings().limits;
        Limits {
            entries: set.entries.unwrap_or(ENTRIES_MAX).min(self.files()),
            bytes: set.size.map_or(u64::MAX, |size| size.as_u64()).min(self.bytes()),
            block: self.free.block,
            each: LINE,
            refuse,
        }
    }

    /// Returns wider limits for reading an archive of this length without unpacking it, so that the space that it
    /// needs can be reported. No real release exceeds them.
    pub fn generous<'f>(&self, length: u64, refuse: &'f (dyn Fn(Excess) -> Error + Sync)) -> Limits<'f> {
        let set = &self.root.settings().limits;
        let bytes = self.bytes().max(length.saturating_mul(RATIO_MAX));
        Limits {
            entries: set.entries.unwrap_or(ENTRIES_MAX),
            bytes: set.size.map_or(u64::MAX, |size| size.as_u64()).min(bytes),
            ..self.limits(refuse)
        }
    }

    /// Returns the error for an archive that exceeds its limits.
    pub fn excess(&self, excess: Excess, archive: &str) -> Error {
        let set = &self.root.settings().limits;
        let entries = set.entries.unwrap_or(ENTRIES_MAX);
        let over = |what: String, key: &str| {
            Error::refused(format!("cannot unpack {archive}: it has more than {what}"))
                .hint(format!("raise `[limits] {key}` in tenure.toml if you trust the archive"))
        };
        match (excess, set.size) {
            (Excess::Entries, _) if entries <= self.files() => over(format!("{entries} entries"), "entries"),
            (Excess::Entries, _) => {
                self.lacking(&format!("it needs more than {} files (inodes)", self.files()))
            }
            (Excess::Bytes, Some(limit)) if limit.as_u64() <= self.bytes() => {
                over(size(limit.as_u64()), "size")
            }
            (Excess::Bytes, _) => self.lacking(&format!("it needs more than {}", size(self.bytes()))),
        }
    }

    /// Describes the space that a release needs and the space that is free.
    pub fn beside(&self, survey: &Survey) -> String {
        let (bytes, files) = (survey.space(self.free.block), survey.entries());
        let inodes = self.free.files.map_or_else(String::new, |files| format!(" and {files} files (inodes)"));
        let (needed, free, reserve) = (size(bytes), size(self.free.bytes), size(self.reserve));
        let before = self.before();
        format!("it takes up to {needed} in {files} files; {free}{inodes} free{before}, {reserve} in reserve")
    }

    /// Returns the space for a release that is not unpacked yet, including its receipt.
    pub fn claim(&self, survey: &Survey) -> Reservation {
        let files = survey.entries().saturating_add(OWN_FILES);
        let own =
            OWN_FILES.saturating_mul(self.free.block).saturating_add(survey.entries().saturating_mul(LINE));
        Reservation { bytes: survey.space(self.free.block).saturating_add(own), files }
    }

    fn before(&self) -> String {
        let Reservation { bytes, files } = self.claimed;
        match bytes {
            0 => String::new(),
            _ => format!(", of which releases before it take up to {} in {files} files", size(bytes)),
        }
    }

    /// Refuses a release that does not fit, before anything is written.
    pub fn fits(&self, bytes: u64, files: u64) -> Result<()> {
        if files > self.files() {
            return Err(self.lacking(&format!("it needs {files} files (inodes)")));
        }
        let bytes = bytes.saturating_add(files * LINE);
        if bytes > self.bytes() { Err(self.lacking(&format!("it needs {}", size(bytes)))) } else { Ok(()) }
    }

    fn lacking(&self, needed: &str) -> Error {
        let disk = self.root.disk();
        let (version, place) = (self.version, disk.display());
        let (free, reserve) = (size(self.free.bytes), size(self.reserve));
        Error::refused(format!(
            "not enough space for {version} on {place}: {needed}; {free} free{}, {reserve} in reserve",
            self.before()
        ))
        .hint("run `tenure prune` to remove releases that are no longer needed")
    }

    /// Returns how many bytes a release and its receipt may take.
    fn bytes(&self) -> u64 {
        let free = self.claimed.left_of(self.free.bytes);
        free.saturating_sub(self.reserve).saturating_sub(OWN_FILES * self.free.block)
    }

    /// Returns how many files a release may have.
    fn files(&self) -> u64 {
        let taken = OWN_FILES.saturating_add(self.claimed.files);
        self.free.files.map_or(u64::MAX, |files| files.saturating_sub(taken))
    }
}

/// Returns how many bytes must stay free.
pub(super) fn reserve(root: &Root, free: &Free) -> u64 {
    let set = root.settings().space.reserve.map(|reserve| reserve.as_u64());
    set.unwrap_or(RESERVE.min(free.size / 100))
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}
