//! The commands: options in, report out. None of them prints.

mod adopt;
mod boot;
mod check;
mod data;
mod fetch;
mod guard;
mod history;
mod init;
mod install;
mod late;
mod lint;
mod migrate;
mod service_move;
mod overdue;
mod pack;
mod prune;
mod prepare;
mod retry;
mod disk_space;
mod upgrade_path;
mod share;
mod source;
mod state;
mod status;
mod trust;
mod uninstall;
mod unpack;
mod verify;
mod versions;
mod multi_hop;

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::detach;
use crate::error::{Context, Result};
use crate::execute::{self, Invocation, Recovered, Reporter, Scope, Staged};
use crate::journal::{self, JournalState};
use crate::plan::{Plan, Recovery, recover};
use crate::process::{self, Identity};
use crate::release::Snapshot;
use crate::root::{Root, RootLock, Trial};

use overdue::Overdue;

pub use adopt::{Adopt, Adopted, adopt, adoptable};
pub use boot::{Booted, Reverted, boot, revert};
pub use check::{CheckReport, CheckRow, Support, Supported, check, supported};
pub use guard::{Guarded, guard};
pub use history::{History, Remembered, history};
pub use init::{Initialised, init};
pub use install::{Confirm, Install, InstallResult, confirm, install};
pub use lint::{Linted, lint};
pub use migrate::{Migrate, Migrated, Migrator, migrate, migrator};
pub use multi_hop::{Extent, Walked, walk};
pub use pack::{Overwrite, Pack, Packed, pack};
pub use prepare::{Prepared, prepare};
pub use prune::{Pruned, Removed, prune};
pub use source::Replace;
pub use state::RootState;
pub use status::{DiskSpace, ReleaseRow, Serving, Status, Unfinished, status};
pub use uninstall::{Uninstalled, uninstall};
pub use unpack::{Unpack, UnpackTarget, Unpacked, unpack};
pub use upgrade_path::{Location, PathQuery, UpgradePath, route};
pub use verify::{Judged, ReleaseVerdict, Verified, verify};
pub use versions::{ListedRelease, Versions, versions};

/// Whether a command acts or only tells what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It acts.
    Act,
    /// `--dry-run`: nothing is changed, no lock is taken.
    DryRun,
}

/// What every command that changes something is given.
#[derive(Clone, Debug)]
pub struct Common {
    /// The command and who gave it.
    pub invocation: Invocation,
    /// Whether to act.
    pub mode: Mode,
    /// How long to wait for the lock.
    pub wait: Duration,
}

/// What a command would do.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    /// How an interrupted command would be recovered from first.
    pub recovery: Option<Recovery>,
    /// How a trial past its deadline would be rolled back first.
    pub overdue: Option<Plan>,
    /// The plan that would run; empty where all is so already.
    pub plan: Plan,
}

/// What a changing command has to say: what it did, or what it would do.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Report<T> {
    /// It acted.
    Done {
        /// What was recovered from first.
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<Recovered>,
        /// What it did.
        #[serde(flatten)]
        result: T,
    },
    /// It only told.
    Dry(DryRun),
}

/// A root in order, ready for a command: under the lock, unless nothing is to be changed.
struct Session<'a> {
    root: &'a Root,
    common: &'a Common,
    now: Snapshot,
    recovered: Option<Recovered>,
    pending: Option<Recovery>,
    /// The trial past its deadline that is rolled back before the command.
    overdue: Option<Overdue>,
    /// None where nothing is to be changed.
    lock: Option<Rc<RootLock>>,
}

impl<'a> Session<'a> {
    /// Takes the lock, recovers from an interrupted command, and rolls back a trial past its deadline. Refused where a rule
    /// cannot be read that the command would apply.
    fn begin(root: &'a Root, common: &'a Common, reporter: &mut dyn Reporter) -> Result<Self> {
        root.ruled()?;
        Self::begin_damaged(root, common, reporter)
    }

    /// As `begin`, also where the settings are wrong.
    fn begin_damaged(root: &'a Root, common: &'a Common, reporter: &mut dyn Reporter) -> Result<Self> {
        let session = overdue::end(Self::begin_with(root, common, Scope::All, reporter)?, reporter)?;
        if session.lock.is_some() {
            guard_trial(root)?;
        }
        Ok(session)
    }

    /// As `begin_damaged`, with a recovery of this scope, and without a look at the deadline of a trial: for the guard,
    /// which judges it, and for `boot`, which ends every trial.
    fn begin_with(
        root: &'a Root,
        common: &'a Common,
        scope: Scope,
        reporter: &mut dyn Reporter,
    ) -> Result<Self> {
        root.adopted()?;
        let (lock, recovered, pending) = match common.mode {
            Mode::Act => {
                match root.check_modes() {
                    // The service is to start, and to start it no program is run.
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

    /// One more under the same lock, of the root as it is now.
    fn again(&self) -> Result<Self> {
        self.ordered(self.common)
    }

    /// The same for another order.
    fn ordered<'b>(&self, common: &'b Common) -> Result<Session<'b>>
    where
        'a: 'b,
    {
        let (now, lock) = (self.root.observe()?, self.lock.clone());
        Ok(Session { root: self.root, common, now, recovered: None, pending: None, overdue: None, lock })
    }

    /// Whether this trial is still under way: somebody may have ended it, or have begun another one, before the lock
    /// was taken.
    fn is_on(&self, trial: &Trial) -> Result<bool> {
        Ok(self.root.trial(&self.now)?.is_some_and(|now| now.transaction == trial.transaction))
    }

    /// Whether the plan is going to change anything, so that something is to be said ahead.
    fn acts_on(&self, plan: &Plan) -> bool {
        self.common.mode == Mode::Act && !plan.steps.is_empty()
    }

    /// Carries the plan out, or only tells it.
    fn finish<T>(
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

/// Starts guards for a trial with a deadline that has none, because all of them were killed. Does nothing where this
/// user may not change the root.
///
/// # Errors
/// Where the root cannot be read, or a guard cannot be started.
pub fn guard_trial(root: &Root) -> Result<()> {
    if root.may_change().is_err() {
        return Ok(());
    }
    match root.trial(&root.observe()?)? {
        Some(trial) if !root.is_guarded()? => {
            let name = format!("{}-again-{}", trial.transaction, process::own_id());
            detach::guard(root, &name, Identity::own())
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
