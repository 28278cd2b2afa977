//! The command line.

mod inspect;
mod install;
#[cfg(test)]
mod man_page;
mod operate;
mod vendor;

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, ValueHint};

use tenure::error::Result;

use inspect::Inspect;
use vendor::Vendor;

use super::caller::Caller;
use super::console::Console;
use super::view::Shown;

pub use operate::Operate;

/// Install, upgrade and roll back the releases of one service
#[derive(Debug, Parser)]
#[command(name = "tenure", version, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    /// The directory that holds releases/ and the links
    ///
    /// The default is TENURE_ROOT, or else the nearest parent of the working directory that holds releases/.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = GLOBAL)]
    pub root: Option<PathBuf>,

    /// Print one JSON document instead of text
    ///
    /// The document is on standard output, for errors too. tenure.schema.json describes the document of each command.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,

    /// Print each check and step, and how long it took, on standard error
    ///
    /// If standard error is the journal of systemd, each line has its priority.
    #[arg(short, long, global = true, conflicts_with = "quiet", help_heading = GLOBAL)]
    pub verbose: bool,

    /// Print only warnings and errors
    ///
    /// Commands that only read print their result all the same.
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub quiet: bool,

    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

const GLOBAL: &str = "Global options";

/// The commands, by the people who need them.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Operate(Operate),
    #[command(flatten)]
    Inspect(Inspect),
    #[command(flatten)]
    Vendor(Vendor),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Returns the errors of the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        match self {
            Self::Operate(command) => command.run(caller, console),
            Self::Inspect(command) => command.run(caller, console),
            Self::Vendor(command) => command.run(caller, console),
        }
    }
}

/// The command line, with a help that lists the commands in groups.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let group = |heading: &str, has: fn(&str) -> bool| {
        let line = |command: &clap::Command| {
            Some(format!("  {:<12} {}\n", command.get_name(), command.get_about()?))
        };
        let shown = command.get_subcommands().filter(|shown| !shown.is_hide_set() && has(shown.get_name()));
        format!("{heading}:\n{}\n", shown.filter_map(line).collect::<String>())
    };
    let groups = [
        group("Operate", Operate::has_subcommand),
        group("Inspect", Inspect::has_subcommand),
        group("Build releases", Vendor::has_subcommand),
    ];
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}\n\n\
         Run `tenure help COMMAND` for the options of a command.\n",
        groups.concat()
    );
    command.help_template(template)
}
