//! `install`, `upgrade` and `downgrade`: the arguments, and the request that they make.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use tenure::error::{Error, Kind, Result};
use tenure::health::Span;
use tenure::manifest::Timeouts;
use tenure::naming::ArchiveFormat;
use tenure::ops::{self, Extent, ReleaseOrArchive, Replace};
use tenure::plan::{Permanence, Request, Restart, Retry, TrialEnd};
use tenure::policy::Direction;

use crate::cli::caller::{Caller, Change, parse, parse_optional};
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
    #[command(flatten)]
    pub wanted: WantedArgs,

    /// Leave the release on trial until it is confirmed or the service restarts
    ///
    /// A restart of the service returns to the permanent release.
    #[arg(long, help_heading = TRIAL)]
    pub no_permanent: bool,

    /// Revert after this time, for example 10m, unless the release is confirmed
    ///
    /// The deadline holds even if this command or its terminal ends, or if the host restarts. A release that is on
    /// trial already gets this deadline.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["no_permanent", "watch"], help_heading = TRIAL)]
    pub confirm_within: Option<Span>,

    /// Watch the health for this time, for example 10m, then make the release permanent
    ///
    /// The release is reverted as soon as it is unhealthy. The command waits for the end of the trial; the trial
    /// continues without it.
    #[arg(long, value_name = "TIME", conflicts_with = "no_permanent", help_heading = TRIAL)]
    pub watch: Option<Span>,

    #[command(flatten)]
    pub allowed: Allowed,

    /// Start the service if it is down
    ///
    /// If the release does not stay up, the service is stopped again.
    #[arg(long, conflicts_with = "prepare_only", help_heading = SERVICE)]
    pub start: bool,

    /// Upgrade along the path that `tenure plan` shows
    ///
    /// All archives are read, every hop is checked, and all releases are unpacked and prepared before the first hop. Each
    /// hop is healthy, permanent and migrated before the next begins. After a failure the service stays on the last good
    /// hop, which the error names. After an interruption, the same command continues from there. With `--restart`, hops
    /// that need a restart are restarted, and the others are hot. A backup command runs once, before the first hop. With
    /// `--prepare-only`, no release is switched to. A downgrade refuses this option.
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
    /// `health` in the table [timeouts] of tenure.toml, or else of release.toml, sets another default. Instead of 60
    /// seconds, the default is `startup` of the table [health] if that is longer.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS)]
    pub health_timeout: Option<Span>,

    /// How long the service manager may take to stop and start the service [default: 90s]
    ///
    /// A reload has the same limit. `stop` in the table [timeouts] of tenure.toml, or else of release.toml, sets another
    /// default.
    #[arg(long, value_name = "TIME", help_heading = TIMEOUTS)]
    pub stop_timeout: Option<Span>,

    /// How long a hook may run [default: 60s]
    ///
    /// It is the limit of a hook that has no timeout of its own. `hook` in the table [timeouts] of tenure.toml, or else of
    /// release.toml, sets another default.
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
            wanted,
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
        let common = caller.change(change, console)?;
        let (target, archive) = wanted.parse()?.identify(&root, console)?;
        let request = Request {
            target,
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
        let options = ops::Install { common, request, archive, replace: replace.rule(), backup_command };
        let root = root.within(Timeouts { health, stop, hook, ..Timeouts::default() });
        match (multi_hop, prepare_only) {
            (true, true) => caller.shown(&ops::walk(&root, &options, Extent::Ahead, console)?),
            (true, false) => caller.shown(&ops::walk(&root, &options, Extent::Whole, console)?),
            (false, true) => caller.shown(&ops::prepare(&root, &options, console)?),
            (false, false) => caller.shown(&ops::install(&root, &options, console)?),
        }
    }
}

/// The release that the caller wants.
#[derive(Debug, Args)]
pub struct WantedArgs {
    /// A version that is installed or whose archive is in releases/, or the path of an archive
    #[arg(value_name = "VERSION|ARCHIVE", add = ArgValueCandidates::new(completions::releases))]
    pub what: String,

    /// The version of the release in ARCHIVE, if its name does not tell it
    #[arg(long = "version", value_name = "VERSION", help_heading = PREPARATION)]
    pub stated: Option<String>,
}

impl WantedArgs {
    /// Parses the release. A word with the ending of an archive is a path.
    ///
    /// # Errors
    /// Returns a `Usage` error if a version is not valid, or is stated without an archive.
    pub fn parse(&self) -> Result<ReleaseOrArchive> {
        let version = parse_optional(self.stated.as_deref())?;
        if ArchiveFormat::split(&self.what).is_some() {
            return Ok(ReleaseOrArchive::Archive { path: PathBuf::from(&self.what), version });
        }
        match version {
            None => match parse(&self.what) {
                Err(error) if self.what.contains('/') => {
                    Err(error.hint(format!("the path of an archive ends in {}", ArchiveFormat::endings())))
                }
                parsed => parsed.map(ReleaseOrArchive::Release),
            },
            Some(_) => Err(Error::new(Kind::Usage, "`--version` needs the path of an archive")
                .hint("name the archive instead of a version, for example ./service.zip")),
        }
    }
}

/// What an upgrade, and its check, may do.
#[derive(Clone, Copy, Debug, Args)]
pub struct Allowed {
    /// Stop the service and start it in the new release
    ///
    /// A release with another major or minor version needs this, unless the manifest of the higher release allows a hot
    /// move by `hot-from`.
    #[arg(long, help_heading = SERVICE)]
    pub restart: bool,

    /// Upgrade hot if allowed, otherwise restart
    ///
    /// It is meant for callers that cannot ask an operator, such as the scripts of a package.
    #[arg(long, conflicts_with = "restart", help_heading = SERVICE)]
    pub restart_if_needed: bool,

    /// Accept a release that failed on this host before
    ///
    /// A release is marked as failed if the service could not be moved to it or was not healthy on it. It is also marked
    /// if its trial was rolled back because it became unhealthy or was not confirmed in time. Without this option such a
    /// release is refused. The mark belongs to the archive that the release came from, or to every archive if that is
    /// unknown. It is removed once the release is permanent; `uninstall` and `prune` keep it. An interrupted command, a
    /// restart of the service and a revert by a person leave no mark.
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
    /// The command runs in the root, as the caller, before the switch and before any change of the data. If it fails,
    /// nothing is switched. The default is the backup hook of the release, if the release changes the format of the data.
    #[arg(long, value_name = "COMMAND", help_heading = PREPARATION)]
    pub backup_command: Option<String>,
}

/// Whether an installed release is replaced.
#[derive(Clone, Copy, Debug, Args)]
pub struct ReplaceArgs {
    /// Unpack the release again if its archive was rebuilt and the release is not in use
    ///
    /// An archive counts as rebuilt if it is not the one that the release was unpacked from.
    #[arg(long, help_heading = PREPARATION)]
    pub replace: bool,
}

impl ReplaceArgs {
    /// Returns the rule that the flag selects.
    pub fn rule(self) -> Replace {
        if self.replace { Replace::Yes } else { Replace::No }
    }
}
