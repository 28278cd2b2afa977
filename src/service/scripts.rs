//! Manages a service by programs that start and stop it: a script of OpenRC, a script in /etc/init.d, or the operator's
//! own commands.

use std::path::{Path, PathBuf};

use super::manager::{Condition, End, ServiceManager, Tools, Verb};
use super::running::{Evidence, Running, release_in};
use crate::error::{Error, Result};
use crate::host_path;
use crate::privilege;
use crate::process;
use crate::root::Root;
use crate::settings::Commands;

/// The content of a pid file.
enum PidFile {
    /// The live process that the file names.
    Process(u32),
    /// The file does not name a live process.
    Stale,
    /// The file is missing or empty, for example during a rewrite.
    Empty,
}

impl PidFile {
    /// Reads a pid file. A service in its own pid namespace writes the id that it has in that namespace.
    ///
    /// # Errors
    /// Returns a `Refused` error if other users can write the file. Also if the owner of the file could not signal
    /// the process, unless its executable is in `releases`.
    fn read(file: &Path, releases: &Path) -> Result<Self> {
        let text = host_path::read_text(file, 64).ok().flatten().unwrap_or_default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Empty);
        }
        let Ok(pid) = text.parse() else { return Ok(Self::Stale) };
        let shows = |pid| process::signs_of(pid).any(|place| release_in(releases, &place).is_some());
        let is_here = process::is_alive(pid);
        let elsewhere = || process::in_other_namespace(pid, shows);
        let found = if is_here && shows(pid) { Some(pid) } else { elsewhere().or(is_here.then_some(pid)) };
        let Some(pid) = found else { return Ok(Self::Stale) };
        privilege::check_process(file, pid, releases).map(|()| Self::Process(pid))
    }
}

/// Returns the state of a service according to its pid file. While the file is empty, any process from a release counts
/// as the service.
fn condition_by(pid_file: &Path, root: &Root) -> Result<Condition> {
    let releases = root.releases();
    let (main, end) = match PidFile::read(pid_file, releases.path())? {
        PidFile::Process(pid) => (Some(pid), None),
        PidFile::Stale => (None, Some(format!("the process that {} names does not run", pid_file.display()))),
        PidFile::Empty if runs_any(root) => (None, None),
        PidFile::Empty => {
            let how = format!("{} is missing, and no process runs from a release", pid_file.display());
            (None, Some(how))
        }
    };
    Ok(Condition { up: main.is_some(), end: end.map(End::Apparent), main, group: None })
}

/// Returns whether any process runs from a release, as far as this user can see.
fn runs_any(root: &Root) -> bool {
    Evidence::look(root.releases().path(), &Condition::default()).running() != Running::Nothing
}

/// A service that a script starts and stops.
pub struct Script<'a> {
    program: PathBuf,
    /// The argument before the verb.
    name: Option<&'a str>,
    pid_file: Option<&'a Path>,
    root: &'a Root,
}

impl<'a> Script<'a> {
    /// Returns a service of OpenRC.
    pub fn openrc(name: &'a str, pid_file: Option<&'a Path>, root: &'a Root) -> Self {
        Self { program: "rc-service".into(), name: Some(name), pid_file, root }
    }

    /// Returns a service with a script in /etc/init.d.
    pub fn sysv(name: &str, pid_file: Option<&'a Path>, root: &'a Root) -> Self {
        Self { program: Path::new("/etc/init.d").join(name), name: None, pid_file, root }
    }

    fn words<'w>(&'w self, verb: &'w str) -> Vec<&'w str> {
        self.name.into_iter().chain([verb]).collect()
    }

    fn run(&self, tools: &Tools<'_>, verb: &str) -> Result<()> {
        tools.order(&self.program, &self.words(verb)).map(drop)
    }

    /// Relies on the action `status`, which the Linux Standard Base requires of every script: 0 means running, 1 to 3
    /// mean not running.
    fn reports_up(&self, tools: &Tools<'_>) -> Result<bool> {
        let answer = tools.ask(&self.program, &self.words("status"))?;
        match (&answer.ended, answer.said.contains("does not exist")) {
            (_, true) => Err(Error::refused(answer.said).hint("correct `unit` in tenure.toml")),
            (ended, false) => Ok(ended.is_ok()),
        }
    }

