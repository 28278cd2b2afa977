//! Controls the running service: how it starts and stops, which release it runs, and how it moves.

mod health;
mod manager;
mod moving;
mod running;
mod scripts;
mod systemd;

use std::time::Duration;

use crate::error::{Context, Error, Kind, Result};
use crate::hook::{Hook, HookContext, Task};
use crate::manifest::{Manifest, Timeouts};
use crate::plan::Method;
use crate::progress::Progress;
use crate::root::Root;
use crate::settings::{Hot, Manager};
use crate::version::Version;

pub use health::{HealthWatch, Verdict, Vitals};
pub use moving::{Ailment, Move};
pub use running::Running;

use manager::{Condition, End, ServiceManager, Tools};
use running::Evidence;

/// How long a manager's command may take by default; the same as systemd's default timeout for a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

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
            Manager::OpenRc(name) => Box::new(scripts::Script::openrc(name, pid_file, root)),
            Manager::Sysv(name) => Box::new(scripts::Script::sysv(name, pid_file, root)),
            Manager::Command(commands) => Box::new(scripts::ByCommand { commands, pid_file, root }),
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
        self.condition(progress).map(|condition| !condition.up || condition.end.is_some())
    }

    /// Returns the state of the service. During a move, a `Refused` error is a state, because a rollback must not stop
    /// there.
    ///
    /// # Errors
    /// Returns an error if the manager does not know the service.
    fn condition(&self, progress: &dyn Progress) -> Result<Condition> {
        match self.manager.condition(&self.tools(STOP_TIMEOUT, progress)) {
            Err(error) if error.kind() == Kind::Refused && self.transaction.is_some() => Ok(Condition {
                up: true,
                end: Some(End::Refused(error.in_one_line())),
                ..Condition::default()
            }),
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
    pub fn hot_method(&self, from: &Version, to: &Version, higher: Option<&Manifest>) -> Result<Method> {
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
        if let Some(told) = self.ask_hook(release, progress)? {
            return Ok(told);
        }
        let condition = self.condition(progress)?;
        if matches!(condition.end, Some(End::Final(_))) {
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
        if let Some(told) = self.ask_hook(to, progress)? {
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
    fn ask_hook(&self, release: &Version, progress: &dyn Progress) -> Result<Option<Running>> {
        let manifest = self.root.manifest(release).ok().flatten();
        let hook = manifest.as_ref().and_then(|m| Hook::of(self.root, m, Task::RunningVersion));
        let Some(hook) = hook else { return Ok(None) };
        let context = HookContext { action: "status", new: Some(release), ..HookContext::default() };
        Ok(Some(match hook.ask(&context, progress) {
            Ok(said) => running::parse_hook_output(&said),
            Err(_) if !self.is_up(progress)? => Running::Nothing,
            Err(error) => Running::Unknown(error.in_one_line()),
        }))
    }

    /// Refuses a service whose processes show no release, unless `to` has a `running-version` hook: Tenure could not
    /// tell a move from a failure.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the hook `running-version`.
    pub fn check_identifiable(
        &self,
        to: &Version,
        manifest: Option<&Manifest>,
        progress: &dyn Progress,
    ) -> Result<()> {
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

    fn tools<'t>(&'t self, within: Duration, progress: &'t dyn Progress) -> Tools<'t> {
        Tools { dir: self.root.path(), transaction: self.transaction, within, progress }
    }
}
