//! Starts the guard of a root: a process that outlives the command that starts it, its terminal and its cgroup, and
//! that takes back what is cut short and ends what is on trial, with nobody there.

use std::path::Path;
use std::time::Duration;

use crate::error::{Doing, Error, Result};
use crate::process::{self, Program};
use crate::root::Root;
use crate::settings::Manager;
use crate::watch::Unwatched;

/// How long systemd may take to start it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a guard that stays for as long as the process that is named is there, a transaction is open, or a trial
/// has an end. Under systemd it is a unit of its own, which is started again where it is killed; elsewhere two
/// processes of a session of their own, each of which stands in for the other.
///
/// # Errors
/// Where it cannot be started.
pub fn guard(root: &Root, transaction: &str, ordered_by: process::Identity) -> Result<()> {
    let words: Vec<String> =
        ["--root", &root.path().display().to_string(), "guard", "--for", &ordered_by.to_string()]
            .map(str::to_owned)
            .into();
    let doing = || format!("cannot start the guard of {}", root.path().display());
    let program = process::own_program().doing(doing)?;
    match root.settings().service.manager {
        Some(Manager::Systemd(_)) => unit(&program, &words, transaction).doing(doing),
        _ => (0..2).try_for_each(|_| process::detach(&program, &words)).doing(doing),
    }
}

/// One more that stands in for this one, where no manager does.
///
/// # Errors
/// Where it cannot be started.
pub fn stand_in(root: &Root, ordered_by: process::Identity) -> Result<()> {
    if matches!(root.settings().service.manager, Some(Manager::Systemd(_))) {
        return Ok(());
    }
    let root = root.path().display().to_string();
    let words = ["--root", &root, "guard", "--for", &ordered_by.to_string()].map(str::to_owned);
    process::detach(&process::own_program()?, &words)
}

fn unit(program: &Path, words: &[String], transaction: &str) -> Result<()> {
    let mut arguments: Vec<String> = [
        "--quiet",
        "--collect",
        "--no-ask-password",
        &format!("--unit=tenure-guard-{transaction}"),
        "--description=Guard of a release on its way or on trial",
        "--property=Restart=on-abnormal",
        "--property=RestartSec=100ms",
        "--property=StartLimitIntervalSec=0",
        "--",
        &program.display().to_string(),
    ]
    .map(str::to_owned)
    .into();
    arguments.extend_from_slice(words);
    let output = process::output_in_memory()?;
    let program = Program {
        path: Path::new("systemd-run"),
        arguments: &arguments,
        dir: Path::new("/"),
        environment: &[],
        account: None,
        within: PATIENCE,
        output: &output,
    };
    let ended = process::run(&program, &Unwatched)?.good(PATIENCE);
    ended.map_err(|e| e.because(Error::failed(process::tail(&output)))).doing(|| "systemd-run failed")
}
