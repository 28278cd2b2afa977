//! The commands. Each takes options and returns a report; none of them prints.

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

use crate::background;
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
struct Session<'a> {
    root: &'a Root,
    common: &'a Common,
    now: Snapshot,
    recovered: Option<Recovered>,
    pending: Option<Recovery>,
    /// The trial past its deadline that is rolled back before the command.
    overdue: Option<Overdue>,
    /// `None` in a dry run.
    lock: Option<Rc<RootLock>>,
}

impl<'a> Session<'a> {
    /// Takes the lock, recovers from an interrupted command, and rolls back a trial past its deadline. Refuses
    /// invalid settings, because the command could not apply their rules.
    fn begin(root: &'a Root, common: &'a Common, reporter: &mut dyn Reporter) -> Result<Self> {
        root.ruled()?;
        Self::begin_damaged(root, common, reporter)
    }

    /// Begins a session like `begin`, but accepts invalid settings.
    fn begin_damaged(root: &'a Root, common: &'a Common, reporter: &mut dyn Reporter) -> Result<Self> {
        let session = overdue::end(Self::begin_with(root, common, Scope::All, reporter)?, reporter)?;
        if session.lock.is_some() {
            guard_trial(root)?;
        }
        Ok(session)
    }

    /// Begins a session like `begin_damaged`, with a recovery of this scope, and does not check the deadline of a
    /// trial. The guard judges that trial itself, and `boot` ends every trial.
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
    fn again(&self) -> Result<Self> {
        self.ordered(self.common)
    }

    /// Begins another session under the same lock, with other options.
    fn ordered<'b>(&self, common: &'b Common) -> Result<Session<'b>>
    where
        'a: 'b,
    {
        let (now, lock) = (self.root.observe()?, self.lock.clone());
        Ok(Session { root: self.root, common, now, recovered: None, pending: None, overdue: None, lock })
    }

    /// Returns whether this trial is still under way. Another command may have ended or replaced it before the lock
    /// was taken.
    fn is_on(&self, trial: &Trial) -> Result<bool> {
        Ok(self.root.trial(&self.now)?.is_some_and(|now| now.transaction == trial.transaction))
    }

    /// Returns whether the plan is going to change anything, so that the reporter can announce it.
    fn acts_on(&self, plan: &Plan) -> bool {
        self.common.mode == Mode::Act && !plan.steps.is_empty()
    }

    /// Runs the plan, or only returns it in a dry run.
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
