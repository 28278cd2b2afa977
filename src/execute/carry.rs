//! The steps that are about the running service: to a release, back from it, and the proof that it is well.

use std::time::Duration;

use crate::clock;
use crate::error::{Error, Result};
use crate::health::{Baseline, Judge, Sample, Verdict};
use crate::plan::{Motion, Way};
use crate::probe;
use crate::root::{Root, RootLock};
use crate::service::{Service, Trip};
use crate::version::Version;
use crate::watch::Watch;

/// How long a service may take to be well after a move, unless somebody says otherwise.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Carrier<'a> {
    pub root: &'a Root,
    pub lock: &'a RootLock,
    pub transaction: &'a str,
}

impl Carrier<'_> {
    pub fn go(&self, from: &Version, to: &Version, motion: &Motion, watch: &mut dyn Watch) -> Result<()> {
        let Motion { way, .. } = motion;
        self.lock.restarting(*way == Way::Restart);
        let trip = Trip { from, to, way };
        let gone = self.service()?.go(&trip, watch);
        self.lock.restarting(false);
        gone
    }

    /// By whatever works: nothing where it is back already, the way it came, and a restart where that fails.
    pub fn back(&self, from: &Version, to: &Version, motion: &Motion, watch: &mut dyn Watch) -> Result<()> {
        let service = self.service()?;
        if service.is_back(from, to, watch).unwrap_or(false) {
            return Ok(());
        }
        let hot = motion.way != Way::Restart && service.is_up(watch).unwrap_or(false);
        if hot && self.go(from, to, motion, watch).is_ok() {
            return Ok(());
        }
        self.go(from, to, &motion.by_restart(), watch)
    }

    /// What failed before it was moved need not be well now; it is given the time to be.
    pub fn prove(&self, version: &Version, motion: &Motion, watch: &mut dyn Watch) -> Result<()> {
        let service = self.service()?;
        let health = probe::declared(self.root, version)?;
        let within = service.timeouts(version).health.map_or(HEALTH_TIMEOUT, |span| span.0);
        let mut judge =
            Judge::new(&health, motion.way == Way::Restart || motion.baseline == Baseline::Failing);
        let until = clock::since_boot() + within;
        loop {
            let sample = probe::sample(&service, version, &health, watch)?;
            let left = until.saturating_sub(clock::since_boot());
            match judge.take(&sample) {
                Verdict::Healthy => return Ok(()),
                Verdict::Open if !left.is_zero() => {}
                _ if motion.baseline == Baseline::Failing => return Ok(()),
                Verdict::Open
                    if motion.baseline == Baseline::Known && matches!(sample, Sample::CannotTell(_)) =>
                {
                    return Ok(());
                }
                verdict => return Err(unproven(version, &sample, verdict, within)),
            }
            watch.waiting(&format!("Waiting for {version} to be healthy ({sample})"), left);
            pause(health.interval.min(left), watch)?;
        }
    }

    fn service(&self) -> Result<Service<'_>> {
        Service::of(self.root).map(|service| service.moved_by(self.transaction)).ok_or_else(|| {
            Error::failed("cannot move the service: the settings name none any more")
                .hint("tenure.toml has to name the manager that it named when the command began")
        })
    }
}

fn unproven(version: &Version, sample: &Sample, verdict: Verdict, within: Duration) -> Error {
    let when = match verdict {
        Verdict::Unhealthy => String::new(),
        _ => format!(" within {}", humantime::format_duration(within)),
    };
    Error::failed(format!("release {version} did not prove healthy{when}"))
        .because(Error::failed(sample.to_string()))
}

/// In small pieces, so that an interruption is heeded.
fn pause(time: Duration, watch: &dyn Watch) -> Result<()> {
    let until = clock::since_boot() + time;
    loop {
        watch.go_on()?;
        let left = until.saturating_sub(clock::since_boot());
        if left.is_zero() {
            return Ok(());
        }
        clock::sleep(left.min(Duration::from_millis(50)));
    }
}