    fn is_gone(&self, tools: &Tools<'_>) -> Result<bool> {
        let Some(file) = self.pid_file else { return self.reports_up(tools).map(|up| !up) };
        Ok(!matches!(PidFile::read(file, self.root.releases().path()), Ok(PidFile::Process(_))))
    }
}

impl ServiceManager for Script<'_> {
    fn condition(&self, tools: &Tools<'_>) -> Result<Condition> {
        let Some(file) = self.pid_file else {
            let up = self.reports_up(tools)?;
            let end = (!up).then(|| End::Apparent("its script says that it is stopped".to_owned()));
            return Ok(Condition { up, end, ..Condition::default() });
        };
        let condition = condition_by(file, self.root)?;
        // OpenRC reports a crashed service as up.
        let up = condition.up || self.reports_up(tools)?;
        Ok(Condition { up, ..condition })
    }

    /// Many scripts cannot stop a crashed service, and then do not start it either.
    fn restart(&self, tools: &Tools<'_>, clear: &dyn Fn()) -> Result<()> {
        if self.pid_file.is_some() {
            clear();
        }
        let restarted = self.run(tools, "restart");
        if restarted.is_ok() || !self.is_gone(tools)? {
            return restarted;
        }
        if self.name.is_some() {
            // OpenRC regards the service as up until `zap` resets its state.
            let _ = tools.ask(&self.program, &self.words("zap"));
        }
        self.run(tools, "start").or(restarted)
    }

    fn order(&self, tools: &Tools<'_>, verb: Verb) -> Result<()> {
        self.run(tools, verb.name())
    }
}

/// A service that the operator's commands start and stop.
pub struct ByCommand<'a> {
    pub commands: &'a Commands,
    pub pid_file: Option<&'a Path>,
    pub root: &'a Root,
}

impl ByCommand<'_> {
    fn run(&self, tools: &Tools<'_>, words: &[String]) -> Result<()> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Error::failed("tenure.toml does not name a program for it"))?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let account = privilege::of_command(self.root, program)?;
        let path = Path::new(program);
        tools.ask_as(account.as_ref(), path, &arguments)?.good(path, &arguments).map(drop)
    }

    /// Returns whether any process runs from a release. Only root and the user of the service can see all of its
    /// processes.
    fn is_up(&self) -> Result<bool> {
        if runs_any(self.root) {
            return Ok(true);
        }
        self.root.may_change().map(|()| false).map_err(|_| {
            Error::failed("this user cannot see what the processes of other users run").hint("run it as root")
        })
    }

    fn seems_up(&self, tools: &Tools<'_>) -> bool {
        self.condition(tools).is_ok_and(|condition| condition.up)
    }
}

impl ServiceManager for ByCommand<'_> {
    fn condition(&self, _: &Tools<'_>) -> Result<Condition> {
        let Some(file) = self.pid_file else {
            let up = self.is_up()?;
            let end = (!up).then(|| End::Apparent("no process runs from a release".to_owned()));
            return Ok(Condition { up, end, ..Condition::default() });
        };
        condition_by(file, self.root)
    }

    /// A service that has ended cannot be stopped, but is started nevertheless. So is a service whose pid file is
    /// unusable.
    fn restart(&self, tools: &Tools<'_>, clear: &dyn Fn()) -> Result<()> {
        let Commands { restart, start, .. } = self.commands;
        if restart.is_empty() {
            let stopped = self.order(tools, Verb::Stop);
            clear();
            return if self.seems_up(tools) {
                stopped.and_then(|()| self.order(tools, Verb::Start))
            } else {
                self.order(tools, Verb::Start)
            };
        }
        clear();
        let restarted = self.run(tools, restart);
        match restarted.is_err() && !start.is_empty() && !self.seems_up(tools) {
            true => self.order(tools, Verb::Start),
            false => restarted,
        }
    }

    fn order(&self, tools: &Tools<'_>, verb: Verb) -> Result<()> {
        let Commands { restart, start, stop, reload } = self.commands;
        self.run(
            tools,
            match verb {
                Verb::Start if start.is_empty() => restart,
                Verb::Start => start,
                Verb::Stop => stop,
                Verb::Reload => reload,
            },
        )
    }
}
