//! Every path in a root.

use std::path::Path;

use crate::fs::Owner;
use crate::fs::{self as disk, DirPath};
use crate::settings::SharedDirectory;
use crate::version::Version;

use super::Root;

impl Root {
    /// Returns the absolute path, without symlinks.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Returns the path of the root as a [`DirPath`].
    #[must_use]
    pub fn place(&self) -> &DirPath {
        &self.place
    }

    /// Returns the owner of the root, who also owns everything that Tenure creates in it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Returns the directory of the releases and their archives, on any file system. Its path contains no symlink.
    #[must_use]
    pub fn releases(&self) -> DirPath {
        self.releases.dir.clone()
    }

    /// Returns the directory of one release.
    #[must_use]
    pub fn release(&self, version: &Version) -> DirPath {
        self.releases().join(version.to_string())
    }

    /// Returns whether a release is a mount point, which can be neither moved nor removed.
    #[must_use]
    pub fn is_mount(&self, version: &Version) -> bool {
        disk::is_mount(&self.release(version), &self.releases())
    }

    /// Returns a directory on the file system whose space the releases use.
    #[must_use]
    pub fn disk(&self) -> DirPath {
        if self.releases.is_elsewhere { self.releases() } else { self.place().clone() }
    }

    /// Returns whether one rename cannot move a file from .tenure/ to the releases.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.releases.is_elsewhere
    }

    /// Returns the directory in which releases are built before they are published, on the releases' file system.
    #[must_use]
    pub fn release_staging(&self) -> DirPath {
        if self.is_spread() { self.beside().join("staging") } else { self.staging() }
    }

    /// Returns the trash of releases and archives, on the releases' file system.
    #[must_use]
    pub fn release_trash(&self) -> DirPath {
        if self.is_spread() { self.beside().join("trash") } else { self.trash() }
    }

    /// Returns Tenure's own directory beside the releases, for releases on another file system.
    pub(super) fn beside(&self) -> DirPath {
        self.releases().join(".tenure")
    }

    /// Returns the target of the symlink that replaces a shared directory in a release. If `releases` is a symlink,
    /// only an absolute path leads back into the root.
    #[must_use]
    pub fn shared_target(&self, name: &SharedDirectory) -> String {
        match self.releases.is_linked {
            true => format!("{}/{name}", self.shared().display()),
            false => format!("../../shared/{name}"),
        }
    }

    /// Returns the target of a symlink from a transaction's staging directory to the shared directories.
    #[must_use]
    pub fn shared_from_staging(&self) -> String {
        match (self.releases.is_linked, self.is_spread()) {
            (true, _) => self.shared().display().to_string(),
            (false, true) => "../../../../shared".to_owned(),
            (false, false) => "../../../shared".to_owned(),
        }
    }

    /// Returns the directory for files that outlive releases.
    #[must_use]
    pub fn shared(&self) -> DirPath {
        self.place.join("shared")
    }

    /// Returns the directory in which Tenure writes its own files before it renames them.
    #[must_use]
    pub fn staging(&self) -> DirPath {
        self.own().join("staging")
    }

    /// Returns the directory that files are moved to before they are deleted.
    #[must_use]
    pub fn trash(&self) -> DirPath {
        self.own().join("trash")
    }

    /// Returns the journal of the transaction under way.
    #[must_use]
    pub fn journal(&self) -> DirPath {
        self.own().join("journal")
    }

    /// Returns the path that an unreadable journal is moved to.
    #[must_use]
    pub fn damaged_journal(&self) -> DirPath {
        self.own().join("journal.damaged")
    }

    /// Returns the directory with the records of a release: its receipt, its tree, and whether it has been permanent.
    #[must_use]
    pub fn receipt_dir(&self, version: &Version) -> DirPath {
        self.receipts().join(version.to_string())
    }

    pub(super) fn lock(&self) -> DirPath {
        self.own().join("lock")
    }

    pub(super) fn receipts(&self) -> DirPath {
        self.own().join("receipts")
    }

    pub(super) fn own(&self) -> DirPath {
        self.place.join(".tenure")
    }
}
