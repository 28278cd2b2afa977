//! Trials that end by themselves, even if processes are killed meanwhile.

use std::fs;
use std::process::Stdio;

use crate::support::serving::{Greeter, HOT, Serving};
use crate::support::stepper;
use crate::support::{Host, assert_run, guards, until};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;

/// Asserts that the trial was reverted: the old release answers and is permanent, and no guard is left.
fn is_reverted(serving: &Serving, why: &str) {
    serving.until("it is reverted", || {
        serving.host.states() == ["5.0.1 unpacked, failed its trial", "5.0.0 permanent"]
    });
    serving.until("the guards have left", || guards(&serving.host).is_empty());
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
    let history = serving.host.run(["history"]).ok().stdout;
    let last = history.lines().last().unwrap();
    assert!(
        last.contains("revert  by the guard: 5.0.1 failed, rolled back to 5.0.0 in ") && last.contains(why),
        "{history}"
    );
    serving.host.run(["status"]).ok();
}

#[test]
fn unconfirmed_trial_is_reverted() {
    let serving = Serving::start("");
    let (pid, load) = (serving.pid(), serving.load());
    serving.pack(&Greeter::well("5.0.1"));
    assert_run!(serving.host, "upgrade --confirm-within 3s 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/greeter-5.0.1.tar.gz
    Unpacked successfully: "5.0.1"
    Installed Release: 5.0.1
    On trial until [TIME]; run `tenure confirm` to make it permanent
    "#);
    assert_eq!(serving.host.states(), ["5.0.1 current", "5.0.0 permanent"]);
    assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
    let status = serving.host.run(["status"]).ok();
    status.stdout_has("\nTrial: to be confirmed within 3s, ");
    is_reverted(&serving, "5.0.1 was not confirmed in time");
    assert_eq!(serving.pid(), pid);
    load.lost_none("not confirmed");
}

#[test]
fn confirmed_release_stays() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--confirm-within", "1h", "5.0.1"]).ok();
    assert_eq!(guards(&serving.host).len(), 2);
    serving.host.run(["confirm"]).ok();
    serving.until("the guards have left", || guards(&serving.host).is_empty());
    assert_eq!(serving.host.states(), ["5.0.1 permanent", "5.0.0 old"]);
    assert!(!serving.host.root().join(".tenure/trial").exists());
}

