//! Makes the plan of each command.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::health::Baseline;
use crate::policy::{self, Direction};
use crate::release::{LinkName, ReleaseState, Snapshot};
use crate::version::{Version, nearest};

use super::{Item, Method, Plan, ServiceMove, Step, TrialEnd};

/// Whether an installed release survives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permanence {
    /// The next start runs the release.
    Permanent,
    /// The next start runs the release that was permanent before.
    Trial,
    /// As `Trial`, but the trial ends by itself.
    Ends(TrialEnd),
}

/// Whether the service may be stopped for the move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// `--restart`: stop and start the service.
    Asked,
    /// `--restart-if-needed`: move the service hot if that is allowed and a method exists, otherwise restart it.
    IfNeeded,
    /// Move the service hot, or refuse.
    Forbidden,
}

/// Whether to install a release that failed on this host before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// `--retry`: install it.
    Yes,
    /// Refuse it.
    No,
}

/// The request of install, upgrade or downgrade.
#[derive(Clone, Debug)]
pub struct Request {
    /// The release to install.
    pub target: Version,
    /// The direction in which the command may go.
    pub direction: Direction,
    /// Whether the release becomes permanent.
    pub permanence: Permanence,
    /// Whether the service may be stopped.
    pub restart: Restart,
    /// Whether to start a service that is down.
    pub start: bool,
    /// Whether the release may have failed before.
    pub retry: Retry,
}

impl Request {
    /// Checks the command's direction and the state of the links. Reads nothing but the links.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the broken rule.
    pub fn allowed(&self, now: &Snapshot) -> Result<()> {
        now.sound()?;
        self.keeps_the_trial(now)?;
        match now.current.version() {
            Some(running) => policy::direction(self.direction, running, &self.target),
            None if self.direction == Direction::Down => {
                Err(Error::refused("cannot downgrade: no release is installed yet")
                    .hint(format!("run `tenure install {}` to install the first release", self.target)))
            }
            None if self.permanence != Permanence::Permanent => Err(Error::refused(
                "cannot start a trial: there is no permanent release to return to",
            )
            .hint(format!("run `tenure install {}` to install it as the permanent release", self.target))),
            None => Ok(()),
        }
    }

    /// Refuses a downgrade to the release on trial: it would make that release permanent.
    fn keeps_the_trial(&self, now: &Snapshot) -> Result<()> {
        match now.trial() {
            Some((on_trial, permanent)) if self.direction == Direction::Down && *on_trial == self.target => {
                Err(Error::refused(format!("cannot downgrade to {on_trial}: it is current, on trial"))
                    .hint(format!("run `tenure revert` to end the trial and go back to {permanent}"))
                    .hint(format!("run `tenure confirm` to make {on_trial} permanent")))
            }
            _ => Ok(()),
        }
    }
}

/// The parts of a plan besides the links.
#[derive(Clone, Debug, Default)]
pub struct PlanFacts {
    /// The steps that publish and prepare the release; empty if neither is needed.
    pub fetch: Vec<Step>,
    /// The backup to make before the first step that cannot be reversed.
    pub backup: Option<Step>,
    /// The method to move the running service; `None` if there is no service to move.
    pub motion: Option<ServiceMove>,
    /// Whether to start the service, which is down.
    pub start: bool,
    /// The step for the data once the release is permanent.
    pub data: Option<Step>,
}

/// Returns the plan of install, upgrade and downgrade.
///
/// # Errors
/// Returns a `Refused` error that names the broken rule.
pub fn install(now: &Snapshot, request: &Request, along: PlanFacts) -> Result<Plan> {
    request.allowed(now)?;
    let start = along.start;
    let plan = without_start(now, request, along)?;
    Ok(if start { with_start(plan, &request.target) } else { plan })
}

