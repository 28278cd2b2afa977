//! `history`: what was done, when, by whom, and how it ended.

use serde::Serialize;

use crate::error::Result;
use crate::root::{HistoryEntry, Root, TrialOutcome, trials};

/// What was done to a root.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// The transactions, oldest first.
    pub entries: Vec<Remembered>,
}

/// A transaction, and what became of it since.
#[derive(Clone, Debug, Serialize)]
pub struct Remembered {
    /// The transaction.
    #[serde(flatten)]
    pub entry: HistoryEntry,
    /// What became of the release that it moved to; none where it moved to no other release, or back.
    pub trial: Option<TrialOutcome>,
}

/// Reads the history; takes no lock and changes nothing.
///
/// # Errors
/// Where it cannot be read.
pub fn history(root: &Root) -> Result<History> {
    Ok(History { entries: remembered(root.history()?) })
}

/// The transactions, each with what became of it.
pub(super) fn remembered(entries: Vec<HistoryEntry>) -> Vec<Remembered> {
    let trials = trials(&entries);
    let mut entries: Vec<Remembered> =
        entries.into_iter().map(|entry| Remembered { entry, trial: None }).collect();
    for (at, trial) in trials {
        // What a rollback alone tells of is the trial of another transaction.
        if entries[at].entry.to.as_ref() == Some(&trial.version) {
            entries[at].trial = Some(trial.outcome);
        }
    }
    entries
}
