//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCandidates;
use tenure::health::Span;

use super::complete::{self, Shell};
use super::vendor::PackArgs;

/// Manage the installed releases of one service: unpack, switch, try out, take back.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    /// The root, an installation directory [default: TENURE_ROOT, or else the nearest parent directory
    /// that holds releases/]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// Say what is checked and done, step by step and how long it took, on standard error
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,

    /// Of what changes something, say nothing but warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// Make a root: here, or where --root says
    Init {
        /// The product, which the file names of its archives begin with
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Copy an existing, unversioned install into the root, made where there is none
    Adopt {
        /// The directory of the install; it stays as it is
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// The version that it is
        #[arg(value_name = "VERSION")]
        version: String,
        /// The product, which the file names of its archives begin with
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// List the releases with their states, newest version first
    Versions,
    /// Print the root's absolute path
    #[command(alias = "root_dir")]
    RootDir,
    /// Put a release on disk, and no more
    Unpack {
        /// A version whose archive is in releases/, or an archive anywhere
        #[arg(value_name = "VERSION|ARCHIVE", add = ArgValueCandidates::new(complete::releases))]
        what: String,
        #[command(flatten)]
        replace: ReplaceArgs,
        #[command(flatten)]
        change: Change,
    },
    /// Make a release current, then permanent, in either direction
    Install(InstallArgs),
    /// Install a higher release
    Upgrade(InstallArgs),
    /// Install a lower release
    Downgrade(InstallArgs),
    /// Make the current release permanent
    Confirm {
        /// Refuse unless this release is on trial, or is permanent and current already
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::on_trial))]
        version: Option<String>,
        #[command(flatten)]
        backup: Backup,
        #[command(flatten)]
        change: Change,
    },
    /// End a trial now: back to the permanent release
    Revert {
        /// Refuse if this release is permanent, or if another one is on trial
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::on_trial))]
        version: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Remove a release that is neither current nor permanent nor in use
    Uninstall {
        /// The release
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::spare))]
        version: String,
        #[command(flatten)]
        change: Change,
    },
    /// Before every start of the service: finish recovery, end any trial
    Boot {
        #[command(flatten)]
        change: Change,
    },
    /// Tell all that would be in the way of an upgrade, and change nothing
    Check {
        /// The release
        #[arg(value_name = "VERSION", required_unless_present = "os", conflicts_with = "os", add = ArgValueCandidates::new(complete::releases))]
        version: Option<String>,
        #[command(flatten)]
        restarting: Restarting,
        #[command(flatten)]
        retry: RetryArgs,
        /// Tell which of the installed releases run on another system instead, as "debian 13"
        #[arg(long, value_name = "SYSTEM", conflicts_with_all = ["restart", "restart_if_needed", "retry"])]
        os: Option<String>,
    },
    /// Show the hops to a higher release, or why there are none
    Plan {
        /// The release
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::releases))]
        version: String,
        /// Where it begins [default: the current release]
        #[arg(long, value_name = "VERSION", add = ArgValueCandidates::new(complete::releases))]
        from: Option<String>,
        /// More releases that could be gone to, beside those that are installed or here as archives
        #[arg(long, value_name = "VERSION", value_delimiter = ',')]
        available: Vec<String>,
        /// How to print it
        #[arg(long, value_enum, default_value = "text")]
        format: PlanFormat,
    },
    /// Run the data migration of the permanent release, where it is not done, and wait for its end
    Migrate {
        /// Return while it is at work
        #[arg(long)]
        background: bool,
        /// Run nothing, and take the data to be in this format: a backup was restored
        #[arg(long, value_name = "FORMAT", conflicts_with = "background")]
        restored: Option<u32>,
        #[command(flatten)]
        change: Change,
    },
    /// Show all that is known, also of a root that is out of order
    Status {
        /// How to print it
        #[arg(long, value_enum, default_value = "text")]
        format: StatusFormat,
    },
    /// Show what was done, when, by whom and how it ended
    History,
    /// Remove unpacked and old releases beyond a number, and their archives
    Prune {
        /// How many to keep beside those in use [default: retention.keep in tenure.toml, or 3]
        #[arg(long, value_name = "N")]
        keep: Option<usize>,
        #[command(flatten)]
        change: Change,
    },
    /// Print what has a shell complete commands, options and releases
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
    /// Take back what is cut short and end what is on trial; Tenure starts it by itself
    #[command(hide = true)]
    Guard {
        /// The process that it is there for, as PID:START
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
    /// For vendors: tell all that is wrong with a release that is to be handed out, and change nothing
    Lint {
        /// An archive, or the directory that it is to be made of
        #[arg(value_name = "ARCHIVE|DIR")]
        what: PathBuf,
    },
    /// For vendors: make an archive of a directory, with its .sha256: from the same files the same bytes
    Pack(PackArgs),
    /// For vendors: show what a release.toml may say
    Manifest {
        /// Print one with every key, and what each is for
        #[arg(long, required = true)]
        example: bool,
    },
    /// Compare installed files with what was unpacked
    Verify {
        /// The release [default: all]
        #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::installed))]
        version: Option<String>,
    },
}

