//! The commands that inspect a root, and `completions`.

use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use tenure::error::{Error, Kind, Result};
use tenure::execute::Reporter;
use tenure::ops::{self, Common, Mode, PathQuery};
use tenure::plan::{Permanence, Request};
use tenure::policy::Direction;
use tenure::requires::Named;
use tenure::root::Root;

use crate::cli::caller::{Caller, parse, parse_optional};
use crate::cli::completions::{self, Shell};
use crate::cli::console::Console;
use crate::cli::prometheus::Metrics;
use crate::cli::view::reports::Graph;
use crate::cli::view::{Form, Shown, Style};

use super::install::Allowed;

/// The commands that inspect a root.
#[derive(Debug, Subcommand)]
pub enum Inspect {
    /// Show the state of the root and of the service
    Status(StatusArgs),
    /// List the releases and their states, newest first
    Versions,
    /// Show past operations and their outcomes
    History,
    /// Run all checks of an upgrade and change nothing
    Check(CheckArgs),
    /// Show the upgrade path to a higher release
    Plan(PlanArgs),
    /// Compare installed files with the files that were unpacked
    Verify(VerifyArgs),
    /// Print the absolute path of the root
    #[command(alias = "root_dir")]
    RootDir,
    /// Print a shell completion script
    Completions(CompletionsArgs),
}

impl Inspect {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        match self {
            Self::Status(args) => args.run(caller, console),
            Self::Versions => versions(caller, console),
            Self::History => history(caller, console),
            Self::Check(args) => args.run(caller, console),
            Self::Plan(args) => args.run(caller, console),
            Self::Verify(args) => args.run(caller, console),
            Self::RootDir => root_dir(caller, console),
            Self::Completions(args) => args.run(caller),
        }
    }
}

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: StatusFormat,
}

/// How `status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// Text for people
    Text,
    /// Metrics for the textfile collector of Prometheus' node_exporter; not with --json
    Prometheus,
}

impl StatusArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        guard_trial(&root, console);
        match (self.format, caller.style) {
            (StatusFormat::Text, _) => caller.shown(&ops::status(&root, console)?),
            (StatusFormat::Prometheus, Style::Json) => {
                Err(Error::new(Kind::Usage, "cannot combine `--format prometheus` with `--json`"))
            }
            (StatusFormat::Prometheus, Style::Human) => caller.shown(&Metrics(ops::status(&root, console)?)),
        }
    }
}

/// Runs `versions`.
fn versions(caller: &Caller, console: &mut Console) -> Result<Shown> {
    let root = listed_root(caller, console)?;
    caller.shown(&ops::versions(&root)?)
}

/// Runs `history`.
fn history(caller: &Caller, console: &mut Console) -> Result<Shown> {
    let root = listed_root(caller, console)?;
    caller.shown(&ops::history(&root)?)
}

/// Runs `root-dir`.
fn root_dir(caller: &Caller, console: &mut Console) -> Result<Shown> {
    let root = caller.find_root()?;
    console.report_damage(&root);
    Shown::text(caller.style, "root", root.path().display().to_string(), Form::Lines)
}

/// Finds a root whose releases or history are listed, and reports its problems.
fn listed_root(caller: &Caller, console: &mut Console) -> Result<Root> {
    let root = caller.find_root()?;
    guard_trial(&root, console);
    console.report_damage(&root);
    warn_of_modes(&root, console);
    Ok(root)
}

/// Restarts the guards of a trial if all of them were killed. A failure does not stop a command that only reads.
fn guard_trial(root: &Root, console: &mut Console) {
    if let Err(error) = ops::guard_trial(root) {
        console.warn(&format!("the deadline of the trial is not guarded: {}", error.in_one_line()));
    }
}

/// Warns that another user may have written what is listed.
fn warn_of_modes(root: &Root, console: &mut Console) {
    if let Err(error) = root.check_modes() {
        console.warn(&error.in_one_line());
        error.hints().into_iter().for_each(|hint| console.warn(hint));
    }
}

/// The arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The release to check
    #[arg(value_name = "VERSION", required_unless_present = "os", conflicts_with = "os", add = ArgValueCandidates::new(completions::releases))]
    pub version: Option<String>,
    #[command(flatten)]
    pub allowed: Allowed,
    /// Check which installed releases run on another system, for example "debian 13"
    ///
    /// The system is named by `ID` and `VERSION_ID` of os-release(5). If it is another version of this host's system, it
    /// also has the names in `ID_LIKE` of this host.
    #[arg(long, value_name = "SYSTEM", conflicts_with_all = ["restart", "restart_if_needed", "retry"])]
    pub os: Option<String>,
}

impl CheckArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        let Some(version) = self.version else {
            console.report_damage(&root);
            let os = self.os.unwrap_or_default().parse::<Named>().map_err(|e| e.as_kind(Kind::Usage))?;
            return caller.shown(&ops::supported(&root, &os)?);
        };
        let request = Request {
            target: parse(&version)?,
            direction: Direction::Either,
            permanence: Permanence::Permanent,
            restart: self.allowed.restart(),
            start: false,
            retry: self.allowed.retry(),
        };
        let invocation = caller.invocation.clone();
        let common = Common { invocation, mode: Mode::DryRun, wait: Duration::ZERO };
        caller.shown(&ops::check(&root, &common, &request, console)?)
    }
}

/// The arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The release to reach
    #[arg(value_name = "VERSION", add = ArgValueCandidates::new(completions::releases))]
    pub version: String,
    /// The release to start from [default: the current release]
    #[arg(long, value_name = "VERSION", add = ArgValueCandidates::new(completions::releases))]
    pub from: Option<String>,
    /// Further releases to consider, beside the installed ones and the archives in releases/
    ///
    /// Separate several versions by commas.
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    pub available: Vec<String>,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: PlanFormat,
}

/// How `plan` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanFormat {
    /// One line per hop
    Text,
    /// A graph of all releases and allowed hops for Graphviz, with the path marked
    Dot,
}

impl PlanArgs {
    /// Runs the command. Without an upgrade path, text output shows the graph before the error.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        let query = PathQuery {
            to: parse(&self.version)?,
            from: parse_optional(self.from.as_deref())?,
            graph: self.format == PlanFormat::Dot,
            available: Some(self.available.iter().map(|version| parse(version)).collect::<Result<_>>()?),
        };
        let mut found = ops::route(&root, &query, console)?;
        if self.format == PlanFormat::Text {
            return caller.shown(&found);
        }
        let none = found.none.take();
        let graph = caller.shown(&Graph(found))?;
        let Some(error) = none else { return Ok(graph) };
        if caller.style == Style::Human {
            console.show(&graph);
        }
        Err(error)
    }
}

/// The arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The release to verify [default: all]
    #[arg(value_name = "VERSION", add = ArgValueCandidates::new(completions::installed))]
    pub version: Option<String>,
}

impl VerifyArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        console.report_damage(&root);
        warn_of_modes(&root, console);
        let version = parse_optional(self.version.as_deref())?;
        caller.shown(&ops::verify(&root, version.as_ref(), console)?)
    }
}

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

impl CompletionsArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller) -> Result<Shown> {
        Shown::text(caller.style, "script", completions::script(self.shell)?, Form::Script)
    }
}
