//! The caller of a command: who runs it, where, and for which root.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use tenure::error::{Context, Kind, Result};
use tenure::execute::Invocation;
use tenure::ops::{Common, Mode};
use tenure::process;
use tenure::root::{Root, check_found};
use tenure::version::Version;

use super::console::Console;
use super::view::{Human, Shown, Style};

/// The caller of a command.
pub struct Caller {
    here: PathBuf,
    /// The root that the caller names.
    given_root: Option<PathBuf>,
    pub style: Style,
    pub invocation: Invocation,
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

impl Caller {
    /// Returns the caller of the command line `words`.
    ///
    /// # Errors
    /// Returns an error if the working directory cannot be determined.
    pub fn new(words: &[OsString], given_root: Option<PathBuf>, style: Style) -> Result<Self> {
        let here = std::env::current_dir().context(|| "cannot determine the working directory")?;
        let invocation = Invocation { command: command_line(words), by: user(), why: None };
        Ok(Self { here, given_root: given_root.or_else(root_of_environment), style, invocation })
    }

    /// Finds the root.
    ///
    /// # Errors
    /// Returns the errors of [`Root::find`].
    pub fn find_root(&self) -> Result<Root> {
        Root::find(self.given_root.as_deref(), &self.here)
    }

    /// Returns the directory for a new root.
    ///
    /// # Errors
    /// Returns a `Refused` error if no directory is named and a root that belongs to another user is here.
    pub fn place(&self) -> Result<PathBuf> {
        match &self.given_root {
            Some(given) => Ok(given.clone()),
            None => check_found(&self.here).map(|()| self.here.clone()),
        }
    }

    /// Returns the options of a command that changes something. From now on, a signal interrupts the command at a safe
    /// point.
    ///
    /// # Errors
    /// Returns an error if a signal handler cannot be installed.
    pub fn change(&self, change: Change, console: &mut Console) -> Result<Common> {
        let Change { dry_run, wait } = change;
        console.listen()?;
        let mode = if dry_run { Mode::DryRun } else { Mode::Act };
        let wait = wait.map_or(Duration::ZERO, Duration::from_secs);
        Ok(Common { invocation: self.invocation.clone(), mode, wait })
    }

    /// Formats a result as the caller wants it.
    ///
    /// # Errors
    /// Returns an error if the result cannot be serialized, which does not happen for the existing types.
    pub fn shown<T: Human + Serialize>(&self, result: &T) -> Result<Shown> {
        Shown::of(self.style, result)
    }
}

/// Parses a version that the caller typed.
///
/// # Errors
/// Returns a `Usage` error if it is not a version.
pub fn parse(version: &str) -> Result<Version> {
    version.parse::<Version>().map_err(|e| e.as_kind(Kind::Usage))
}

/// Parses a version that the caller may leave out.
///
/// # Errors
/// Returns a `Usage` error if it is not a version.
pub fn parse_optional(version: Option<&str>) -> Result<Option<Version>> {
    version.map(parse).transpose()
}

/// Returns the command as the user typed it, without the program.
fn command_line(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    in_one_line(&words.join(" "))
}

/// Escapes control characters, so that the caller's words are stored as one line.
fn in_one_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Returns TENURE_ROOT, or `None` if it is unset or empty.
pub fn root_of_environment() -> Option<PathBuf> {
    std::env::var_os("TENURE_ROOT").filter(|root| !root.is_empty()).map(PathBuf::from)
}

/// Returns the user who gives the command, and the user behind sudo.
fn user() -> String {
    let user = process::whoami();
    match std::env::var("SUDO_USER") {
        Ok(behind) if user == "root" && !behind.is_empty() => {
            format!("{user} ({})", in_one_line(&behind))
        }
        _ => user,
    }
}
