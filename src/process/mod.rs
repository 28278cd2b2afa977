//! Inspects other processes on the host, and runs programs to their end.

mod account;
mod run;
mod sockets;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};

use crate::error::{Context, Error, Kind, Result};

pub use account::{Account, user_name, whoami};
pub use run::{Program, ProgramEnd, ask, detach, end_all, kill_leftover_hooks, output_in_memory, run, tail};
pub use sockets::{Address, Listeners};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// The command name, as the kernel keeps it.
    pub name: String,
}

/// Returns the id of this process.
#[must_use]
pub fn own_id() -> u32 {
    std::process::id()
}

/// Marks every descriptor except 0, 1 and 2 close-on-exec, so that no program started by this process inherits a
/// descriptor of the caller. Otherwise a guard or a daemon would keep a lock of the caller for its whole life. Every
/// descriptor that this crate opens is close-on-exec already.
pub fn keep_descriptors() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

/// Returns the other processes whose executable, working directory or mapped files lie under `dir`, a path without
/// symlinks. Processes that this user may not inspect are left out.
#[must_use]
pub fn running_from(dir: &Path) -> Vec<Process> {
    ids()
        .filter(|pid| *pid != own_id() && runs_from(*pid, dir))
        .map(|pid| Process { pid, name: name_of(pid) })
        .collect()
}

/// Returns the ids of all processes, including those that this user may not inspect.
pub fn ids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn runs_from(pid: u32, dir: &Path) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let leads = |link: &str| fs::read_link(proc.join(link)).is_ok_and(|target| target.starts_with(dir));
    leads("exe") || leads("cwd") || mapped_files(&proc).iter().any(|file| file.starts_with(dir))
}

/// Returns the files that a process maps. A line of `maps` ends with the path of the file, if there is one.
fn mapped_files(proc: &Path) -> Vec<PathBuf> {
    let text = fs::read(proc.join("maps")).unwrap_or_default();
    let file = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
    String::from_utf8_lossy(&text).lines().filter_map(file).collect()
}

/// Returns a process and all its descendants that are alive.
#[must_use]
pub fn family_of(pid: u32) -> BTreeSet<u32> {
    let (mut family, mut next) = (BTreeSet::new(), vec![pid]);
    while let Some(pid) = next.pop() {
        if is_alive(pid) && family.insert(pid) {
            next.extend(children_of(pid));
        }
    }
    family
}

/// Returns the children of all threads of a process.
fn children_of(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let started = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children"));
    let lists: Vec<Option<String>> = threads.map(|thread| started(thread).ok()).collect();
    match lists.into_iter().collect::<Option<Vec<String>>>() {
        Some(lists) => {
            lists.iter().flat_map(|l| l.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
        }
        // Some kernels are built without these lists.
        None => ids().filter(|child| stat(*child).is_some_and(|stat| stat.parent == pid)).collect(),
    }
}

/// Returns the paths that show what a process runs from, the most reliable first: executable, working directory,
/// arguments, mapped files. Paths that this user may not read are left out.
pub fn places_of(pid: u32) -> impl Iterator<Item = PathBuf> {
    let proc = Path::new("/proc").join(pid.to_string());
    let mapped = std::iter::once_with(move || mapped_files(&proc)).flatten();
    signs_of(pid).chain(mapped)
}

/// Returns the paths of [`places_of`] without the mapped files, which take long to read.
pub fn signs_of(pid: u32) -> impl Iterator<Item = PathBuf> {
    let proc = Path::new("/proc").join(pid.to_string());
    let cwd = fs::read_link(proc.join("cwd")).ok();
    let inside = cwd.clone();
    let arguments = std::iter::once_with(move || fs::read(proc.join("cmdline")).unwrap_or_default())
        .flat_map(move |words| {
            let words = String::from_utf8_lossy(&words).into_owned();
            let paths = words.split('\0').filter_map(|word| path_in(word, inside.as_deref()));
            paths.collect::<Vec<_>>()
        });
    executable_of(pid).into_iter().chain(cwd).chain(arguments)
}

/// Returns the path in an argument such as `--config=/etc/app.conf`. A relative path is relative to `dir`.
fn path_in(argument: &str, dir: Option<&Path>) -> Option<PathBuf> {
    let value = argument.split_once('=').map_or(argument, |(_, value)| value);
    value.contains('/').then(|| dir.unwrap_or(Path::new("/")).join(value))
}

/// Returns the executable of a process, or `None` if this user may not read it.
#[must_use]
pub fn executable_of(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Returns the processes in a control group and in the groups below it. `group` is the path that the manager reports.
#[must_use]
pub fn in_control_group(group: &str) -> Vec<u32> {
    let hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
    let places = hierarchies.map(|hierarchy| Path::new(hierarchy).join(group.trim_start_matches('/')));
    if let Some(place) = places.iter().find(|place| place.join("cgroup.procs").exists()) {
        return in_groups_below(place);
    }
    // If the group is not in a mounted hierarchy, search the groups that each process reports.
    let is_below = |path: &str| path.strip_prefix(group).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    ids().filter(|pid| control_groups_of(*pid).iter().any(|path| is_below(path))).collect()
}

fn in_groups_below(place: &Path) -> Vec<u32> {
    let text = fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<u32> = text.lines().filter_map(|id| id.parse().ok()).filter(|pid| *pid != 0).collect();
    for below in fs::read_dir(place).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(in_groups_below(&below.path()));
        }
    }
    found
}

