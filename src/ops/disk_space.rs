//! How much room there is for a release, and what is said of one that takes more.

use bytesize::ByteSize;

use crate::archive::{ENTRIES_MAX, Excess, Limits, Survey};
use crate::error::{Error, Result};
use crate::fs::{self as disk, Free};
use crate::root::Root;
use crate::version::Version;

/// The reserve where the settings name none: 64 MiB, or a hundredth of a smaller file system.
const RESERVE: u64 = 64 << 20;

/// About how long the line of a file in a receipt is, in bytes.
const LINE: u64 = 256;

/// How many times its length an archive of a release unpacks to, at most: real ones reach about 10.
const RATIO_MAX: u64 = 64;

/// The files and directories that Tenure makes for itself on the way, at most.
const OWN_FILES: u64 = 16;

/// Room that is going to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reservation {
    bytes: u64,
    files: u64,
}

impl Reservation {
    /// What releases take together.
    pub fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }

    /// What of so many bytes is left.
    pub fn left_of(self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.bytes)
    }
}

/// The room for one release, and why it is no more.
pub(super) struct SpaceBudget<'a> {
    root: &'a Root,
    /// The release.
    pub version: &'a Version,
    free: Free,
    reserve: u64,
    claimed: Reservation,
}

impl<'a> SpaceBudget<'a> {
    /// Looks up how much there is, beside what others take before.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub fn of(root: &'a Root, version: &'a Version, claimed: Reservation) -> Result<Self> {
        let free = disk::free(&root.disk())?;
        Ok(Self { root, version, free, reserve: reserve(root, &free), claimed })
    }

    /// Refuses where there is none.
    ///
    /// # Errors
    /// As it says.
    pub fn any(&self) -> Result<()> {
        match (self.bytes(), self.files()) {
            (0, _) => Err(self.lacking("it needs more")),
            (_, 0) => Err(self.lacking("it needs more files (inodes)")),
            _ => Ok(()),
        }
    }

    /// The unit in which files take room, in bytes.
    pub fn block(&self) -> u64 {
        self.free.block
    }

    /// What an archive may unpack to; `refuse` should say what [`Self::excess`] says.
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

    /// What an archive of this length is looked through for, so that what it needs can be told: no more than a release
    /// ever has of such a length.
    pub fn generous<'f>(&self, length: u64, refuse: &'f (dyn Fn(Excess) -> Error + Sync)) -> Limits<'f> {
        let set = &self.root.settings().limits;
        let bytes = self.bytes().max(length.saturating_mul(RATIO_MAX));
        Limits {
            entries: set.entries.unwrap_or(ENTRIES_MAX),
            bytes: set.size.map_or(u64::MAX, |size| size.as_u64()).min(bytes),
            ..self.limits(refuse)
        }
    }

    /// What is said of an archive that takes more than it may.
    pub fn excess(&self, excess: Excess, archive: &str) -> Error {
        let set = &self.root.settings().limits;
        let entries = set.entries.unwrap_or(ENTRIES_MAX);
        let over = |what: String, key: &str| {
            Error::refused(format!("cannot unpack {archive}: it has more than {what}"))
                .hint(format!("`[limits] {key}` in tenure.toml may allow more"))
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

    /// What there is beside what a release needs.
    pub fn beside(&self, survey: &Survey) -> String {
        let (bytes, files) = (survey.space(self.free.block), survey.entries());
        let inodes = self.free.files.map_or_else(String::new, |files| format!(" and {files} files (inodes)"));
        let (needed, free, reserve) = (size(bytes), size(self.free.bytes), size(self.reserve));
        let before = self.before();
        format!("it takes up to {needed} in {files} files; {free}{inodes} free{before}, {reserve} in reserve")
    }

    /// What a release takes that is not unpacked yet, with its receipt.
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

    /// Refuses what does not fit, before anything is written.
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
        .hint("`tenure prune` removes releases that are no longer needed")
    }

    /// The bytes that a release and its receipt may take.
    fn bytes(&self) -> u64 {
        let free = self.claimed.left_of(self.free.bytes);
        free.saturating_sub(self.reserve).saturating_sub(OWN_FILES * self.free.block)
    }

    /// The files that a release may have.
    fn files(&self) -> u64 {
        let taken = OWN_FILES.saturating_add(self.claimed.files);
        self.free.files.map_or(u64::MAX, |files| files.saturating_sub(taken))
    }
}

/// The bytes that are never taken.
pub(super) fn reserve(root: &Root, free: &Free) -> u64 {
    let set = root.settings().space.reserve.map(|reserve| reserve.as_u64());
    set.unwrap_or(RESERVE.min(free.size / 100))
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}
