//! `versions` and `history`: lists the releases and their states, and what was done, when, by whom, and how it ended.

use serde::Serialize;

use crate::error::Result;
use crate::release::ReleaseState;
use crate::root::{Failure, HistoryEntry, Root, TrialOutcome, trials};
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

/// The history of a root.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// The transactions, oldest first.
    pub entries: Vec<Remembered>,
}

/// A transaction and its later outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Remembered {
    /// The transaction.
    #[serde(flatten)]
    pub entry: HistoryEntry,
    /// The outcome of the trial that it began; `None` if it did not move to another release, or moved back.
    pub trial: Option<TrialOutcome>,
}

/// Reads the history. Takes no lock and changes nothing.
///
/// # Errors
/// Returns an error if the history cannot be read.
pub fn history(root: &Root) -> Result<History> {
    Ok(History { entries: remembered(root.history()?) })
}

/// Returns the transactions, each with the outcome of its trial.
pub(super) fn remembered(entries: Vec<HistoryEntry>) -> Vec<Remembered> {
    let trials = trials(&entries);
    let mut entries: Vec<Remembered> =
        entries.into_iter().map(|entry| Remembered { entry, trial: None }).collect();
    for (at, trial) in trials {
        // If the start of a trial is lost, `trials` derives the trial from its rollback, which did not begin it.
        if entries[at].entry.to.as_ref() == Some(&trial.version) {
            entries[at].trial = Some(trial.outcome);
        }
    }
    entries
}
