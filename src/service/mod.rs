//! Controls the running service: how it starts and stops, which release it runs, and how it moves.

mod command;
mod evidence;
mod health;
mod moving;
mod running;
mod script;
mod systemd;

use std::path::Path;
use std::time::Duration;

use crate::error::{Context, Error, Kind, Result};
use crate::hook::{Hook, HookContext, Task};
use crate::manifest::{Manifest, Timeouts};
use crate::plan::Method;
use crate::privilege;
use crate::process::{self, Account, Program};
use crate::progress::Progress;
use crate::root::Root;
use crate::settings::{Hot, Manager};
use crate::version::Version;

pub use health::{HealthWatch, Verdict, Vitals};
pub use moving::{Ailment, Move};
pub use running::Running;

use evidence::Evidence;

/// How long a manager's command may take by default; the same as systemd's default timeout for a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

/// The state of a service according to its manager.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Whether the service is up or starting.
    pub up: bool,
    /// How the service ended; `None` if it runs. Also set if its main process ended and is about to be restarted.
    pub ended: Option<String>,
    /// The main process; `None` if the manager does not know it.
    pub main: Option<u32>,
    /// The control group of the service; `None` if the manager keeps none.
    pub group: Option<String>,
    /// Whether `ended` is final. Otherwise it may be true for a moment only, for example while a pid file is written.
    pub is_sure: bool,
}

/// A manager that starts and stops a service. Its answers are not relied on for long: the processes show which
/// release runs.
pub trait ServiceManager {
    /// Returns the state of the service.
    ///
    /// # Errors
    /// Returns an error if the manager does not know the service or does not answer.
    fn condition(&self, tools: &Tools<'_>) -> Result<Condition>;

    /// Stops the service if it runs, and starts it. Calls `clear` before the start, as late as possible.
    ///
    /// # Errors
    /// Returns an error if the manager reports a failure.
    fn restart(&self, tools: &Tools<'_>, clear: &dyn Fn()) -> Result<()>;

    /// Starts the service, which does not run.
    ///
    /// # Errors
    /// Returns an error if the manager reports a failure.
    fn start(&self, tools: &Tools<'_>) -> Result<()>;

    /// Stops the service.
    ///
    /// # Errors
    /// Returns an error if the manager reports a failure.
    fn stop(&self, tools: &Tools<'_>) -> Result<()>;

    /// Tells the service to move to the release that `current` points to.
    ///
    /// # Errors
    /// Returns an error if the manager reports a failure.
    fn reload(&self, tools: &Tools<'_>) -> Result<()>;
}

/// The context in which a manager runs its programs.
pub struct Tools<'a> {
    dir: &'a Path,
    /// The transaction of the programs, which identifies them if they outlive this process.
    transaction: Option<&'a str>,
    within: Duration,
    progress: &'a dyn Progress,
}

/// The output of a manager's program, and its result.
struct Answer {
    said: String,
    ended: Result<()>,
}

impl Answer {
    fn good(self, path: &Path, arguments: &[&str]) -> Result<String> {
        let Self { said, ended } = self;
        ended.map(|()| said).context(|| format!("`{} {}` failed", path.display(), arguments.join(" ")))
    }
}

impl Tools<'_> {
    /// Runs a program of the host as the user of this process.
    fn ask(&self, path: &Path, arguments: &[&str]) -> Result<Answer> {
        if path.is_absolute() {
            privilege::check_program(path)?;
        }
        self.ask_as(None, path, arguments)
    }

    /// Runs a program as `account`, or as the user of this process if there is none.
    fn ask_as(&self, account: Option<&Account>, path: &Path, arguments: &[&str]) -> Result<Answer> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let output = process::output_in_memory()?;
        let (dir, within) = (self.dir, self.within);
        let told: Vec<_> =
            self.transaction.map(|id| ("TENURE_TRANSACTION", id.to_owned())).into_iter().collect();
        let program = Program {
            path,
            arguments: &arguments,
            dir,
            environment: &told,
            account,
            within,
            output: &output,
        };
        let ended = process::run(&program, self.progress)?.good_or_said(within, &output);
        Ok(Answer { said: process::tail(&output), ended })
    }

    /// Runs a program of the host and returns its output, or an error if the program fails.
    fn order(&self, path: &Path, arguments: &[&str]) -> Result<String> {
        self.ask(path, arguments)?.good(path, arguments)
    }
}

/// The service of a root.
pub struct Service<'a> {
    root: &'a Root,
    manager: Box<dyn ServiceManager + 'a>,
    transaction: Option<&'a str>,
}

impl<'a> Service<'a> {
    /// Returns the service that the settings name; `None` if Tenure only moves links.
    #[must_use]
    pub fn of(root: &'a Root) -> Option<Self> {
        let settings = &root.settings().service;
        let pid_file = settings.pid_file.as_deref();
        let manager: Box<dyn ServiceManager> = match settings.manager.as_ref()? {
            Manager::Systemd(unit) => Box::new(systemd::Systemd { unit }),
            Manager::OpenRc(name) => Box::new(script::Script::openrc(name, pid_file, root)),
            Manager::Sysv(name) => Box::new(script::Script::sysv(name, pid_file, root)),
            Manager::Command(commands) => Box::new(command::ByCommand { commands, pid_file, root }),
        };
        Some(Self { root, manager, transaction: None })
    }

