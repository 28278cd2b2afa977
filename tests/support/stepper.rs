//! Runs a command from one mutating system call to the next, and kills or disturbs it at a chosen call.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::in_shell;

/// The end of a stepped command. The code is -1 if a signal ended the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command exited after this number of mutating system calls, with this exit code.
    Exited { calls: usize, code: i32 },
    /// The command was killed before this system call.
    Killed { before: &'static str },
}

/// The fate of a command before a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    GoOn,
    /// The command gets SIGKILL; the call is not made.
    Die,
    /// The call is not made and returns this error.
    Fail(Errno),
    /// The command gets this signal; the call is made.
    Hear(Signal),
}

impl Fate {
    /// Applies the fate to a tracee that is about to make a call.
    fn befalls(self, pid: Pid, syncs: Syncs, name: &str) {
        match self {
            Self::Fail(error) => skip_call(pid, -(error as i32)),
            _ if syncs == Syncs::Faked && name.contains("sync") => skip_call(pid, 0),
            Self::Hear(signal) => kill(pid, signal).unwrap(),
            _ => {}
        }
    }
}

/// Whether sync calls take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    Real,
    /// fsync and all other sync calls return 0 and do nothing, as on a lying disk.
    Faked,
}

/// Runs the command to its end and counts its mutating system calls.
pub fn count(command: &Command) -> usize {
    match step(command, Syncs::Real, |_, _| Fate::GoOn) {
        Ended::Exited { calls, code: 0 } => calls,
        other => panic!("{command:?}: {other:?}"),
    }
}

/// Runs the command to its end. Returns the numbers of the mutating system calls before which a kill leaves a new
/// state: the first call, and each call after a change on disk. Kills between two opens or fsyncs, for example, leave
/// the same state.
pub fn kill_points(command: &Command) -> Vec<usize> {
    points(command, Stops::Mutations)
}

/// Does the same for [`kill_alone_before`].
pub fn points_alone(command: &Command) -> Vec<usize> {
    points(command, Stops::OwnCalls)
}

fn points(command: &Command, stops: Stops) -> Vec<usize> {
    let (calls, changes) = (Cell::new(0), RefCell::new(vec![0]));
    let noted = |pid| {
        let name = mutating(pid)?;
        calls.set(calls.get() + 1);
        if changing(pid, name) {
            changes.borrow_mut().push(calls.get());
        }
        Some(name)
    };
    let ended = step_of(command, stops, Syncs::Real, noted, |_, _| Fate::GoOn);
    assert_eq!(ended, Ended::Exited { calls: calls.get(), code: 0 }, "{command:?}");
    let changes = changes.into_inner().into_iter();
    changes.map(|call| call + 1).filter(|next| *next <= calls.get()).collect()
}

/// Kills the command with SIGKILL before its `nth` mutating system call, counted from 1.
pub fn kill_before(command: &Command, nth: usize) -> Ended {
    step(command, Syncs::Real, |at, _| if at == nth { Fate::Die } else { Fate::GoOn })
}

/// Does the same, but the processes that the command has started live on.
pub fn kill_alone_before(command: &Command, nth: usize) -> Ended {
    let fate = |at, _: &'static str| if at == nth { Fate::Die } else { Fate::GoOn };
    step_of(command, Stops::OwnCalls, Syncs::Real, mutating, fate)
}

/// The system calls at which a command stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stops {
    /// Before the mutating system calls of the command and its descendants. The kernel filters them, which takes a
    /// tenth of the time.
    Mutations,
    /// Before and after all system calls of the command and its descendants.
    Calls,
    /// Before and after all system calls of the command itself. Its children are not traced. A filter is not
    /// possible, because a filtered call of an untraced process fails.
    OwnCalls,
}

