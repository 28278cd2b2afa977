//! Manages a service by its service script: a script of OpenRC, or one in /etc/init.d.

use std::path::{Path, PathBuf};

use super::{Condition, ServiceManager, Tools, running};
use crate::error::{Error, Result};
use crate::root::Root;

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

    fn order(&self, tools: &Tools<'_>, verb: &str) -> Result<()> {
        tools.order(&self.program, &self.words(verb)).map(drop)
    }

    fn main(&self) -> Result<Option<u32>> {
        running::by_file(self.pid_file, self.root.releases().path())
    }

    /// Relies on the action `status`, which the Linux Standard Base requires of every script: 0 means running, 1 to 3
    /// mean not running.
    fn is_up(&self, tools: &Tools<'_>) -> Result<bool> {
        if self.main()?.is_some() {
            return Ok(true);
        }
        let answer = tools.ask(&self.program, &self.words("status"))?;
        match (&answer.ended, answer.said.contains("does not exist")) {
            (_, true) => Err(Error::refused(answer.said).hint("correct `unit` in tenure.toml")),
            (ended, false) => Ok(ended.is_ok()),
        }
    }

    fn is_gone(&self, tools: &Tools<'_>) -> Result<bool> {
        match self.pid_file {
            Some(_) => Ok(self.main().ok().flatten().is_none()),
            None => self.is_up(tools).map(|up| !up),
        }
    }
}

impl ServiceManager for Script<'_> {
    fn condition(&self, tools: &Tools<'_>) -> Result<Condition> {
        let (main, up) = (self.main()?, self.is_up(tools)?);
        // OpenRC reports a crashed service as up.
        let ended = match self.pid_file {
            Some(file) => running::ended_by_file(file, self.root.releases().path())?,
            None => (!up).then(|| "its script says that it is stopped".to_owned()),
        };
        Ok(Condition { up, ended, main, ..Condition::default() })
    }

    /// Many scripts cannot stop a crashed service, and then do not start it either.
    fn restart(&self, tools: &Tools<'_>, clear: &dyn Fn()) -> Result<()> {
        if self.pid_file.is_some() {
            clear();
        }
        let restarted = self.order(tools, "restart");
        if restarted.is_ok() || !self.is_gone(tools)? {
            return restarted;
        }
        if self.name.is_some() {
            // OpenRC regards the service as up until `zap` resets its state.
            let _ = tools.ask(&self.program, &self.words("zap"));
        }
        self.start(tools).or(restarted)
    }

    fn start(&self, tools: &Tools<'_>) -> Result<()> {
        self.order(tools, "start")
    }

    fn stop(&self, tools: &Tools<'_>) -> Result<()> {
        self.order(tools, "stop")
    }

    fn reload(&self, tools: &Tools<'_>) -> Result<()> {
        self.order(tools, "reload")
    }
}
