//! A session: the lock, the recovery from an interrupted command, the present state of the root, and the report.

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::background;
use crate::error::{Context, Error, Result};
use crate::execute::{self, Invocation, Recovered, Reporter, Scope, Staged};
use crate::journal::{self, JournalState};
use crate::plan::{Plan, Recovery, recover};
use crate::process::{self, Identity};
use crate::release::Snapshot;
use crate::root::{Root, RootLock, Trial};
use crate::version::Version;

/// The mode of a command: act, or only report what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The command acts.
    Act,
    /// `--dry-run`: nothing is changed and no lock is taken.
    DryRun,
}

/// The options of every command that changes something.
#[derive(Clone, Debug)]
pub struct Common {
    /// The command and the user who runs it.
    pub invocation: Invocation,
    /// Whether to act.
    pub mode: Mode,
    /// How long to wait for the lock.
    pub wait: Duration,
}

/// The actions that a command would take.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    /// The recovery from an interrupted command, which would come first.
    pub recovery: Option<Recovery>,
    /// The rollback of a trial past its deadline, which would come first.
    pub overdue: Option<Plan>,
    /// The plan that would run; empty if there is nothing to do.
    pub plan: Plan,
}

/// The report of a command that changes something: what it did, or what it would do.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Report<T> {
    /// The command acted.
    Done {
        /// The recovery that came first.
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<Recovered>,
        /// The result of the command.
        #[serde(flatten)]
        result: T,
    },
    /// The command was a dry run.
    Dry(DryRun),
}

/// A recovered root that is ready for a command. Holds the lock, except in a dry run.
pub(super) struct Session<'a> {
    pub root: &'a Root,
    pub common: &'a Common,
    pub now: Snapshot,
    /// The recovery that came first.
    pub recovered: Option<Recovered>,
    pending: Option<Recovery>,
    /// The trial past its deadline that is rolled back before the command.
    pub overdue: Option<Overdue>,
    /// `None` in a dry run.
    pub lock: Option<Rc<RootLock>>,
}

/// A trial past its deadline that was rolled back, or would be in a dry run.
pub(super) struct Overdue {
    pub trial: Trial,
    /// The release that is current after the rollback.
    pub permanent: Option<Version>,
    /// The plan of the rollback in a dry run.
    pub plan: Plan,
}

impl Overdue {
    /// Returns the error of a command that confirms this trial.
    pub fn refuse_confirm(&self, mode: Mode) -> Error {
        let Trial { version, ends, .. } = &self.trial;
        let state = match (mode, &self.permanent) {
            (Mode::Act, Some(permanent)) => format!("; it was rolled back, and {permanent} is current"),
            (Mode::DryRun, Some(permanent)) => format!("; it would first be rolled back to {permanent}"),
            (_, None) => String::new(),
        };
        let why = self.trial.why_overdue();
        Error::refused(format!("cannot confirm {version}: its trial ended at {ends}: {why}{state}"))
            .hint(format!("run `tenure install --retry --confirm-within 10m {version}` to try it again"))
    }
}

impl<'a> Session<'a> {
    /// Takes the lock and recovers from an interrupted command, in this scope. Does not check the deadline of a trial:
    /// the guard judges that trial itself, and `boot` ends every trial.
    pub fn begin_with(
        root: &'a Root,
        common: &'a Common,
        scope: Scope,
        reporter: &mut dyn Reporter,
    ) -> Result<Self> {
        root.adopted()?;
        let (lock, recovered, pending) = match common.mode {
            Mode::Act => {
                match root.check_modes() {
                    // The service must be able to start, and no program is run for that.
                    Err(error) if scope == Scope::Links => reporter.warn(&error.in_one_line()),
                    checked => checked.context(|| format!("cannot change {}", root.path().display()))?,
                }
                let lock = RootLock::take(root, &common.invocation.command, common.wait, reporter)?;
                let recovered = execute::recover_pending(root, &lock, scope, reporter)?;
                (Some(Rc::new(lock)), recovered, None)
            }
            Mode::DryRun => (None, None, pending(root)?),
        };
        let now = root.observe()?;
        let steps = pending.iter().flat_map(|recovery| &recovery.steps);
        let now = steps.fold(now, Snapshot::after);
        Ok(Self { root, common, now, recovered, pending, overdue: None, lock })
    }

    /// Begins another session under the same lock, with the present state of the root.
    pub fn again(&self) -> Result<Self> {
        self.ordered(self.common)
    }

    /// Begins another session under the same lock, with other options.
    pub fn ordered<'b>(&self, common: &'b Common) -> Result<Session<'b>>
    where
        'a: 'b,
    {
        let (now, lock) = (self.root.observe()?, self.lock.clone());
        Ok(Session { root: self.root, common, now, recovered: None, pending: None, overdue: None, lock })
    }

    /// Returns whether this trial is still under way. Another command may have ended or replaced it before the lock
    /// was taken.
    pub fn is_on(&self, trial: &Trial) -> Result<bool> {
        Ok(self.root.trial(&self.now)?.is_some_and(|now| now.transaction == trial.transaction))
    }

    /// Returns whether the plan is going to change anything, so that the reporter can announce it.
    pub fn acts_on(&self, plan: &Plan) -> bool {
        self.common.mode == Mode::Act && !plan.steps.is_empty()
    }

    /// Runs the plan, or only returns it in a dry run.
    pub fn finish<T>(
        self,
        plan: Plan,
        staged: Option<&Staged<'_>>,
        reporter: &mut dyn Reporter,
        result: impl FnOnce(&Plan) -> T,
    ) -> Result<Report<T>> {
        let Some(lock) = &self.lock else {
            let overdue = self.overdue.map(|overdue| overdue.plan);
            return Ok(Report::Dry(DryRun { recovery: self.pending, overdue, plan }));
        };
        execute::run(self.root, lock, &self.common.invocation, &plan, staged, reporter)?;
        Ok(Report::Done { recovered: self.recovered, result: result(&plan) })
    }
}

/// Starts guards for a trial with a deadline if all its guards were killed. Does nothing if this user may not change
/// the root.
///
/// # Errors
/// Returns an error if the root cannot be read or a guard cannot be started.
pub fn guard_trial(root: &Root) -> Result<()> {
    if root.may_change().is_err() {
        return Ok(());
    }
    match root.trial(&root.observe()?)? {
        Some(trial) if !root.is_guarded()? => {
            let name = format!("{}-again-{}", trial.transaction, process::own_id());
            background::guard(root, &name, Identity::own())
        }
        _ => Ok(()),
    }
}

fn pending(root: &Root) -> Result<Option<Recovery>> {
    Ok(match journal::find(root)? {
        JournalState::Open(record) => Some(recover(&record, &root.observe()?)),
        JournalState::Nothing | JournalState::Damaged => None,
    })
}

/// Returns the invocation of a command by the guard, or by another command in its place.
pub(super) fn by_guard(command: &str, why: Option<String>) -> Invocation {
    Invocation { command: command.to_owned(), by: "the guard".to_owned(), why }
}
