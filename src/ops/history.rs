//! `history`: lists what was done, when, by whom, and how it ended.

use serde::Serialize;

use crate::error::Result;
use crate::root::{HistoryEntry, Root, TrialOutcome, trials};

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
