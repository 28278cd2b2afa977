//! How a root stands, in one word for those who watch over many.

use serde::Serialize;

use crate::release::Snapshot;

/// The state of a root as a whole, from the calmest to the gravest. `status` calls for exit code 1 from `Unknown` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootState {
    /// No release is permanent yet.
    Empty,
    /// The current release is permanent, and nothing is under way.
    Steady,
    /// The data is being migrated.
    Migrating,
    /// The current release is on trial.
    Trial,
    /// A command is at work.
    Working,
    /// Nobody can tell what the service runs, or this user not whether a command was cut short.
    Unknown,
    /// The service runs another release than `current` leads to.
    Drift,
    /// The service is down.
    Down,
    /// A data migration failed.
    MigrationFailed,
    /// A command was interrupted, or could not be rolled back, and nobody is at work on it.
    Interrupted,
    /// A link is damaged, or a file that Tenure reads: its journal, its history, the format of the data, tenure.toml,
    /// paths.toml, or the release.toml of the current or the permanent release.
    Broken,
}

impl RootState {
    /// Every state there is.
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

    /// The state of a root in which nothing is out of order.
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
