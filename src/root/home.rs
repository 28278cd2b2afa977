//! The location of the releases: in the root, on a file system mounted there, or where the operator's symlink leads.

use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath, FileKind, Owner};
use crate::host_path;
use crate::process;
use crate::settings::SharedDirectory;
use crate::version::Version;

use super::Root;

const RELEASES: &str = "releases";

/// The directory of the releases.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// The directory itself; the target, if `releases` is a symlink.
    releases: DirPath,
    /// Whether `releases` in the root is a symlink.
    is_linked: bool,
    /// Whether one rename cannot move a file there from .tenure/; also set if `releases` is a symlink.
    is_elsewhere: bool,
}

impl Home {
    /// Finds the directory of the releases in a root.
    ///
    /// # Errors
    /// Returns a `Refused` error if another user created the symlink to it, or if the target belongs to another user.
    pub fn find(root: &DirPath, owner: Owner) -> Result<Self> {
        let inner = root.join(RELEASES);
        if let FileKind::Link(_) = disk::standing(&inner)? {
            return Ok(Self { releases: linked(&inner, owner)?, is_linked: true, is_elsewhere: true });
        }
        let own = root.join(".tenure");
        let beside = if disk::is_dir(&own) { own } else { root.clone() };
        let is_elsewhere = disk::is_dir(&inner) && disk::is_elsewhere(&inner, &beside)?;
        Ok(Self { releases: inner, is_linked: false, is_elsewhere })
    }
}

/// Refuses a location that another user controls, because files there are given to the owner of the root.
fn linked(link: &DirPath, owner: Owner) -> Result<DirPath> {
    let (dir, path) = host_path::open_dir(link.path())?;
    let releases = DirPath::of(dir, path);
    let (made_by, of) = (disk::owner_of_link(link)?.uid, disk::owner(&releases)?.uid);
    let is_trusted = of == owner.uid || of == 0 && made_by == 0;
    if (made_by == owner.uid || made_by == 0) && is_trusted {
        return Ok(releases);
    }
    let [made_by, of, owner] = [made_by, of, owner.uid].map(process::user_name);
    Err(Error::refused(format!(
        "cannot use the link {} of {made_by} to {}, which belongs to {of}: the root belongs to {owner}",
        link.display(),
        releases.display()
    ))
    .hint(format!(
        "give both to {owner}: `chown -h {owner} {}; chown {owner} {}`",
        link.display(),
        releases.display()
    )))
}

impl Root {
    /// Returns the directory of the releases and their archives, on any file system. Its path contains no symlink.
    #[must_use]
    pub fn releases(&self) -> DirPath {
        self.home.releases.clone()
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
        if self.home.is_elsewhere { self.releases() } else { self.place().clone() }
    }

    /// Returns whether one rename cannot move a file from .tenure/ to the releases.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.home.is_elsewhere
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
        match self.home.is_linked {
            true => format!("{}/{name}", self.shared().display()),
            false => format!("../../shared/{name}"),
        }
    }

    /// Returns the target of a symlink from a transaction's staging directory to the shared directories.
    #[must_use]
    pub fn shared_from_staging(&self) -> String {
        match (self.home.is_linked, self.is_spread()) {
            (true, _) => self.shared().display().to_string(),
            (false, true) => "../../../../shared".to_owned(),
            (false, false) => "../../../shared".to_owned(),
        }
    }
}