/// How `plan` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanFormat {
    /// The hops, a line each
    Text,
    /// A graph of all releases and hops, for Graphviz
    Dot,
}

/// How `status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// For people
    Text,
    /// Metrics, for the textfile collector of Prometheus' node_exporter; not with --json
    Prometheus,
}

/// What install, upgrade and downgrade take.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The release
    #[arg(value_name = "VERSION", add = ArgValueCandidates::new(complete::releases))]
    pub version: String,

    /// Leave it on trial: a restart of the service goes back to the permanent release
    #[arg(long)]
    pub no_permanent: bool,

    /// Leave it on trial for so long, as `10m`: not confirmed by then, it is reverted, whatever becomes of this
    /// command, its terminal and the host
    #[arg(long, value_name = "TIME", conflicts_with_all = ["no_permanent", "watch"])]
    pub confirm_within: Option<Span>,

    /// Leave it on trial for so long, as `10m`, and watch its health: it is reverted once it is unwell, and else
    /// permanent in the end
    #[arg(long, value_name = "TIME", conflicts_with = "no_permanent")]
    pub watch: Option<Span>,

    #[command(flatten)]
    pub restarting: Restarting,

    /// Start the service in the release if it is down
    #[arg(long, conflicts_with = "prepare_only")]
    pub start: bool,

    #[command(flatten)]
    pub retry: RetryArgs,

    /// Go all the way that `plan` shows, each hop healthy and permanent before the next; the same command goes on where
    /// it was interrupted
    #[arg(long, conflicts_with_all = ["no_permanent", "confirm_within", "watch"])]
    pub multi_hop: bool,

    /// Unpack it, hold it against all checks and prepare it, and switch nothing: a later upgrade skips that work
    #[arg(long, conflicts_with_all = ["no_permanent", "confirm_within", "watch"])]
    pub prepare_only: bool,

    #[command(flatten)]
    pub backup: Backup,

    #[command(flatten)]
    pub timeouts: TimeoutArgs,

    #[command(flatten)]
    pub replace: ReplaceArgs,

    #[command(flatten)]
    pub change: Change,
}

/// Whether the service may be stopped.
#[derive(Clone, Copy, Debug, Args)]
pub struct Restarting {
    /// Stop and start the service into it: what a release beyond a patch needs
    #[arg(long)]
    pub restart: bool,

    /// Move the service hot where the rules allow it and the release has a way to, else as with --restart
    #[arg(long, conflicts_with = "restart")]
    pub restart_if_needed: bool,
}

/// Whether a release is tried again.
#[derive(Clone, Copy, Debug, Args)]
pub struct RetryArgs {
    /// Try a release again that failed on this host before
    #[arg(long)]
    pub retry: bool,
}

/// How long things may take, this once.
#[derive(Clone, Copy, Debug, Args)]
pub struct TimeoutArgs {
    /// Within what time the service has to be healthy once it was moved [default: health in the table timeouts of
    /// tenure.toml or of release.toml, or 60s]
    #[arg(long, value_name = "TIME")]
    pub health_timeout: Option<Span>,

    /// Within what time its manager has to stop and start the service, or to move it [default: stop, likewise, or
    /// 90s]
    #[arg(long, value_name = "TIME")]
    pub stop_timeout: Option<Span>,

    /// Within what time a hook has to end [default: hook, likewise, or 60s]
    #[arg(long, value_name = "TIME")]
    pub hook_timeout: Option<Span>,
}

/// What makes a backup.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// Make a backup by this command, which the shell runs, before anything is done that cannot be taken back; where
    /// it fails, nothing is done [default: the release's own hook, where it migrates data]
    #[arg(long, value_name = "COMMAND")]
    pub backup_command: Option<String>,
}

/// Whether an installed release gives way to another archive.
#[derive(Clone, Copy, Debug, Args)]
pub struct ReplaceArgs {
    /// Unpack anew a release that is not in use and came from another archive
    #[arg(long)]
    pub replace: bool,
}

/// What every command takes that changes something.
#[derive(Clone, Copy, Debug, Args)]
pub struct Change {
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait while another Tenure works on this root [default: 0; 30 for boot]
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}

/// The command that a line of the history is about.
pub fn command_in(line: &str) -> String {
    let cli = Cli::command();
    let is_command = |word: &&str| cli.find_subcommand(word).is_some();
    line.split_whitespace().find(is_command).unwrap_or("unknown").to_owned()
}
