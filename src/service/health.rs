//! Checks the health of a service: takes one sample, samples at an interval, and detects its end.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::ops::ControlFlow;
use std::time::Duration;

use super::Service;
use super::manager::{Condition, End};
use super::running::Running;
use crate::clock;
use crate::error::Result;
use crate::health::{Argv, Health, Probe, Sample};
use crate::hook::{Hook, HookContext};
use crate::process::{self, Identity, ProgramEnd};
use crate::progress::Progress;
use crate::root::Root;
use crate::version::Version;

/// How long to wait between two checks for an interruption.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a service must look ended before it counts as ended, if its manager is not sure: a pid file may be in the
/// middle of a rewrite.
const ENDED_FOR: Duration = Duration::from_millis(500);

/// The same for a service that has not been seen since its start: a start command may return early.
const UNSEEN_FOR: Duration = Duration::from_secs(3);

/// The judgement after the samples so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Enough good samples in a row.
    Healthy,
    /// Enough bad samples in a row.
    Unhealthy,
    /// Undecided; take another sample.
    Open,
}

/// The health samples of a service, and the judgement over them.
#[derive(Debug)]
pub struct HealthWatch {
    judge: Judge,
    begun: Duration,
    startup: Duration,
    /// When the next sample is due, since boot.
    next: Duration,
    /// The last sample.
    pub sample: Sample,
    /// The judgement after the last sample.
    pub verdict: Verdict,
    /// How long after the start of the watch the last sample was taken.
    pub waited: Duration,
}

impl HealthWatch {
    /// Begins to watch a service that may be starting for the time `startup`.
    #[must_use]
    pub fn new(health: &Health, startup: Duration) -> Self {
        let begun = clock::since_boot();
        let sample = Sample::CannotTell("it was not checked yet".into());
        let (judge, verdict, waited) = (Judge::new(health), Verdict::Open, Duration::ZERO);
        Self { judge, begun, startup, next: begun, sample, verdict, waited }
    }

    /// Takes samples until `decide` returns a value. `decide` continues with the time left, and the next sample is
    /// taken after `interval`, or after the time left if that is shorter.
    ///
    /// # Errors
    /// Returns the first error of `check` or `decide`, and an error on interruption.
    pub fn run<T>(
        mut self,
        interval: Duration,
        progress: &mut dyn Progress,
        check: impl Fn(&dyn Progress) -> Result<Sample>,
        mut decide: impl FnMut(&Self, &mut dyn Progress) -> Result<ControlFlow<T, Duration>>,
    ) -> Result<T> {
        loop {
            self.take(check(progress)?);
            match decide(&self, progress)? {
                ControlFlow::Break(value) => return Ok(value),
                ControlFlow::Continue(left) => pause(interval.min(left), progress)?,
            }
        }
    }

    /// Takes a sample if none was taken for the time `interval`. Returns the judgement after a new sample.
    ///
    /// # Errors
    /// Returns the error of `check`.
    pub fn poll(
        &mut self,
        interval: Duration,
        check: impl FnOnce() -> Result<Sample>,
    ) -> Result<Option<Verdict>> {
        if clock::since_boot() < self.next {
            return Ok(None);
        }
        self.take(check()?);
        self.next = clock::since_boot() + interval;
        Ok(Some(self.verdict))
    }

    /// Returns how many samples in a row have not told the health.
    #[must_use]
    pub fn silent(&self) -> u32 {
        self.judge.silent
    }

    fn take(&mut self, sample: Sample) {
        self.waited = clock::since_boot().saturating_sub(self.begun);
        self.verdict = self.judge.take(&sample, self.waited < self.startup);
        self.sample = sample;
    }
}

/// Judges a service by consecutive samples.
#[derive(Debug)]
struct Judge {
    healthy_after: u32,
    unhealthy_after: u32,
    good: u32,
    bad: u32,
    /// How many samples in a row have not told the health.
    silent: u32,
    was_good: bool,
}

impl Judge {
    fn new(health: &Health) -> Self {
        let Health { healthy_after, unhealthy_after, .. } = *health;
        Self { healthy_after, unhealthy_after, good: 0, bad: 0, silent: 0, was_good: false }
    }

    /// Adds one sample. A service that may be `starting` is not judged unhealthy for not being ready before its first
    /// good sample. A sample that does not tell is not bad, but ends a run of good samples.
    fn take(&mut self, sample: &Sample, starting: bool) -> Verdict {
        match sample {
            Sample::Healthy => (self.good, self.bad, self.was_good) = (self.good + 1, 0, true),
            Sample::Unhealthy(_) | Sample::NotReady(_) => (self.good, self.bad) = (0, self.bad + 1),
            Sample::CannotTell(_) | Sample::Throttled(_) => self.good = 0,
        }
        self.silent = if sample.tells() { 0 } else { self.silent + 1 };
        let is_excused = starting && !self.was_good && matches!(sample, Sample::NotReady(_));
        match (self.good >= self.healthy_after, self.bad >= self.unhealthy_after) {
            (true, _) => Verdict::Healthy,
            (_, true) if !is_excused => Verdict::Unhealthy,
            _ => Verdict::Open,
        }
    }
}

