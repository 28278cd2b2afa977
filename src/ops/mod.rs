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
mod lint;
mod migrate;
mod motion;
mod pack;
mod prune;
mod ready;
mod room;
mod route;
mod share;
mod source;
mod state;
mod status;
mod uninstall;
mod unpack;
mod verify;
mod versions;
mod walk;

use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::detach;
use crate::error::Result;
use crate::execute::{self, Observer, Order, Recovered, Scope, Staged};
use crate::journal::{self, Found};
use crate::plan::{Plan, Recovery, recover};
use crate::process::{self, Identity};
use crate::release::Snapshot;
use crate::root::{Root, RootLock, Trial};

pub use adopt::{Adopt, Adopted, adopt, adoptable};
pub use boot::{Booted, Reverted, boot, revert};
pub use check::{Checked, Support, Supported, Told, check, supported};
pub use guard::{Guarded, guard};
pub use history::{History, history};
pub use init::{Initialised, init};
pub use install::{Confirm, Install, Installed, confirm, install};
pub use lint::{Linted, lint};
pub use migrate::{Migrate, Migrated, Migrator, migrate, migrator};
pub use pack::{Overwrite, Pack, Packed, pack};
pub use prune::{Pruned, Removed, prune};
pub use ready::{Prepared, prepare};
pub use route::{Itinerary, Journey, Whereabouts, route};
pub use source::Replace;
pub use state::State;
pub use status::{Serving, Space, Standing, Status, Unfinished, status};
pub use uninstall::{Uninstalled, uninstall};
pub use unpack::{Unpack, Unpacked, Wanted, unpack};
pub use verify::{Judged, Verdict, Verified, verify};
pub use versions::{Listed, Versions, versions};
pub use walk::{Extent, Walked, walk};

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
    pub order: Order,
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
    /// None where nothing is to be changed.
    lock: Option<Rc<RootLock>>,
}

impl<'a> Session<'a> {
    fn begin(root: &'a Root, common: &'a Common, observer: &mut dyn Observer) -> Result<Self> {
        Self::begin_with(root, common, Scope::All, observer)
    }

    /// As `begin`, where a recovery goes only so far.
    fn begin_with(
        root: &'a Root,
        common: &'a Common,
        scope: Scope,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (lock, recovered, pending) = match common.mode {
            Mode::Act => {
                let lock = RootLock::take(root, &common.order.command, common.wait, observer)?;
                let recovered = execute::restore_order(root, &lock, scope, observer)?;
                if scope == Scope::All {
                    rearm(root)?;
                }
                (Some(Rc::new(lock)), recovered, None)
            }
            Mode::DryRun => (None, None, pending(root)?),
        };
        let now = root.observe()?;
        let steps = pending.iter().flat_map(|recovery| &recovery.steps);
        let now = steps.fold(now, Snapshot::after);
        Ok(Self { root, common, now, recovered, pending, lock })
    }

    /// One more under the same lock, of the root as it is now.
    fn again(&self) -> Result<Self> {
        let (now, lock) = (self.root.observe()?, self.lock.clone());
        Ok(Self { root: self.root, common: self.common, now, recovered: None, pending: None, lock })
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
        observer: &mut dyn Observer,
        result: impl FnOnce(&Plan) -> T,
    ) -> Result<Report<T>> {
        let Some(lock) = &self.lock else {
            return Ok(Report::Dry(DryRun { recovery: self.pending, plan }));
        };
        execute::run(self.root, lock, &self.common.order, &plan, staged, observer)?;
        Ok(Report::Done { recovered: self.recovered, result: result(&plan) })
    }
}

/// A trial that has an end has a guard, also where somebody has killed every one of them.
fn rearm(root: &Root) -> Result<()> {
    match root.trial(&root.observe()?)? {
        Some(trial) if root.guard_post()?.try_lock().is_ok() => detach::guard(
            root,
            &format!("{}-again-{}", trial.transaction, process::own_id()),
            Identity::own(),
        ),
        _ => Ok(()),
    }
}

fn pending(root: &Root) -> Result<Option<Recovery>> {
    Ok(match journal::find(root)? {
        Found::Open(record) => Some(recover(&record, &root.observe()?)),
        Found::Nothing | Found::Damaged => None,
    })
}
