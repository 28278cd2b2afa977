//! Other processes on the host: who they are, what they run from, and programs that are run to their end.

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
use nix::unistd::{AccessFlags, Pid, Uid, User, access};

use crate::error::{Context, Error, Kind, Result};

pub use account::Account;
pub use run::{Program, ProgramEnd, ask, detach, end_all, output_in_memory, run, tail};
pub use sockets::{Address, Listeners};

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

/// Marks every descriptor but 0, 1 and 2 close-on-exec, so that no program that this process starts inherits a
/// descriptor of its caller: a lock that the caller holds would stay held for as long as a guard or a daemon lives.
/// Everything that this crate opens is close-on-exec already.
pub fn keep_descriptors() {
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
}

/// The processes whose executable, working directory or mapped files lie under `dir`, which must be a path
/// without links. Those that this user may not look at are left out.
#[must_use]
pub fn running_from(dir: &Path) -> Vec<Process> {
    ids()
        .filter(|pid| *pid != own_id() && runs_from(*pid, dir))
        .map(|pid| Process { pid, name: name_of(pid) })
        .collect()
}

/// The ids of all processes, those that this user may not look at as well.
pub fn ids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
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

/// A process and all that descend from it and live.
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

/// The processes that the threads of this one have started.
fn children_of(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let started = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children"));
    let lists: Vec<Option<String>> = threads.map(|thread| started(thread).ok()).collect();
    match lists.into_iter().collect::<Option<Vec<String>>>() {
        Some(lists) => {
            lists.iter().flat_map(|l| l.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
        }
        // Few kernels keep no such lists.
        None => ids().filter(|child| parent_of(*child) == Some(pid)).collect(),
    }
}

/// The process that started this one; none for a zombie, which runs nothing.
fn parent_of(pid: u32) -> Option<u32> {
    stat(pid).filter(|stat| !stat.is_zombie).map(|stat| stat.parent)
}

/// The paths by which a process shows what it runs from, the surest first: its executable, its working directory, its
/// arguments, and the files that it has mapped. None of them where this user may not look.
pub fn places_of(pid: u32) -> impl Iterator<Item = PathBuf> {
    let proc = Path::new("/proc").join(pid.to_string());
    let maps =
        std::iter::once_with(move || fs::read(proc.join("maps")).unwrap_or_default()).flat_map(|text| {
            let text = String::from_utf8_lossy(&text).into_owned();
            let mapped = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..]));
            text.lines().filter_map(mapped).collect::<Vec<_>>()
        });
    signs_of(pid).chain(maps)
}

/// As [`places_of`], without the mapped files, which take long to read.
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

/// The path that an argument names, as `--config=/etc/app.conf` does; relative ones are those in `dir`.
fn path_in(argument: &str, dir: Option<&Path>) -> Option<PathBuf> {
    let value = argument.split_once('=').map_or(argument, |(_, value)| value);
    value.contains('/').then(|| dir.unwrap_or(Path::new("/")).join(value))
}

/// The executable of a process; none where this user may not look.
#[must_use]
pub fn executable_of(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The processes in a control group and in those below it, by its path as its manager names it.
#[must_use]
pub fn in_control_group(group: &str) -> Vec<u32> {
    let hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
    let places = hierarchies.map(|hierarchy| Path::new(hierarchy).join(group.trim_start_matches('/')));
    if let Some(place) = places.iter().find(|place| place.join("cgroup.procs").exists()) {
        return in_groups_below(place);
    }
    // Where the hierarchy is not mounted, each process tells by itself.
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

/// The paths of the control groups that a process is in, one for each hierarchy.
fn control_groups_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2).map(str::to_owned)).collect()
}

/// The process that another pid namespace calls `pid`, among those that this user may look at: it is the one of those
/// that are asked for. None where there is no such process, or more than one.
#[must_use]
pub fn in_other_namespace(pid: u32, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
    let called = |own: &u32| {
        let status = fs::read_to_string(format!("/proc/{own}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        ids.len() > 1 && ids.last().and_then(|id| id.parse().ok()) == Some(pid)
    };
    let mut found = ids().filter(called).filter(|own| is_wanted(*own));
    found.next().filter(|_| found.next().is_none())
}

/// The program that a process executes; none where this user may not look.
#[must_use]
pub fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The users who may signal a process beside root: its real and its saved user (kill(2)). None where it is gone.
#[must_use]
pub fn users_of(pid: u32) -> Option<[u32; 2]> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uids: Vec<u32> = line.split_whitespace().filter_map(|uid| uid.parse().ok()).collect();
    Some([*uids.first()?, *uids.get(2)?])
}

/// Sends a signal.
///
/// # Errors
/// Where there is no such process, or this user may not.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).map_err(|_| Error::failed(format!("there is no process {pid}")))?;
    kill(Pid::from_raw(id), signal).context(|| format!("cannot send {signal} to process {pid}"))
}