    /// Returns the same service, moved by a transaction.
    #[must_use]
    pub fn moved_by(self, transaction: &'a str) -> Self {
        Self { transaction: Some(transaction), ..self }
    }

    /// Returns the root of the service.
    #[must_use]
    pub fn root(&self) -> &'a Root {
        self.root
    }

    /// Returns whether the service is up or starting. A service that is down is not moved; its next start follows the
    /// links.
    ///
    /// # Errors
    /// Returns an error if the manager does not know the service.
    pub fn is_up(&self, progress: &dyn Progress) -> Result<bool> {
        self.condition(progress).map(|condition| condition.up)
    }

    /// Returns whether the service has ended, or is about to be restarted after its end.
    ///
    /// # Errors
    /// Returns an error if the manager does not know the service.
    pub fn has_ended(&self, progress: &dyn Progress) -> Result<bool> {
        self.condition(progress).map(|condition| !condition.up || condition.ended.is_some())
    }

    /// Returns the state of the service. During a move, a `Refused` error counts as its end, although a process runs: a
    /// start script may run for a moment before it executes the service, and a rollback must not stop there.
    ///
    /// # Errors
    /// Returns an error if the manager does not know the service.
    fn condition(&self, progress: &dyn Progress) -> Result<Condition> {
        match self.manager.condition(&self.tools(progress)) {
            Err(error) if error.kind() == Kind::Refused && self.transaction.is_some() => {
                Ok(Condition { up: true, ended: Some(error.in_one_line()), ..Condition::default() })
            }
            other => other.context(|| "cannot determine whether the service is up"),
        }
    }

    /// Returns a snapshot of the service's processes.
    fn evidence(&self, progress: &dyn Progress) -> Result<Evidence> {
        Ok(Evidence::look(self.root.releases().path(), &self.condition(progress)?))
    }

