//! Starts processes that outlive their command, its terminal and its cgroup: the guard of a root, which recovers
//! interrupted commands and ends trials unattended, and a data migration.

use std::path::Path;
use std::time::Duration;

use crate::error::{Context, Result};
use crate::platform;
use crate::process;
use crate::root::{Root, Trial};
use crate::settings::Manager;

/// How long systemd may take to start a unit.
const SYSTEMD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long after the deadline the timer starts a guard. A guard that still runs has ended the trial by then.
const DEADLINE_DELAY: Duration = Duration::from_secs(1);

/// The properties by which systemd restarts a killed guard.
const RESTARTS: &[&str] = &["Restart=on-abnormal", "RestartSec=100ms", "StartLimitIntervalSec=0"];

/// A transient systemd unit to start.
struct Unit<'a> {
    name: String,
    description: &'a str,
    properties: &'a [&'a str],
    /// The delay, by a timer of the same name; `None` starts the unit at once.
    after: Option<Duration>,
}

/// Starts a guard that stays while the process `ordered_by` is alive, a transaction is open, or a trial has a
/// deadline. Under systemd, the guard is a unit of its own and is restarted if it is killed. Elsewhere, two processes
/// in sessions of their own stand in for each other.
///
/// # Errors
/// Returns an error if the guard cannot be started.
pub fn guard(root: &Root, transaction: &str, ordered_by: process::Identity) -> Result<()> {
    let words = words(root, &["guard", "--for", &ordered_by.to_string()]);
    let context = || format!("cannot start the guard of {}", root.path().display());
    let program = process::own_program().context(context)?;
    if is_under_systemd(root) {
        let unit = Unit {
            name: format!("tenure-guard-{transaction}"),
            description: "Guard of a release on its way or on trial",
            properties: RESTARTS,
            after: None,
        };
        unit.start(&program, &words).context(context)
    } else {
        (0..2).try_for_each(|_| process::detach(&program, &words)).context(context)
    }
}

/// Under systemd, starts a timer that starts a guard shortly after the deadline of a trial. The deadline then holds
/// even if every guard was stopped. Does nothing without systemd.
///
/// # Errors
/// Returns an error if the timer cannot be started.
pub fn deadline(root: &Root, trial: &Trial) -> Result<()> {
    if !is_under_systemd(root) {
        return Ok(());
    }
    let context = || format!("cannot start the timer for the deadline of {}", trial.version);
    let words = words(root, &["guard", "--for", &process::Identity::own().to_string()]);
    let unit = Unit {
        name: timer(&trial.transaction),
        description: "Deadline of a release on trial",
        properties: RESTARTS,
        after: Some(trial.left() + DEADLINE_DELAY),
    };
    unit.start(&process::own_program().context(context)?, &words).context(context)
}

/// Stops the timer of a trial that has ended. A timer that is left behind starts a guard that finds nothing to do.
pub fn stop_deadline(root: &Root, transaction: &str) {
    if is_under_systemd(root) {
        let words = ["--quiet", "stop", "--"].map(str::to_owned).into_iter();
        let words: Vec<String> = words.chain([format!("{}.timer", timer(transaction))]).collect();
        // This fails if the timer has fired or was stopped by hand. Nothing is left to stop then.
        let _ = process::ask(Path::new("systemctl"), &words, SYSTEMD_TIMEOUT);
    }
}

fn timer(transaction: &str) -> String {
    format!("tenure-deadline-{transaction}")
}

/// Starts another guard that can replace this one. Does nothing under systemd, which restarts guards itself.
///
/// # Errors
/// Returns an error if the guard cannot be started.
pub fn stand_in(root: &Root, ordered_by: process::Identity) -> Result<()> {
    if is_under_systemd(root) {
        return Ok(());
    }
    process::detach(&process::own_program()?, &words(root, &["guard", "--for", &ordered_by.to_string()]))
}

/// Starts the migration that is recorded under this id: under systemd as a unit of its own, elsewhere as a process in
/// a session of its own. A killed migration is not restarted.
///
/// # Errors
/// Returns an error if the migration cannot be started.
pub fn migration(root: &Root, id: &str) -> Result<()> {
    let context = || format!("cannot start the migration of the data of {}", root.path().display());
    let program = process::own_program().context(context)?;
    let words = words(root, &["migrator", "--for", id]);
    let (name, description) = (format!("tenure-migrate-{id}"), "Migration of data");
    let unit = Unit { name, description, properties: &[], after: None };
    let started = match is_under_systemd(root) {
        true => unit.start(&program, &words),
        false => process::detach(&program, &words),
    };
    started.context(context)
}

fn is_under_systemd(root: &Root) -> bool {
    matches!(root.settings().service.manager, Some(Manager::Systemd(_))) && platform::is_under_systemd()
}

fn words(root: &Root, command: &[&str]) -> Vec<String> {
    let root = root.path().display().to_string();
    ["--root", &root].iter().chain(command).map(|word| (*word).to_owned()).collect()
}

impl Unit<'_> {
    fn start(&self, program: &Path, words: &[String]) -> Result<()> {
        let mut arguments: Vec<String> =
            ["--quiet", "--collect", "--no-ask-password"].map(str::to_owned).into();
        arguments.push(format!("--unit={}", self.name));
        arguments.push(format!("--description={}", self.description));
        arguments.extend(self.properties.iter().map(|property| format!("--property={property}")));
        if let Some(after) = self.after {
            arguments.push(format!("--on-active={}ms", after.as_millis()));
            arguments.push("--timer-property=AccuracySec=100ms".to_owned());
        }
        arguments.extend(["--".to_owned(), program.display().to_string()]);
        arguments.extend_from_slice(words);
        process::ask(Path::new("systemd-run"), &arguments, SYSTEMD_TIMEOUT)
            .map(drop)
            .context(|| "systemd-run failed")
    }
}
