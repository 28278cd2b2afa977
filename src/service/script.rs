//! Service scripts: those of OpenRC, and those in /etc/init.d.

use std::path::{Path, PathBuf};

use super::{ServiceManager, Tools, running};
use crate::error::{Error, Result};

/// A service that a script starts and stops.
pub struct Script<'a> {
    program: PathBuf,
    /// What comes before the verb.
    name: Option<&'a str>,
    pid_file: Option<&'a Path>,
}

impl<'a> Script<'a> {
    /// A service of OpenRC's.
    pub fn openrc(name: &'a str, pid_file: Option<&'a Path>) -> Self {
        Self { program: "rc-service".into(), name: Some(name), pid_file }
    }

    /// A script in /etc/init.d.
    pub fn sysv(name: &str, pid_file: Option<&'a Path>) -> Self {
        Self { program: Path::new("/etc/init.d").join(name), name: None, pid_file }
    }

    fn words<'w>(&'w self, verb: &'w str) -> Vec<&'w str> {
        self.name.into_iter().chain([verb]).collect()
    }
}

impl ServiceManager for Script<'_> {
    /// Every script knows `status`, by the word of the Linux Standard Base: 0 is running, 1 to 3 are not.
    fn is_up(&self, tools: &Tools<'_>) -> Result<bool> {
        if running::by_file(self.pid_file).is_some() {
            return Ok(true);
        }
        let answer = tools.ask(&self.program, &self.words("status"))?;
        match (&answer.ended, answer.said.contains("does not exist")) {
            (_, true) => Err(Error::refused(answer.said).hint("mend `unit` in tenure.toml")),
            (ended, false) => Ok(ended.is_ok()),
        }
    }

    /// Many a script cannot stop what has crashed, and then does not start it either.
    fn restart(&self, tools: &Tools<'_>) -> Result<()> {
        let restarted = tools.order(&self.program, &self.words("restart")).map(drop);
        let is_gone = match self.pid_file {
            Some(_) => running::by_file(self.pid_file).is_none(),
            None => !self.is_up(tools)?,
        };
        if restarted.is_ok() || !is_gone {
            return restarted;
        }
        if self.name.is_some() {
            // To OpenRC it is up until somebody says that it is not.
            let _ = tools.ask(&self.program, &self.words("zap"));
        }
        tools.order(&self.program, &self.words("start")).and(Ok(())).or(restarted)
    }

    fn reload(&self, tools: &Tools<'_>) -> Result<()> {
        tools.order(&self.program, &self.words("reload")).map(drop)
    }

    fn main_process(&self, _: &Tools<'_>) -> Result<Option<u32>> {
        Ok(running::by_file(self.pid_file))
    }
}
