//! Runs plans. The plan decides the order of the steps and their inverses.

mod recover;
mod service_steps;
mod staging;
mod steps;

use std::time::Duration;

use crate::background;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::journal::{self, Journal};
use crate::plan::{Hop, JournalRecord, Plan, Step, Toward, undo};
use crate::process;
use crate::progress::{NoProgress, Progress};
use crate::release::{ReleaseState, Snapshot};
use crate::root::{Failure, HistoryEntry, Outcome, Root, RootLock};
use crate::version::Version;

pub use recover::{Scope, recover_pending};
pub use staging::{Archived, Staged, Staging};
pub use steps::{begin_migration, end_left_over, migration_post};

use steps::{StepContext, StepSource};

/// A receiver of events while a command runs.
pub trait Reporter: Progress {
    /// Reports that the command begins on this release, with its state; `None` if the command unpacks it.
    fn opening(&mut self, version: &Version, was: Option<ReleaseState>);

    /// Reports a check that passed, and its result.
    fn checked(&mut self, _what: &str, _found: &str) {}

    /// Reports that staging for a step begins, which may take a while.
    fn staging(&mut self, step: &Step);

    /// Reports that the deletion of removed files begins, which may take a while.
    fn deleting(&mut self) {}

    /// Reports that packing begins, which may take a while. The archive gets this name at the end.
    fn packing(&mut self, _archive: &str) {}

    /// Reports that the new archive is being read back, which may take a while.
    fn reading_back(&mut self, _archive: &str) {}

    /// Reports that a step begins.
    fn begun(&mut self, step: &Step);

    /// Reports that a step is done.
    fn done(&mut self, step: &Step);

    /// Reports that one of several hops begins; the first is number 1.
    fn hop(&mut self, _hop: &Hop, _at: usize, _of: usize) {}

    /// Reports that one of several hops is done.
    fn arrived(&mut self, _hop: &Hop) {}

    /// Reports a recovery from an interrupted command.
    fn recovered(&mut self, recovered: &Recovered);

    /// Reports a problem that does not stop the command.
    fn warn(&mut self, warning: &str);
}

/// A recovery from an interrupted command.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Recovered {
    /// The interrupted command.
    pub command: String,
    /// Whether the command was finished or rolled back.
    pub toward: Toward,
    /// The steps of the recovery.
    pub steps: Vec<Step>,
}

/// A command, and who gave it.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The command as typed, without `tenure`.
    pub command: String,
    /// The user, or the part of Tenure, that gave the command.
    pub by: String,
    /// The reason, if no person gave the command.
    pub why: Option<String>,
}

/// Runs a plan. On failure, rolls back all steps that were begun.
///
/// # Errors
/// Returns the error of the failed step. Its kind is `Failed` after a rollback, or `Reverted` if the service was
/// moved before. It is `Stuck` if the rollback failed or was no longer possible; the next command then tries again.
pub fn run(
    root: &Root,
    lock: &RootLock,
    invocation: &Invocation,
    plan: &Plan,
    staged: Option<&Staged<'_>>,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    if plan.steps.is_empty() {
        return Ok(());
    }
    let begun = clock::since_boot();
    let record = JournalRecord {
        transaction: staged.map_or_else(journal::new_transaction, |staged| staged.transaction().to_owned()),
        command: invocation.command.clone(),
        by: invocation.by.clone(),
        started: clock::now(),
        why: invocation.why.clone(),
        plan: plan.clone(),
        begun: 0,
    };
    // The guard must run before the journal exists, so that a crash never leaves a journal without a guard.
    guarded(root, &record)?;
    let journal = Journal::open(root, &record)?;
    let staged = staged.map(Staged::parts);
    let context =
        StepContext { root, lock, transaction: &record.transaction, staged, source: StepSource::Command };
    let done = forward(&context, &journal, plan, reporter);
    let took = clock::since_boot().saturating_sub(begun);
    match done {
        Ok(()) => {
            // After this, nothing is rolled back, even if the journal cannot be removed.
            journal.all_done(plan).unwrap_or_else(|error| left_over(&error, reporter));
            let outcome = Outcome::Done;
            finish_transaction(root, entry(&record, outcome, Some(took), None), reporter);
            Ok(())
        }
        Err((steps, error)) => Err(roll_back(&context, &record, steps, error, took, reporter)?),
    }
}

/// Rolls back the first `begun` steps of a plan that failed, unless it can only be finished. Returns the error of the
/// plan.
fn roll_back(
    context: &StepContext<'_>,
    record: &JournalRecord,
    begun: usize,
    error: Error,
    took: Duration,
    reporter: &mut dyn Reporter,
) -> Result<Error> {
    let (root, plan) = (context.root, &record.plan);
    let (begun, now) = (&plan.steps[..begun], root.observe()?);
    if let Some(last) = begun.last()
        && is_past_return(plan, last, &now)
    {
        return Ok(stuck(last, error));
    }
    let failure = blamed_failure(root, record, begun, &error, reporter);
    let undone = undo_steps(context, begun, &error);
    failure
        .map_or(Ok(()), |failure| root.set_failure(&failure))
        .unwrap_or_else(|error| left_over(&error, reporter));
    undone?;
    finish_transaction(root, entry(record, Outcome::Failed, Some(took), Some(&error)), reporter);
    Ok(rolled_back(plan, begun, error))
}

