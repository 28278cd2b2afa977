//! `install`, `upgrade` and `downgrade`: the arguments, and the request that they make.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use tenure::error::Result;
use tenure::health::Span;
use tenure::manifest::Timeouts;
use tenure::ops::{self, Extent, Replace};
use tenure::plan::{Permanence, Request, Restart, Retry, TrialEnd};
use tenure::policy::Direction;

use crate::cli::caller::{Caller, Change, parse};
use crate::cli::completions;
use crate::cli::console::Console;
use crate::cli::view::Shown;

const TRIAL: &str = "Trial";
const SERVICE: &str = "Service";
const PREPARATION: &str = "Preparation";
const TIMEOUTS: &str = "Timeouts";

/// The arguments of install, upgrade and downgrade.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The release to switch to
    #[arg(value_name = "VERSION", add = ArgValueCandidates::new(completions::releases))]
    pub version: String,

    /// Leave the release on trial until it is confirmed or the service restarts
    ///
    /// A restart of the service returns to the permanent release.
    #[arg(long, help_heading = TRIAL)]
    pub no_permanent: bool,

    /// Revert after this time, for example 10m, unless the release is confirmed
    ///
    /// The deadline holds even if this command, its terminal or the host ends.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["no_permanent", "watch"], help_heading = TRIAL)]
    pub confirm_within: Option<Span>,

    /// Watch the health for this time, for example 10m, then make the release permanent
    ///
    /// The release is reverted as soon as it is unhealthy.
    #[arg(long, value_name = "TIME", conflicts_with = "no_permanent", help_heading = TRIAL)]
    pub watch: Option<Span>,

    #[command(flatten)]
    pub allowed: Allowed,

    /// Start the service if it is down
    #[arg(long, conflicts_with = "prepare_only", help_heading = SERVICE)]
    pub start: bool,

    /// Upgrade along the path that `tenure plan` shows
    ///
    /// Each hop is healthy and permanent before the next begins. After an interruption, the same command continues.
    #[arg(long, conflicts_with_all = ["no_permanent", "confirm_within", "watch"])]
    pub multi_hop: bool,

    /// Unpack, check and prepare the release without switching to it
    ///
    /// A later upgrade skips this work.
    #[arg(long, conflicts_with_all = ["no_permanent", "confirm_within", "watch"], help_heading = PREPARATION)]
    pub prepare_only: bool,

    #[command(flatten)]
    pub backup: Backup,

    #[command(flatten)]
    pub replace: ReplaceArgs,

    #[command(flatten)]
    pub change: Change,

    /// How long to wait for the service to become healthy [default: 60s]
    ///
    /// `health` in the table [timeouts] of tenure.toml or release.toml sets another default.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS)]
    pub health_timeout: Option<Span>,

    /// How long the service manager may take to stop and start the service [default: 90s]
    ///
    /// `stop` in the table [timeouts] of tenure.toml or release.toml sets another default.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS)]
    pub stop_timeout: Option<Span>,

    /// How long a hook may run [default: 60s]
    ///
    /// `hook` in the table [timeouts] of tenure.toml or release.toml sets another default.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS)]
    pub hook_timeout: Option<Span>,
}

impl InstallArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Returns the errors of `ops::install`, and a `Usage` error if VERSION is not a version.
    pub fn run(self, direction: Direction, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        // All fields are named, so that a new option cannot be forgotten here.
        let Self {
            version,
            no_permanent,
            confirm_within,
            watch,
            allowed,
            start,
            multi_hop,
            prepare_only,
            backup: Backup { backup_command },
            health_timeout: health,
            stop_timeout: stop,
            hook_timeout: hook,
            replace,
            change,
        } = self;
        let request = Request {
            target: parse(&version)?,
            direction,
            permanence: match (no_permanent, confirm_within, watch) {
                (_, Some(Span(within)), _) => Permanence::Ends(TrialEnd::Confirmation(within)),
                (_, _, Some(Span(within))) => Permanence::Ends(TrialEnd::Watch(within)),
                (true, ..) => Permanence::Trial,
                _ => Permanence::Permanent,
            },
            restart: allowed.restart(),
            start,
            // `--prepare-only` does not try the release yet.
            retry: if prepare_only { Retry::Yes } else { allowed.retry() },
        };
        let common = caller.change(change, console)?;
        let options = ops::Install { common, request, replace: replace.rule(), backup_command };
        let root = root.within(Timeouts { health, stop, hook, ..Timeouts::default() });
        match (multi_hop, prepare_only) {
            (true, true) => caller.shown(&ops::walk(&root, &options, Extent::Ahead, console)?),
            (true, false) => caller.shown(&ops::walk(&root, &options, Extent::Whole, console)?),
            (false, true) => caller.shown(&ops::prepare(&root, &options, console)?),
            (false, false) => caller.shown(&ops::install(&root, &options, console)?),
        }
    }
}

/// What an upgrade, and its check, may do.
#[derive(Clone, Copy, Debug, Args)]
pub struct Allowed {
    /// Stop the service and start it in the new release
    ///
    /// Needed for everything but a patch release, unless the release declares `hot-from`.
    #[arg(long, help_heading = SERVICE)]
    pub restart: bool,

    /// Upgrade hot if allowed, otherwise restart
    #[arg(long, conflicts_with = "restart", help_heading = SERVICE)]
    pub restart_if_needed: bool,

    /// Accept a release that failed on this host before
    #[arg(long)]
    pub retry: bool,
}

impl Allowed {
    /// Returns whether the service may be stopped.
    pub fn restart(self) -> Restart {
        match (self.restart, self.restart_if_needed) {
            (true, _) => Restart::Asked,
            (_, true) => Restart::IfNeeded,
            _ => Restart::Forbidden,
        }
    }

    /// Returns whether a release that failed is tried again.
    pub fn retry(self) -> Retry {
        if self.retry { Retry::Yes } else { Retry::No }
    }
}

/// The command that makes a backup.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// Run this shell command to back up the data before the data changes
    ///
    /// If the command fails, nothing is changed. The default is the backup hook of the release, if it migrates data.
    #[arg(long, value_name = "COMMAND", help_heading = PREPARATION)]
    pub backup_command: Option<String>,
}

/// Whether an installed release is replaced.
#[derive(Clone, Copy, Debug, Args)]
pub struct ReplaceArgs {
    /// Unpack the release again if its archive was rebuilt and the release is not in use
    #[arg(long, help_heading = PREPARATION)]
    pub replace: bool,
}

impl ReplaceArgs {
    /// Returns the rule that the flag selects.
    pub fn rule(self) -> Replace {
        if self.replace { Replace::Yes } else { Replace::No }
    }
}
