//! The history of a root: one line per transaction, appended durably.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::fs as disk;
use crate::version::Version;

use super::Root;

/// The maximum size of the history, in bytes.
const LIMIT: u64 = 1 << 28;

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It failed and was rolled back.
    Failed,
    /// It failed and could not be rolled back.
    Unfinished,
    /// It was interrupted, and a later command finished it.
    Finished,
    /// It was interrupted, and a later command rolled it back.
    TakenBack,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The name of the transaction.
    pub transaction: String,
    /// The command, without `tenure`.
    pub command: String,
    /// The user who gave the command.
    pub by: String,
    /// The time when it began, in RFC 3339.
    pub started: String,
    /// The duration in milliseconds; `None` if the transaction was interrupted.
    pub took_ms: Option<u64>,
    /// The outcome.
    pub outcome: Outcome,
    /// The release that ran before.
    pub from: Option<Version>,
    /// The release that the transaction moved to.
    pub to: Option<Version>,
    /// The reason for a failure, or for a transaction that no user asked for.
    pub error: Option<String>,
    /// The release that was permanent at the end; `None` if the link did not lead to one.
    #[serde(default)]
    pub permanent: Option<Version>,
    /// Whether the service was moved or started along with `current`; `None` if `current` was not switched or if an
    /// earlier version of Tenure wrote the entry.
    #[serde(default)]
    pub moved_service: Option<bool>,
}

impl Root {
    /// Appends an entry, unless the last entry has the same transaction.
    ///
    /// # Errors
    /// Returns an error if the entry cannot be written.
    pub fn remember(&self, entry: &HistoryEntry) -> Result<()> {
        if self.history()?.last().is_some_and(|last| last.transaction == entry.transaction) {
            return Ok(());
        }
        let line = serde_json::to_string(entry).context(|| "cannot write the history")?;
        disk::append_durable(&self.own().join("history"), &self.staging(), &line, self.owner())
    }

    /// Returns the transactions, oldest first. Leaves out a line that a crash cut short.
    ///
    /// # Errors
    /// Returns an error if the history cannot be read.
    pub fn history(&self) -> Result<Vec<HistoryEntry>> {
        let text = disk::read_torn(&self.own().join("history"), LIMIT)?.unwrap_or_default();
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Returns whether the service moved along when the release last became current; `true` if that is unknown.
    #[must_use]
    pub fn has_moved_service_to(&self, version: &Version) -> bool {
        let entries = self.history().unwrap_or_default();
        let of = |entry: &&HistoryEntry| entry.to.as_ref() == Some(version);
        entries.iter().rev().filter(of).find_map(|entry| entry.moved_service).unwrap_or(true)
    }

    /// Returns the release that was permanent after the last transaction, or `None` if no readable history names one.
    pub(super) fn last_permanent(&self) -> Option<Version> {
        self.history().ok()?.into_iter().rev().find_map(|entry| entry.permanent)
    }
}