/// Calls `act` before the `nth` mutating system call, and lets the command run to its end.
pub fn disturb_before(command: &Command, nth: usize, mut act: impl FnMut(&'static str)) -> Ended {
    watch(command, Syncs::Real, |at, name| {
        if at == nth {
            act(name);
        }
    })
}

/// Applies a fate to the `nth` mutating system call, and lets the command run to its end. Also returns the name of
/// the call.
pub fn meet(command: &Command, nth: usize, fate: Fate) -> (Ended, &'static str) {
    let mut call = "none";
    let ended = step(command, Syncs::Real, |at, name| {
        call = if at == nth { name } else { call };
        if at == nth { fate } else { Fate::GoOn }
    });
    (ended, call)
}

/// Sends the command a signal before its `nth` mutating system call, and lets it run to its end.
pub fn signal_before(command: &Command, nth: usize, signal: Signal) -> Ended {
    meet(command, nth, Fate::Hear(signal)).0
}

/// Calls `act` before every mutating system call of the command itself; its children are not traced.
pub fn watch_alone(command: &Command, syncs: Syncs, mut act: impl FnMut(usize, &'static str)) -> Ended {
    step_of(command, Stops::OwnCalls, syncs, mutating, |at, name| {
        act(at, name);
        Fate::GoOn
    })
}

/// Calls `act` before every mutating system call.
pub fn watch(command: &Command, syncs: Syncs, mut act: impl FnMut(usize, &'static str)) -> Ended {
    step(command, syncs, |at, name| {
        act(at, name);
        Fate::GoOn
    })
}

/// Calls `act` before the `nth` system call that names a file or gives it away, and lets the command run to its end.
/// Does nothing if there are fewer such calls.
pub fn disturb_naming(command: &Command, nth: usize, mut act: impl FnMut()) -> Ended {
    let naming = |pid| entered(pid).filter(|number| NAMING.contains(number)).map(|_| "naming");
    step_of(command, Stops::Calls, Syncs::Real, naming, |at, _| {
        if at == nth {
            act();
        }
        Fate::GoOn
    })
}

/// Runs the command as on a kernel without `openat2`. Also returns the number of `openat2` calls.
pub fn without_openat2(command: &Command) -> (Ended, usize) {
    let mut asked = 0;
    let openat2 = |pid| entered(pid).filter(|number| *number == libc::SYS_openat2).map(|_| "openat2");
    let ended = step_of(command, Stops::Calls, Syncs::Real, openat2, |at, _| {
        asked = at;
        Fate::Fail(Errno::ENOSYS)
    });
    (ended, asked)
}

/// A mutating system call, and the paths that it names or has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: &'static str,
    /// For a rename the old and the new path, otherwise the path of the descriptor in the first argument.
    pub paths: Vec<PathBuf>,
    /// Whether a rename moves a directory.
    pub moves_dir: bool,
}

/// Runs the command to its end and returns its mutating system calls in order.
pub fn record(command: &Command) -> (Ended, Vec<Call>) {
    let calls = RefCell::new(Vec::new());
    let noted = |pid| {
        let name = mutating(pid)?;
        calls.borrow_mut().push(described(pid, name));
        Some(name)
    };
    let ended = step_of(command, Stops::Mutations, Syncs::Real, noted, |_, _| Fate::GoOn);
    (ended, calls.into_inner())
}

/// Runs the command to its end and returns how many bytes of a file it and its children read.
pub fn bytes_read(command: &Command, file: &Path) -> (Ended, u64) {
    let length = fs::metadata(file).unwrap().len();
    let bytes = Cell::new(0);
    let reading = |pid| {
        let number = entered(pid)?;
        let at = |offset: u64, count: u64| count.min(length.saturating_sub(offset));
        let [fd, _, count, offset] = arguments(pid);
        if number == libc::SYS_pread64
            && fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|to| to == file)
        {
            bytes.set(bytes.get() + at(offset, count));
        }
        assert!(
            number != libc::SYS_read
                || fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|to| to != file)
        );
        Some("any")
    };
    let ended = step_of(command, Stops::Calls, Syncs::Real, reading, |_, _| Fate::GoOn);
    (ended, bytes.get())
}

fn described(pid: Pid, name: &'static str) -> Call {
    let [first, second, third, fourth] = arguments(pid);
    let opened = |fd: u64| fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
    let named = |dir, address| opened(dir).join(text_at(pid, address));
    let paths = match name {
        "renameat" | "renameat2" => vec![named(first, second), named(third, fourth)],
        _ => vec![opened(first)],
    };
    Call { name, moves_dir: paths.len() == 2 && paths[0].is_dir() && !paths[0].is_symlink(), paths }
}

