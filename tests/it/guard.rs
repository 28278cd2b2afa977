//! The deadline of a trial whose guards were killed, and the descriptors that guards and hooks inherit.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::support::serving::{Greeter, HOT, Serving};
use crate::support::{Host, assert_run, guards, kill_guards};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Waits for the deadline of the current trial.
fn pass_deadline(host: &Host) {
    let trial = fs::read_to_string(host.root().join(".tenure/trial")).unwrap();
    let trial: serde_json::Value = serde_json::from_str(&trial).unwrap();
    let ends = trial["ends_ms"].as_i64().unwrap();
    while clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().num_milliseconds() <= ends {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a service with 5.0.1 on trial, past the deadline and without guards.
fn overdue(term: &str) -> Serving {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.pack(&Greeter::well("5.0.2"));
    let mut upgrade = serving.host.command(["upgrade", term, "2s", "5.0.1"]);
    let mut upgrade = upgrade.stdout(std::process::Stdio::null()).spawn().unwrap();
    serving.until("it is on trial", || serving.host.root().join(".tenure/trial").exists());
    serving.until("nothing is under way", || !serving.host.root().join(".tenure/journal").exists());
    kill_guards(&serving.host);
    // With --watch, the command still follows the trial.
    upgrade.kill();
    upgrade.wait().unwrap();
    pass_deadline(&serving.host);
    assert_eq!(serving.host.link("current").unwrap(), "releases/5.0.1");
    serving
}

/// Waits until the guards exit. Asserts that the old release answers and that the history contains the guard's
/// revert.
fn is_rolled_back(serving: &Serving, why: &str) {
    serving.until("the guards have left", || guards(&serving.host).is_empty());
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
    let history = serving.host.run(["--json", "history"]).ok().json();
    let entries = history["entries"].as_array().unwrap();
    let revert = entries.iter().find(|entry| entry["command"] == "revert").unwrap();
    assert_eq!((&revert["by"], &revert["error"]), (&"the guard".into(), &why.into()), "{history}");
    assert_eq!((&revert["from"], &revert["to"]), (&"5.0.1".into(), &"5.0.0".into()), "{history}");
}

#[test]
fn late_confirm_is_refused_and_rolls_back() {
    let serving = overdue("--confirm-within");
    let load = serving.load();
    let why = "5.0.1 was not confirmed in time";
    let dry = serving.host.run(["confirm", "--dry-run"]).code(2);
    dry.stderr_has(&format!("{why}; it would first be rolled back to 5.0.0\n"));
    let dry = serving.host.run(["unpack", "--dry-run", "5.0.2"]).ok();
    dry.stdout_has("Would first roll back a trial whose deadline has passed:\n  1. point current at")
        .stdout_has("Would do:\n  1. unpack");
    let dry = serving.host.run(["--json", "revert", "--dry-run"]).ok().json();
    assert_eq!((&dry["overdue"]["to"], &dry["plan"]["to"]), (&"5.0.0".into(), &serde_json::Value::Null));
    assert_eq!(serving.host.link("current").unwrap(), "releases/5.0.1");
    assert_run!(serving.host, "confirm", @"
    exit 2
    --- stderr
    warning: 5.0.1 was not confirmed in time: the trial ended at [TIME]; rolled back to 5.0.0
    error: cannot confirm 5.0.1: its trial ended at [TIME]: 5.0.1 was not confirmed in time; it was rolled back, and 5.0.0 is current
    hint: run `tenure install --retry --confirm-within 10m 5.0.1` to try it again
    ");
    is_rolled_back(&serving, why);
    load.lost_none("confirmed after the deadline");
}

#[test]
fn late_upgrade_starts_from_permanent_release() {
    let serving = overdue("--confirm-within");
    let run = serving.host.run(["--json", "upgrade", "5.0.2"]).ok();
    assert_eq!(run.json()["previous"], "5.0.0", "{run:#?}");
    run.stderr_has("warning: 5.0.1 was not confirmed in time: the trial ended at 2")
        .stderr_has("; rolled back to 5.0.0\n");
    assert_eq!(serving.answers().as_deref(), Some("5.0.2"));
    assert_eq!(serving.host.link("permanent").unwrap(), "releases/5.0.2");
}

#[test]
fn unwatched_release_is_not_confirmed_late() {
    let serving = overdue("--watch");
    let why = "5.0.1 was not watched until its deadline";
    serving.host.run(["confirm"]).code(2).stderr_has(why);
    is_rolled_back(&serving, why);
}

#[test]
fn hung_guard_does_not_extend_trial() {
    let serving = Serving::start("");
    serving.changed("interval = \"20ms\"", "interval = \"20ms\"\ntimeout = \"100ms\"");
    serving.pack(&Greeter::well("5.0.1"));
    let mut upgrade = serving.host.command(["upgrade", "--watch", "2s", "5.0.1"]);
    let mut upgrade = upgrade.stdout(std::process::Stdio::null()).spawn().unwrap();
    serving.until("it is on trial", || serving.host.root().join(".tenure/trial").exists());
    serving.until("nothing is under way", || !serving.host.root().join(".tenure/journal").exists());
    let stopped = guards(&serving.host);
    stopped.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap());
    upgrade.kill();
    upgrade.wait().unwrap();
    pass_deadline(&serving.host);
    serving.host.run(["confirm"]).code(2).stderr_has("5.0.1 was not watched until its deadline");
    for pid in stopped {
        let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
    }
    is_rolled_back(&serving, "5.0.1 was not watched until its deadline");
}

#[test]
fn reading_commands_restart_guards() {
    for command in ["status", "versions", "history"] {
        let serving = Serving::start("");
        serving.pack(&Greeter::well("5.0.1"));
        serving.host.run(["upgrade", "--confirm-within", "3s", "5.0.1"]).ok();
        kill_guards(&serving.host);
        // A status during the rollback reports a drift.
        let _ = serving.host.run([command]);
        serving.until("guards are there", || guards(&serving.host).len() == 2);
        // No further command runs until the guards have rolled back.
        let current = || serving.host.link("current").unwrap();
        serving.until("it is rolled back", || current() == "releases/5.0.0");
        is_rolled_back(&serving, "5.0.1 was not confirmed in time");
    }
}

/// Creates a file with a descriptor that child processes inherit.
fn inherited(path: &std::path::Path) -> File {
    let file = File::create(path).unwrap();
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    file
}

#[test]
fn guards_hold_no_lock_of_the_caller() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    let (host, lock) = (&serving.host, serving.dir().join("lock"));
    let script = format!(
        "exec 9>'{}'; flock -n 9 && exec '{}' upgrade --confirm-within 1h 5.0.1 >/dev/null",
        lock.display(),
        env!("CARGO_BIN_EXE_tenure")
    );
    let mut caller = std::process::Command::new("sh");
    assert!(caller.args(["-c", &script]).current_dir(host.root()).status().unwrap().success());
    assert_eq!(guards(host).len(), 2);
    assert!(File::open(&lock).unwrap().try_lock().is_ok(), "the lock is held by {:?}", guards(host));
    host.run(["revert"]).ok();
}

#[test]
fn programs_inherit_three_descriptors() {
    let serving = Serving::start("");
    let seen = serving.dir().join("seen");
    // The shell itself may keep its script open.
    let told = format!("#!/bin/sh\nsetsid sh -c 'ls -l /proc/self/fd >\"{}\"' &\n", seen.display());
    serving.pack(&Greeter { hot: &HOT.replace("#!/bin/sh\n", &told), ..Greeter::well("5.0.1") });
    let file = inherited(&serving.dir().join("open"));
    serving.host.run(["upgrade", "--confirm-within", "1h", "5.0.1"]).ok();
    let open = serving.dir().join("open");
    serving.until("the daemon has looked", || fs::read_to_string(&seen).is_ok_and(|s| s.contains(" 2 -> ")));
    let fds = fs::read_to_string(&seen).unwrap();
    assert!(!fds.contains(open.to_str().unwrap()), "{fds}");
    for guard in guards(&serving.host) {
        let open_files = fs::read_dir(format!("/proc/{guard}/fd")).unwrap();
        let inherits =
            open_files.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).any(|to| to == open);
        assert!(!inherits, "guard {guard} has the caller's descriptor {}", file.as_raw_fd());
    }
    serving.host.run(["revert"]).ok();
}
