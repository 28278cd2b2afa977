//! Runs the steps that act on the running service: the move, the move back, and the wait until it is healthy.

use std::time::Duration;

use crate::clock;
use crate::error::{Error, Result};
use crate::health::{Baseline, Health, Judge, Probe, Sample, Verdict};
use crate::plan::{Method, ServiceMove};
use crate::probe;
use crate::progress::Progress;
use crate::root::{Root, RootLock};
use crate::service::{Ailment, Move, Running, Service, Vitals};
use crate::version::Version;

/// How long a service may take to become healthy after a move, by default.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct ServiceSteps<'a> {
    pub root: &'a Root,
    pub lock: &'a RootLock,
    pub transaction: &'a str,
}

impl ServiceSteps<'_> {
    pub fn switch(
        &self,
        from: &Version,
        to: &Version,
        motion: &ServiceMove,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let move_ = Move { from, to, way: &motion.way, is_back: false };
        let (service, health) = (self.service()?, self.root.health(to).unwrap_or_default());
        if motion.baseline == Baseline::Failing || health.probe == Probe::Runs {
            return self.travel(&move_, &mut |_| Ok(None), progress);
        }
        let startup = health.startup_after(motion.way == Method::Restart);
        let (mut judge, begun) = (Judge::new(&health), clock::since_boot());
        let mut next = begun;
        let mut ailment = |progress: &dyn Progress| {
            if clock::since_boot() < next {
                return Ok(None);
            }
            let sample = probe::sample(&service, to, &health, progress)?;
            let is_starting = clock::since_boot().saturating_sub(begun) < startup;
            next = clock::since_boot() + health.interval;
            Ok((judge.take(&sample, is_starting) == Verdict::Unhealthy).then(|| sample.to_string()))
        };
        self.travel(&move_, &mut ailment, progress)
    }

    /// Moves the service back by any method that works. Does nothing if it is back already. Otherwise moves it hot if
    /// that is how it came, and restarts it if that fails.
    pub fn roll_back(
        &self,
        from: &Version,
        to: &Version,
        motion: &ServiceMove,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let service = self.service()?;
        if service.is_back(from, to, progress).unwrap_or(false) {
            return Ok(());
        }
        let back = Move { from, to, way: &motion.way, is_back: true };
        let hot = motion.way != Method::Restart && service.is_up(progress).unwrap_or(false);
        if hot && self.travel(&back, &mut |_| Ok(None), progress).is_ok() {
            return Ok(());
        }
        self.travel(&Move { way: &Method::Restart, ..back }, &mut |_| Ok(None), progress)
    }

    fn travel(&self, move_: &Move<'_>, ailment: &mut Ailment<'_>, progress: &mut dyn Progress) -> Result<()> {
        self.lock.restarting(*move_.way == Method::Restart);
        let moved = self.service()?.go(move_, ailment, progress);
        self.lock.restarting(false);
        moved
    }

    /// Starts a service that is down.
    pub fn start(&self, version: &Version, progress: &mut dyn Progress) -> Result<()> {
        self.lock.restarting(true);
        let started = self.service()?.start(version, progress);
        self.lock.restarting(false);
        started
    }

    /// Stops a service that was down before it was started.
    pub fn stop(&self, version: &Version, progress: &dyn Progress) -> Result<()> {
        self.service()?.stop(version, progress)
    }

    /// Waits until the release is healthy. A service that was failing before it was moved need not be healthy now; it
    /// is given the time to become so.
    pub fn wait_healthy(
        &self,
        version: &Version,
        motion: &ServiceMove,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let service = self.service()?;
        // An unusable manifest must not prevent a rollback.
        let health = self.root.health(version).unwrap_or_default();
        let was_failing = motion.baseline == Baseline::Failing;
        let startup = health.startup_after(motion.way == Method::Restart);
        let within = service.timeouts(version).health.map_or(HEALTH_TIMEOUT.max(startup), |span| span.0);
        let (mut judge, mut vitals) = (Judge::new(&health), Vitals::of_running());
        let mut silent = 0;
        let begun = clock::since_boot();
        loop {
            let sample = self.look(&service, version, &health, motion, progress)?;
            let waited = clock::since_boot().saturating_sub(begun);
            let verdict = judge.take(&sample, was_failing || waited < startup);
            silent = if sample.tells() { 0 } else { silent + 1 };
            let is_enough = motion.baseline == Baseline::Known && silent >= health.healthy_after;
            if !was_failing && let Some(how) = vitals.lost(&service, progress)? {
                return Err(ended(version, &how));
            }
            if (verdict == Verdict::Healthy || is_enough) && !vitals.is_in_doubt() {
                return Ok(());
            }
            // An answer such as 404 does not tell whether a service is healthy. But a new release that gives no other
            // answer has not proved healthy.
            let is_answer = matches!(sample, Sample::CannotTell(_)) && health.probe != Probe::Runs;
            let is_untold = is_answer && silent >= health.unhealthy_after && waited >= startup;
            let is_decided = is_given_up(motion.baseline, verdict, is_untold);
            if is_decided || waited >= within && sample != Sample::Healthy {
                let within = (!is_decided).then_some(within);
                return conclude(version, &sample, motion.baseline, within);
            }
            let left = within.saturating_sub(waited);
            progress.waiting(&format!("Waiting for {version} to be healthy ({sample})"), left);
            pause(health.interval.min(left), progress)?;
        }
    }

    /// Takes one health sample. It counts as healthy only while no process of another release serves beside this one.
    fn look(
        &self,
        service: &Service<'_>,
        version: &Version,
        health: &Health,
        motion: &ServiceMove,
        progress: &dyn Progress,
    ) -> Result<Sample> {
        let sample = probe::sample(service, version, health, progress)?;
        if sample != Sample::Healthy || motion.baseline != Baseline::Sound || health.probe == Probe::Runs {
            return Ok(sample);
        }
        Ok(match service.running(version, progress)? {
            Running::Release(running) if running == *version => sample,
            other => Sample::NotReady(other.to_string()),
        })
    }

    fn service(&self) -> Result<Service<'_>> {
        Service::of(self.root).map(|service| service.moved_by(self.transaction)).ok_or_else(|| {
            Error::failed("cannot move the service: the settings no longer name a service")
                .hint("restore the table [service] in tenure.toml as it was when the command began")
        })
    }
}