/// Sleeps in short intervals, so that an interruption takes effect soon.
fn pause(time: Duration, progress: &dyn Progress) -> Result<()> {
    clock::poll_until(time, POLL_INTERVAL, |_| progress.go_on().map(|()| None::<()>)).map(drop)
}

/// A detector for the end of a service.
#[derive(Debug, Default)]
pub struct Vitals {
    /// The main process that was seen first.
    main: Option<Identity>,
    seen: bool,
    /// The time since which the service looks ended.
    ended_since: Option<Duration>,
}

impl Vitals {
    /// Returns the vitals of a service that was seen to run.
    #[must_use]
    pub fn of_running() -> Self {
        Self { seen: true, ..Self::default() }
    }

    /// Returns how the service ended; `None` if it runs, or may run again in a moment.
    pub(super) fn ended(&mut self, condition: &Condition) -> Option<String> {
        let how = match &condition.end {
            None if condition.up => {
                (self.seen, self.ended_since) = (true, None);
                return None;
            }
            None => "its manager does not know the processes that run".to_owned(),
            Some(end) => end.how().to_owned(),
        };
        let now = clock::since_boot();
        let since = *self.ended_since.get_or_insert(now);
        let long_enough = if self.seen && condition.end.is_some() { ENDED_FOR } else { UNSEEN_FOR };
        let is_final = matches!(condition.end, Some(End::Final(_)));
        (is_final || now.saturating_sub(since) >= long_enough).then_some(how)
    }

    /// Returns whether the service looked ended at the last look, and may run again in a moment.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.ended_since.is_some()
    }

    /// Returns how the service ended, even if its manager has restarted it since the first look: then the main
    /// process is another one, and the first is gone.
    ///
    /// # Errors
    /// Returns an error if the manager does not answer.
    pub fn lost(&mut self, service: &Service<'_>, progress: &dyn Progress) -> Result<Option<String>> {
        let condition = service.condition(progress)?;
        let main = condition.main.and_then(Identity::of);
        let first = *self.main.get_or_insert(match main {
            Some(main) => main,
            None => return Ok(self.ended(&condition)),
        });
        let is_another = main.is_some_and(|main| main != first) && !first.is_alive();
        let restarted = is_another.then(|| "its main process ended and was started again".to_owned());
        Ok(self.ended(&condition).or(restarted))
    }
}

impl Service<'_> {
    /// Takes one sample of the health of the service, which should run `release`.
    ///
    /// # Errors
    /// Returns an error only on interruption. Any other failure becomes part of the sample.
    pub fn sample_health(
        &self,
        release: &Version,
        health: &Health,
        progress: &dyn Progress,
    ) -> Result<Sample> {
        let sample = match &health.probe {
            Probe::Command(argv) => command(self.root, release, argv, health.timeout, progress),
            Probe::Http(url) => http(url, health.timeout),
            Probe::Tcp(address) => tcp(address, health.timeout),
            Probe::Runs => runs(self, release, progress),
        };
        progress.go_on().map(|()| sample)
    }
}

fn command(root: &Root, release: &Version, argv: &Argv, within: Duration, progress: &dyn Progress) -> Sample {
    let hook = Hook { root, release: release.clone(), name: "health", argv: argv.clone(), within };
    let context = HookContext { action: "health", new: Some(release), ..HookContext::default() };
    let asked = process::output_in_memory().and_then(|said| Ok((hook.run(&context, &said, progress)?, said)));
    match asked {
        Ok((ProgramEnd::Exited(status), _)) if status.success() => Sample::Healthy,
        Ok((end, said)) => {
            let how = end.good(within).err().map_or_else(String::new, |e| e.to_string());
            let said = process::tail(&said);
            let last = said.lines().last().map_or_else(String::new, |line| format!(": {line}"));
            Sample::NotReady(format!("{}: {how}{last}", argv.program()))
        }
        Err(error) => Sample::CannotTell(error.in_one_line()),
    }
}

fn runs(service: &Service<'_>, release: &Version, progress: &dyn Progress) -> Sample {
    match service.running(release, progress) {
        Ok(Running::Release(version)) if version == *release => Sample::Healthy,
        Ok(running @ (Running::Release(_) | Running::Nothing)) => Sample::Unhealthy(running.to_string()),
        Ok(running) => Sample::CannotTell(running.to_string()),
        Err(error) => Sample::CannotTell(error.in_one_line()),
    }
}