/// Returns the error of a plan that was rolled back. Its message names the state of the service if the service was
/// touched.
fn rolled_back(plan: &Plan, begun: &[Step], error: Error) -> Error {
    let is_moved = begun.iter().any(|step| matches!(step, Step::MoveService { .. }));
    let is_started = begun.iter().any(|step| matches!(step, Step::StartService { .. }));
    match &plan.from {
        Some(from) if is_moved => {
            error.ending(&format!("rolled back; {from} is running")).as_kind(Kind::Reverted)
        }
        _ if is_started => error.ending("rolled back; the service is down, as before").as_kind(Kind::Failed),
        _ => error.as_kind(Kind::Failed),
    }
}

/// Returns whether the failed step comes after the links are final, as when `revert` fails to move the service. The
/// plan can then only be finished.
fn is_past_return(plan: &Plan, failed: &Step, now: &Snapshot) -> bool {
    let switches = plan.steps.iter().any(|step| matches!(step, Step::SwitchLink { .. }));
    (failed.concerns_service() || failed.concerns_data())
        && switches
        && plan.to.is_some()
        && plan.to.as_ref() == now.permanent.version()
}

fn stuck(step: &Step, error: Error) -> Error {
    Error::new(Kind::Stuck, format!("cannot {step}"))
        .because(error)
        .hint("check the service and its log; run `tenure status` to see the release that runs")
        .hint("fix the cause, then run `tenure revert`")
}

/// Starts a guard if the plan touches the service or starts a trial. The guard can roll it back without a person.
fn guarded(root: &Root, record: &JournalRecord) -> Result<()> {
    let needed = |step: &Step| step.concerns_service() || matches!(step, Step::StartTrial { .. });
    if !record.plan.steps.iter().any(needed) {
        return Ok(());
    }
    background::guard(root, &record.transaction, process::Identity::own())
}

/// Applies the steps in order. On failure, returns the number of steps begun, with the error.
fn forward(
    context: &StepContext<'_>,
    journal: &Journal<'_>,
    plan: &Plan,
    reporter: &mut dyn Reporter,
) -> std::result::Result<(), (usize, Error)> {
    for (at, step) in plan.steps.iter().enumerate() {
        reporter.go_on().and_then(|()| journal.begin(at + 1)).map_err(|e| (at, e))?;
        reporter.begun(step);
        context.apply(step, reporter).map_err(|e| (at + 1, e))?;
        reporter.done(step);
    }
    Ok(())
}

/// Rolls back the begun steps. A rollback cannot be interrupted.
fn undo_steps(context: &StepContext<'_>, begun: &[Step], failure: &Error) -> Result<()> {
    for step in undo(begun) {
        context.apply(&step, &mut NoProgress).map_err(|e| {
            let what =
                format!("cannot {step} during the rollback of this failure: {}", failure.in_one_line());
            let error = Error::new(Kind::Stuck, what).because(e);
            let error = match step.concerns_service() {
                true => error
                    .hint("check the service and its log; run `tenure status` to see the release that runs"),
                false => error,
            };
            error.hint("fix the cause, then run `tenure boot`")
        })?;
    }
    Ok(())
}

/// How long a command deletes trash, before its work and after it. The next command deletes the rest.
const DELETE_BUDGET: Duration = Duration::from_millis(300);

/// Writes the history and closes the transaction. A failure here must not undo the transaction. Files are deleted
/// only after the journal is closed; before that, a recovery would restore the part of them that is left.
fn finish_transaction(root: &Root, entry: HistoryEntry, reporter: &mut dyn Reporter) {
    let permanent = root.observe().ok().and_then(|now| now.permanent.version().cloned());
    let entry = HistoryEntry { permanent, ..entry };
    settle_failures(root, &entry).unwrap_or_else(|error| left_over(&error, reporter));
    root.remember(&entry).unwrap_or_else(|error| left_over(&error, reporter));
    journal::close(root)
        .and_then(|()| collect_garbage_briefly(root))
        .unwrap_or_else(|error| left_over(&error, reporter));
}

fn left_over(error: &Error, reporter: &mut dyn Reporter) {
    reporter.warn(&format!("{}; the next command tries again", error.in_one_line()));
}

fn entry(
    record: &JournalRecord,
    outcome: Outcome,
    took: Option<Duration>,
    error: Option<&Error>,
) -> HistoryEntry {
    HistoryEntry {
        transaction: record.transaction.clone(),
        command: record.command.clone(),
        by: record.by.clone(),
        started: record.started.clone(),
        took_ms: took.map(clock::milliseconds),
        outcome,
        from: record.plan.from.clone(),
        to: record.plan.to.clone(),
        error: error.map(Error::in_one_line).or_else(|| record.why.clone()),
        permanent: None,
        moved_service: record.plan.moves_service(),
    }
}

/// Deletes all trash, unless interrupted: a release to unpack may need the space. The caller must hold the lock.
pub fn make_room(root: &Root, reporter: &mut dyn Reporter) {
    let total = root.left_behind();
    let mut gone = 0;
    reporter.deleting();
    let swept = root.collect_garbage(&mut |bytes| {
        gone = total.min(gone + bytes);
        if bytes > 0 {
            reporter.advance(gone, total);
        }
        !reporter.interrupted()
    });
    swept.unwrap_or_else(|error| left_over(&error, reporter));
}

fn collect_garbage_briefly(root: &Root) -> Result<()> {
    let until = clock::since_boot() + DELETE_BUDGET;
    root.collect_garbage(&mut |_| clock::since_boot() < until)
}

/// Returns the failure of the release that the service was moved to, if the move or its health check failed. Must be
/// called before the rollback, which removes the release's receipt. An interrupted command shows nothing about the
/// release.
fn blamed_failure(
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

/// Marks the release that a rollback left without a person's order, and clears the mark of the permanent release.
///
/// # Errors
/// Returns an error if a mark cannot be written or removed.
fn settle_failures(root: &Root, entry: &HistoryEntry) -> Result<()> {
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
