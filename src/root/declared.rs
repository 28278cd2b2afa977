//! What a release declares, and how its health is told.

use crate::error::Result;
use crate::fs::{self as disk, DirPath};
use crate::health::Health;
use crate::manifest::{MANIFEST, Manifest};
use crate::version::Version;

use super::{Root, TEXT_LIMIT};

impl Root {
    /// The manifest of an installed release; none where it has none.
    ///
    /// # Errors
    /// Refused where it cannot be used.
    pub fn manifest(&self, version: &Version) -> Result<Option<Manifest>> {
        manifest_in(&self.release(version))
    }

    /// How the health of a release is told: as the settings say, otherwise as its manifest does, otherwise by whether it
    /// runs.
    ///
    /// # Errors
    /// Refused where its manifest cannot be used.
    pub fn health(&self, version: &Version) -> Result<Health> {
        let declared = match self.settings().health.clone() {
            Some(health) => Some(health),
            None => self.manifest(version)?.and_then(|manifest| manifest.health),
        };
        Ok(declared.unwrap_or_default())
    }
}

/// The manifest at the top of this directory; none where it has none.
///
/// # Errors
/// Refused where it cannot be used.
pub fn manifest_in(dir: &DirPath) -> Result<Option<Manifest>> {
    let file = dir.join(MANIFEST);
    let text = disk::read_text(&file, TEXT_LIMIT)?;
    text.map(|text| Manifest::parse(&file.display().to_string(), &text)).transpose()
}