fn ended(version: &Version, how: &str) -> Error {
    Error::failed(format!("release {version} did not stay up")).because(Error::failed(how))
}

/// Returns whether the wait ends before its timeout. A wait after a rollback does not, because no release is left to
/// return to.
fn is_given_up(baseline: Baseline, verdict: Verdict, is_untold: bool) -> bool {
    match baseline {
        Baseline::Sound => verdict == Verdict::Unhealthy || is_untold,
        Baseline::Failing => verdict == Verdict::Unhealthy,
        Baseline::Known => false,
    }
}

/// Returns the result of a wait that ended without a healthy service. `within` is the timeout; `None` if the wait
/// ended before it.
fn conclude(version: &Version, sample: &Sample, baseline: Baseline, within: Option<Duration>) -> Result<()> {
    if baseline == Baseline::Failing || baseline == Baseline::Known && !sample.tells() {
        return Ok(());
    }
    let when =
        within.map_or_else(String::new, |time| format!(" within {}", humantime::format_duration(time)));
    Err(Error::failed(format!("release {version} did not become healthy{when}"))
        .because(Error::failed(sample.to_string())))
}

/// Sleeps in short intervals, so that an interruption takes effect soon.
fn pause(time: Duration, progress: &dyn Progress) -> Result<()> {
    clock::poll_until(time, Duration::from_millis(50), |_| progress.go_on().map(|()| None::<()>)).map(drop)
}
