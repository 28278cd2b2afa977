//! Reads the links and releases of a root, and the files that people write for it, without a lock. A read of the links
//! never waits, and never returns a state that did not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath, FileKind};
use crate::health::Health;
use crate::manifest::{MANIFEST, Manifest};
use crate::naming;
use crate::policy::{PATHS, Paths};
use crate::release::{Installed, Link, LinkFault, LinkName, Snapshot};
use crate::version::Version;

use super::receipt::tenured;
use super::{LoadedSettings, Root, TEXT_LIMIT};

/// How often the state is read again because the links moved meanwhile.
const LOOKS: usize = 100;

/// The maximum size of the file of upgrade path rules, in bytes.
const PATHS_LIMIT: u64 = 1 << 20;

impl Root {
    /// Returns the releases and links at one moment. Reads again until no link moves during the read.
    ///
    /// # Errors
    /// Returns an error if the root cannot be read.
    pub fn observe(&self) -> Result<Snapshot> {
        for _ in 0..LOOKS {
            let before = self.targets()?;
            let releases = self.installed()?;
            if self.targets()? == before {
                let [current, permanent] = before.map(|target| link(target, &releases));
                let lost = match permanent {
                    Link::Missing => self.last_permanent().filter(|version| releases.contains_key(version)),
                    _ => None,
                };
                return Ok(Snapshot { current, permanent, releases, lost });
            }
        }
        Err(Error::failed(format!("cannot read {}: its links keep changing", self.path().display())))
    }

    /// Returns the versions of the archives in releases/, according to their file names.
    ///
    /// # Errors
    /// Returns an error if releases/ cannot be read.
    pub fn archived(&self) -> Result<BTreeSet<Version>> {
        let product = self.settings().name.as_deref();
        let names = disk::names(&self.releases())?;
        Ok(names.iter().filter_map(|name| naming::version_of(name, product)).collect())
    }

    /// Returns the vendor's rules about upgrade paths.
    ///
    /// # Errors
    /// Returns a `Refused` error if the rules cannot be used.
    pub fn paths(&self) -> Result<Paths> {
        let file = self.releases().join(PATHS);
        let text = disk::read_text(&file, PATHS_LIMIT)?.unwrap_or_default();
        Paths::parse(&file.display().to_string(), &text)
    }

    /// Returns the file names of the archives in releases/ that contain a version.
    ///
    /// # Errors
    /// Returns an error if releases/ cannot be read.
    pub fn archives(&self, version: &Version) -> Result<Vec<String>> {
        let product = self.settings().name.as_deref();
        let mut files = disk::names(&self.releases())?;
        files.retain(|file| naming::holds(file, product, version));
        Ok(files)
    }

    fn targets(&self) -> Result<[LinkTarget; 2]> {
        Ok([target(self, LinkName::Current)?, target(self, LinkName::Permanent)?])
    }

    fn installed(&self) -> Result<BTreeMap<Version, Installed>> {
        // A root may hold a thousand releases, so the directory is opened only once.
        let Some(releases) = self.releases().open()? else { return Ok(BTreeMap::new()) };
        // If the receipts cannot be opened, it is unknown which releases have been permanent.
        let receipts = self.receipts().open().unwrap_or_default();
        let tenured = |version: &Version| tenured(&receipts.as_ref()?.join(version.to_string()));
        let versions = disk::names(&releases)?.into_iter().filter_map(|name| Version::of_directory(&name));
        Ok(versions
            .filter(|version: &Version| disk::is_dir(&releases.join(version.to_string())))
            .map(|version| (version.clone(), Installed { tenured: tenured(&version) }))
            .collect())
    }
}

/// The files that people write. An error in such a file never prevents opening the root.
impl Root {
    /// Returns the manifest of an installed release, or `None` if the release has none.
    ///
    /// # Errors
    /// Returns a `Refused` error if the manifest cannot be used.
    pub fn manifest(&self, version: &Version) -> Result<Option<Manifest>> {
        manifest_in(&self.release(version))
    }

