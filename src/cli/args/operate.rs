//! The commands that operate a service. Those that switch to a release are in `install`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use tenure::error::{Context, Result};
use tenure::ops::{self, Adopt, Mode, Unpack};
use tenure::policy::Direction;
use tenure::process;
use tenure::root::Root;
use tenure::settings::check_product;

use crate::cli::caller::{Caller, Change, parse, parse_optional};
use crate::cli::completions;
use crate::cli::console::Console;
use crate::cli::view::Shown;

use super::install::{Backup, InstallArgs, ReplaceArgs, WantedArgs};

/// The commands that operate a service, which may change something.
#[derive(Debug, Subcommand)]
pub enum Operate {
    /// Turn a directory into a Tenure root
    ///
    /// The directory is the working directory, or the one that --root names.
    Init(InitArgs),
    /// Copy an existing, unversioned installation into the root
    ///
    /// The root is created if it does not exist.
    Adopt(AdoptArgs),
    /// Unpack a release without switching to it
    Unpack(UnpackArgs),
    /// Switch to a release and make it permanent
    Install(InstallArgs),
    /// Switch to a higher release and make it permanent
    Upgrade(InstallArgs),
    /// Switch to a lower release and make it permanent
    Downgrade(InstallArgs),
    /// Make the release on trial permanent
    Confirm(ConfirmArgs),
    /// End a trial and return to the permanent release
    Revert(RevertArgs),
    /// Run the pending data migration and wait for it
    Migrate(MigrateArgs),
    /// Remove a release that is not in use
    Uninstall(UninstallArgs),
    /// Remove releases that are not needed, and their archives
    Prune(PruneArgs),
    /// Recover and end any trial; run it before each service start
    Boot(Change),
    /// Guard a trial; Tenure starts it by itself
    #[command(hide = true)]
    Guard(GuardArgs),
    /// Run a data migration; Tenure starts it by itself
    #[command(hide = true)]
    Migrator(MigratorArgs),
}

impl Operate {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        match self {
            Self::Init(args) => args.run(caller, console),
            Self::Adopt(args) => args.run(caller, console),
            Self::Unpack(args) => args.run(caller, console),
            Self::Install(args) => args.run(Direction::Either, caller, console),
            Self::Upgrade(args) => args.run(Direction::Up, caller, console),
            Self::Downgrade(args) => args.run(Direction::Down, caller, console),
            Self::Confirm(args) => args.run(caller, console),
            Self::Revert(args) => args.run(caller, console),
            Self::Migrate(args) => args.run(caller, console),
            Self::Uninstall(args) => args.run(caller, console),
            Self::Prune(args) => args.run(caller, console),
            Self::Boot(change) => boot(change, caller, console),
            Self::Guard(args) => args.run(caller, console),
            Self::Migrator(args) => args.run(caller, console),
        }
    }
}

/// The arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The product's name, with which the file names of its archives begin
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

impl InitArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let place = caller.place()?;
        caller.shown(&ops::init(&place, self.name.as_deref(), &caller.change(self.change, console)?)?)
    }
}

/// The arguments of `adopt`.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// The directory of the installation, which is not changed
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// The version of the installation
    #[arg(value_name = "VERSION")]
    pub version: String,
    /// The product's name, with which the file names of its archives begin
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

impl AdoptArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let (name, version) = (self.name.as_deref(), parse(&self.version)?);
        let common = caller.change(self.change, console)?;
        let place = caller.place()?;
        let absolute = std::path::absolute(&place).context(|| "cannot determine the path of the root")?;
        ops::adoptable(&self.dir, &absolute, &version, name)?;
        let root = root_to_adopt_into(caller.find_root(), &place, name, common.mode)?;
        caller.shown(&ops::adopt(&root, &Adopt { common, from: self.dir, version }, console)?)
    }
}

/// Returns the root that was found, or creates one in `place`.
fn root_to_adopt_into(found: Result<Root>, place: &Path, name: Option<&str>, mode: Mode) -> Result<Root> {
    name.map_or(Ok(()), check_product)?;
    if let Ok(root) = &found {
        root.ruled().and_then(|()| root.adopted())?;
    }
    match (found, mode) {
        (Ok(root), _) if name.is_none() || root.settings().name.as_deref() == name => Ok(root),
        (Err(error), Mode::DryRun) => {
            Err(error.hint("create the root with `tenure init`, then repeat the dry run"))
        }
        (found, _) => {
            let place = found.map_or_else(|_| place.to_owned(), |root| root.path().to_owned());
            Root::create(&place, name).map(|(root, _)| root)
        }
    }
}

