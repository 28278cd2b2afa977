//! Runs the command line: parses arguments and prints text or JSON. Only this module prints.

mod args;
mod complete;
mod console;
mod data;
mod dot;
mod history;
mod human;
mod install;
mod json;
mod notices;
mod progress_bar;
mod prometheus;
mod status;
mod vendor;
mod wrap;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use tenure::error::{Context, Error, Kind, Result};
use tenure::execute::Invocation;
use tenure::ops::{self, Adopt, Common, Mode, PathQuery, Unpack, UnpackTarget};
use tenure::plan::{Permanence, Request};
use tenure::policy::Direction;
use tenure::process::{self, Interrupt};
use tenure::requires::Named;
use tenure::root::{Root, check_found};
use tenure::settings::check_product;
use tenure::version::Version;

use args::{Change, Cli, Command, PlanFormat};
use console::{Console, Loudness, Shown, Style, known_as, plain};
use install::Backup;

/// How long `boot` waits by default. A start must not fail because another command is about to end, and systemd's
/// default timeout for the start of a unit is 90 s.
const BOOT_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command line and returns the exit code.
pub fn run(words: &[OsString]) -> u8 {
    if complete::answer(words) {
        return 0;
    }
    let style = if words.iter().any(|word| word == "--json") { Style::Json } else { Style::Human };
    let cli = match parsed(words) {
        Ok(cli) => cli,
        Err(error) => return misused(error, style),
    };
    let invocation = Invocation { command: typed(words), by: by(), why: None };
    let loudness = match (cli.verbose, cli.quiet) {
        (true, _) => Loudness::Verbose,
        (_, true) => Loudness::Quiet,
        _ => Loudness::Normal,
    };
    let mut console = Console::new(style, loudness, name(&cli.command));
    match dispatch(cli, invocation, &mut console) {
        Ok(shown) => console.show(&shown),
        Err(error) => console.fail(&error),
    }
}

/// Parses the words. The usage names the product's own command if there is one.
fn parsed(words: &[OsString]) -> std::result::Result<Cli, clap::Error> {
    let command = args::command();
    let mut command = match known_as() {
        Some(name) => command.bin_name(name),
        None => command,
    };
    let matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Prints the message of clap and returns the exit code: 0 for help and version, else that of wrong usage.
fn misused(mut error: clap::Error, style: Style) -> u8 {
    suggest_what_is_shown(&mut error);
    match (error.kind(), style) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
            // A caller that closed stdout does not need the error.
            let _ = error.print();
            0
        }
        (_, Style::Human) => {
            let text = error.to_string().replace("\n\n  tip: ", "\nhint: ").replace("\n  tip: ", "\nhint: ");
            // A removed suggestion leaves its line.
            let text = text.replace("\n\n\n", "\n\n");
            let _ = io::stderr().write_all(plain(&text, style).as_bytes());
            Kind::Usage.code()
        }
        (_, Style::Json) => {
            let error = usage(&error.to_string()).hint("`tenure --help` shows the usage");
            Console::new(style, Loudness::Normal, "").fail(&error)
        }
    }
}

/// Turns a message of clap into an error: its first paragraph, with the list in it, and its tips as hints.
fn usage(text: &str) -> Error {
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = first.trim_start_matches("error: ").lines().map(str::trim);
    let (head, list) = (lines.next().unwrap_or_default(), lines.collect::<Vec<_>>().join(", "));
    let tips = rest.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    tips.fold(Error::new(Kind::Usage, format!("{head} {list}").trim()), Error::hint)
}

/// Removes hidden commands from clap's lists, and all suggestions except the nearest. A command that changes something is
/// never suggested, because a suggestion is easily run without a second look.
fn suggest_what_is_shown(error: &mut clap::Error) {
    let command = args::command();
    let is_shown =
        |name: &String| command.find_subcommand(name).is_some_and(|command| !command.is_hide_set());
    let mut take = |kind| match error.remove(kind) {
        Some(ContextValue::Strings(names)) => names.into_iter().filter(is_shown).collect::<Vec<_>>(),
        Some(ContextValue::String(name)) => Some(name).filter(is_shown).into_iter().collect(),
        _ => Vec::new(),
    };
    let (all, mut meant) = (take(ContextKind::ValidSubcommand), take(ContextKind::SuggestedSubcommand));
    if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) {
        let far = |name: &String| strsim::osa_distance(given, name);
        let nearest = meant.iter().map(far).min();
        meant.retain(|name| Some(far(name)) == nearest && !args::operates(name));
    }
    for (kind, names) in [(ContextKind::ValidSubcommand, all), (ContextKind::SuggestedSubcommand, meant)] {
        if !names.is_empty() {
            error.insert(kind, ContextValue::Strings(names));
        }
    }
}