    /// Returns the method of a hot move: the one in the settings, or the hook of the higher release.
    ///
    /// # Errors
    /// Returns a `Refused` error if there is no method, with `--restart` as the hint.
    pub fn hot_way(&self, from: &Version, to: &Version, higher: Option<&Manifest>) -> Result<Method> {
        let hook = higher.and_then(|manifest| {
            if to > from { &manifest.hooks.hot_upgrade } else { &manifest.hooks.hot_downgrade }.as_ref()
        });
        match (self.root.settings().service.hot, hook) {
            (Some(Hot::Reload), _) => Ok(Method::Reload),
            (Some(Hot::Signal(signal)), _) => Ok(Method::Signal(signal.as_str().trim_start_matches("SIG").to_owned())),
            (_, Some(_)) => Ok(Method::Hook),
            (_, None) => Err(Error::refused(format!(
                "cannot move hot from {from} to {to}: release {} has no {} hook, and the settings name no other method",
                from.max(to),
                if to > from { "hot-upgrade" } else { "hot-downgrade" }
            ))
            .hint(format!("use `--restart` to stop the service and start it in {to}"))
            .hint("or set `hot` in the table [service] of tenure.toml")),
        }
    }

    /// Returns the release that the service runs, according to the hook of `release` or to the processes.
    ///
    /// # Errors
    /// Returns an error if the manager does not answer.
    pub fn running(&self, release: &Version, progress: &dyn Progress) -> Result<Running> {
        if let Some(told) = self.told(release, progress)? {
            return Ok(told);
        }
        let condition = self.condition(progress)?;
        if condition.ended.is_some() && condition.is_sure {
            return Ok(Running::Nothing);
        }
        Ok(Evidence::look(self.root.releases().path(), &condition).running())
    }

    /// Does the same as `running` while waiting for `to`. Processes that the manager does not know count only once
    /// those that it knows run `to` alone.
    fn running_towards(
        &self,
        to: &Version,
        condition: &Condition,
        progress: &dyn Progress,
    ) -> Result<Running> {
        if let Some(told) = self.told(to, progress)? {
            return Ok(told);
        }
        let releases = self.root.releases();
        let managed = Evidence::look_at_managed(releases.path(), condition).running();
        if managed == Running::Nothing || managed == Running::Release(to.clone()) {
            return Ok(Evidence::look(releases.path(), condition).running());
        }
        Ok(managed)
    }

    /// Returns the answer of the release's `running-version` hook; `None` if it has no such hook.
    fn told(&self, release: &Version, progress: &dyn Progress) -> Result<Option<Running>> {
        let manifest = self.root.manifest(release).ok().flatten();
        let hook = manifest.as_ref().and_then(|m| Hook::of(self.root, m, Task::RunningVersion));
        let Some(hook) = hook else { return Ok(None) };
        let errand = HookContext { action: "status", new: Some(release), ..HookContext::default() };
        Ok(Some(match hook.ask(&errand, progress) {
            Ok(said) => running::parsed(&said),
            Err(_) if !self.is_up(progress)? => Running::Nothing,
            Err(error) => Running::Unknown(error.in_one_line()),
        }))
    }

    /// Refuses a service whose processes show no release, unless `to` has a `running-version` hook: Tenure could not
    /// tell a move from a failure.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the hook `running-version`.
    pub fn telling(&self, to: &Version, manifest: Option<&Manifest>, progress: &dyn Progress) -> Result<()> {
        if manifest.is_some_and(|manifest| manifest.hooks.running_version.is_some()) {
            return Ok(());
        }
        let Running::Unknown(why) = self.evidence(progress)?.running() else { return Ok(()) };
        let current = self.root.path().join("current");
        Err(Error::refused(format!("cannot determine which release the service runs: {why}"))
            .hint(format!(
                "add a `running-version` hook to release.toml of {to}; it prints the version that runs"
            ))
            .hint(format!("or start the service with {} as its working directory", current.display())))
    }

    /// Returns the timeouts: those of the operator take precedence over those of the release.
    #[must_use]
    pub fn timeouts(&self, release: &Version) -> Timeouts {
        let declared = self.root.manifest(release).ok().flatten().map(|manifest| manifest.timeouts);
        self.root.settings().timeouts.or(declared.unwrap_or_default())
    }

    fn tools<'t>(&'t self, progress: &'t dyn Progress) -> Tools<'t> {
        Tools { dir: self.root.path(), transaction: self.transaction, within: STOP_TIMEOUT, progress }
    }
}