#[test]
fn healthy_watched_release_becomes_permanent() {
    let serving = Serving::start("");
    let load = serving.load();
    serving.pack(&Greeter::well("5.0.1"));
    assert_run!(serving.host, "upgrade --watch 1s 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/greeter-5.0.1.tar.gz
    Unpacked successfully: "5.0.1"
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    "#);
    assert_eq!(serving.host.states(), ["5.0.1 permanent", "5.0.0 old"]);
    load.lost_none("watched");
}

#[test]
fn unhealthy_watched_release_is_reverted() {
    let serving = Serving::start("");
    let load = serving.load();
    serving.pack(&Greeter { conf: "sick-after-ms = 3000\n", ..Greeter::well("5.0.1") });
    assert_run!(serving.host, "upgrade --watch 1h 5.0.1", @r#"
    exit 3
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/greeter-5.0.1.tar.gz
    Unpacked successfully: "5.0.1"
    --- stderr
    error: release 5.0.1 failed its trial: rolled back; 5.0.0 is running
    caused by: 5.0.1 is unhealthy: http://127.0.0.1:[PORT]/healthz answers 503
    hint: run `tenure upgrade --retry 5.0.1` to try it again
    "#);
    is_reverted(&serving, "5.0.1 is unhealthy");
    load.lost_none("ill while watched");
}

/// Kills the service, as if the release had exited.
fn end(serving: &Serving) {
    kill(Pid::from_raw(serving.pid().cast_signed()), Signal::SIGKILL).unwrap();
    serving.until("it has ended", || serving.answers().is_none());
}

/// The service is down when the trial ends, so Tenure starts the old release.
#[test]
fn exited_release_on_trial_is_replaced() {
    for restart in ["--restart", "--restart-if-needed"] {
        let serving = Serving::start("");
        serving.pack(&Greeter::well("5.0.1"));
        let mut upgrade = serving.host.command(["upgrade", restart, "--watch", "1h", "5.0.1"]);
        let upgrade = upgrade.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        serving.until("it is on trial", || serving.host.root().join(".tenure/trial").exists());
        serving.until("it is followed", || !serving.host.root().join(".tenure/journal").exists());
        end(&serving);
        is_reverted(&serving, "5.0.1");
        assert_eq!(upgrade.wait_with_output().unwrap().status.code(), Some(3));
    }
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--confirm-within", "5s", "5.0.1"]).ok();
    end(&serving);
    is_reverted(&serving, "5.0.1 was not confirmed in time");
}

#[test]
fn revert_starts_service_that_exited() {
    for trial in [&["--no-permanent"][..], &["--confirm-within", "1h"]] {
        let serving = Serving::start("");
        serving.pack(&Greeter::well("5.0.1"));
        serving.host.run([&["upgrade"][..], trial, &["5.0.1"]].concat()).ok();
        end(&serving);
        serving.host.run(["status"]).code(1).stdout_has("Problem: the service is down\n");
        serving.host.run(["revert"]).ok();
        assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
        serving.host.run(["status"]).ok();
    }
}

#[test]
fn stopped_service_stays_stopped_after_trial() {
    let serving = Serving::down("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    assert_run!(serving.host, "revert", @"
    exit 0
    --- stdout
    Release 5.0.0 is permanent, going back to it.
    Installed Release: 5.0.0
    --- stderr
    warning: the service is down: only the links are switched, and its next start uses them
    ");
    assert_eq!((serving.answers(), serving.host.states()[1].as_str()), (None, "5.0.0 permanent"));
}

/// Makes 5.0.1 fail a watched trial and returns the reason. Also packs 5.0.2, which is unhealthy, and 5.0.3.
fn failed_trial(serving: &Serving) -> String {
    serving.pack(&Greeter { conf: "sick-after-ms = 3000\n", ..Greeter::well("5.0.1") });
    serving.pack(&Greeter { conf: "sick-after-ms = 1\n", ..Greeter::well("5.0.2") });
    serving.pack(&Greeter::well("5.0.3"));
    let why = format!("5.0.1 is unhealthy: http://127.0.0.1:{}/healthz answers 503", serving.port);
    serving.host.run(["upgrade", "--watch", "1h", "5.0.1"]).code(3).stderr(&format!(
        "error: release 5.0.1 failed its trial: rolled back; 5.0.0 is running\n\
         caused by: {why}\n\
         hint: run `tenure upgrade --retry 5.0.1` to try it again\n"
    ));
    why
}

#[test]
fn status_reports_last_trial() {
    let serving = Serving::start("");
    let host = &serving.host;
    let last = || host.run(["status", "--json"]).ok().json()["last_trial"].take();
    assert_eq!(last(), Value::Null);
    let why = failed_trial(&serving);
    assert_run!(host, "status", @r"
    exit 0
    --- stdout
    Root: [ROOT]
    Name: greeter
    Current: 5.0.0
    Permanent: 5.0.0
    Service: the service runs 5.0.0, healthy
    Releases:
    * 5.0.1\tunpacked, failed its trial
    * 5.0.0\tpermanent
    Last: 5.0.1 failed and was rolled back to 5.0.0 on [TIME] by the guard: 5.0.1 is unhealthy: http://127.0.0.1:[PORT]/healthz answers 503
    Failed: 5.0.1 on [TIME]: 5.0.1 is unhealthy: http://127.0.0.1:[PORT]/healthz answers 503
    ");
    let of = |name: &str| last()[name].as_str().unwrap().to_owned();
    assert_eq!(
        ["version", "from", "outcome", "ended_by", "ended_with", "then", "why"].map(of),
        ["5.0.1", "5.0.0", "failed", "the guard", "revert", "5.0.0", why.as_str()]
    );
    host.run(["upgrade", "--no-permanent", "5.0.3"]).ok();
    assert_eq!(last()["outcome"], "on-trial");
    host.run(["confirm"]).ok();
    assert_eq!(last()["outcome"], "permanent");
}

#[test]
fn history_reports_each_trial() {
    let serving = Serving::start("");
    let host = &serving.host;
    let why = failed_trial(&serving);
    host.run(["upgrade", "5.0.2"]).code(3);
    host.run(["upgrade", "--no-permanent", "5.0.3"]).ok();
    host.run(["confirm"]).ok();
    let history = host.run(["history"]).ok().stdout;
    let lines: Vec<&str> = history.lines().collect();
    let told = |at: usize, begins: &str, ends: &str| {
        let line = lines[at].split_once("  ").unwrap().1;
        assert!(line.starts_with(begins) && line.contains(ends), "{begins:?} and {ends:?} are not in {line}");
    };
    told(0, "install 5.0.0  by ", ": done in ");
    told(1, "upgrade --watch 1h 5.0.1  by ", ": from 5.0.0 to 5.0.1, on trial in ");
    told(2, "revert  by the guard: 5.0.1 failed, rolled back to 5.0.0 in ", &format!(": {why}"));
    told(3, "upgrade 5.0.2  by ", ": from 5.0.0 to 5.0.2, failed, rolled back in ");
    told(5, "confirm  by ", ": done in ");
    assert!(lines[1].ends_with(", then failed") && lines[4].ends_with(", then permanent"), "{history}");
    let entries = host.run(["history", "--json"]).ok().json();
    let both = |entry: &Value| (entry["outcome"].clone(), entry["trial"].clone());
    let found: Vec<_> = entries["entries"].as_array().unwrap().iter().map(both).collect();
    let expected = [
        ("done", Value::Null),
        ("done", "failed".into()),
        ("done", Value::Null),
        ("failed", "failed".into()),
        ("done", "permanent".into()),
        ("done", Value::Null),
    ];
    assert_eq!(found, expected.map(|(outcome, trial)| (outcome.into(), trial)));
}

#[test]
fn trial_is_reverted_after_watcher_is_killed() {
    let serving = Serving::start("");
    let load = serving.load();
    serving.pack(&Greeter { conf: "sick-after-ms = 4000\n", ..Greeter::well("5.0.1") });
    let mut upgrade = serving.host.command(["upgrade", "--watch", "1h", "5.0.1"]);
    let mut upgrade = upgrade.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    serving.until("it is guarded", || guards(&serving.host).len() == 2);
    serving.until("it is on trial", || serving.host.root().join(".tenure/trial").exists());
    serving.until("it is followed", || !serving.host.root().join(".tenure/journal").exists());
    upgrade.kill().unwrap();
    upgrade.wait().unwrap();
    kill(Pid::from_raw(guards(&serving.host)[0]), Signal::SIGKILL).unwrap();
    is_reverted(&serving, "5.0.1 is unhealthy");
    load.lost_none("ill while those who watched were killed");
}

#[test]
fn next_command_replaces_killed_guards() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--confirm-within", "1s", "5.0.1"]).ok();
    while let Some(pid) = guards(&serving.host).first() {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    serving.host.run(["uninstall", "9.9.9"]).code(2);
    is_reverted(&serving, "5.0.1 was not confirmed in time");
}

#[test]
fn interrupted_upgrade_is_undone_by_guard() {
    let serving = Serving::start("");
    let load = serving.load();
    let before = HOT.replace("#!/bin/sh\n", "#!/bin/sh\n[ $TENURE_ACTION = downgrade ] || kill -9 $PPID\n");
    let after = HOT.replace("exit 0", "[ $TENURE_ACTION = downgrade ] || kill -9 $PPID; exit 0");
    for hot in [before, after] {
        serving.pack(&Greeter { hot: &hot, ..Greeter::well("5.0.1") });
        assert_eq!(serving.host.run(["upgrade", "5.0.1"]).code, None);
        serving.until("it is taken back", || serving.host.states() == ["5.0.0 permanent"]);
        serving.until("the guards have left", || guards(&serving.host).is_empty());
        assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
        let history = serving.host.run(["history"]).ok().stdout;
        assert!(history.lines().last().unwrap().contains("interrupted, rolled back later"), "{history}");
    }
    load.lost_none("cut short");
}

#[test]
fn confirm_races_with_deadline() {
    let serving = Serving::start("");
    let load = serving.load();
    serving.pack(&Greeter::well("5.0.1"));
    let mut ends = std::collections::BTreeMap::new();
    for race in 0..12 {
        serving.host.run(["upgrade", "--retry", "--confirm-within", "400ms", "5.0.1"]).ok();
        let trial = fs::read_to_string(serving.host.root().join(".tenure/trial")).unwrap();
        let trial: Value = serde_json::from_str(&trial).unwrap();
        let over = trial["ends_ms"].as_i64().unwrap();
        let now = || clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().num_milliseconds();
        while now() + 60 < over + race * 10 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let run = serving.host.run(["confirm", "--wait", "30"]);
        let confirmed = run.code == Some(0);
        // After the deadline, the confirm is refused.
        assert!(confirmed || run.code == Some(2), "{run:#?}");
        serving.until("it is over", || !serving.host.root().join(".tenure/journal").exists());
        let now = if confirmed { "5.0.1" } else { "5.0.0" };
        assert!(serving.host.states().contains(&format!("{now} permanent")), "{:?}", serving.host.states());
        serving.until("the guards have left", || guards(&serving.host).is_empty());
        assert_eq!(serving.answers().as_deref(), Some(now));
        serving.host.run(["status"]).ok();
        *ends.entry(now).or_insert(0) += 1;
        serving.host.run(["install", "5.0.0"]).ok();
    }
    println!("ends: {ends:?}");
    load.lost_none("confirmed at the deadline");
}

#[test]
fn service_restart_ends_trial() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    let upgrade = ["upgrade", "--confirm-within", "1h", "5.0.1"];
    serving.host.run(upgrade).ok();
    assert_run!(serving.host, "boot", @"
    exit 0
    --- stdout
    Ended the trial of 5.0.1; the service starts with 5.0.0
    ");
    serving.until("the guards have left", || guards(&serving.host).is_empty());
    assert_eq!(serving.host.states(), ["5.0.1 unpacked", "5.0.0 permanent"]);
    assert!(!serving.host.root().join(".tenure/trial").exists());
}

#[test]
fn trial_of_another_boot_is_reverted() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--confirm-within", "1h", "5.0.1"]).ok();
    let file = serving.host.root().join(".tenure/trial");
    let mut trial: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    trial["boot"] = "another".into();
    fs::write(&file, trial.to_string()).unwrap();
    is_reverted(&serving, "5.0.1 was not confirmed in time");
}

#[test]
fn trial_without_service_is_reverted() {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "upgrade --watch 1h 5.0.1", @"
    exit 2
    --- stderr
    error: cannot watch the health of 5.0.1: the settings name no service
    ");
    host.run(["upgrade", "--confirm-within", "1s", "5.0.1"]).ok();
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.1"));
    let is_back = || host.link("current").as_deref() == Some("releases/5.0.0") && guards(&host).is_empty();
    until("it is reverted", is_back, || host.run(["status"]).stdout);
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.1\tunpacked, failed its trial
    * 5.0.0\tpermanent
    ");
    for wrong in ["0s", "soon", "10"] {
        host.run(["upgrade", "--confirm-within", wrong, "5.0.1"]).code(64).stderr_has("not a valid duration");
    }
    host.run(["upgrade", "--confirm-within", "1h", "--watch", "1h", "5.0.1"]).code(64);
}

/// Kills a command before its mutating system calls in turn, and lets the guards recover. Asserts that the service
/// answers, that `current` points to the release that answers, and that the state is one of `ends`.
fn killed_everywhere(prepare: &[&[&str]], args: &[&str], ends: [&[&str]; 2]) {
    let start = || {
        let serving = Serving::start("");
        serving.pack(&Greeter::well("5.0.1"));
        prepare.iter().for_each(|args| drop(serving.host.run(*args).ok()));
        serving
    };
    let points = stepper::points_alone(&start().host.command(args));
    for point in &points {
        let serving = start();
        let ended = stepper::kill_alone_before(&serving.host.command(args), *point);
        serving.until("the guards have left", || {
            let waits = serving.host.root().join(".tenure/trial").exists();
            guards(&serving.host).is_empty() || waits && !serving.host.root().join(".tenure/journal").exists()
        });
        let at = format!("{args:?}, {} before call {point}, {ended:?}", serving.log());
        let found = serving.host.states();
        assert!(ends.iter().any(|end| found == *end), "{at}: {found:?}");
        assert!(!serving.host.root().join(".tenure/journal").exists(), "{at}");
        let current = serving.host.link("current").unwrap();
        assert_eq!(serving.answers(), current.strip_prefix("releases/").map(str::to_owned), "{at}");
        // An open trial does not have to reach its end.
        serving.host.run(["revert", "--wait", "60"]);
    }
    println!("{args:?}: {} kill points, 0 wrong outcomes", points.len());
    assert!(points.len() > 20, "{args:?}: only {} points", points.len());
}

const OLD: &[&str] = &["5.0.0 permanent"];
const NEW: &[&str] = &["5.0.1 permanent", "5.0.0 old"];
const TRIAL: &[&str] = &["5.0.1 current", "5.0.0 permanent"];
const UNPACKED: &[&str] = &["5.0.1 unpacked", "5.0.0 permanent"];

#[test]
#[ignore = "takes long; run by .ci/run"]
fn killed_hot_upgrade_recovers_unattended() {
    killed_everywhere(&[], &["upgrade", "5.0.1"], [OLD, NEW]);
}

#[test]
#[ignore = "takes long; run by .ci/run"]
fn killed_restart_upgrade_recovers_unattended() {
    killed_everywhere(&[], &["upgrade", "--restart", "5.0.1"], [OLD, NEW]);
}

#[test]
#[ignore = "takes long; run by .ci/run"]
fn killed_trial_start_is_all_or_nothing() {
    killed_everywhere(&[], &["upgrade", "--confirm-within", "1h", "5.0.1"], [OLD, TRIAL]);
}

#[test]
#[ignore = "takes long; run by .ci/run"]
fn killed_revert_goes_back() {
    killed_everywhere(&[&["upgrade", "--no-permanent", "5.0.1"]], &["revert"], [TRIAL, UNPACKED]);
}