/// Returns the paths of the control groups of a process, one for each hierarchy.
fn control_groups_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2).map(str::to_owned)).collect()
}

/// Returns the process with the id `pid` in another pid namespace, among the processes that this user may inspect and
/// `is_wanted` accepts. Returns `None` if there is not exactly one.
#[must_use]
pub fn in_other_namespace(pid: u32, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
    let called = |own: &u32| {
        let ids = ids_in_status(*own, "NSpid:").unwrap_or_default();
        ids.len() > 1 && ids.last() == Some(&pid)
    };
    let mut found = ids().filter(called).filter(|own| is_wanted(*own));
    found.next().filter(|_| found.next().is_none())
}

/// Returns the users besides root that may signal a process: its real and saved user (kill(2)). `None` if it is gone.
#[must_use]
pub fn users_of(pid: u32) -> Option<[u32; 2]> {
    let uids = ids_in_status(pid, "Uid:")?;
    Some([*uids.first()?, *uids.get(2)?])
}

/// Returns the numbers in a line of /proc/PID/status that begins with `key`.
fn ids_in_status(pid: u32, key: &str) -> Option<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// Sends a signal to a process.
///
/// # Errors
/// Returns an error if the process does not exist, or if this user may not signal it.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).map_err(|_| Error::failed(format!("the process {pid} does not exist")))?;
    kill(Pid::from_raw(id), signal).context(|| format!("cannot send {signal} to process {pid}"))
}

/// Returns the command name of a process, as the kernel keeps it, or `unknown`.
#[must_use]
pub fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "unknown".into(), |n| n.trim_end().to_owned())
}

/// Returns whether a process with this id exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some()
}

/// The identity of a process, which distinguishes it from a later process with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pid: u32,
    /// The start time, in clock ticks since boot.
    born: u64,
}

impl Identity {
    /// Returns the identity of this process.
    #[must_use]
    pub fn own() -> Self {
        let pid = own_id();
        Self { pid, born: stat(pid).map_or(0, |stat| stat.born) }
    }

    /// Returns the identity of the process with this id, or `None` if there is none or it is a zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, born: stat.born })
    }

    /// Returns whether this process still exists and is not a zombie.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.born == self.born)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pid, self.born)
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text
            .split_once(':')
            .and_then(|(pid, born)| Some(Self { pid: pid.parse().ok()?, born: born.parse().ok()? }));
        parsed.ok_or_else(|| Error::new(Kind::Usage, format!("{text:?} names no process: it is PID:START")))
    }
}

/// The fields of proc_pid_stat(5) that this module uses.
struct Stat {
    parent: u32,
    group: u32,
    session: u32,
    born: u64,
}

/// Returns the fields of a process; `None` for a zombie, which runs nothing.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    let is_zombie = matches!(fields.first(), Some(&"Z" | &"X"));
    (!is_zombie).then_some(Stat {
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        born: fields.get(19)?.parse().ok()?,
    })
}

/// Returns whether any process of this group runs. Zombies do not count: an init process that is not a service
/// manager may take long to reap them.
fn is_group_alive(leader: u32) -> bool {
    ids().filter_map(stat).any(|stat| stat.group == leader)
}

/// Returns whether a transaction started a process, according to the environment that the process started with.
fn is_of(pid: u32, transaction: &str) -> bool {
    let told = format!("TENURE_TRANSACTION={transaction}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == told.as_bytes())
}

/// Returns the processes that a transaction started and that listen.
#[must_use]
pub fn listeners_of_transaction(transaction: &str) -> Vec<u32> {
    let mut listeners = Listeners::default();
    let started: Vec<u32> = ids().filter(|pid| is_of(*pid, transaction)).collect();
    started.into_iter().filter(|pid| !listeners.of(*pid).is_empty()).collect()
}

/// Returns a path to the program of this process: its own path, even if a package replaced the file, or
/// `/proc/PID/exe` if the file was removed. The latter works as long as this process exists.
///
/// # Errors
/// Returns an error if the system does not report the path.
pub fn own_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context(|| "cannot determine the program of this process")?;
    let replaced = own.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    let files = [Some(own), replaced].into_iter().flatten();
    let mut runnable = files.filter(|file| access(file, AccessFlags::X_OK).is_ok());
    Ok(runnable.next().unwrap_or_else(|| PathBuf::from(format!("/proc/{}/exe", own_id()))))
}

/// Leaves the terminal and the process group of the caller.
///
/// # Errors
/// Returns an error if this process leads a process group, which is then its own already.
pub fn leave_session() -> Result<()> {
    nix::unistd::setsid().map(drop).context(|| "cannot start a session")
}

/// A flag that is set when a signal asks this process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Returns a flag that the first SIGINT, SIGTERM or SIGHUP sets instead of ending the process, so that the
    /// command can roll back. The second signal ends the process.
    ///
    /// # Errors
    /// Returns an error if a signal handler cannot be installed.
    pub fn listen() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
        // Exceeding a file size limit must fail a write, which can be rolled back, not end the process.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).context(|| "cannot listen for signals")?;
        let noted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // The order matters: the first handler tests the flag before the second one sets it.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&noted))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&noted)))
                .context(|| "cannot listen for signals")?;
        }
        Ok(Self(noted))
    }

    /// Returns whether a signal arrived.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