fn dispatch(cli: Cli, invocation: Invocation, console: &mut Console) -> Result<Shown> {
    let here = std::env::current_dir().context(|| "cannot determine the working directory")?;
    let given = cli.root.or_else(root_of_environment);
    let find = || Root::find(given.as_deref(), &here);
    let place = || match &given {
        Some(given) => Ok(given.clone()),
        None => check_found(&here).map(|()| here.clone()),
    };
    match cli.command {
        Command::Init { name, change } => Shown::of(
            console.style(),
            &ops::init(&place()?, name.as_deref(), &common(invocation, change, console)?)?,
        ),
        Command::Adopt { dir, version, name, change } => {
            let version = parse(&version)?;
            let common = common(invocation, change, console)?;
            let absolute =
                std::path::absolute(place()?).context(|| "cannot determine the path of the root")?;
            ops::adoptable(&dir, &absolute, &version, name.as_deref())?;
            let root = root_to_adopt_into(find, &place()?, name.as_deref(), common.mode)?;
            Shown::of(console.style(), &ops::adopt(&root, &Adopt { common, from: dir, version }, console)?)
        }
        Command::Completions { shell } => {
            Shown::of(console.style(), &human::CompletionScript { script: complete::script(shell)? })
        }
        Command::Migrator { id } => {
            let _ = process::leave_session();
            console.listen(Interrupt::listen()?);
            Shown::of(console.style(), &ops::migrator(&find()?, &id, console)?)
        }
        Command::Guard { ordered_by } => {
            // This fails harmlessly if the process already leads a session, as in a systemd unit.
            let _ = process::leave_session();
            console.listen(Interrupt::listen()?);
            let ordered_by = ordered_by.parse()?;
            Shown::of(console.style(), &ops::guard(&find()?, ordered_by, console)?)
        }
        command @ (Command::Lint { .. } | Command::Pack(_) | Command::Manifest { .. }) => {
            vendor::run(command, console)
        }
        command => act(command, &find()?, invocation, console),
    }
}

/// Runs a command that changes nothing. Other commands go to `change`.
fn act(command: Command, root: &Root, invocation: Invocation, console: &mut Console) -> Result<Shown> {
    let style = console.style();
    notices::show(&command, root, console);
    match command {
        Command::Versions => Shown::of(style, &ops::versions(root)?),
        Command::RootDir => Shown::of(style, &human::RootDir { root: root.path().display().to_string() }),
        Command::Status { format } => status::show(root, format, console),
        Command::History => Shown::of(style, &ops::history(root)?),
        Command::Verify { version } => {
            let version = optional(version)?;
            Shown::of(style, &ops::verify(root, version.as_ref(), console)?)
        }
        Command::Plan { version, from, available, format } => {
            let journey = PathQuery {
                to: parse(&version)?,
                from: from.as_deref().map(parse).transpose()?,
                graph: format == PlanFormat::Dot,
                available: Some(available.iter().map(|version| parse(version)).collect::<Result<_>>()?),
            };
            let found = ops::route(root, &journey, console)?;
            match format {
                PlanFormat::Text => Shown::of(style, &found),
                PlanFormat::Dot => dot::show(found, console),
            }
        }
        Command::Check { version: Some(version), restarting, retry, .. } => {
            let (restart, retry) = (restarting.rule(), retry.rule());
            let (direction, permanence) = (Direction::Either, Permanence::Permanent);
            let request =
                Request { target: parse(&version)?, direction, permanence, restart, start: false, retry };
            let common = Common { invocation, mode: Mode::DryRun, wait: Duration::ZERO };
            Shown::of(style, &ops::check(root, &common, &request, console)?)
        }
        Command::Check { os, .. } => {
            let os = os.unwrap_or_default().parse::<Named>().map_err(|e| e.as_kind(Kind::Usage))?;
            Shown::of(style, &ops::supported(root, &os)?)
        }
        command => change(command, root, invocation, console),
    }
}

