//! `guard`: recovers interrupted commands and ends trials without an operator. Tenure starts it itself.

use std::time::Duration;

use serde::Serialize;

use crate::background;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::execute::{Reporter, Scope};
use crate::health::Sample;
use crate::journal;
use crate::plan::TrialEnd;
use crate::process::Identity;
use crate::progress::Progress;
use crate::root::{Root, Trial};
use crate::service::{HealthWatch, Service, Verdict};

use super::session::{Common, Mode, Session, by_guard};
use super::trial_end::revert_in;
use super::{data, install};

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How many times in a row an action may fail, with a pause that doubles each time. After that, an operator is
/// needed.
const ATTEMPTS: u32 = 10;

/// The result of `guard`.
#[derive(Clone, Debug, Serialize)]
pub struct Guarded {
    /// The actions of the guard, in order; empty if there was nothing to do.
    pub did: Vec<String>,
}

/// Guards the root while the process `ordered_by` is alive, a transaction is open, or a trial with a deadline is
/// under way.
///
/// # Errors
/// Returns an error if the root cannot be read any more, if an action fails several times in a row, or on
/// interruption.
pub fn guard(root: &Root, ordered_by: Identity, reporter: &mut dyn Reporter) -> Result<Guarded> {
    let mut guard =
        Guard { root: root.clone(), ordered_by, watched: None, seen: None, failed: 0, did: Vec::new() };
    let post = root.guard_lock()?;
    let (mut on_duty, mut stood_by) = (false, false);
    clock::poll(POLL_INTERVAL, || {
        reporter.go_on()?;
        guard.root.read_again();
        let duty = guard.duty()?;
        guard.see(&duty);
        if duty == Duty::Over {
            return Ok(Some(Guarded { did: std::mem::take(&mut guard.did) }));
        }
        if !on_duty {
            on_duty = post.try_lock().is_ok();
            if on_duty && stood_by {
                // This guard was on stand-by and is now on duty, so another one must stand by.
                background::stand_in(root, ordered_by)?;
            }
            stood_by = !on_duty;
        }
        if on_duty {
            guard.attend(duty, reporter)?;
        }
        Ok(None)
    })
}

#[derive(Debug, PartialEq)]
enum Duty {
    /// Nothing any more; the guard ends.
    Over,
    /// Nothing yet; the process that ordered the guard is at work.
    Wait,
    /// Recover an interrupted transaction.
    Recover,
    /// Watch a trial with a deadline, and end it.
    Attend(Trial),
}

struct Guard {
    root: Root,
    ordered_by: Identity,
    /// The health samples of the watched trial, and its transaction.
    watched: Option<(String, HealthWatch)>,
    /// The transaction of the trial that was seen last.
    seen: Option<String>,
    failed: u32,
    did: Vec<String>,
}

impl Guard {
    /// Determines the duty without the lock: an idle guard must not block other commands.
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

    /// Stops the timer of a trial that has ended or has got another deadline.
    fn see(&mut self, duty: &Duty) {
        let now = match duty {
            Duty::Attend(trial) => Some(&trial.transaction),
            Duty::Over => None,
            Duty::Wait | Duty::Recover => return,
        };
        if now != self.seen.as_ref() {
            self.seen.iter().for_each(|ended| background::stop_deadline(&self.root, ended));
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
            // Another process holds the lock.
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

    /// Ends the trial if its deadline has passed or the service is unhealthy.
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
                // The last sample was good, so a few more will decide.
                (Verdict::Open, Sample::Healthy) => Ok(None),
                (Verdict::Open, sample) if over => {
                    self.revert(trial, &format!("{version} is not known to be healthy: {sample}"), reporter)
                }
                _ => Ok(None),
            },
        }
    }

    /// Samples the health of the service if a sample is due. Returns the verdict so far and the last sample.
    fn look(&mut self, trial: &Trial, progress: &dyn Progress) -> Result<(Verdict, Sample)> {
        let declared = self.root.health(&trial.version);
        let untold = declared.as_ref().err().map(|error| Sample::CannotTell(error.in_one_line()));
        let health = declared.unwrap_or_default();
        let known = self.watched.take().filter(|(transaction, _)| *transaction == trial.transaction);
        let fresh = || (trial.transaction.clone(), HealthWatch::new(&health, Duration::ZERO));
        let (_, watch) = self.watched.insert(known.unwrap_or_else(fresh));
        watch.poll(health.interval, || match (Service::of(&self.root), untold) {
            (_, Some(untold)) => Ok(untold),
            (Some(service), None) => service.sample_health(&trial.version, &health, progress),
            (None, None) => Ok(Sample::CannotTell("the settings no longer name a service".into())),
        })?;
        Ok((watch.verdict, watch.sample.clone()))
    }

    fn revert(&self, trial: &Trial, why: &str, reporter: &mut dyn Reporter) -> Result<Option<String>> {
        let invocation = self.invocation("revert", Some(why.to_owned()));
        let session = self.begin(&invocation, reporter)?;
        if !session.is_on(trial)? {
            return Ok(None);
        }
        revert_in(session, reporter)?;
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
            // The data must not be migrated without a backup, so roll back.
            Err(error) if saves && error.kind() == Kind::Failed => {
                self.revert(trial, &error.in_one_line(), reporter)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a session that leaves an overdue trial to the guard, and that accepts invalid settings.
    fn begin<'a>(&'a self, invocation: &'a Common, reporter: &mut dyn Reporter) -> Result<Session<'a>> {
        Session::begin_with(&self.root, invocation, Scope::All, reporter)
    }

    fn invocation(&self, command: &str, why: Option<String>) -> Common {
        Common { invocation: by_guard(command, why), mode: Mode::Act, wait: Duration::ZERO }
    }
}
