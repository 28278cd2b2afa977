//! Runs the steps that act on the running service: the move, the move back, and the wait until it is healthy.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::health::{Baseline, Health, Probe, Sample};
use crate::plan::{Method, ServiceMove};
use crate::progress::Progress;
use crate::root::{Root, RootLock};
use crate::service::{Ailment, HealthWatch, Move, Running, Service, Verdict, Vitals};
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
        let move_ = Move { from, to, method: &motion.way, is_back: false };
        let (service, health) = (self.service()?, self.root.health(to).unwrap_or_default());
        if motion.baseline == Baseline::Failing || health.probe == Probe::Runs {
            return self.move_service(&move_, &mut |_| Ok(None), progress);
        }
        let startup = health.startup_after(motion.way == Method::Restart);
        let mut watch = HealthWatch::new(&health, startup);
        let mut ailment = |progress: &dyn Progress| {
            let verdict = watch.poll(health.interval, || service.sample_health(to, &health, progress))?;
            Ok((verdict == Some(Verdict::Unhealthy)).then(|| watch.sample.to_string()))
        };
        self.move_service(&move_, &mut ailment, progress)
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
        let back = Move { from, to, method: &motion.way, is_back: true };
        let hot = motion.way != Method::Restart && service.is_up(progress).unwrap_or(false);
        if hot && self.move_service(&back, &mut |_| Ok(None), progress).is_ok() {
            return Ok(());
        }
        self.move_service(&Move { method: &Method::Restart, ..back }, &mut |_| Ok(None), progress)
    }

    fn move_service(
        &self,
        move_: &Move<'_>,
        ailment: &mut Ailment<'_>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let service = self.service()?;
        match move_.method {
            Method::Restart => self.lock.while_restarting(|| service.perform(move_, ailment, progress)),
            _ => service.perform(move_, ailment, progress),
        }
    }

    /// Starts a service that is down.
    pub fn start(&self, version: &Version, progress: &mut dyn Progress) -> Result<()> {
        let service = self.service()?;
        self.lock.while_restarting(|| service.start(version, progress))
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
        let mut vitals = Vitals::of_running();
        let check = |progress: &dyn Progress| self.look(&service, version, &health, motion, progress);
        let excused_for = if was_failing { Duration::MAX } else { startup };
        HealthWatch::new(&health, excused_for).run(health.interval, progress, check, |watch, progress| {
            if !was_failing && let Some(how) = vitals.lost(&service, progress)? {
                return Err(ended(version, &how));
            }
            let is_enough = motion.baseline == Baseline::Known && watch.silent() >= health.healthy_after;
            if (watch.verdict == Verdict::Healthy || is_enough) && !vitals.is_in_doubt() {
                return Ok(ControlFlow::Break(()));
            }
            let is_decided = is_given_up(motion.baseline, watch, &health, startup);
            if is_decided || watch.waited >= within && watch.sample != Sample::Healthy {
                let within = (!is_decided).then_some(within);
                return conclude(version, &watch.sample, motion.baseline, within).map(ControlFlow::Break);
            }
            let left = within.saturating_sub(watch.waited);
            progress.waiting(&format!("Waiting for {version} to be healthy ({})", watch.sample), left);
            Ok(ControlFlow::Continue(left))
        })
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
        let sample = service.sample_health(version, health, progress)?;
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
fn is_given_up(baseline: Baseline, watch: &HealthWatch, health: &Health, startup: Duration) -> bool {
    // An answer such as 404 does not tell whether a service is healthy. But a new release that gives no other answer
    // has not proved healthy.
    let is_answer = matches!(watch.sample, Sample::CannotTell(_)) && health.probe != Probe::Runs;
    let is_untold = is_answer && watch.silent() >= health.unhealthy_after && watch.waited >= startup;
    match baseline {
        Baseline::Sound => watch.verdict == Verdict::Unhealthy || is_untold,
        Baseline::Failing => watch.verdict == Verdict::Unhealthy,
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