fn change(command: Command, root: &Root, invocation: Invocation, console: &mut Console) -> Result<Shown> {
    match command {
        Command::Unpack { what, replace, change } => {
            let common = common(invocation, change, console)?;
            let options = Unpack { common, wanted: wanted(&what)?, replace: replace.rule() };
            Shown::of(console.style(), &ops::unpack(root, &options, console)?)
        }
        Command::Install(install) => install.run(root, invocation, Direction::Either, console),
        Command::Upgrade(install) => install.run(root, invocation, Direction::Up, console),
        Command::Downgrade(install) => install.run(root, invocation, Direction::Down, console),
        Command::Confirm { version, backup: Backup { backup_command }, change } => {
            let (version, common) = (optional(version)?, common(invocation, change, console)?);
            let options = ops::Confirm { common, version, backup_command };
            Shown::of(console.style(), &ops::confirm(root, &options, console)?)
        }
        Command::Migrate { background, restored, change } => {
            let options = ops::Migrate { common: common(invocation, change, console)?, background, restored };
            Shown::of(console.style(), &ops::migrate(root, &options, console)?)
        }
        Command::Revert { version, change } => {
            let (version, common) = (optional(version)?, common(invocation, change, console)?);
            Shown::of(console.style(), &ops::revert(root, &common, version.as_ref(), console)?)
        }
        Command::Boot { change } => {
            Shown::of(console.style(), &ops::boot(root, &common(invocation, change, console)?, console)?)
        }
        Command::Uninstall { version, change } => {
            let (version, common) = (parse(&version)?, common(invocation, change, console)?);
            Shown::of(console.style(), &ops::uninstall(root, &common, &version, console)?)
        }
        Command::Prune { keep, change } => {
            let common = common(invocation, change, console)?;
            Shown::of(console.style(), &ops::prune(root, &common, keep, console)?)
        }
        other => Err(Error::failed(format!("{} changes nothing", name(&other)))),
    }
}

/// Returns the existing root, or creates one.
fn root_to_adopt_into(
    find: impl Fn() -> Result<Root>,
    place: &Path,
    name: Option<&str>,
    mode: Mode,
) -> Result<Root> {
    name.map_or(Ok(()), check_product)?;
    let found = find();
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

fn common(invocation: Invocation, change: Change, console: &mut Console) -> Result<Common> {
    let Change { dry_run, wait } = change;
    console.listen(Interrupt::listen()?);
    let mode = if dry_run { Mode::DryRun } else { Mode::Act };
    let patience = if console.command() == "boot" { BOOT_PATIENCE } else { Duration::ZERO };
    Ok(Common { invocation, mode, wait: wait.map_or(patience, Duration::from_secs) })
}

fn parse(version: &str) -> Result<Version> {
    version.parse::<Version>().map_err(|e| e.as_kind(Kind::Usage))
}

fn optional(version: Option<String>) -> Result<Option<Version>> {
    version.map(|version| parse(&version)).transpose()
}

fn wanted(what: &str) -> Result<UnpackTarget> {
    match what.parse() {
        Ok(version) => Ok(UnpackTarget::Version(version)),
        Err(_) if what.contains('/') || tenure::naming::ArchiveFormat::split(what).is_some() => {
            Ok(UnpackTarget::Archive(PathBuf::from(what)))
        }
        Err(error) => Err(error.as_kind(Kind::Usage)),
    }
}

/// Returns the command as the user typed it, without the program.
fn typed(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    in_one_line(&words.join(" "))
}

/// Escapes control characters, so that the caller's words are stored as one line.
fn in_one_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Returns TENURE_ROOT, or `None` if it is unset or empty.
fn root_of_environment() -> Option<PathBuf> {
    std::env::var_os("TENURE_ROOT").filter(|root| !root.is_empty()).map(PathBuf::from)
}

/// Returns the user who gives the command, and the user behind sudo.
fn by() -> String {
    let user = process::whoami();
    match std::env::var("SUDO_USER") {
        Ok(behind) if user == "root" && !behind.is_empty() => {
            format!("{user} ({})", in_one_line(&behind))
        }
        _ => user,
    }
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Init { .. } => "init",
        Command::Adopt { .. } => "adopt",
        Command::Versions => "versions",
        Command::RootDir => "root-dir",
        Command::Unpack { .. } => "unpack",
        Command::Install(_) => "install",
        Command::Upgrade(_) => "upgrade",
        Command::Downgrade(_) => "downgrade",
        Command::Confirm { .. } => "confirm",
        Command::Revert { .. } => "revert",
        Command::Uninstall { .. } => "uninstall",
        Command::Boot { .. } => "boot",
        Command::Check { .. } => "check",
        Command::Plan { .. } => "plan",
        Command::Status { .. } => "status",
        Command::History => "history",
        Command::Prune { .. } => "prune",
        Command::Verify { .. } => "verify",
        Command::Completions { .. } => "completions",
        Command::Migrate { .. } => "migrate",
        Command::Migrator { .. } => "migrator",
        Command::Lint { .. } => "lint",
        Command::Pack(_) => "pack",
        Command::Manifest { .. } => "manifest",
        Command::Guard { .. } => "guard",
    }
}