/// Returns the text at an address of a tracee, up to its NUL.
fn text_at(pid: Pid, address: u64) -> String {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut bytes = Vec::new();
    let mut byte = [0];
    while memory.read_at(&mut byte, address + bytes.len() as u64).unwrap_or(0) == 1 && byte[0] != 0 {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn step(command: &Command, syncs: Syncs, decide: impl FnMut(usize, &'static str) -> Fate) -> Ended {
    step_of(command, Stops::Mutations, syncs, mutating, decide)
}

/// Calls `decide` for each system call that `select` names, and applies the fate that it returns.
fn step_of(
    command: &Command,
    stops: Stops,
    syncs: Syncs,
    select: impl Fn(Pid) -> Option<&'static str>,
    mut decide: impl FnMut(usize, &'static str) -> Fate,
) -> Ended {
    let main = start(command, stops);
    let mut tracees = BTreeSet::from([main]);
    let (mut calls, mut code) = (0, -1);
    while !tracees.is_empty() {
        // Wait only for tracees of this thread, because other threads step other commands.
        let status =
            waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap();
        match status {
            WaitStatus::Exited(pid, with) => {
                tracees.remove(&pid);
                code = if pid == main { with } else { code };
            }
            WaitStatus::Signaled(pid, ..) => drop(tracees.remove(&pid)),
            WaitStatus::PtraceSyscall(pid) | WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_SECCOMP) => {
                if let Some(name) = select(pid) {
                    calls += 1;
                    let fate = decide(calls, name);
                    if fate == Fate::Die {
                        return finish(tracees, name);
                    }
                    fate.befalls(pid, syncs, name);
                }
                stops.go_on(pid, None);
            }
            // A new thread or child first reports a stop of its own.
            WaitStatus::PtraceEvent(pid, ..) => {
                tracees.insert(pid);
                stops.go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                let new = tracees.insert(pid);
                stops.go_on(pid, (!new && signal != Signal::SIGSTOP).then_some(signal));
            }
            other => panic!("{other:?}"),
        }
    }
    Ended::Exited { calls, code }
}

/// Skips the system call that a tracee is about to make, and sets its return value.
#[cfg(target_arch = "x86_64")]
fn skip_call(pid: Pid, answer: i32) {
    let regs = ptrace::getregs(pid).unwrap();
    let rax = i64::from(answer).cast_unsigned();
    ptrace::setregs(pid, libc::user_regs_struct { orig_rax: u64::MAX, rax, ..regs }).unwrap();
}

#[cfg(not(target_arch = "x86_64"))]
fn skip_call(_pid: Pid, _answer: i32) {
    panic!("system calls are faked on x86_64 alone");
}

/// Starts a command through a shell that first stops itself, so that the command can be traced from its first call.
fn start(command: &Command, stops: Stops) -> Pid {
    let mut shell = in_shell("kill -STOP $$", command);
    // Open it before the filter applies: without a tracer, the filter fails every open for writing.
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let [stdin, stdout, stderr] = [(); 3].map(|()| null.try_clone().unwrap());
    shell.stdin(stdin).stdout(stdout).stderr(stderr);
    // The tracer waits for the child by its ID.
    #[expect(clippy::zombie_processes, reason = "finish and step wait for every tracee")]
    let child = stops.spawn(shell);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    ptrace::seize(pid, stops.options()).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    until_exec(pid);
    stops.go_on(pid, None);
    pid
}

impl Stops {
    fn options(self) -> Options {
        let children = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
        let all = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACECLONE;
        match self {
            Self::Mutations => all | children | Options::PTRACE_O_TRACESECCOMP,
            Self::Calls => all | children,
            Self::OwnCalls => all,
        }
    }

    /// Starts the command under the filter, in a separate thread, because the filter stays on the thread.
    fn spawn(self, mut command: Command) -> Child {
        let spawn = move || {
            if self == Self::Mutations {
                apply_filter(&FILTER).unwrap();
            }
            command.spawn().unwrap()
        };
        std::thread::spawn(spawn).join().unwrap()
    }

    fn go_on(self, pid: Pid, signal: Option<Signal>) {
        // The tracee may have been killed meanwhile; the next wait reports this.
        let _ = match self {
            Self::Mutations => ptrace::cont(pid, signal),
            Self::Calls | Self::OwnCalls => ptrace::syscall(pid, signal),
        };
    }
}

/// Stops at each system call that may change the disk. For `openat2` only the tracer sees the flags, because they are
/// in memory.
static FILTER: LazyLock<BpfProgram> = LazyLock::new(|| {
    let has = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        let is = SeccompCmpOp::MaskedEq(flag);
        SeccompRule::new(vec![SeccompCondition::new(2, SeccompCmpArgLen::Dword, is, flag).unwrap()]).unwrap()
    };
    let rules = |(number, name): &(libc::c_long, &str)| {
        (*number, if *name == "openat" { WRITES.map(has).to_vec() } else { Vec::new() })
    };
    let rules = CALLS.iter().map(rules).collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), arch).unwrap();
    filter.try_into().unwrap()
});

fn until_exec(pid: Pid) {
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => return,
            WaitStatus::Exited(_, code) => panic!("the shell ended with {code} before it was the command"),
            _ => ptrace::cont(pid, None).unwrap(),
        }
    }
}

