//! `guard`: takes back what was cut short and ends what is on trial, with nobody there. Started by Tenure itself.

use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::detach;
use crate::error::{Error, Kind, Result};
use crate::execute::{Invocation, Reporter, Scope};
use crate::health::{Judge, Sample, Verdict};
use crate::journal;
use crate::plan::TrialEnd;
use crate::probe;
use crate::process::Identity;
use crate::progress::Progress;
use crate::root::{Root, Trial};
use crate::service::Service;

use super::{Common, Mode, Session, boot, data, install};

/// How long before the next look.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is tried to end what cannot be ended, each time after twice as long; then a person is needed.
const ATTEMPTS: u32 = 10;

/// What became of a guard.
#[derive(Clone, Debug, Serialize)]
pub struct Guarded {
    /// What it did, in order; empty where it had nothing to do.
    pub did: Vec<String>,
}

/// Guards the root for as long as the process is there that asked for it, a transaction is open, or a trial has
/// an end.
///
/// # Errors
/// Failed where the root cannot be read any more, or where something could not be ended time and again.
pub fn guard(root: &Root, ordered_by: Identity, reporter: &mut dyn Reporter) -> Result<Guarded> {
    let mut guard =
        Guard { root: root.clone(), ordered_by, watched: None, seen: None, failed: 0, did: Vec::new() };
    let post = root.guard_lock()?;
    let (mut on_duty, mut stood_by) = (false, false);
    loop {
        reporter.go_on()?;
        guard.root.read_again();
        let duty = guard.duty()?;
        guard.see(&duty);
        if duty == Duty::Over {
            return Ok(Guarded { did: guard.did });
        }
        if !on_duty {
            on_duty = post.try_lock().is_ok();
            if on_duty && stood_by {
                // It has moved up, and somebody has to stand by in its place.
                detach::stand_in(root, ordered_by)?;
            }
            stood_by = !on_duty;
        }
        if on_duty {
            guard.attend(duty, reporter)?;
        }
        clock::sleep(POLL_INTERVAL);
    }
}

/// What there is to do.
#[derive(Debug, PartialEq)]
enum Duty {
    /// Nothing any more.
    Over,
    /// Nothing yet: somebody is at work.
    Wait,
    /// A transaction was cut short.
    Recover,
    /// A trial has an end.
    Attend(Trial),
}

struct Guard {
    root: Root,
    ordered_by: Identity,
    watched: Option<Watched>,
    /// The transaction of the trial that it saw last.
    seen: Option<String>,
    failed: u32,
    did: Vec<String>,
}

/// The service of a trial that is watched.
struct Watched {
    transaction: String,
    judge: Judge,
    verdict: Verdict,
    sample: Sample,
    next: Duration,
}

impl Guard {
    /// Told without the lock: a guard is in nobody's way while there is nothing to do.
    fn duty(&self) -> Result<Duty> {
        let at_work = self.ordered_by.is_alive();
        if journal::is_open(&self.root)? {
            return Ok(if at_work { Duty::Wait } else { Duty::Recover });
        }
        Ok(match self.root.trial(&self.root.observe()?)? {
            Some(trial) => Duty::Attend(trial),
            None if at_work => Duty::Wait,
            None => Duty::Over,
        })
    }

    /// Takes note of a trial that has ended, or was given another end.
    fn see(&mut self, duty: &Duty) {
        let now = match duty {
            Duty::Attend(trial) => Some(&trial.transaction),
            Duty::Over => None,
            Duty::Wait | Duty::Recover => return,
        };
        if now != self.seen.as_ref() {
            self.seen.iter().for_each(|ended| detach::stop_deadline(&self.root, ended));
            self.seen = now.cloned();
        }
    }

    fn attend(&mut self, duty: Duty, reporter: &mut dyn Reporter) -> Result<()> {
        let done = match duty {
            Duty::Over | Duty::Wait => return Ok(()),
            Duty::Recover => self
                .begin(&self.invocation("recover", None), reporter)
                .map(|session| session.recovered.is_some().then(|| "recovered".to_owned())),
            Duty::Attend(trial) => self.see_through(&trial, reporter),
        };
        match done {
            Ok(did) => {
                self.did.extend(did);
                self.failed = 0;
                Ok(())
            }
            // Somebody else is at it.
            Err(error) if error.kind() == Kind::Busy => Ok(()),
            Err(error) => self.pause(error, reporter),
        }
    }

