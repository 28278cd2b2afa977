//! `status`: everything that is known, also of a root that is out of order.

use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::data::{Format, Migration, OnDisk, Stage};
use crate::error::{Error, Result};
use crate::health::Sample;
use crate::journal::{self, Found};
use crate::plan::recover;
use crate::probe;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::service::{Running, Service};
use crate::version::Version;
use crate::watch::Watch;

use super::migrate::failed;

/// A command that was cut short, or that is under way.
#[derive(Clone, Debug, Serialize)]
pub struct Unfinished {
    /// The command.
    pub command: String,
    /// Who gave it.
    pub by: String,
    /// When, in RFC 3339.
    pub started: String,
    /// The process that is at it; none where it was cut short.
    pub pid: Option<u32>,
    /// What would be done about it, were it recovered from now.
    pub recovery: crate::plan::Recovery,
}

/// A release and its state.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The release.
    pub version: Version,
    /// Its state.
    pub state: ReleaseState,
}

/// A link or a journal that is out of order.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hints: Vec<String>,
}

/// What the service does, whatever the links say.
#[derive(Clone, Debug, Serialize)]
pub struct Serving {
    /// What it runs.
    pub runs: Running,
    /// How it is; none while it is down.
    pub health: Option<Sample>,
}

/// A trial that ends by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Ending {
    /// What ends it, in words.
    pub term: String,
    /// How long it still lasts, in seconds.
    pub left_seconds: u64,
    /// When it ends, in RFC 3339.
    pub ends: String,
}

/// What is known of a root.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The product, where the settings name it.
    pub name: Option<String>,
    /// The root's path.
    pub root: String,
    /// What runs now.
    pub current: Option<Version>,
    /// What the next start runs.
    pub permanent: Option<Version>,
    /// Whether both differ.
    pub on_trial: bool,
    /// How the trial ends by itself; none where it does not.
    pub trial: Option<Ending>,
    /// The releases, newest first.
    pub releases: Vec<Standing>,
    /// A command that is not at its end.
    pub unfinished: Option<Unfinished>,
    /// The service; none where Tenure moves links alone.
    pub service: Option<Serving>,
    /// The format of the data on disk; none where nobody has said so.
    pub data_format: Option<Format>,
    /// The last data migration; none where there is none.
    pub migration: Option<Migration>,
    /// What is out of order.
    pub problems: Vec<Problem>,
}

/// Looks at everything; takes no lock and changes nothing.
///
/// # Errors
/// Where the root cannot be read.
pub fn status(root: &Root, watch: &dyn Watch) -> Result<Status> {
    let now = root.observe()?;
    let mut problems: Vec<Problem> = now.faults().iter().map(problem).collect();
    let unfinished = unfinished(root, &now, &mut problems)?;
    let service = serving(root, &now, watch)?;
    problems.extend(unfinished.as_ref().and_then(left_undone));
    let data = root.data(&now).unwrap_or_else(|error| {
        problems.push(problem(&error));
        OnDisk::default()
    });
    problems
        .extend(data.migration.as_ref().filter(|m| m.stage == Stage::Failed).map(|m| problem(&failed(m))));
    // In the middle of a move both differ, and rightly so.
    if unfinished.as_ref().is_none_or(|unfinished| unfinished.pid.is_none()) {
        problems.extend(service.as_ref().and_then(|service| drift(service, &now)));
    }
    Ok(Status {
        name: root.settings().name.clone(),
        root: root.path().display().to_string(),
        current: now.current.version().cloned(),
        permanent: now.permanent.version().cloned(),
        on_trial: now.trial().is_some(),
        trial: root.trial(&now)?.map(|trial| Ending {
            term: trial.term.to_string(),
            left_seconds: trial.left().as_secs(),
            ends: trial.ends,
        }),
        releases: now.states().map(|(version, state)| Standing { version: version.clone(), state }).collect(),
        unfinished,
        service,
        data_format: data.format,
        migration: data.migration,
        problems,
    })
}

fn problem(error: &Error) -> Problem {
    let hints = error.hints().into_iter().map(Into::into).collect();
    Problem { message: error.in_one_line(), hints }
}

/// What nobody is at work on: a guard is, but where it cannot do it.
fn left_undone(unfinished: &Unfinished) -> Option<Problem> {
    let message = format!("`{}` was cut short, or could not be taken back", unfinished.command);
    let hints =
        vec!["the next command that changes something recovers from it; `tenure boot`, for instance".into()];
    unfinished.pid.is_none().then_some(Problem { message, hints })
}

/// How long before a look is taken again at what nobody seems to be at work on.
const AGAIN: Duration = Duration::from_millis(10);

/// Whoever ends a transaction closes the journal first and gives the lock up then: where nobody holds it, the journal
/// that was read before may be over.
fn unfinished(root: &Root, now: &Snapshot, problems: &mut Vec<Problem>) -> Result<Option<Unfinished>> {
    let mut seen = None;
    loop {
        let record = match journal::find(root)? {
            Found::Nothing => return Ok(None),
            Found::Damaged => {
                let message = format!("the journal {} is damaged", root.journal().display());
                problems.push(Problem { message, hints: vec!["the next command sets it aside".into()] });
                return Ok(None);
            }
            Found::Open(record) => record,
        };
        let pid = root.lock_holder().map(|holder| holder.pid);
        if pid.is_some() || seen.as_ref() == Some(&record.transaction) {
            let recovery = recover(&record, now);
            let (command, by, started) = (record.command, record.by, record.started);
            return Ok(Some(Unfinished { recovery, pid, command, by, started }));
        }
        seen = Some(record.transaction);
        clock::sleep(AGAIN);
    }
}

fn serving(root: &Root, now: &Snapshot, watch: &dyn Watch) -> Result<Option<Serving>> {
    let (Some(service), Some(current)) = (Service::of(root), now.current.version()) else { return Ok(None) };
    match service.is_up(watch) {
        Ok(true) => {
            let runs = service.running(current, watch).unwrap_or_else(|e| Running::Unknown(e.in_one_line()));
            let health = probe::declared(root, current)?;
            Ok(Some(Serving { runs, health: Some(probe::sample(&service, current, &health, watch)?) }))
        }
        Ok(false) => Ok(Some(Serving { runs: Running::Nothing, health: None })),
        Err(e) => Ok(Some(Serving { runs: Running::Unknown(e.in_one_line()), health: None })),
    }
}

/// A service that runs something else than `current`.
fn drift(service: &Serving, now: &Snapshot) -> Option<Problem> {
    let current = now.current.version()?;
    let message = match &service.runs {
        Running::Release(version) if version == current => return None,
        Running::Nothing => return None,
        runs => format!("{runs}, and `current` leads to {current}"),
    };
    Some(Problem { message, hints: vec!["a restart of the service has it run what the links say".into()] })
}
