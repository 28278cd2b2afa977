//! The state of a root in one word, for tools that monitor many roots.

use serde::Serialize;

use crate::release::Snapshot;

/// The state of a root, ordered by severity. `tenure status` exits with 1 for `Unknown` and all states after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootState {
    /// No release is permanent yet.
    Empty,
    /// The current release is permanent, and nothing is in progress.
    Steady,
    /// A data migration is in progress.
    Migrating,
    /// The current release is on trial.
    Trial,
    /// A command is running.
    Working,
    /// It is unknown which release the service runs, or whether a command was interrupted.
    Unknown,
    /// The service runs another release than `current` points to.
    Drift,
    /// The service is down.
    Down,
    /// A data migration failed.
    MigrationFailed,
    /// A command was interrupted or could not be rolled back, and no process is working on it.
    Interrupted,
    /// A link is damaged, or a file that Tenure reads: its journal, its history, the data record, tenure.toml,
    /// paths.toml, or the release.toml of the current or the permanent release.
    Broken,
}

impl RootState {
    /// All states.
    pub const ALL: [Self; 11] = [
        Self::Empty,
        Self::Steady,
        Self::Migrating,
        Self::Trial,
        Self::Working,
        Self::Unknown,
        Self::Drift,
        Self::Down,
        Self::MigrationFailed,
        Self::Interrupted,
        Self::Broken,
    ];

    /// Returns the state of a root without problems.
    #[must_use]
    pub(super) fn of(now: &Snapshot, is_working: bool, is_migrating: bool) -> Self {
        match (is_working, now.trial().is_some(), is_migrating, now.permanent.version()) {
            (true, ..) => Self::Working,
            (_, true, ..) => Self::Trial,
            (_, _, true, _) => Self::Migrating,
            (_, _, _, Some(_)) => Self::Steady,
            _ => Self::Empty,
        }
    }
}
