//! Recovers from an interrupted command: finishes its plan, or rolls it back.

use crate::error::{Context, Result};
use crate::journal::{self, JournalState};
use crate::plan::{JournalRecord, Recovery, Step, Toward, recover};
use crate::process;
use crate::root::{Outcome, Root, RootLock};

use super::steps::{StepContext, StepSource};
use super::{Recovered, Reporter, collect_garbage_briefly, entry, finish_transaction, left_over};

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
    collect_garbage_briefly(root).unwrap_or_else(|error| left_over(&error, reporter));
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