/// Kills all tracees and returns once they are gone. A pending system call is not made.
fn finish(mut tracees: BTreeSet<Pid>, before: &'static str) -> Ended {
    // A thread ends with the first thread of its process, which is reported last.
    let end = |pid: Pid| {
        let _ = kill(pid, Signal::SIGKILL);
    };
    tracees.iter().copied().for_each(end);
    while !tracees.is_empty() {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => drop(tracees.remove(&pid)),
            // A new thread or child that is not yet known.
            Ok(status) => {
                if let Some(pid) = status.pid().filter(|pid| tracees.insert(*pid)) {
                    end(pid);
                }
            }
            Err(_) => break,
        }
    }
    Ended::Killed { before }
}

/// Returns the name of the system call that a tracee is about to make, if it may change the disk.
fn mutating(pid: Pid) -> Option<&'static str> {
    let number = entered(pid)?;
    let name = CALLS.iter().find(|(candidate, _)| *candidate == number).map(|(_, name)| *name)?;
    opens(pid, name, &WRITES).then_some(name)
}

/// Returns whether another process can see afterwards that a mutating call was made.
fn changing(pid: Pid, name: &str) -> bool {
    !name.contains("sync") && !["flock", "exit_group"].contains(&name) && opens(pid, name, &MAKES)
}

const MAKES: [libc::c_int; 2] = [libc::O_CREAT, libc::O_TRUNC];
const WRITES: [libc::c_int; 4] = [libc::O_CREAT, libc::O_TRUNC, libc::O_WRONLY, libc::O_RDWR];

/// Returns whether the call that a tracee is about to make has one of these flags, or does not open a file.
fn opens(pid: Pid, name: &str, flags: &[libc::c_int]) -> bool {
    let third = || arguments(pid)[2];
    let found = match name {
        "openat" => third(),
        "openat2" => pointed_to(pid, third()),
        _ => return true,
    };
    flags.iter().any(|flag| found & u64::from(flag.cast_unsigned()) != 0)
}

/// Returns the number of the system call that a tracee is about to make, or `None` after a call.
fn entered(pid: Pid) -> Option<libc::c_long> {
    let before = [libc::PTRACE_SYSCALL_INFO_ENTRY, libc::PTRACE_SYSCALL_INFO_SECCOMP];
    let entry = ptrace::syscall_info(pid).is_ok_and(|info| before.contains(&info.op));
    entry.then(|| number(pid))
}

/// Returns the number at an address of a tracee; for `openat2` the flags, which come first.
fn pointed_to(pid: Pid, address: u64) -> u64 {
    let address = std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap());
    ptrace::read(pid, address).unwrap().cast_unsigned()
}

#[cfg(target_arch = "x86_64")]
fn number(pid: Pid) -> libc::c_long {
    libc::c_long::try_from(ptrace::getregs(pid).unwrap().orig_rax).unwrap_or(-1)
}

/// Returns the first four arguments of the system call.
#[cfg(target_arch = "x86_64")]
fn arguments(pid: Pid) -> [u64; 4] {
    let regs = ptrace::getregs(pid).unwrap();
    [regs.rdi, regs.rsi, regs.rdx, regs.r10]
}

#[cfg(target_arch = "aarch64")]
fn arguments(pid: Pid) -> [u64; 4] {
    let regs = ptrace::getregs(pid).unwrap();
    [regs.regs[0], regs.regs[1], regs.regs[2], regs.regs[3]]
}

#[cfg(target_arch = "aarch64")]
fn number(pid: Pid) -> libc::c_long {
    libc::c_long::try_from(ptrace::getregs(pid).unwrap().regs[8]).unwrap_or(-1)
}

const NAMING: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
];

const CALLS: &[(libc::c_long, &str)] = &[
    (libc::SYS_openat, "openat"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_pwritev, "pwritev"),
    (libc::SYS_pwritev2, "pwritev2"),
    (libc::SYS_splice, "splice"),
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_mknodat, "mknodat"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchmodat, "fchmodat"),
    (libc::SYS_fchmodat2, "fchmodat2"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_fchownat, "fchownat"),
    (libc::SYS_utimensat, "utimensat"),
    (libc::SYS_setxattr, "setxattr"),
    (libc::SYS_lsetxattr, "lsetxattr"),
    (libc::SYS_fsetxattr, "fsetxattr"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_sync_file_range, "sync_file_range"),
    (libc::SYS_sync, "sync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_exit_group, "exit_group"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_renameat, "renameat"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, "chmod"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, "chown"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_lchown, "lchown"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, "creat"),
];
