//! Runs a program to its end, with a time limit, in its own process group, with its output in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::clock;
use crate::error::{Context, Error, Result};
use crate::progress::{NoProgress, Progress};

use super::{Account, Identity, ids, is_group_alive, is_of, stat};

/// The interval at which a process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long a process may take to end after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// The directories that are searched for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of the end of an output is shown, in bytes.
const TAIL: u64 = 2048;

/// A program to run.
pub struct Program<'a> {
    /// The path of the program, or a name that is looked up in the usual directories.
    pub path: &'a Path,
    /// The arguments.
    pub arguments: &'a [String],
    /// The working directory.
    pub dir: &'a Path,
    /// The environment variables besides `PATH` and `LANG`.
    pub environment: &'a [(&'static str, String)],
    /// The user that the program runs as, or `None` for the user of this process.
    pub account: Option<&'a Account>,
    /// The time limit.
    pub within: Duration,
    /// The file for standard output and standard error.
    pub output: &'a File,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramEnd {
    /// The program ended by itself.
    Exited(ExitStatus),
    /// The program exceeded its time limit, and its whole process group was ended.
    Late,
}

impl ProgramEnd {
    /// Checks that the program succeeded.
    ///
    /// # Errors
    /// Returns a `Failed` error with the exit status, the signal or the time limit if the program did not succeed.
    pub fn good(self, within: Duration) -> Result<()> {
        match self {
            Self::Exited(status) if status.success() => Ok(()),
            Self::Exited(status) => Err(Error::failed(match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with exit status {code}"),
                (_, Some(signal)) => format!("signal {signal} ended it"),
                _ => status.to_string(),
            })),
            Self::Late => Err(Error::failed(format!(
                "it did not finish within {} and was killed",
                humantime::format_duration(within)
            ))),
        }
    }

    /// Checks that the program succeeded, as [`good`](Self::good) does. The error has the end of the output as its
    /// cause, if there is any output.
    ///
    /// # Errors
    /// Returns a `Failed` error if the program did not succeed.
    pub fn good_or_said(self, within: Duration, output: &File) -> Result<()> {
        self.good(within).map_err(|why| match tail(output) {
            said if said.is_empty() => why,
            said => why.because(Error::failed(said)),
        })
    }
}

/// Runs a program of the host as this user, without interruption, and returns the end of its output.
///
/// # Errors
/// Returns an error if the program cannot be started or does not succeed, with the end of its output.
pub fn ask(path: &Path, arguments: &[String], within: Duration) -> Result<String> {
    let output = output_in_memory()?;
    let (dir, environment, account) = (Path::new("/"), &[], None);
    let program = Program { path, arguments, dir, environment, account, within, output: &output };
    run(&program, &NoProgress)?.good_or_said(within, &output)?;
    Ok(tail(&output))
}

/// Runs a program to its end. Processes that it leaves behind, such as a daemon, keep running. After the time limit,
/// the whole process group is ended.
///
/// # Errors
/// Returns an error if the program cannot be started, or on interruption, which also ends the process group.
pub fn run(program: &Program<'_>, progress: &dyn Progress) -> Result<ProgramEnd> {
    let mut child = start(program)?;
    let ended = clock::poll_until(program.within, POLL_INTERVAL, |_| {
        let status = child.try_wait().context(|| "cannot wait for a program")?;
        if status.is_none() {
            progress.go_on()?;
        }
        Ok(status)
    });
    if let Ok(Some(status)) = ended {
        return Ok(ProgramEnd::Exited(status));
    }
    end(&mut child);
    ended.map(|_| ProgramEnd::Late)
}