    fn pause(&mut self, error: Error, reporter: &mut dyn Reporter) -> Result<()> {
        self.failed += 1;
        if self.failed >= ATTEMPTS {
            return Err(error);
        }
        reporter.warn(&error.in_one_line());
        clock::sleep(POLL_INTERVAL * 2u32.pow(self.failed));
        Ok(())
    }

    /// Ends the trial, where it is over or the service is unwell.
    fn see_through(&mut self, trial: &Trial, reporter: &mut dyn Reporter) -> Result<Option<String>> {
        let over = trial.is_over();
        let version = &trial.version;
        match trial.term {
            TrialEnd::Confirmation(_) if over => self.revert(trial, &trial.why_overdue(), reporter),
            TrialEnd::Confirmation(_) => Ok(None),
            TrialEnd::Watch(_) => match self.look(trial, reporter)? {
                (Verdict::Unhealthy, sample) => {
                    self.revert(trial, &format!("{version} is {sample}"), reporter)
                }
                (Verdict::Healthy, _) if over => self.confirm(trial, reporter),
                // A few more good answers, or a bad one, decide.
                (Verdict::Open, Sample::Healthy) => Ok(None),
                (Verdict::Open, sample) if over => {
                    self.revert(trial, &format!("{version} is not known to be healthy: {sample}"), reporter)
                }
                _ => Ok(None),
            },
        }
    }

    /// Looks at the service once its time has come, and tells what is known by now.
    fn look(&mut self, trial: &Trial, progress: &dyn Progress) -> Result<(Verdict, Sample)> {
        let declared = self.root.health(&trial.version);
        let untold = declared.as_ref().err().map(|error| Sample::CannotTell(error.in_one_line()));
        let health = declared.unwrap_or_default();
        let now = clock::since_boot();
        let fresh = || Watched {
            transaction: trial.transaction.clone(),
            judge: Judge::new(&health),
            verdict: Verdict::Open,
            sample: Sample::CannotTell("it was not checked yet".into()),
            next: now,
        };
        let known = self.watched.take().filter(|watched| watched.transaction == trial.transaction);
        let watched = self.watched.insert(known.unwrap_or_else(fresh));
        if now >= watched.next {
            watched.sample = match (Service::of(&self.root), untold) {
                (_, Some(untold)) => untold,
                (Some(service), None) => probe::sample(&service, &trial.version, &health, progress)?,
                (None, None) => Sample::CannotTell("the settings no longer name a service".into()),
            };
            watched.verdict = watched.judge.take(&watched.sample, false);
            watched.next = clock::since_boot() + health.interval;
        }
        Ok((watched.verdict, watched.sample.clone()))
    }

    fn revert(&self, trial: &Trial, why: &str, reporter: &mut dyn Reporter) -> Result<Option<String>> {
        let invocation = self.invocation("revert", Some(why.to_owned()));
        let session = self.begin(&invocation, reporter)?;
        if !session.is_on(trial)? {
            return Ok(None);
        }
        boot::revert_in(session, reporter)?;
        Ok(Some(format!("reverted: {why}")))
    }

    fn confirm(&self, trial: &Trial, reporter: &mut dyn Reporter) -> Result<Option<String>> {
        let invocation = self.invocation("confirm", None);
        let session = self.begin(&invocation, reporter)?;
        if !session.is_on(trial)? {
            return Ok(None);
        }
        let saves = data::confirmed(&self.root, &session.now, None, reporter)?.backup.is_some();
        match install::confirm_in(session, None, reporter) {
            Ok(_) => Ok(Some("confirmed".to_owned())),
            // Its data is migrated once there is a backup, or not at all.
            Err(error) if saves && error.kind() == Kind::Failed => {
                self.revert(trial, &error.in_one_line(), reporter)
            }
            Err(error) => Err(error),
        }
    }

    /// The guard judges a trial at its deadline, so the session does not; also where the settings are wrong by now.
    fn begin<'a>(&'a self, invocation: &'a Common, reporter: &mut dyn Reporter) -> Result<Session<'a>> {
        Session::begin_with(&self.root, invocation, Scope::All, reporter)
    }

    fn invocation(&self, command: &str, why: Option<String>) -> Common {
        Common { invocation: invocation(command, why), mode: Mode::Act, wait: Duration::ZERO }
    }
}

/// A command that the guard gives, or that another command gives in its place.
pub(super) fn invocation(command: &str, why: Option<String>) -> Invocation {
    Invocation { command: command.to_owned(), by: "the guard".to_owned(), why }
}
