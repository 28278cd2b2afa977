//! The interface to a service manager, and the programs that a manager runs.

use std::path::Path;
use std::time::Duration;

use crate::error::{Context, Result};
use crate::privilege;
use crate::process::{self, Account, Program};
use crate::progress::Progress;

/// The state of a service according to its manager.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// Whether the service is up or starting.
    pub up: bool,
    /// The end of the service; `None` if it runs. Also set if its main process ended and is about to be restarted.
    pub end: Option<End>,
    /// The main process; `None` if the manager does not know it.
    pub main: Option<u32>,
    /// The control group of the service; `None` if the manager keeps none.
    pub group: Option<String>,
}

/// A sign that a service has ended, with the description.
#[derive(Clone, Debug)]
pub enum End {
    /// The manager knows that it has ended.
    Final(String),
    /// It seems to have ended. This may be true for a moment only, for example while a pid file is written.
    Apparent(String),
    /// The manager refuses to say, although a process runs: a start script may run for a moment before it executes the
    /// service.
    Refused(String),
}

impl End {
    /// Returns how the service ended.
    pub fn how(&self) -> &str {
        match self {
            Self::Final(how) | Self::Apparent(how) | Self::Refused(how) => how,
        }
    }
}

/// A command to a manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Start the service, which does not run.
    Start,
    /// Stop the service.
    Stop,
    /// Move the service to the release that `current` points to.
    Reload,
}

impl Verb {
    /// Returns the word for the command, which all managers share.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload => "reload",
        }
    }
}

/// A manager that starts and stops a service. Its answers are not relied on for long: the processes show which
/// release runs.
pub trait ServiceManager {
    /// Returns the state of the service.
    ///
    /// # Errors
    /// Returns an error if the manager does not know the service or does not answer.
    fn condition(&self, tools: &Tools<'_>) -> Result<Condition>;

    /// Stops the service if it runs, and starts it. Calls `clear` before the start, as late as possible.
    ///
    /// # Errors
    /// Returns an error if the manager reports a failure.
    fn restart(&self, tools: &Tools<'_>, clear: &dyn Fn()) -> Result<()>;

    /// Gives a command to the manager.
    ///
    /// # Errors
    /// Returns an error if the manager reports a failure.
    fn order(&self, tools: &Tools<'_>, verb: Verb) -> Result<()>;
}

/// The context in which a manager runs its programs.
pub struct Tools<'a> {
    /// The working directory.
    pub dir: &'a Path,
    /// The transaction of the programs, which identifies them if they outlive this process.
    pub transaction: Option<&'a str>,
    /// The time limit.
    pub within: Duration,
    /// Ends the programs on interruption.
    pub progress: &'a dyn Progress,
}

/// The output of a manager's program, and its result.
pub struct Answer {
    pub said: String,
    pub ended: Result<()>,
}

impl Answer {
    pub fn good(self, path: &Path, arguments: &[&str]) -> Result<String> {
        let Self { said, ended } = self;
        ended.map(|()| said).context(|| format!("`{} {}` failed", path.display(), arguments.join(" ")))
    }
}

impl Tools<'_> {
    /// Runs a program of the host as the user of this process.
    pub fn ask(&self, path: &Path, arguments: &[&str]) -> Result<Answer> {
        if path.is_absolute() {
            privilege::check_program(path)?;
        }
        self.ask_as(None, path, arguments)
    }

    /// Runs a program as `account`, or as the user of this process if there is none.
    pub fn ask_as(&self, account: Option<&Account>, path: &Path, arguments: &[&str]) -> Result<Answer> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let output = process::output_in_memory()?;
        let (dir, within) = (self.dir, self.within);
        let told: Vec<_> =
            self.transaction.map(|id| ("TENURE_TRANSACTION", id.to_owned())).into_iter().collect();
        let program = Program {
            path,
            arguments: &arguments,
            dir,
            environment: &told,
            account,
            within,
            output: &output,
        };
        let ended = process::run(&program, self.progress)?.good_or_said(within, &output);
        Ok(Answer { said: process::tail(&output), ended })
    }

    /// Runs a program of the host and returns its output, or an error if the program fails.
    pub fn order(&self, path: &Path, arguments: &[&str]) -> Result<String> {
        self.ask(path, arguments)?.good(path, arguments)
    }
}
