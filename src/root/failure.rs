//! The releases that failed on this host. Each has a mark, which outlives the release.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::fs::{self as disk, DirPath};
use crate::version::Version;

use super::Root;

/// The maximum size of a mark, in bytes.
const LIMIT: u64 = 1 << 16;

/// The failure of a release on this host, which was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The release.
    pub version: Version,
    /// The transaction that rolled it back.
    pub transaction: String,
    /// The time of the failure, in RFC 3339.
    pub when: String,
    /// The reason.
    pub why: String,
    /// The SHA-256, in hex, of the archive that the release came from; `None` if it is unknown.
    pub sha256: Option<String>,
}

impl Failure {
    /// Returns whether the failure concerns the release from the archive with this SHA-256; `true` if one is unknown.
    #[must_use]
    pub fn is_about(&self, sha256: Option<&str>) -> bool {
        match (&self.sha256, sha256) {
            (Some(failed), Some(asked)) => failed == asked,
            _ => true,
        }
    }
}

impl Root {
    /// Returns the failure of a release on this host, from any archive; `None` if there is no readable mark.
    #[must_use]
    pub fn failure(&self, version: &Version) -> Option<Failure> {
        let text = disk::read_text(&self.mark(version), LIMIT).ok().flatten()?;
        serde_json::from_str(&text).ok().filter(|failure: &Failure| failure.version == *version)
    }

    /// Like [`Self::failure`], but only for the archive that the installed release came from.
    #[must_use]
    pub fn installed_failure(&self, version: &Version) -> Option<Failure> {
        let failure = self.failure(version)?;
        let sha256 = self.receipt(version).and_then(|receipt| receipt.sha256);
        failure.is_about(sha256.as_deref()).then_some(failure)
    }

    /// Returns all failures, highest version first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let names = disk::names(&self.failed()).unwrap_or_default();
        let versions = names.into_iter().filter_map(|name| Version::of_directory(&name));
        let mut failures: Vec<_> = versions.filter_map(|version| self.failure(&version)).collect();
        failures.sort_by(|one, other| other.version.cmp(&one.version));
        failures
    }

    /// Marks a release durably as failed.
    ///
    /// # Errors
    /// Returns an error if the mark cannot be written.
    pub fn set_failure(&self, failure: &Failure) -> Result<()> {
        let text = serde_json::to_vec(failure).context(|| "cannot record that a release failed")?;
        disk::ensure_dir(&self.failed(), 0o755, self.owner())?;
        disk::sync_dir(&self.own())?;
        let mark = self.mark(&failure.version);
        disk::write_durable(&mark, &self.staging(), &text, 0o644, self.owner()).map(drop)
    }

    /// Removes the mark of a release durably, if there is one.
    ///
    /// # Errors
    /// Returns an error if the mark cannot be removed.
    pub fn clear_failure(&self, version: &Version) -> Result<()> {
        let mark = self.mark(version);
        if disk::exists(&mark) { disk::remove_file_durable(&mark) } else { Ok(()) }
    }

    fn failed(&self) -> DirPath {
        self.own().join("failed")
    }

    fn mark(&self, version: &Version) -> DirPath {
        self.failed().join(version.to_string())
    }
}