/// The arguments of `unpack`.
#[derive(Debug, Args)]
pub struct UnpackArgs {
    #[command(flatten)]
    pub wanted: WantedArgs,
    #[command(flatten)]
    pub replace: ReplaceArgs,
    #[command(flatten)]
    pub change: Change,
}

impl UnpackArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        let common = caller.change(self.change, console)?;
        let options = Unpack { common, wanted: self.wanted.parse()?, replace: self.replace.rule() };
        caller.shown(&ops::unpack(&root, &options, console)?)
    }
}

/// The arguments of `confirm`.
#[derive(Debug, Args)]
pub struct ConfirmArgs {
    /// Refuse unless this release is on trial, or is already current and permanent
    #[arg(value_name = "VERSION", add = ArgValueCandidates::new(completions::on_trial))]
    pub version: Option<String>,
    #[command(flatten)]
    pub backup: Backup,
    #[command(flatten)]
    pub change: Change,
}

impl ConfirmArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        console.report_damage(&root);
        let version = parse_optional(self.version.as_deref())?;
        let common = caller.change(self.change, console)?;
        let options = ops::Confirm { common, version, backup_command: self.backup.backup_command };
        caller.shown(&ops::confirm(&root, &options, console)?)
    }
}

/// The arguments of `revert`.
#[derive(Debug, Args)]
pub struct RevertArgs {
    /// Refuse if this release is permanent, or if another release is on trial
    #[arg(value_name = "VERSION", add = ArgValueCandidates::new(completions::on_trial))]
    pub version: Option<String>,
    #[command(flatten)]
    pub change: Change,
}

impl RevertArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        console.report_damage(&root);
        let version = parse_optional(self.version.as_deref())?;
        let common = caller.change(self.change, console)?;
        caller.shown(&ops::revert(&root, &common, version.as_ref(), console)?)
    }
}

/// The arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Return without waiting for the end of the migration
    #[arg(long)]
    pub background: bool,
    /// Record that a backup was restored and the data is in this format; run nothing
    ///
    /// The history shows who recorded it.
    #[arg(long, value_name = "FORMAT", conflicts_with = "background")]
    pub restored: Option<u32>,
    #[command(flatten)]
    pub change: Change,
}

impl MigrateArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let Self { background, restored, change } = self;
        let root = caller.find_root()?;
        let options = ops::Migrate { common: caller.change(change, console)?, background, restored };
        caller.shown(&ops::migrate(&root, &options, console)?)
    }
}

/// The arguments of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// The release to remove
    #[arg(value_name = "VERSION", add = ArgValueCandidates::new(completions::spare))]
    pub version: String,
    #[command(flatten)]
    pub change: Change,
}

impl UninstallArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        let (version, common) = (parse(&self.version)?, caller.change(self.change, console)?);
        caller.shown(&ops::uninstall(&root, &common, &version, console)?)
    }
}

/// The arguments of `prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// The number of unpacked and old releases to keep [default: retention.keep in tenure.toml, or 3]
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    #[command(flatten)]
    pub change: Change,
}

impl PruneArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let root = caller.find_root()?;
        let common = caller.change(self.change, console)?;
        caller.shown(&ops::prune(&root, &common, self.keep, console)?)
    }
}

/// How long `boot` waits by default, in seconds. A start must not fail because another command is about to end, and
/// systemd's default timeout for the start of a unit is 90 s.
const BOOT_WAIT: u64 = 30;

/// Runs `boot`.
fn boot(change: Change, caller: &Caller, console: &mut Console) -> Result<Shown> {
    let root = caller.find_root()?;
    console.report_damage(&root);
    let change = Change { wait: change.wait.or(Some(BOOT_WAIT)), ..change };
    caller.shown(&ops::boot(&root, &caller.change(change, console)?, console)?)
}

/// The arguments of `guard`.
#[derive(Debug, Args)]
pub struct GuardArgs {
    /// The process that started the trial, as PID:START
    #[arg(long = "for", value_name = "PROCESS")]
    pub ordered_by: String,
}

impl GuardArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        // This fails harmlessly if the process already leads a session, as in a systemd unit.
        let _ = process::leave_session();
        console.listen()?;
        let ordered_by = self.ordered_by.parse()?;
        caller.shown(&ops::guard(&caller.find_root()?, ordered_by, console)?)
    }
}

/// The arguments of `migrator`.
#[derive(Debug, Args)]
pub struct MigratorArgs {
    /// The migration
    #[arg(long = "for", value_name = "ID")]
    pub id: String,
}

impl MigratorArgs {
    /// Runs the command.
    pub fn run(self, caller: &Caller, console: &mut Console) -> Result<Shown> {
        let _ = process::leave_session();
        console.listen()?;
        caller.shown(&ops::migrator(&caller.find_root()?, &self.id, console)?)
    }
}
