//! Moves a running service from one release to another, starts and stops it, and verifies the result.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::health::Vitals;
use super::manager::{Condition, Verb};
use super::running::{Evidence, Running};
use super::{STOP_TIMEOUT, Service};
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::hook::{self, Hook, HookContext, Task};
use crate::plan::Method;
use crate::process::{self, Identity};
use crate::progress::Progress;
use crate::version::Version;

/// How long to wait between two looks at the processes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long a service may show no sign of the release that it was told to move to.
const SIGN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the answers of a hook must agree while processes of both releases run: old and new workers may answer in
/// turn.
const AGREED_FOR: Duration = Duration::from_secs(1);

/// A move of a service from one release to another.
#[derive(Clone, Copy)]
pub struct Move<'a> {
    /// The release that runs.
    pub from: &'a Version,
    /// The release to run; `current` points to it already.
    pub to: &'a Version,
    /// The method.
    pub method: &'a Method,
    /// Whether this is a rollback from a failed release, or a start.
    pub is_back: bool,
}

/// A function that returns why a service is unhealthy; `None` if it is not, or not yet.
pub type Ailment<'a> = dyn FnMut(&dyn Progress) -> Result<Option<String>> + 'a;

impl Service<'_> {
    /// Returns whether the service runs `to`, and no process of `from` is left, as in the middle of a move.
    ///
    /// # Errors
    /// Returns an error if this cannot be determined.
    pub fn is_back(&self, from: &Version, to: &Version, progress: &dyn Progress) -> Result<bool> {
        let condition = self.condition(progress)?;
        let left = Evidence::look(self.root.releases().path(), &condition).has(from);
        Ok(condition.up
            && condition.end.is_none()
            && !left
            && self.running(to, progress)? == Running::Release(to.clone()))
    }

    /// Moves the running service, and returns once it runs the release. Can be repeated for a completed move. Calls
    /// `ailment` repeatedly while it is unknown which release runs, or none does.
    ///
    /// # Errors
    /// Returns an error if the service does not run the release afterwards.
    pub fn perform(
        &self,
        move_: &Move<'_>,
        ailment: &mut Ailment<'_>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let context = || format!("cannot move the service from {} to {}", move_.from, move_.to);
        let vitals = match move_.method {
            Method::Restart => Vitals::default(),
            _ => Vitals::of_running(),
        };
        self.begin_move(move_, progress).context(context)?;
        let within = match move_.method {
            Method::Restart => self.stop_timeout(move_.to),
            _ => self.hook_timeout(move_.to),
        };
        self.await_arrival(move_, vitals, ailment, within, progress).context(context)
    }

    /// Starts the service, which is down, in the release that `current` points to.
    ///
    /// # Errors
    /// Returns an error if the service does not run the release afterwards.
    pub fn start(&self, to: &Version, progress: &mut dyn Progress) -> Result<()> {
        let context = || format!("cannot start the service in {to}");
        let within = self.stop_timeout(to);
        let started = self.manager.order(&self.tools(within, progress), Verb::Start);
        started.context(context)?;
        let move_ = Move { from: to, to, method: &Method::Restart, is_back: true };
        self.await_arrival(&move_, Vitals::default(), &mut |_| Ok(None), within, progress).context(context)
    }

    /// Stops the service if it runs.
    ///
    /// # Errors
    /// Returns an error if the manager does not answer or reports a failure.
    pub fn stop(&self, release: &Version, progress: &dyn Progress) -> Result<()> {
        if !self.is_up(progress)? {
            return Ok(());
        }
        self.manager.order(&self.tools(self.stop_timeout(release), progress), Verb::Stop)
    }

    fn begin_move(&self, move_: &Move<'_>, progress: &dyn Progress) -> Result<()> {
        let tools = self.tools(self.stop_timeout(move_.to), progress);
        match move_.method {
            Method::Hook => self.run_hook(move_, progress),
            Method::Reload => self.manager.order(&tools, Verb::Reload),
            Method::Restart if move_.is_back => {
                self.manager.restart(&tools, &|| self.end_strays(move_, progress))
            }
            Method::Restart => self.manager.restart(&tools, &|| {}),
            Method::Signal(name) => {
                let signal: Signal = format!("SIG{name}")
                    .parse()
                    .map_err(|_| Error::failed(format!("{name} is not a signal")))?;
                let main = self.condition(progress)?.main.ok_or_else(|| {
                    Error::failed("cannot determine the main process of the service to signal")
                        .hint("set `pid-file` in the table [service] of tenure.toml")
                })?;
                process::signal(main, signal)
            }
        }
    }

    /// Ends the processes of both releases that the manager does not stop, and their descendants, which may have
    /// inherited their sockets. They would keep the started release from its address.
    fn end_strays(&self, move_: &Move<'_>, progress: &dyn Progress) {
        let Ok(evidence) = self.evidence(progress) else { return };
        let strays = [move_.from, move_.to].into_iter().flat_map(|release| evidence.strays(release));
        // The environment of a process shows that this transaction started it, even if the process shows no release.
        let started = self.transaction.map(process::listeners_of_transaction).unwrap_or_default();
        let started = started.into_iter().filter(|pid| !evidence.manages(*pid));
        let families: BTreeSet<u32> = strays.chain(started).flat_map(process::family_of).collect();
        let strays: Vec<Identity> = families.into_iter().filter_map(Identity::of).collect();
        if !strays.is_empty() {
            process::end_all(&strays);
        }
    }

    /// The higher release knows the lower one, so its hook moves the service in both directions.
    fn run_hook(&self, move_: &Move<'_>, progress: &dyn Progress) -> Result<()> {
        let Move { from, to, .. } = *move_;
        let release = from.max(to);
        let (task, action) = match to > from {
            true => (Task::HotUpgrade, "upgrade"),
            false => (Task::HotDowngrade, "downgrade"),
        };
        let hook = Hook::needed(self.root, release, task)?;
        let trial = self.root.trial(&self.root.observe()?)?;
        let context = HookContext {
            action,
            old: Some(from),
            new: Some(to),
            transaction: self.transaction,
            deadline: trial.as_ref().map(|trial| trial.ends.as_str()),
            staged: None,
        };
        hook.run_logged(&context, progress)
    }

    /// Waits until the service runs the release alone, according to its processes or to a hook. While processes of both
    /// releases run, the answers of the hook must agree for [`AGREED_FOR`].
    fn await_arrival(
        &self,
        move_: &Move<'_>,
        mut vitals: Vitals,
        ailment: &mut Ailment<'_>,
        within: Duration,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let (to, begun) = (move_.to, clock::since_boot());
        let sign_timeout = self.sign_timeout(to)?;
        let is_told_by_hook = sign_timeout.is_none();
        let sign_timeout = sign_timeout.unwrap_or(within).min(within);
        let (mut is_shown, mut agreed_since) = (false, None);
        clock::poll(POLL_INTERVAL, || {
            let condition = self.condition(progress)?;
            let running = self.running_towards(to, &condition, progress)?;
            if condition.end.is_some() || !has_arrived(move_, &running) {
                agreed_since = None;
            } else {
                let since = *agreed_since.get_or_insert_with(clock::since_boot);
                let is_agreed = clock::since_boot().saturating_sub(since) >= AGREED_FOR;
                if !is_told_by_hook || is_agreed || !self.runs_both(move_, &condition) {
                    return Ok(Some(()));
                }
            }
            if let Some(how) = vitals.ended(&condition) {
                return Err(Error::failed(format!("the service ended: {how}")));
            }
            if let (Running::Unknown(_) | Running::Nothing, Some(why)) = (&running, ailment(progress)?) {
                return Err(Error::failed(format!("the service is {why}")));
            }
            let waited = clock::since_boot().saturating_sub(begun);
            is_shown = is_shown || self.has_begun(to, &running, progress)?;
            let is_elsewhere = matches!(running, Running::Release(_) | Running::Several(_));
            if waited >= within || is_elsewhere && !is_shown && waited >= sign_timeout {
                return Err(self.not_arrived(move_, &running, waited.as_secs(), is_shown, progress));
            }
            progress.waiting(&format!("Waiting for the service to run {to}"), within.saturating_sub(waited));
            progress.go_on().map(|()| None)
        })
    }

    /// Returns whether processes of both releases run, as far as the manager knows.
    fn runs_both(&self, move_: &Move<'_>, condition: &Condition) -> bool {
        let Move { from, to, .. } = *move_;
        let evidence = || Evidence::look_at_managed(self.root.releases().path(), condition);
        from != to && evidence().has_both(from, to)
    }

    /// Returns whether the service has begun to run the release.
    fn has_begun(&self, to: &Version, running: &Running, progress: &dyn Progress) -> Result<bool> {
        match running {
            Running::Several(versions) if versions.contains(to) => Ok(self.evidence(progress)?.shows(to)),
            _ => Ok(false),
        }
    }

    /// Returns the error for a service that does not run the release.
    fn not_arrived(
        &self,
        move_: &Move<'_>,
        running: &Running,
        seconds: u64,
        is_shown: bool,
        progress: &dyn Progress,
    ) -> Error {
        let Move { from, to, method, .. } = *move_;
        let remnant = self.evidence(progress).ok().and_then(|evidence| evidence.remnant(from));
        let remnant = remnant.map_or_else(String::new, |remnant| format!("; {remnant}"));
        let error = Error::failed(format!("after {seconds} s {running}{remnant}"));
        let error = match (method, is_shown) {
            (Method::Reload | Method::Signal(_), false) => error
                .hint(format!(
                    "use `--restart`: the service received the {} but did not execute the program of {to}",
                    if *method == Method::Reload { "reload" } else { "signal" }
                ))
                .hint("remove `hot` from the table [service] of tenure.toml if the service cannot move hot"),
            _ => error,
        };
        match running {
            Running::Unknown(_) => {
                error.hint(format!("add a `running-version` hook to release.toml of {to}"))
            }
            _ => error,
        }
    }

    /// Returns how long another release may run alone before a process of this release listens beside it; `None` if a
    /// hook tells which release runs.
    fn sign_timeout(&self, release: &Version) -> Result<Option<Duration>> {
        let manifest = self.root.manifest(release)?;
        if manifest.is_some_and(|manifest| manifest.hooks.running_version.is_some()) {
            return Ok(None);
        }
        Ok(Some(SIGN_TIMEOUT.max(self.root.health(release)?.startup.unwrap_or_default())))
    }

    /// Returns how long a hook of the release may take.
    fn hook_timeout(&self, release: &Version) -> Duration {
        let manifest = self.root.manifest(release).ok().flatten();
        hook::timeout(self.root, manifest.as_ref(), Task::HotUpgrade)
    }

    fn stop_timeout(&self, release: &Version) -> Duration {
        self.timeouts(release).stop.map_or(STOP_TIMEOUT, |span| span.0)
    }
}

/// Returns whether a service that runs has arrived. After a rollback by a restart, its start may be the only
/// evidence; the health check follows.
fn has_arrived(move_: &Move<'_>, running: &Running) -> bool {
    match running {
        Running::Release(version) => version == move_.to,
        Running::Unknown(_) => move_.is_back && *move_.method == Method::Restart,
        Running::Nothing | Running::Several(_) => false,
    }
}
