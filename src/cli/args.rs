//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::complete::{self, Shell};
use super::install::{Backup, InstallArgs, ReplaceArgs, Restarting, RetryArgs};
use super::vendor::PackArgs;

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
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,

    /// Print each check and step, and how long it took, on standard error
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

/// The commands of the help, by the people who need them.
const GROUPS: [(&str, &[&str]); 3] = [
    (
        "Operate",
        &[
            "init",
            "adopt",
            "unpack",
            "install",
            "upgrade",
            "downgrade",
            "confirm",
            "revert",
            "migrate",
            "uninstall",
            "prune",
            "boot",
        ],
    ),
    ("Inspect", &["status", "versions", "history", "check", "plan", "verify", "root-dir", "completions"]),
    ("Build releases", &["lint", "pack", "manifest"]),
];

/// Returns whether a command is one of those that operate a service, which may change something.
pub fn operates(name: &str) -> bool {
    GROUPS.iter().any(|(group, names)| *group == "Operate" && names.contains(&name))
}

/// The command line, with a help that lists the commands in groups.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let about = |name: &str| command.find_subcommand(name).and_then(clap::Command::get_about);
    let groups = GROUPS.map(|(heading, names)| {
        let line = |name: &&str| Some(format!("  {name:<12} {}\n", about(name)?));
        format!("{heading}:\n{}\n", names.iter().filter_map(line).collect::<String>())
    });
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}\n\n\
         Run `tenure help COMMAND` for the options of a command.\n",
        groups.concat()
    );
    command.help_template(template)
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Turn a directory into a Tenure root
    ///
    /// The directory is the working directory, or the one that --root names.
    Init {
        /// The product's name, with which the file names of its archives begin
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Copy an existing, unversioned installation into the root
    ///
    /// The root is created if it does not exist.
    Adopt {
        /// The directory of the installation, which is not changed
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// The version of the installation
        #[arg(value_name = "VERSION")]
        version: String,
        /// The product's name, with which the file names of its archives begin
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// List the releases and their states, newest first
    Versions,
    /// Print the absolute path of the root
    #[command(alias = "root_dir")]
    RootDir,
    /// Unpack a release without switching to it
    Unpack {
        /// A version whose archive is in releases/, or the path of an archive
        #[arg(value_name = "VERSION|ARCHIVE", add = ArgValueCandidates::new(complete::releases))]
        what: String,
        #[command(flatten)]
        replace: ReplaceArgs,
        #[command(flatten)]
        change: Change,
    },
    /// Switch to a release and make it permanent
    Install(InstallArgs),
    /// Switch to a higher release and make it permanent
    Upgrade(InstallArgs),
    /// Switch to a lower release and make it permanent
    Downgrade(InstallArgs),
    /// Make the release on trial permanent
    Confirm {
        /// Refuse unless this release is on trial, or is already current and permanent
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::on_trial))]
        version: Option<String>,
        #[command(flatten)]
        backup: Backup,
        #[command(flatten)]
        change: Change,
    },
    /// End a trial and return to the permanent release
    Revert {
        /// Refuse if this release is permanent, or if another release is on trial
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::on_trial))]
        version: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a release that is not in use
    Uninstall {
        /// The release to remove
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::spare))]
        version: String,
        #[command(flatten)]
        change: Change,
    },
    /// Recover and end any trial; run it before each service start
    Boot {
        #[command(flatten)]
        change: Change,
    },
    /// Run all checks of an upgrade and change nothing
    Check {
        /// The release to check
        #[arg(value_name = "VERSION", required_unless_present = "os", conflicts_with = "os", add = ArgValueCandidates::new(complete::releases))]
        version: Option<String>,
        #[command(flatten)]
        restarting: Restarting,
        #[command(flatten)]
        retry: RetryArgs,
        /// Check which installed releases run on another system, for example "debian 13"
        #[arg(long, value_name = "SYSTEM", conflicts_with_all = ["restart", "restart_if_needed", "retry"])]
        os: Option<String>,
    },
    /// Show the upgrade path to a higher release
    Plan {
        /// The release to reach
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::releases))]
        version: String,
        /// The release to start from [default: the current release]
        #[arg(long, value_name = "VERSION", add = ArgValueCandidates::new(complete::releases))]
        from: Option<String>,
        /// Further releases to consider, beside the installed ones and the archives in releases/
        #[arg(long, value_name = "VERSION", value_delimiter = ',')]
        available: Vec<String>,
        /// The output format
        #[arg(long, value_enum, default_value = "text")]
        format: PlanFormat,
    },
    /// Run the pending data migration and wait for it
    Migrate {
        /// Return without waiting for the end of the migration
        #[arg(long)]
        background: bool,
        /// Record that a backup was restored and the data is in this format; run nothing
        #[arg(long, value_name = "FORMAT", conflicts_with = "background")]
        restored: Option<u32>,
        #[command(flatten)]
        change: Change,
    },
    /// Show the state of the root and of the service
    Status {
        /// The output format
        #[arg(long, value_enum, default_value = "text")]
        format: StatusFormat,
    },
    /// Show past operations and their outcomes
    History,
    /// Remove releases that are not needed, and their archives
    Prune {
        /// The number of unpacked and old releases to keep [default: retention.keep in tenure.toml, or 3]
        #[arg(long, value_name = "N")]
        keep: Option<usize>,
        #[command(flatten)]
        change: Change,
    },
    /// Print a shell completion script
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
    /// Guard a trial; Tenure starts it by itself
    #[command(hide = true)]
    Guard {
        /// The process that started the trial, as PID:START
        #[arg(long = "for", value_name = "PROCESS")]
        ordered_by: String,
    },
    /// Run a data migration; Tenure starts it by itself
    #[command(hide = true)]
    Migrator {
        /// The migration
        #[arg(long = "for", value_name = "ID")]
        id: String,
    },
    /// Report every problem of a release before it is published
    Lint {
        /// An archive, or the directory that an archive is made of
        #[arg(value_name = "ARCHIVE|DIR")]
        what: PathBuf,
    },
    /// Create a reproducible archive and its .sha256
    Pack(PackArgs),
    /// Print an example of release.toml
    Manifest {
        /// Print every key with an explanation
        #[arg(long, required = true)]
        example: bool,
    },
    /// Compare installed files with the files that were unpacked
    Verify {
        /// The release to verify [default: all]
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::installed))]
        version: Option<String>,
    },
}

/// How `plan` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanFormat {
    /// One line per hop
    Text,
    /// A graph of all releases and hops for Graphviz
    Dot,
}

/// How `status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// Text for people
    Text,
    /// Metrics for the textfile collector of Prometheus' node_exporter; not with --json
    Prometheus,
}

/// The arguments of every command that changes something.
#[derive(Clone, Copy, Debug, Args)]
pub struct Change {
    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait for another Tenure that works on this root [default: 0; 30 for boot]
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}

/// The command that a line of the history is about.
pub fn command_in(line: &str) -> String {
    let cli = Cli::command();
    let is_command = |word: &&str| cli.find_subcommand(word).is_some();
    line.split_whitespace().find(is_command).unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_command_is_in_one_group() {
        let cli = super::command();
        let shown: BTreeSet<&str> = cli
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        let grouped: Vec<&str> = super::GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(grouped.len(), shown.len(), "{grouped:?}");
        assert_eq!(grouped.into_iter().collect::<BTreeSet<_>>(), shown);
    }
}