fn http(url: &str, within: Duration) -> Sample {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(within))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .new_agent();
    match agent.get(url).call().map(|answer| answer.status().as_u16()) {
        Ok(200..=399) => Sample::Healthy,
        Ok(503) => Sample::NotReady(format!("{url} answers 503")),
        Ok(status @ 500..=599) => Sample::Unhealthy(format!("{url} answers {status}")),
        Ok(429) => Sample::Throttled(format!("{url} answers 429")),
        // Not found, forbidden: the service answers, but the status says nothing about its health.
        Ok(status) => Sample::CannotTell(format!("{url} answers {status}")),
        Err(ureq::Error::Timeout(_)) => Sample::NotReady(late(url, within)),
        Err(ureq::Error::Io(e)) => unreached(url, &e),
        Err(error) => Sample::CannotTell(format!("{url}: {error}")),
    }
}

fn tcp(address: &str, within: Duration) -> Sample {
    let until = clock::since_boot() + within;
    let addresses: Vec<SocketAddr> = match address.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Sample::CannotTell(format!("{address}: {error}")),
    };
    let mut last = Sample::CannotTell(format!("{address} is not an address"));
    for one in addresses {
        let left = until.saturating_sub(clock::since_boot());
        if left.is_zero() {
            return Sample::NotReady(late(address, within));
        }
        match TcpStream::connect_timeout(&one, left) {
            Ok(_) => return Sample::Healthy,
            Err(e) if e.kind() == ErrorKind::TimedOut => last = Sample::NotReady(late(address, within)),
            Err(e) => last = unreached(address, &e),
        }
    }
    last
}

/// A refused or dropped connection means that the service is not ready. A network failure says nothing about it.
fn unreached(what: &str, error: &std::io::Error) -> Sample {
    use ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof,
    };
    let why = format!("{what}: {error}");
    match error.kind() {
        ConnectionRefused | ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | TimedOut => {
            Sample::NotReady(why)
        }
        _ => Sample::CannotTell(why),
    }
}

fn late(what: &str, within: Duration) -> String {
    format!("{what} did not answer within {}", humantime::format_duration(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: fn() -> Sample = || Sample::Unhealthy("down".into());
    const DUNNO: fn() -> Sample = || Sample::CannotTell("no answer".into());

    fn judged(starting: bool, samples: &[Sample]) -> Vec<Verdict> {
        let mut judge = Judge::new(&Health { healthy_after: 2, unhealthy_after: 2, ..Health::default() });
        samples.iter().map(|sample| judge.take(sample, starting)).collect()
    }

    #[test]
    fn verdict_needs_consecutive_samples() {
        use Sample::Healthy as Good;
        use Verdict::{Healthy, Open, Unhealthy};
        assert_eq!(judged(false, &[Good, Good]), [Open, Healthy]);
        assert_eq!(judged(false, &[BAD(), Good, BAD(), BAD()]), [Open, Open, Open, Unhealthy]);
        assert_eq!(
            judged(false, &[BAD(), DUNNO(), BAD()]),
            [Open, Open, Unhealthy],
            "an unknown sample does not reset the bad ones"
        );
        assert_eq!(judged(false, &[Good, DUNNO(), Good]), [Open, Open, Open]);
        assert_eq!(judged(false, &[DUNNO(), DUNNO(), DUNNO()]), [Open, Open, Open]);
    }

    #[test]
    fn silent_samples_are_counted_in_a_row() {
        let mut judge = Judge::new(&Health::default());
        let samples = [DUNNO(), Sample::Throttled("429".into()), BAD(), DUNNO(), Sample::Healthy];
        let silent = samples.map(|sample| {
            judge.take(&sample, false);
            judge.silent
        });
        assert_eq!(silent, [1, 2, 0, 1, 0]);
    }

    #[test]
    fn starting_service_may_be_unready() {
        use Verdict::{Open, Unhealthy};
        let not_ready = || Sample::NotReady("refused".into());
        assert_eq!(judged(true, &[not_ready(), not_ready(), not_ready()]), [Open, Open, Open]);
        assert_eq!(judged(false, &[not_ready(), not_ready()]), [Open, Unhealthy]);
        let then_ill = [not_ready(), Sample::Healthy, not_ready(), not_ready()];
        assert_eq!(judged(true, &then_ill), [Open, Open, Open, Unhealthy]);
        assert_eq!(judged(true, &[BAD(), BAD()]), [Open, Unhealthy], "an unhealthy sample counts at once");
    }
}
