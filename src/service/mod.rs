//! The running service: who starts and stops it, what it really runs, and how it is moved.

mod command;
mod running;
mod script;
mod systemd;

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::clock;
use crate::error::{Doing, Error, Result};
use crate::hook::{self, Errand, Hook, Task};
use crate::manifest::{Manifest, Timeouts};
use crate::plan::Way;
use crate::process::{self, Program};
use crate::root::Root;
use crate::settings::{Hot, Manager};
use crate::version::Version;
use crate::watch::Watch;

pub use running::Running;

/// How long a manager may take, unless somebody says otherwise: systemd's own patience with a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

/// How long before a look at what runs is taken again.
const PAUSE: Duration = Duration::from_millis(50);

/// What starts and stops a service. None of its answers is believed for long: what runs is looked up.
pub trait ServiceManager {
    /// Whether the service is up, or on its way there.
    ///
    /// # Errors
    /// Where the manager does not know the service, or does not answer.
    fn is_up(&self, tools: &Tools<'_>) -> Result<bool>;

    /// Stops the service, where it runs, and starts it.
    ///
    /// # Errors
    /// Where the manager says that it failed.
    fn restart(&self, tools: &Tools<'_>) -> Result<()>;

    /// Tells the service to move to what `current` leads to.
    ///
    /// # Errors
    /// Where the manager says that it failed.
    fn reload(&self, tools: &Tools<'_>) -> Result<()>;

    /// The main process of the service; none where the manager does not know it.
    ///
    /// # Errors
    /// Where the manager does not answer.
    fn main_process(&self, tools: &Tools<'_>) -> Result<Option<u32>>;
}

/// How a manager gets at its own programs.
pub struct Tools<'a> {
    dir: &'a Path,
    /// Tells whose programs they are, should they outlive this process.
    transaction: Option<&'a str>,
    within: Duration,
    watch: &'a dyn Watch,
}

/// What a manager's program said, and whether it ended well.
struct Answer {
    said: String,
    ended: Result<()>,
}

impl Tools<'_> {
    /// Runs a program of the host as the user of this process.
    fn ask(&self, path: &Path, arguments: &[&str]) -> Result<Answer> {
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
            account: None,
            within,
            output: &output,
        };
        let ended = process::run(&program, self.watch)?.good_or_said(within, &output);
        Ok(Answer { said: process::tail(&output), ended })
    }

    /// The same, which has to end well.
    fn order(&self, path: &Path, arguments: &[&str]) -> Result<String> {
        let Answer { said, ended } = self.ask(path, arguments)?;
        ended.map(|()| said).doing(|| format!("`{} {}` failed", path.display(), arguments.join(" ")))
    }
}

/// The service of a root.
pub struct Service<'a> {
    root: &'a Root,
    manager: Box<dyn ServiceManager + 'a>,
    transaction: Option<&'a str>,
}

/// From where to where a service is moved, and by whose order.
#[derive(Clone, Copy)]
pub struct Trip<'a> {
    /// The release that runs.
    pub from: &'a Version,
    /// The release that is to run; `current` leads to it already.
    pub to: &'a Version,
    /// By what.
    pub way: &'a Way,
}

impl<'a> Service<'a> {
    /// The service that the settings name; none where Tenure is to move links alone.
    #[must_use]
    pub fn of(root: &'a Root) -> Option<Self> {
        let settings = &root.settings().service;
        let pid_file = settings.pid_file.as_deref();
        let manager: Box<dyn ServiceManager> = match settings.manager.as_ref()? {
            Manager::Systemd(unit) => Box::new(systemd::Systemd { unit }),
            Manager::OpenRc(name) => Box::new(script::Script::openrc(name, pid_file)),
            Manager::Sysv(name) => Box::new(script::Script::sysv(name, pid_file)),
            Manager::Command(commands) => Box::new(command::ByCommand { commands, pid_file, root }),
        };
        Some(Self { root, manager, transaction: None })
    }

    /// The same, moved by a transaction.
    #[must_use]
    pub fn moved_by(self, transaction: &'a str) -> Self {
        Self { transaction: Some(transaction), ..self }
    }

