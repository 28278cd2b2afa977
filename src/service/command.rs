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
        let main = running::by_file(self.pid_file);
        let runs = || running::by_processes(self.root.releases().path(), None) != Running::Nothing;
        Ok(main.is_some() || self.pid_file.is_none() && runs())
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
