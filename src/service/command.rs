//! Programs of the operator's own that start and stop the service.

use std::path::Path;

use super::{Running, ServiceManager, Tools, running};
use crate::error::{Error, Result};
use crate::root::Root;
use crate::settings::Commands;

/// A service that the operator's programs start and stop.
pub struct ByCommand<'a> {
    pub commands: &'a Commands,
    pub pid_file: Option<&'a Path>,
    pub root: &'a Root,
}

fn order(tools: &Tools<'_>, words: &[String]) -> Result<()> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::failed("tenure.toml names no program for it"))?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    tools.order(Path::new(program), &arguments).map(drop)
}

impl ServiceManager for ByCommand<'_> {
    fn is_up(&self, _: &Tools<'_>) -> Result<bool> {
        if self.pid_file.is_some() {
            return Ok(running::by_file(self.pid_file).is_some());
        }
        if running::by_processes(self.root.releases().path(), None) != Running::Nothing {
            return Ok(true);
        }
        // Only whoever the service may belong to has seen all of it.
        self.root.may_change().map(|()| false).map_err(|_| {
            Error::failed("processes of others do not show to this user what they run").hint("run it as root")
        })
    }

    fn restart(&self, tools: &Tools<'_>) -> Result<()> {
        let Commands { restart, start, stop, .. } = self.commands;
        if !restart.is_empty() {
            return order(tools, restart);
        }
        order(tools, stop)?;
        order(tools, start)
    }

    fn reload(&self, tools: &Tools<'_>) -> Result<()> {
        order(tools, &self.commands.reload)
    }

    fn main_process(&self, _: &Tools<'_>) -> Result<Option<u32>> {
        Ok(running::by_file(self.pid_file))
    }
}
