//! `versions`: lists the releases and their states.

use serde::Serialize;

use crate::error::Result;
use crate::release::ReleaseState;
use crate::root::{Failure, Root};
use crate::version::Version;

/// A release in the list.
#[derive(Clone, Debug, Serialize)]
pub struct ListedRelease {
    /// Its version.
    pub version: Version,
    /// Its state.
    pub state: ReleaseState,
    /// Its directory.
    pub path: String,
    /// When it was unpacked, in RFC 3339.
    pub unpacked_at: Option<String>,
    /// The archive that it was unpacked from.
    pub archive: Option<String>,
    /// The archive's SHA-256, in hex.
    pub sha256: Option<String>,
    /// Its failure on this host, forgotten once the release is permanent.
    pub failed: Option<Failure>,
}

/// The releases of a root.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// The product, if the settings name it.
    pub name: Option<String>,
    /// The path of the root.
    pub root: String,
    /// The releases, newest version first.
    pub releases: Vec<ListedRelease>,
}

/// Lists the releases. Takes no lock and changes nothing.
///
/// # Errors
/// Returns a `Refused` error if a link is broken: the states are then unknown.
pub fn versions(root: &Root) -> Result<Versions> {
    let now = root.observe()?;
    now.readable()?;
    let releases = now.states().map(|(version, state)| {
        let (unpacked_at, archive, sha256) = match root.receipt(version) {
            Some(receipt) => (Some(receipt.unpacked_at), receipt.archive, receipt.sha256),
            None => (None, None, None),
        };
        let path = root.release(version).display().to_string();
        let failed = root.installed_failure(version);
        ListedRelease { version: version.clone(), state, path, unpacked_at, archive, sha256, failed }
    });
    Ok(Versions {
        name: root.settings().name.clone(),
        root: root.path().display().to_string(),
        releases: releases.collect(),
    })
}