    /// The root that it runs from.
    #[must_use]
    pub fn root(&self) -> &'a Root {
        self.root
    }

    /// Whether it is up, or on its way there: one that is down is not moved, and starts from the links.
    ///
    /// # Errors
    /// Where its manager does not know it.
    pub fn is_up(&self, watch: &dyn Watch) -> Result<bool> {
        self.manager.is_up(&self.tools(watch)).doing(|| "cannot tell whether the service is up")
    }

    /// The way that a hot move goes: what the settings say, or else the hook of the higher release.
    ///
    /// # Errors
    /// Refused where there is none, with `--restart` as what is left.
    pub fn hot_way(&self, from: &Version, to: &Version, higher: Option<&Manifest>) -> Result<Way> {
        let hook = higher.and_then(|manifest| {
            if to > from { &manifest.hooks.hot_upgrade } else { &manifest.hooks.hot_downgrade }.as_ref()
        });
        match (self.root.settings().service.hot, hook) {
            (Some(Hot::Reload), _) => Ok(Way::Reload),
            (Some(Hot::Signal(signal)), _) => Ok(Way::Signal(signal.as_str().trim_start_matches("SIG").to_owned())),
            (_, Some(_)) => Ok(Way::Hook),
            (_, None) => Err(Error::refused(format!(
                "cannot move hot from {from} to {to}: release {} has no {} hook, and the settings name no other way",
                from.max(to),
                if to > from { "hot-upgrade" } else { "hot-downgrade" }
            ))
            .hint(format!("`--restart` makes it a restart upgrade: the service is stopped and started into {to}"))
            .hint("`hot` in the table [service] of tenure.toml says how a service moves hot, where its releases do not")),
        }
    }

    /// What it really runs, as `release` or the processes tell.
    ///
    /// # Errors
    /// Where nobody can be asked.
    pub fn running(&self, release: &Version, watch: &dyn Watch) -> Result<Running> {
        let manifest = self.root.manifest(release).ok().flatten();
        if let Some(hook) = manifest.as_ref().and_then(|m| Hook::of(self.root, m, Task::RunningVersion)) {
            let errand = Errand { action: "status", new: Some(release), ..Errand::default() };
            return Ok(match hook.ask(&errand, watch) {
                Ok(said) => running::parsed(&said),
                Err(_) if !self.is_up(watch)? => Running::Nothing,
                Err(error) => Running::Unknown(error.in_one_line()),
            });
        }
        let main = self.manager.main_process(&self.tools(watch))?;
        Ok(running::by_processes(self.root.releases().path(), main))
    }

    /// Whether it runs a release, and nothing of another one is left of it, as in the middle of a move.
    ///
    /// # Errors
    /// Where nobody can be asked.
    pub fn is_back(&self, from: &Version, to: &Version, watch: &dyn Watch) -> Result<bool> {
        let left = running::executed(self.root.releases().path()).any(|version| version == *from);
        Ok(!left && self.running(to, watch)? == Running::Release(to.clone()))
    }

    /// Moves the running service, and returns once it runs there. May be asked again for a move that was made.
    ///
    /// # Errors
    /// Where it does not run the release afterwards.
    pub fn go(&self, trip: &Trip<'_>, watch: &mut dyn Watch) -> Result<()> {
        let doing = || format!("cannot move the service from {} to {}", trip.from, trip.to);
        self.set_off(trip, watch).doing(doing)?;
        let within = match trip.way {
            Way::Restart => self.stop_timeout(trip.to),
            _ => self.hook_timeout(trip.to),
        };
        self.arrive(trip.to, within, watch).doing(doing)
    }

    fn set_off(&self, trip: &Trip<'_>, watch: &dyn Watch) -> Result<()> {
        let tools = Tools { within: self.stop_timeout(trip.to), ..self.tools(watch) };
        match trip.way {
            Way::Hook => self.run_hook(trip, watch),
            Way::Reload => self.manager.reload(&tools),
            Way::Restart => self.manager.restart(&tools),
            Way::Signal(name) => {
                let signal: Signal = format!("SIG{name}")
                    .parse()
                    .map_err(|_| Error::failed(format!("there is no signal {name}")))?;
                let main = self.manager.main_process(&tools)?;
                let main = main.ok_or_else(|| {
                    Error::failed("cannot tell the main process of the service, to send it a signal")
                        .hint("`pid-file` in the table [service] of tenure.toml says where its id is")
                })?;
                process::signal(main, signal)
            }
        }
    }

    /// The higher of both releases knows of the lower one, and so its program moves in both directions.
    fn run_hook(&self, trip: &Trip<'_>, watch: &dyn Watch) -> Result<()> {
        let Trip { from, to, .. } = *trip;
        let release = from.max(to);
        let manifest = self.root.manifest(release)?;
        let (task, action) = match to > from {
            true => (Task::HotUpgrade, "upgrade"),
            false => (Task::HotDowngrade, "downgrade"),
        };
        let hook = Hook::needed(self.root, release, manifest.as_ref(), task)?;
        let trial = self.root.trial(&self.root.observe()?)?;
        let errand = Errand {
            action,
            old: Some(from),
            new: Some(to),
            transaction: self.transaction,
            deadline: trial.as_ref().map(|trial| trial.ends.as_str()),
            staged: None,
        };
        hook.run_logged(&errand, watch)
    }

    /// Waits until the release runs.
    fn arrive(&self, to: &Version, within: Duration, watch: &mut dyn Watch) -> Result<()> {
        let until = clock::since_boot() + within;
        loop {
            let running = self.running(to, watch)?;
            if running == Running::Release(to.clone()) {
                return Ok(());
            }
            let left = until.saturating_sub(clock::since_boot());
            if left.is_zero() {
                let after = humantime::format_duration(within);
                return Err(Error::failed(format!("{after} later {running}")));
            }
            watch.waiting(&format!("Waiting for the service to run {to}"), left);
            watch.go_on()?;
            clock::sleep(PAUSE);
        }
    }

    /// How long things may take: the operator's word, or else that of the release.
    #[must_use]
    pub fn timeouts(&self, release: &Version) -> Timeouts {
        let declared = self.root.manifest(release).ok().flatten().map(|manifest| manifest.timeouts);
        self.root.settings().timeouts.or(declared.unwrap_or_default())
    }

    /// How long a hook of the release may take.
    fn hook_timeout(&self, release: &Version) -> Duration {
        let manifest = self.root.manifest(release).ok().flatten();
        hook::timeout(self.root, manifest.as_ref(), Task::HotUpgrade)
    }

    fn stop_timeout(&self, release: &Version) -> Duration {
        self.timeouts(release).stop.map_or(STOP_TIMEOUT, |span| span.0)
    }

    fn tools<'t>(&'t self, watch: &'t dyn Watch) -> Tools<'t> {
        Tools { dir: self.root.path(), transaction: self.transaction, within: STOP_TIMEOUT, watch }
    }
}