/// Adds a start of the service to the plan: in the new release, and before that release becomes permanent.
fn with_start(mut plan: Plan, target: &Version) -> Plan {
    let is_commit = |step: &Step| matches!(step, Step::SwitchLink { link: LinkName::Permanent, .. });
    let at = plan.steps.iter().position(is_commit).unwrap_or(plan.steps.len());
    let motion = ServiceMove { way: Method::Restart, baseline: Baseline::Known };
    let (version, started) = (target.clone(), target.clone());
    plan.steps
        .splice(at..at, [Step::StartService { version: started }, Step::WaitHealthy { version, motion }]);
    plan.to = Some(target.clone());
    plan
}

fn without_start(now: &Snapshot, request: &Request, along: PlanFacts) -> Result<Plan> {
    let target = &request.target;
    match (now.state(target), now.current.version()) {
        (Some(ReleaseState::Permanent), Some(current)) if current == target => Ok(Plan::default()),
        (Some(ReleaseState::Permanent), Some(_)) => revert(now, along.motion),
        (Some(ReleaseState::Current), _) => match request.permanence {
            Permanence::Permanent => confirm(now, along),
            Permanence::Trial => Ok(Plan::default()),
            Permanence::Ends(term) => Ok(extend(now, target, term)),
        },
        _ => Ok(switch(now, request, along)),
    }
}

fn switch(now: &Snapshot, request: &Request, along: PlanFacts) -> Plan {
    let PlanFacts { fetch, backup, motion, data, .. } = along;
    let (target, current) = (&request.target, now.current.version().cloned());
    let mut steps = fetch;
    steps.extend(backup);
    if request.permanence == Permanence::Permanent {
        steps.extend(displace(now));
    }
    if let Permanence::Ends(term) = request.permanence {
        steps.push(Step::StartTrial { version: target.clone(), term });
    }
    steps.push(Step::SwitchLink { link: LinkName::Current, from: current.clone(), to: Some(target.clone()) });
    if let (Some(from), Some(motion)) = (current.clone(), motion) {
        steps.push(Step::MoveService { from, to: target.clone(), motion: motion.clone() });
        steps.push(Step::WaitHealthy { version: target.clone(), motion });
    }
    if request.permanence == Permanence::Permanent {
        steps.push(permanent(now, target));
        steps.extend(data);
    }
    Plan { from: current, to: Some(target.clone()), steps }
}

/// Returns the plan that changes the end of a running trial.
fn extend(now: &Snapshot, target: &Version, term: TrialEnd) -> Plan {
    let from = now.current.version().cloned();
    Plan { from, to: Some(target.clone()), steps: vec![Step::StartTrial { version: target.clone(), term }] }
}

/// Records the permanent release as having been permanent. This stays true whatever the later steps do.
fn displace(now: &Snapshot) -> Option<Step> {
    now.permanent.version().map(|version| Step::RecordPermanent { version: version.clone() })
}

fn permanent(now: &Snapshot, target: &Version) -> Step {
    let from = now.permanent.version().cloned();
    Step::SwitchLink { link: LinkName::Permanent, from, to: Some(target.clone()) }
}

/// Returns the plan that only puts a release on disk.
#[must_use]
pub fn unpack(fetch: Vec<Step>) -> Plan {
    Plan { from: None, to: None, steps: fetch }
}

/// Returns the plan that makes the current release permanent; empty if it is permanent already.
///
/// # Errors
/// Returns a `Refused` error if no release is current.
pub fn confirm(now: &Snapshot, along: PlanFacts) -> Result<Plan> {
    let Some(current) = now.current.version() else {
        now.sound()?;
        return Err(Error::refused("nothing to confirm: no release is current")
            .hint("run `tenure install VERSION` to install a release"));
    };
    if now.permanent.version() == Some(current) {
        return Ok(Plan::default());
    }
    now.switchable(LinkName::Permanent)?;
    let PlanFacts { backup, data, .. } = along;
    let steps =
        backup.into_iter().chain(displace(now)).chain([permanent(now, current)]).chain(data).collect();
    Ok(Plan { from: Some(current.clone()), to: Some(current.clone()), steps })
}