/// The name of a process's command, as the kernel keeps it.
#[must_use]
pub fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "unknown".into(), |n| n.trim_end().to_owned())
}

/// Whether a process of this id is there and not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !stat.is_zombie)
}

/// A process, told apart from a later one of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pid: u32,
    /// When it was started, in ticks since boot.
    born: u64,
}

impl Identity {
    /// This process.
    #[must_use]
    pub fn own() -> Self {
        let pid = own_id();
        Self { pid, born: stat(pid).map_or(0, |stat| stat.born) }
    }

    /// The process of this id that is there now; none where there is none, or where it is a zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).filter(|stat| !stat.is_zombie).map(|stat| Self { pid, born: stat.born })
    }

    /// Whether it is still there and not a zombie.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.born == self.born && !stat.is_zombie)
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

/// What the kernel says of a process (proc_pid_stat(5)).
struct Stat {
    is_zombie: bool,
    parent: u32,
    group: u32,
    session: u32,
    born: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some(Stat {
        is_zombie: matches!(fields.first(), Some(&"Z" | &"X")),
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        born: fields.get(19)?.parse().ok()?,
    })
}

/// Whether any process of this group runs. Those that have ended may wait long for a first process that takes note of it,
/// where that is no service manager.
fn is_group_alive(leader: u32) -> bool {
    ids().filter_map(stat).any(|stat| stat.group == leader && !stat.is_zombie)
}

/// Ends the programs that a transaction was running when its Tenure was killed: else they would go on with what is
/// being taken back. What such a program left behind on purpose, a daemon in a session of its own, lives on.
pub fn kill_leftover_hooks(transaction: &str) {
    let leads = |pid: u32| stat(pid).is_some_and(|s| s.group == pid && s.session != pid && !s.is_zombie);
    let orphans: Vec<u32> = ids().filter(|pid| leads(*pid) && is_of(*pid, transaction)).collect();
    orphans.into_iter().for_each(|pid| run::end_group(pid, &mut || {}));
}

/// Whether a process was started by a transaction, by what its environment was then.
fn is_of(pid: u32, transaction: &str) -> bool {
    let told = format!("TENURE_TRANSACTION={transaction}");
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == told.as_bytes())
}

/// The processes that a transaction has started and that listen.
#[must_use]
pub fn listeners_of_transaction(transaction: &str) -> Vec<u32> {
    let mut listeners = Listeners::default();
    let started: Vec<u32> = ids().filter(|pid| is_of(*pid, transaction)).collect();
    started.into_iter().filter(|pid| !listeners.of(*pid).is_empty()).collect()
}

/// A file of the program that this process runs: where a package has replaced it meanwhile, the one in its place; where
/// it was removed, what the kernel still has of it for as long as this process is there.
///
/// # Errors
/// Where the system does not tell.
pub fn own_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context(|| "cannot determine the program of this process")?;
    let replaced = own.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    let files = [Some(own), replaced].into_iter().flatten();
    let mut runnable = files.filter(|file| access(file, AccessFlags::X_OK).is_ok());
    Ok(runnable.next().unwrap_or_else(|| PathBuf::from(format!("/proc/{}/exe", own_id()))))
}

/// Leaves the terminal and the group of whoever started this process.
///
/// # Errors
/// Where it leads a group: then it is its own already.
pub fn leave_session() -> Result<()> {
    nix::unistd::setsid().map(drop).context(|| "cannot start a session")
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
        signal_hook::flag::register(SIGXFSZ, Arc::default()).context(|| "cannot listen for signals")?;
        let noted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // This order matters: the flag is looked at before it is set.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&noted))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&noted)))
                .context(|| "cannot listen for signals")?;
        }
        Ok(Self(noted))
    }

    /// Whether one came.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
