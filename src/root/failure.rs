//! The releases that failed on this host: a mark for each, which outlives the release.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::fs::{self as disk, DirPath};
use crate::version::Version;

use super::Root;

/// The largest mark that is read, in bytes.
const LIMIT: u64 = 1 << 16;

/// That a release failed here, and was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The release.
    pub version: Version,
    /// The transaction that rolled it back.
    pub transaction: String,
    /// When, in RFC 3339.
    pub when: String,
    /// Why.
    pub why: String,
    /// The SHA-256, in hex, of the archive that the release came from; none where that is unknown.
    pub sha256: Option<String>,
}

impl Failure {
    /// Whether it is about the release from the archive with this SHA-256. Where one of the two is unknown, it is.
    #[must_use]
    pub fn is_about(&self, sha256: Option<&str>) -> bool {
        match (&self.sha256, sha256) {
            (Some(failed), Some(asked)) => failed == asked,
            _ => true,
        }
    }
}

impl Root {
    /// The failure of a release on this host, whichever archive it came from; none where it did not fail, and where
    /// the mark cannot be read.
    #[must_use]
    pub fn failure(&self, version: &Version) -> Option<Failure> {
        let text = disk::read_text(&self.mark(version), LIMIT).ok().flatten()?;
        serde_json::from_str(&text).ok().filter(|failure: &Failure| failure.version == *version)
    }

    /// As [`Self::failure`], of the release that is installed.
    #[must_use]
    pub fn installed_failure(&self, version: &Version) -> Option<Failure> {
        let failure = self.failure(version)?;
        let sha256 = self.receipt(version).and_then(|receipt| receipt.sha256);
        failure.is_about(sha256.as_deref()).then_some(failure)
    }

    /// All failures, of the highest release first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let names = disk::names(&self.failed()).unwrap_or_default();
        let versions = names.into_iter().filter_map(|name| name.parse().ok());
        let mut failures: Vec<_> = versions.filter_map(|version| self.failure(&version)).collect();
        failures.sort_by(|one, other| other.version.cmp(&one.version));
        failures
    }

    /// Marks a release durably as failed.
    ///
    /// # Errors
    /// Where the mark cannot be written.
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
    /// Where it cannot be removed.
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
