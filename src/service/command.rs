//! Manages a service by the operator's own start and stop commands.

use std::path::Path;

use super::evidence::Evidence;
use super::{Condition, Running, ServiceManager, Tools, running};
use crate::error::{Error, Result};
use crate::privilege;
use crate::root::Root;
use crate::settings::Commands;

/// A service that the operator's commands start and stop.
pub struct ByCommand<'a> {
    pub commands: &'a Commands,
    pub pid_file: Option<&'a Path>,
    pub root: &'a Root,
}

impl ByCommand<'_> {
    fn order(&self, tools: &Tools<'_>, words: &[String]) -> Result<()> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Error::failed("tenure.toml does not name a program for it"))?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let account = privilege::of_command(self.root, program)?;
        let path = Path::new(program);
        tools.ask_as(account.as_ref(), path, &arguments)?.good(path, &arguments).map(drop)
    }

    fn pid(&self) -> Result<Option<u32>> {
        running::by_file(self.pid_file, self.root.releases().path())
    }
}

impl ByCommand<'_> {
    fn is_up(&self) -> Result<bool> {
        let releases = self.root.releases();
        if self.pid_file.is_some() {
            return Ok(self.pid()?.is_some());
        }
        if Evidence::look(releases.path(), &Condition::default()).running() != Running::Nothing {
            return Ok(true);
        }
        // Only root and the user of the service can see all of its processes.
        self.root.may_change().map(|()| false).map_err(|_| {
            Error::failed("this user cannot see what the processes of other users run").hint("run it as root")
        })
    }

    fn seems_up(&self) -> bool {
        self.is_up().unwrap_or(false)
    }
}

impl ServiceManager for ByCommand<'_> {
    fn condition(&self, _: &Tools<'_>) -> Result<Condition> {
        let main = self.pid()?;
        let up = if self.pid_file.is_some() { main.is_some() } else { self.is_up()? };
        let ended = match self.pid_file {
            Some(file) => running::ended_by_file(file, self.root.releases().path())?,
            None => (!up).then(|| "no process runs from a release".to_owned()),
        };
        Ok(Condition { up, ended, main, ..Condition::default() })
    }

    /// A service that has ended cannot be stopped, but is started nevertheless. So is a service whose pid file is
    /// unusable.
    fn restart(&self, tools: &Tools<'_>, clear: &dyn Fn()) -> Result<()> {
        let Commands { restart, start, .. } = self.commands;
        if restart.is_empty() {
            let stopped = self.stop(tools);
            clear();
            return if self.seems_up() {
                stopped.and_then(|()| self.start(tools))
            } else {
                self.start(tools)
            };
        }
        clear();
        let restarted = self.order(tools, restart);
        match restarted.is_err() && !start.is_empty() && !self.seems_up() {
            true => self.start(tools),
            false => restarted,
        }
    }

    fn start(&self, tools: &Tools<'_>) -> Result<()> {
        let Commands { restart, start, .. } = self.commands;
        self.order(tools, if start.is_empty() { restart } else { start })
    }

    fn stop(&self, tools: &Tools<'_>) -> Result<()> {
        self.order(tools, &self.commands.stop)
    }

    fn reload(&self, tools: &Tools<'_>) -> Result<()> {
        self.order(tools, &self.commands.reload)
    }
}
