//! Other processes on the host: who they are, what they run from, and programs that are run to their end.

mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

use crate::error::{Doing, Error, Result};

pub use run::{Account, End, Program, output_in_memory, run, tail};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The name of its command, as the kernel keeps it.
    pub name: String,
}

/// The id of this process.
#[must_use]
pub fn own_id() -> u32 {
    std::process::id()
}

/// The processes whose executable, working directory or mapped files lie under `dir`, which must be a path
/// without links. Those that this user may not look at are left out.
#[must_use]
pub fn running_from(dir: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own_id() && runs_from(*pid, dir))
        .map(|pid| Process { pid, name: name_of(pid) })
        .collect()
}

fn runs_from(pid: u32, dir: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let leads = |link: &str| fs::read_link(proc.join(link)).is_ok_and(|target| target.starts_with(dir));
    leads("exe") || leads("cwd") || maps(&proc, dir)
}

/// Each line of `maps` ends in the path that is mapped, where there is one.
fn maps(proc: &Path, dir: &Path) -> bool {
    let mapped = |line: &str| line.find('/').is_some_and(|at| Path::new(&line[at..]).starts_with(dir));
    fs::read(proc.join("maps")).is_ok_and(|text| String::from_utf8_lossy(&text).lines().any(mapped))
}

/// Every process with its parent: the one that this user may not look at as well.
#[must_use]
pub fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parent_of(pid)?))
        })
        .collect()
}

/// The process that started this one, as far as that is still there; none for a zombie, which runs nothing.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

/// The paths by which a process shows what it runs from, the surest first: its executable, where it works, and
/// what it has mapped. None of them where this user may not look.
pub fn places_of(pid: u32) -> impl Iterator<Item = PathBuf> {
    let proc = Path::new("/proc").join(pid.to_string());
    let links = ["exe", "cwd"].map(|link| fs::read_link(proc.join(link)).ok());
    let maps =
        std::iter::once_with(move || fs::read(proc.join("maps")).unwrap_or_default()).flat_map(|text| {
            let text = String::from_utf8_lossy(&text).into_owned();
            let mapped = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
            text.lines().filter_map(mapped).collect::<Vec<_>>()
        });
    links.into_iter().flatten().chain(maps)
}

/// Sends a signal.
///
/// # Errors
/// Where there is no such process, or this user may not.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).map_err(|_| Error::failed(format!("there is no process {pid}")))?;
    kill(Pid::from_raw(id), signal).doing(|| format!("cannot send {signal} to process {pid}"))
}

fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "unknown".into(), |n| n.trim_end().to_owned())
}

/// Whether a process of this id is there and not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The name of a user, or the number where it has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// The name of the user that this process acts for.
#[must_use]
pub fn whoami() -> String {
    user_name(Uid::current().as_raw())
}

/// Set once a signal asks this process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the first SIGINT, SIGTERM or SIGHUP is noted instead of ending the process, so that what
    /// was begun is taken back; the second one ends it.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn listen() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
        // A limit on the size of files is to be an error that is turned around, not the end.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).doing(|| "cannot listen for signals")?;
        let noted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // This order matters: the flag is looked at before it is set.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&noted))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&noted)))
                .doing(|| "cannot listen for signals")?;
        }
        Ok(Self(noted))
    }

    /// Whether one came.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
