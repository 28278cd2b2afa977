//! Where the releases lie: in the root, on another disk that is mounted there, or where a link of the operator's leads.

use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath, FileKind};
use crate::outside;
use crate::process;
use crate::settings::SharedDirectory;
use crate::tree::Owner;
use crate::version::Version;

use super::Root;

const RELEASES: &str = "releases";

/// The directory of the releases.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// The directory itself, wherever the link leads.
    releases: DirPath,
    /// Whether `releases` in the root is a link.
    is_linked: bool,
    /// Whether nothing can be moved there from .tenure/ by one rename.
    is_elsewhere: bool,
}

impl Home {
    /// Finds the directory of the releases in a root.
    ///
    /// # Errors
    /// Refused where a link that others made leads there, or where it leads to what is another user's.
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

/// What is written there belongs to the owner of the root: no other user may have a hand in where that is.
fn linked(link: &DirPath, owner: Owner) -> Result<DirPath> {
    let (dir, path) = outside::open_dir(link.path())?;
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
    /// The directory of the releases and their archives, on whatever disk it lies; its path is the real one.
    #[must_use]
    pub fn releases(&self) -> DirPath {
        self.home.releases.clone()
    }

    /// The directory of one release.
    #[must_use]
    pub fn release(&self, version: &Version) -> DirPath {
        self.releases().join(version.to_string())
    }

    /// Whether a release is a mount of its own, which can be neither moved nor removed.
    #[must_use]
    pub fn is_mount(&self, version: &Version) -> bool {
        disk::is_mount(&self.release(version), &self.releases())
    }

    /// A directory on the disk that the releases take their room from.
    #[must_use]
    pub fn disk(&self) -> DirPath {
        if self.home.is_elsewhere { self.releases() } else { self.place().clone() }
    }

    /// Whether the releases lie where nothing can be moved from .tenure/ by one rename.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.home.is_elsewhere
    }

    /// Where releases are built before they are published: on the disk of the releases.
    #[must_use]
    pub fn release_staging(&self) -> DirPath {
        if self.is_spread() { self.beside().join("staging") } else { self.staging() }
    }

    /// Where releases and archives go before they are deleted: on the disk of the releases.
    #[must_use]
    pub fn release_trash(&self) -> DirPath {
        if self.is_spread() { self.beside().join("trash") } else { self.trash() }
    }

    /// Tenure's own directory among the releases, where they lie on another disk.
    pub(super) fn beside(&self) -> DirPath {
        self.releases().join(".tenure")
    }

    /// Where the link in a release leads in the place of a directory that outlives it. From behind a link nothing but the
    /// whole path leads back into the root.
    #[must_use]
    pub fn shared_target(&self, name: &SharedDirectory) -> String {
        match self.home.is_linked {
            true => format!("{}/{name}", self.shared().display()),
            false => format!("../../shared/{name}"),
        }
    }

    /// The same, from a transaction's part of staging to all of them.
    #[must_use]
    pub fn shared_from_staging(&self) -> String {
        match (self.home.is_linked, self.is_spread()) {
            (true, _) => self.shared().display().to_string(),
            (false, true) => "../../../../shared".to_owned(),
            (false, false) => "../../../shared".to_owned(),
        }
    }
}
