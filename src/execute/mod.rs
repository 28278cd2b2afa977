//! Runs plans, and recovers from interrupted ones. The plan decides the order of the steps and their inverses.

mod service_steps;
mod failing;
mod shared;
mod stage;
mod step;
mod task;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::background;
use crate::clock;
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{self, Journal, JournalState};
use crate::plan::{Hop, JournalRecord, Plan, Recovery, Step, Toward, recover, undo};
use crate::process;
use crate::progress::{NoProgress, Progress};
use crate::release::{ReleaseState, Snapshot};
use crate::root::{HistoryEntry, Outcome, Root, RootLock};
use crate::version::Version;

pub use stage::{Archived, Staged, Staging};
use step::StepContext;
use task::StepSource;
pub use task::{begin_migration, end_left_over, migration_post};

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
    fn hop(&mut self, _leg: &Hop, _at: usize, _of: usize) {}

    /// Reports that one of several hops is done.
    fn arrived(&mut self, _leg: &Hop) {}

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
        transaction: staged.map_or_else(transaction, |staged| staged.transaction().to_owned()),
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
        Err((steps, error)) => {
            let begun = &plan.steps[..steps];
            if is_past_return(plan, begun, &root.observe()?) {
                return Err(stuck(&begun[steps - 1], error));
            }
            let failure = failing::found(root, &record, begun, &error, reporter);
            let back = turn_around(&context, begun, &error);
            failing::mark(root, failure).unwrap_or_else(|error| left_over(&error, reporter));
            back?;
            finish_transaction(root, entry(&record, Outcome::Failed, Some(took), Some(&error)), reporter);
            Err(rolled_back(plan, begun, error))
        }
    }
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
fn is_past_return(plan: &Plan, begun: &[Step], now: &Snapshot) -> bool {
    let comes_after = |step: &Step| step.concerns_service() || step.concerns_data();
    let switches = plan.steps.iter().any(|step| matches!(step, Step::SwitchLink { .. }));
    begun.last().is_some_and(comes_after)
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
fn turn_around(context: &StepContext<'_>, begun: &[Step], failure: &Error) -> Result<()> {
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
    failing::settle(root, &entry).unwrap_or_else(|error| left_over(&error, reporter));
    root.remember(&entry).unwrap_or_else(|error| left_over(&error, reporter));
    journal::close(root)
        .and_then(|()| sweep_for_a_moment(root))
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
        took_ms: took.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
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

fn sweep_for_a_moment(root: &Root) -> Result<()> {
    let until = clock::since_boot() + DELETE_BUDGET;
    root.collect_garbage(&mut |_| clock::since_boot() < until)
}

/// The scope of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The links and the service.
    All,
    /// The links only: the service is down, and starts after the recovery.
    Links,
}

/// Recovers from an interrupted transaction, if there is one, and removes the files that crashes leave behind.
///
/// # Errors
/// Returns an error if a step of the recovery fails; the next command tries again.
pub fn recover_pending(
    root: &Root,
    lock: &RootLock,
    scope: Scope,
    reporter: &mut dyn Reporter,
) -> Result<Option<Recovered>> {
    let recovered = match journal::find(root)? {
        JournalState::Nothing => None,
        JournalState::Damaged => {
            let aside = journal::set_aside(root)?;
            reporter.warn(&format!(
                "the journal was damaged and was moved to {}; run `tenure status` to check the root",
                aside.display()
            ));
            None
        }
        JournalState::Open(record) => Some(run_recovery(root, lock, &record, scope, reporter)?),
    };
    // Files that cannot be deleted do no harm.
    sweep_for_a_moment(root).unwrap_or_else(|error| left_over(&error, reporter));
    Ok(recovered)
}

fn run_recovery(
    root: &Root,
    lock: &RootLock,
    record: &JournalRecord,
    scope: Scope,
    reporter: &mut dyn Reporter,
) -> Result<Recovered> {
    let Recovery { toward, mut steps } = recover(record, &root.observe()?);
    if scope == Scope::Links {
        steps.retain(|step| !step.concerns_service());
    }
    // With `Scope::Links`, the program that starts the service may be one that the transaction started.
    if scope == Scope::All {
        process::kill_leftover_hooks(&record.transaction);
    }
    let (transaction, source) = (record.transaction.as_str(), StepSource::Journal);
    let context = StepContext { root, lock, transaction, staged: None, source };
    for step in &steps {
        let applied = context.apply(step, reporter);
        match (step, applied) {
            // An unhealthy service must not prevent a person from repairing it.
            (Step::WaitHealthy { .. }, Err(error)) => reporter.warn(&error.in_one_line()),
            // The same holds for settings that no longer describe the service.
            (step, Err(error)) if step.concerns_service() && root.may_have_service() => {
                reporter.warn(&error.in_one_line());
            }
            (_, applied) => {
                applied.context(|| format!("cannot recover the interrupted `{}`", record.command))?;
            }
        }
    }
    let outcome = match toward {
        Toward::Forward => Outcome::Finished,
        Toward::Back => Outcome::TakenBack,
    };
    finish_transaction(root, entry(record, outcome, None, None), reporter);
    let recovered = Recovered { command: record.command.clone(), toward, steps };
    reporter.recovered(&recovered);
    Ok(recovered)
}

/// Returns a transaction name that is unique on this host. One process may begin several transactions in one second.
#[must_use]
pub fn transaction() -> String {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let first = format!("{}-{}", clock::now().replace(':', ""), process::own_id());
    match BEGUN.fetch_add(1, Ordering::Relaxed) {
        0 => first,
        more => format!("{first}-{more}"),
    }
}