/// Returns the plan that ends a trial or repairs a broken `current`; empty if there is neither. `motion` is the same
/// as in [`install`].
///
/// # Errors
/// Returns a `Refused` error if no release is permanent.
pub fn revert(now: &Snapshot, motion: Option<ServiceMove>) -> Result<Plan> {
    let mut plan = boot(now)?;
    if let (Some(from), Some(to), Some(motion)) = (plan.from.clone(), plan.to.clone(), motion) {
        let proof = Step::WaitHealthy { version: to.clone(), motion: motion.back() };
        plan.steps.extend([Step::ReturnService { from, to, motion }, proof]);
    }
    Ok(plan)
}

/// Returns the plan of `boot`, which points `current` to the permanent release, and also restores a removed
/// `permanent`. The service does not run yet.
///
/// # Errors
/// Returns a `Refused` error if no release is permanent.
pub fn boot(now: &Snapshot) -> Result<Plan> {
    let Some(rightful) = now.rightful().cloned() else {
        now.sound()?;
        return Err(Error::refused("no release is permanent")
            .hint("run `tenure install VERSION` to install a release"));
    };
    let point = |link| {
        let from = now.link(link).version().cloned();
        let step = Step::SwitchLink { link, from: from.clone(), to: Some(rightful.clone()) };
        (from.as_ref() != Some(&rightful)).then_some(step)
    };
    let steps: Vec<Step> = [LinkName::Permanent, LinkName::Current].into_iter().filter_map(point).collect();
    if steps.is_empty() {
        return Ok(Plan::default());
    }
    now.switchable(LinkName::Current)?;
    Ok(Plan { from: now.current.version().cloned(), to: Some(rightful), steps })
}

/// Returns the plan that removes one release.
///
/// # Errors
/// Returns a `Refused` error if the release is not installed, is running, or is the release that the next start runs.
pub fn uninstall(now: &Snapshot, version: &Version) -> Result<Plan> {
    now.sound()?;
    let refuse = |why: String| Error::refused(format!("cannot uninstall {version}: {why}"));
    let on_trial = now.trial().is_some();
    match now.state(version) {
        None => {
            let error = refuse("it is not installed".into());
            Err(match nearest(version, now.releases.keys()) {
                Some(near) => error.hint(format!("{near} is installed")),
                None => error.hint("run `tenure versions` to see the installed releases"),
            })
        }
        Some(ReleaseState::Current) => Err(refuse("it is running, on trial".into())
            .hint("run `tenure revert` to go back to the permanent release")),
        Some(ReleaseState::Permanent) if on_trial => Err(refuse("the next start runs it".into())
            .hint("run `tenure confirm` to make the current release permanent instead")),
        Some(ReleaseState::Permanent) => {
            Err(refuse("it is running".into()).hint("install another release first"))
        }
        Some(ReleaseState::Old | ReleaseState::Unpacked) => {
            Ok(Plan { from: None, to: None, steps: vec![discard(version)] })
        }
    }
}

fn discard(version: &Version) -> Step {
    Step::Trash { item: Item::Release(version.clone()) }
}

/// Returns the plan that removes unpacked and old releases beyond the newest `keep`, and their archives.
///
/// The plan always keeps the current and the permanent release, the release that was permanent before, and the
/// releases in use.
///
/// # Errors
/// Returns a `Refused` error if the links are broken: they do not show then which releases are in use.
pub fn prune(
    now: &Snapshot,
    keep: usize,
    in_use: &BTreeSet<Version>,
    archives: &BTreeMap<Version, Vec<String>>,
) -> Result<Plan> {
    now.sound()?;
    let spare = |state| matches!(state, ReleaseState::Old | ReleaseState::Unpacked);
    let beyond = now.states().filter(|(_, state)| spare(*state)).skip(keep).map(|(version, _)| version);
    let steps = beyond
        .filter(|version| !in_use.contains(*version) && now.last_known_good() != Some(*version))
        .flat_map(|version| {
            let files = archives.get(version).into_iter().flatten().cloned();
            [discard(version)].into_iter().chain(files.map(|file| Step::Trash { item: Item::Archive(file) }))
        })
        .collect();
    Ok(Plan { from: None, to: None, steps })
}
