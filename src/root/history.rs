//! What was done to the root: one line a transaction, appended durably.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::fs as disk;
use crate::version::Version;

use super::Root;

/// The largest history that is read, in bytes.
const LIMIT: u64 = 1 << 28;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it was meant to.
    Done,
    /// It failed and was taken back.
    Failed,
    /// It failed, and could not be taken back.
    Unfinished,
    /// It was interrupted, and a later command finished it.
    Finished,
    /// It was interrupted, and a later command rolled it back.
    TakenBack,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its name.
    pub transaction: String,
    /// The command, without `tenure`.
    pub command: String,
    /// Who gave it.
    pub by: String,
    /// When it began, in RFC 3339.
    pub started: String,
    /// How long it took, in milliseconds; unknown where it was interrupted.
    pub took_ms: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The release that ran before.
    pub from: Option<Version>,
    /// The release that it went to.
    pub to: Option<Version>,
    /// Why it failed, or why it was done where that was nobody's wish.
    pub error: Option<String>,
    /// The release that was permanent then; none where no link says so.
    #[serde(default)]
    pub permanent: Option<Version>,
    /// Whether the service was moved or started along with `current`; none where `current` was not switched, or where an
    /// earlier Tenure wrote the entry.
    #[serde(default)]
    pub moved_service: Option<bool>,
}

impl Root {
    /// Adds an entry, unless the last one is of the same transaction.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember(&self, entry: &HistoryEntry) -> Result<()> {
        if self.history()?.last().is_some_and(|last| last.transaction == entry.transaction) {
            return Ok(());
        }
        let line = serde_json::to_string(entry).context(|| "cannot write the history")?;
        disk::append_durable(&self.own().join("history"), &self.staging(), &line, self.owner())
    }

    /// The transactions, oldest first; a line that a crash cut short is left out.
    ///
    /// # Errors
    /// Where the history cannot be read.
    pub fn history(&self) -> Result<Vec<HistoryEntry>> {
        let text = disk::read_torn(&self.own().join("history"), LIMIT)?.unwrap_or_default();
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Whether the service ran when the release was made current last, by what is known.
    #[must_use]
    pub fn has_moved_service_to(&self, version: &Version) -> bool {
        let entries = self.history().unwrap_or_default();
        let of = |entry: &&HistoryEntry| entry.to.as_ref() == Some(version);
        entries.iter().rev().filter(of).find_map(|entry| entry.moved_service).unwrap_or(true)
    }

    /// The release that was permanent after the last transaction; none where no history that can be read tells it.
    pub(super) fn last_permanent(&self) -> Option<Version> {
        self.history().ok()?.into_iter().rev().find_map(|entry| entry.permanent)
    }
}