fn start(program: &Program<'_>) -> Result<Child> {
    let context = || format!("cannot start {}", program.path.display());
    let output = || program.output.try_clone().context(context);
    let mut command = Command::new(program.path);
    command
        .args(program.arguments)
        .current_dir(program.dir)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .envs(program.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(output()?)
        .stderr(output()?)
        .process_group(0);
    match program.account {
        Some(account) => account.start(command),
        None => command.spawn(),
    }
    .context(context)
}

/// Ends the child and its whole process group.
fn end(child: &mut Child) {
    // Reap the child, or its zombie stays in the process group.
    end_group(child.id(), &mut || drop(child.try_wait()));
    let _ = child.wait();
}

/// Ends a process group with SIGTERM, then with SIGKILL after at most `GRACE`.
fn end_group(leader: u32, meanwhile: &mut dyn FnMut()) {
    let Ok(group) = i32::try_from(leader).map(Pid::from_raw) else { return };
    // The group may be gone already.
    let _ = killpg(group, Signal::SIGTERM);
    let _ = clock::poll_until(GRACE, POLL_INTERVAL, |_| {
        meanwhile();
        Ok((!is_group_alive(leader)).then_some(()))
    });
    let _ = killpg(group, Signal::SIGKILL);
}

/// Ends the programs that a transaction was running when its Tenure process was killed. Otherwise they would keep
/// changing what is being rolled back. A daemon that such a program left in its own session keeps running.
pub fn kill_leftover_hooks(transaction: &str) {
    let leads = |pid: u32| stat(pid).is_some_and(|s| s.group == pid && s.session != pid);
    let orphans: Vec<u32> = ids().filter(|pid| leads(*pid) && is_of(*pid, transaction)).collect();
    orphans.into_iter().for_each(|pid| end_group(pid, &mut || {}));
}

/// Ends processes with SIGTERM, and with SIGKILL those that do not end.
pub fn end_all(processes: &[Identity]) {
    let signal = |signal| {
        for process in processes.iter().filter(|process| process.is_alive()) {
            // The process may be gone already.
            let _ = super::signal(process.pid, signal);
        }
    };
    // The wait follows SIGKILL too: the kernel takes a moment to close the files of a killed process.
    for sent in [Signal::SIGTERM, Signal::SIGKILL] {
        signal(sent);
        let is_over = || !processes.iter().any(|process| process.is_alive());
        let _ = clock::poll_until(GRACE, POLL_INTERVAL, |_| Ok(is_over().then_some(())));
    }
}

/// Starts a program without waiting for it. Its standard input, output and error are /dev/null.
///
/// # Errors
/// Returns an error if the program cannot be started.
pub fn detach(program: &Path, arguments: &[String]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").env_clear().env("PATH", PATH);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).context(|| format!("cannot start {}", program.display()))
}

/// Creates a file in memory for the output of a program.
///
/// # Errors
/// Returns an error if there is no memory for the file.
pub fn output_in_memory() -> Result<File> {
    let made = memfd_create("output", MFdFlags::MFD_CLOEXEC);
    made.map(File::from).context(|| "cannot allocate memory for the output of a program")
}

/// Returns the end of an output, with control characters other than newline escaped. Returns an empty string if the
/// output cannot be read.
#[must_use]
pub fn tail(mut output: &File) -> String {
    let length = output.metadata().map_or(0, |meta| meta.len());
    let mut bytes = Vec::new();
    let from = SeekFrom::Start(length.saturating_sub(TAIL));
    let read = output.seek(from).and_then(|_| output.take(TAIL).read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let shown =
        |c: char| if c.is_control() && c != '\n' { c.escape_default().collect() } else { c.to_string() };
    text.trim().chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
        let polled = clock::poll_until(GRACE * 30, POLL_INTERVAL, |_| Ok(condition().then_some(())));
        polled.unwrap().is_some()
    }

    fn shell(script: &str, within: Duration) -> (ProgramEnd, String) {
        let output = output_in_memory().unwrap();
        let arguments = ["-c".to_owned(), script.to_owned()];
        let program = Program {
            path: Path::new("sh"),
            arguments: &arguments,
            dir: Path::new("/"),
            environment: &[("TENURE_ACTION", "upgrade".into())],
            account: None,
            within,
            output: &output,
        };
        (run(&program, &NoProgress).unwrap(), tail(&output))
    }

    #[test]
    fn environment_is_clean_and_output_is_kept() {
        let (end, said) = shell("env | sort | grep -v PWD; echo oops >&2; exit 3", GRACE * 10);
        assert_eq!(end.good(GRACE).unwrap_err().to_string(), "it ended with exit status 3");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "LANG=C.UTF-8");
        assert!(lines.contains(&"TENURE_ACTION=upgrade") && lines.ends_with(&["oops"]), "{said}");
        assert!(!said.contains("CARGO"), "{said}");
    }

    #[test]
    fn timeout_kills_the_process_group() {
        let script = "trap '' TERM; sleep 600 & echo $!; wait; sleep 600";
        let (end, said) = shell(script, Duration::from_millis(200));
        assert_eq!(end, ProgramEnd::Late);
        let child: u32 = said.trim().parse().unwrap();
        assert!(comes_true(|| !super::super::is_alive(child)), "{child} is still alive");
    }

    #[test]
    fn group_of_zombies_is_not_alive() {
        let output = output_in_memory().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "read line"]).process_group(0).stdin(Stdio::piped()).stdout(output);
        let mut child = command.spawn().unwrap();
        assert!(is_group_alive(child.id()));
        drop(child.stdin.take());
        // The child is not reaped yet.
        assert!(comes_true(|| !is_group_alive(child.id())));
        assert!(
            stat(child.id()).is_none() && killpg(Pid::from_raw(child.id().try_into().unwrap()), None).is_ok()
        );
        child.wait().unwrap();
    }

    #[test]
    fn background_process_is_not_awaited() {
        let (end, said) = shell("sleep 30 & echo $!", Duration::from_secs(25));
        assert!(end.good(GRACE).is_ok());
        super::super::signal(said.trim().parse().unwrap(), Signal::SIGKILL).unwrap();
    }

    #[test]
    fn output_tail_is_short_and_escaped() {
        let (_, said) = shell("yes 0123456789 | head -n 1000; printf 'end\\033[2J'", GRACE * 10);
        assert!(said.len() <= 2048 + 8 && said.ends_with("end\\u{1b}[2J"), "{said}");
    }
}