    /// Returns the health check of a release: the one in the settings, otherwise the one in its manifest, otherwise a
    /// check that it runs.
    ///
    /// # Errors
    /// Returns a `Refused` error if its manifest cannot be used.
    pub fn health(&self, version: &Version) -> Result<Health> {
        let declared = match self.settings().health.clone() {
            Some(health) => Some(health),
            None => self.manifest(version)?.and_then(|manifest| manifest.health),
        };
        Ok(declared.unwrap_or_default())
    }

    /// Refuses wrong settings, because a rule that cannot be read must not be ignored.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the file, the line and the nearest known key.
    pub fn ruled(&self) -> Result<()> {
        self.loaded.error().map_or(Ok(()), Err)
    }

    /// Reads the settings again if they were wrong, because the operator may have corrected them.
    pub fn read_again(&mut self) {
        if self.loaded.error.is_some() {
            self.loaded = LoadedSettings::read(&self.place);
        }
    }

    /// Returns whether the settings may name a service in a part that cannot be used.
    #[must_use]
    pub fn may_have_service(&self) -> bool {
        self.loaded.unread.service
    }

    /// Returns the user that the settings name for programs of releases.
    ///
    /// # Errors
    /// Returns a `Refused` error if the settings may name a user in a part that cannot be used.
    pub fn user(&self) -> Result<Option<&str>> {
        match self.loaded.error() {
            Some(error) if self.loaded.unread.user => {
                Err(Error::refused("cannot determine the user that programs of releases run as")
                    .because(error))
            }
            _ => Ok(self.settings().user.as_deref()),
        }
    }

    /// Returns every error in the settings, in the rules of upgrade paths, and in the manifests of the current and
    /// the permanent release.
    #[must_use]
    pub fn damage(&self) -> Vec<Error> {
        let mut wrong: Vec<Error> = self.loaded.error().into_iter().chain(self.paths().err()).collect();
        if let Ok(now) = self.observe() {
            let [current, permanent] =
                [LinkName::Current, LinkName::Permanent].map(|name| now.link(name).version());
            let versions = current.into_iter().chain(permanent.filter(|version| current != Some(*version)));
            wrong.extend(versions.filter_map(|version| self.manifest(version).err()));
        }
        wrong
    }
}

/// Returns the manifest at the top of this directory, or `None` if there is none.
///
/// # Errors
/// Returns a `Refused` error if the manifest cannot be used.
pub fn manifest_in(dir: &DirPath) -> Result<Option<Manifest>> {
    let file = dir.join(MANIFEST);
    let text = disk::read_text(&file, TEXT_LIMIT)?;
    text.map(|text| Manifest::parse(&file.display().to_string(), &text)).transpose()
}

/// The entry in the place of a link.
#[derive(PartialEq, Eq)]
enum LinkTarget {
    Nothing,
    Other(&'static str),
    Path(String),
}

fn target(root: &Root, name: LinkName) -> Result<LinkTarget> {
    Ok(match disk::standing(&root.place().join(name.file_name()))? {
        FileKind::Nothing => LinkTarget::Nothing,
        FileKind::Directory => LinkTarget::Other("directory"),
        FileKind::File => LinkTarget::Other("file"),
        FileKind::Link(to) => LinkTarget::Path(to.to_string_lossy().into()),
    })
}

fn link(target: LinkTarget, releases: &BTreeMap<Version, Installed>) -> Link {
    let target = match target {
        LinkTarget::Nothing => return Link::Missing,
        LinkTarget::Other(kind) => return Link::Broken(LinkFault::NotASymlink(kind)),
        LinkTarget::Path(target) => target,
    };
    if Path::new(&target).is_absolute() {
        return Link::Broken(LinkFault::Absolute(target));
    }
    match release_named(&target) {
        Some(version) if releases.contains_key(&version) => Link::To(version),
        Some(_) => Link::Broken(LinkFault::Dangling(target)),
        None => Link::Broken(LinkFault::Elsewhere(target)),
    }
}

fn release_named(target: &str) -> Option<Version> {
    let mut parts = Path::new(target).components().filter(|part| *part != Component::CurDir);
    match (parts.next()?, parts.next()?, parts.next()) {
        (Component::Normal(dir), Component::Normal(version), None) if dir == "releases" => {
            Version::of_directory(version.to_str()?)
        }
        _ => None,
    }
}
