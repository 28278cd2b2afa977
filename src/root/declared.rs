//! The manifest of a release, and its health check.

use crate::error::Result;
use crate::fs::{self as disk, DirPath};
use crate::health::Health;
use crate::manifest::{MANIFEST, Manifest};
use crate::version::Version;

use super::{Root, TEXT_LIMIT};

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
