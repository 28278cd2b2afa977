//! Decides what a transaction shows about a release: that it failed on this host, or that it works after all.

use crate::clock;
use crate::error::{Error, Result};
use crate::plan::{JournalRecord, Step};
use crate::progress::Progress;
use crate::root::{Failure, HistoryEntry, Outcome, Root};
use crate::version::Version;

/// Returns the failure of the release that the service was moved to, if the move or its health check failed. Must be
/// called before the rollback, which removes the release's receipt. An interrupted command shows nothing about the
/// release.
pub(super) fn found(
    root: &Root,
    record: &JournalRecord,
    begun: &[Step],
    error: &Error,
    progress: &dyn Progress,
) -> Option<Failure> {
    let (Step::MoveService { to: version, .. } | Step::WaitHealthy { version, .. }) = begun.last()? else {
        return None;
    };
    let is_target = record.plan.to.as_ref() == Some(version);
    let is_blamed = is_target && !progress.interrupted();
    is_blamed.then(|| failure(root, version, &record.transaction, error.in_one_line()))
}

/// Marks the release that failed, if there is one.
///
/// # Errors
/// Returns an error if the mark cannot be written.
pub(super) fn mark(root: &Root, failure: Option<Failure>) -> Result<()> {
    failure.map_or(Ok(()), |failure| root.set_failure(&failure))
}

/// Marks the release that a rollback left without a person's order, and clears the mark of the permanent release.
///
/// # Errors
/// Returns an error if a mark cannot be written or removed.
pub(super) fn settle(root: &Root, entry: &HistoryEntry) -> Result<()> {
    let is_done = matches!(entry.outcome, Outcome::Done | Outcome::Finished);
    if let (true, Some(why), Some(from)) = (is_done, &entry.error, &entry.from)
        && entry.to.as_ref() != Some(from)
    {
        root.set_failure(&failure(root, from, &entry.transaction, why.clone()))?;
    }
    entry.permanent.as_ref().map_or(Ok(()), |permanent| root.clear_failure(permanent))
}

fn failure(root: &Root, version: &Version, transaction: &str, why: String) -> Failure {
    let sha256 = root.receipt(version).and_then(|receipt| receipt.sha256);
    let transaction = transaction.to_owned();
    Failure { version: version.clone(), transaction, when: clock::now(), why, sha256 }
}
