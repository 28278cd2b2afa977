//! Moves of a running service: hooks, reloads, signals and restarts, health checks and rollbacks.

use std::fs;

use crate::support::assert_run;
use crate::support::serving::{Greeter, HOT, Serving};

const WAYS: [&str; 4] = ["", "hot = \"hook\"", "hot = \"reload\"", "hot = \"signal:USR2\""];

#[test]
fn hot_methods_move_service_up_and_down() {
    for way in WAYS {
        let serving = Serving::start(way);
        let (pid, load) = (serving.pid(), serving.load());
        serving.pack(&Greeter::well("5.0.1"));
        serving.host.run(["upgrade", "5.0.1"]).ok().stdout(
            "Release 5.0.1 not found, attempting to unpack releases/greeter-5.0.1.tar.gz\n\
             Unpacked successfully: \"5.0.1\"\n\
             Installed Release: 5.0.1\n\
             Made release permanent: \"5.0.1\"\n",
        );
        assert_eq!(serving.answers().as_deref(), Some("5.0.1"), "{way}");
        assert_eq!(serving.host.states(), ["5.0.1 permanent", "5.0.0 old"]);
        serving.host.run(["downgrade", "5.0.0"]).ok();
        assert_eq!(serving.answers().as_deref(), Some("5.0.0"), "{way}");
        serving.host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
        serving.host.run(["revert"]).ok();
        assert_eq!(serving.answers().as_deref(), Some("5.0.0"), "{way}");
        assert_eq!(serving.pid(), pid, "it was stopped");
        load.lost_none(&format!("{way:?} up, down, up and back"));
    }
}

#[test]
fn restart_upgrade_restarts_service() {
    let serving = Serving::start("");
    serving.pack(&Greeter { manifest: "", ..Greeter::well("5.1.0") });
    let pid = serving.pid();
    serving.host.run(["upgrade", "5.1.0"]).code(2).stderr_has("hint: use `--restart`");
    serving.host.run(["upgrade", "--restart", "5.1.0"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.1.0"));
    assert_ne!(serving.pid(), pid);
    assert_eq!(serving.host.states(), ["5.1.0 permanent", "5.0.0 old"]);
    serving.host.run(["status"]).ok().stdout_has("Service: the service runs 5.1.0, healthy\n");
}

#[test]
fn restart_if_needed_prefers_hot() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.pack(&Greeter { manifest: "", ..Greeter::well("5.0.2") });
    serving.pack(&Greeter::well("5.1.0"));
    let pid = serving.pid();
    let upgrade = |version| serving.host.run(["upgrade", "--restart-if-needed", version]).ok();
    let found = |words: [&str; 3]| serving.host.run(words).ok().stdout_has("by a restart");
    upgrade("5.0.1");
    assert_eq!(serving.pid(), pid, "a patch is hot");
    // A release without a hot method, and an upgrade of more than the patch version.
    for version in ["5.0.2", "5.1.0"] {
        let pid = serving.pid();
        found(["check", "--restart-if-needed", version]);
        upgrade(version);
        assert_ne!(serving.pid(), pid);
        assert_eq!(serving.answers().as_deref(), Some(version));
    }
    serving.host.run(["upgrade", "--restart", "--restart-if-needed", "5.1.0"]).code(64);
    serving.host.run(["downgrade", "--restart-if-needed", "5.0.1"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
}

#[test]
fn release_without_hot_method_is_refused() {
    let serving = Serving::start("");
    serving.pack(&Greeter { manifest: "", ..Greeter::well("5.0.1") });
    let before = serving.host.tree();
    assert_run!(serving.host, "upgrade 5.0.1", @"
    exit 2
    --- stderr
    error: cannot move hot from 5.0.0 to 5.0.1: release 5.0.1 has no hot-upgrade hook, and the settings name no other method
    hint: use `--restart` to stop the service and start it in 5.0.1
    hint: or set `hot` in the table [service] of tenure.toml
    ");
    assert_eq!(serving.host.tree(), before);
}

/// Asserts that the old release runs and is permanent, and that nothing of the bad release is left.
fn is_back(serving: &Serving) {
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
    assert_eq!(serving.host.states(), ["5.0.0 permanent"]);
    assert_eq!(serving.host.link("current").as_deref(), Some("releases/5.0.0"));
    assert!(!serving.host.root().join(".tenure/journal").exists());
    serving.host.run(["status"]).ok();
}

#[test]
fn release_that_cannot_start_is_rolled_back() {
    for way in WAYS {
        let serving = Serving::start(way);
        serving.changed("hook = \"5s\"", "hook = \"300ms\"");
        let (pid, load) = (serving.pid(), serving.load());
        serving.pack(&Greeter { conf: "no such key = 1\n", ..Greeter::well("5.0.1") });
        let run = serving.host.run(["upgrade", "5.0.1"]).code(3);
        run.stderr_has("error: cannot move the service from 5.0.0 to 5.0.1");
        is_back(&serving);
        assert_eq!(serving.pid(), pid, "{way}");
        load.lost_none(&format!("{way:?} to a release that cannot start"));
    }
}

#[test]
fn unhealthy_release_is_rolled_back() {
    let serving = Serving::start("");
    let load = serving.load();
    serving.pack(&Greeter { conf: "sick-after-ms = 1\n", ..Greeter::well("5.0.1") });
    assert_run!(serving.host, "upgrade 5.0.1", @r#"
    exit 3
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/greeter-5.0.1.tar.gz
    Unpacked successfully: "5.0.1"
    --- stderr
    error: release 5.0.1 did not become healthy: rolled back; 5.0.0 is running
    caused by: unhealthy: http://127.0.0.1:[PORT]/healthz answers 503
    "#);
    is_back(&serving);
    load.lost_none("to a release that is unwell");
}

#[test]
fn failed_restart_is_rolled_back() {
    let serving = Serving::start("");
    serving.changed("stop = \"20s\"", "stop = \"500ms\"");
    serving.pack(&Greeter { conf: "no such key = 1\n", ..Greeter::well("5.1.0") });
    serving.host.run(["upgrade", "--restart", "5.1.0"]).code(3);
    serving.until("it answers again", || serving.answers().is_some());
    is_back(&serving);
}

#[test]
fn earlier_failure_is_not_blamed_on_release() {
    let serving = Serving::down("");
    let conf = serving.host.root().join("releases/5.0.0/etc/greeter.conf");
    fs::write(conf, "sick-after-ms = 1\n").unwrap();
    serving.up();
    serving.changed("health = \"20s\"", "health = \"200ms\"");
    serving.pack(&Greeter { conf: "sick-after-ms = 1\n", ..Greeter::well("5.0.1") });
    let run = serving.host.run(["upgrade", "5.0.1"]).ok();
    run.stderr_has("warning: the service is already failing on 5.0.0");
    assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
}

#[test]
fn ineffective_reload_is_detected() {
    let serving = Serving::start("hot = \"reload\"");
    serving.changed("reload = [\"sh\", \"-c\", \"kill -USR2 $(cat ../pid)\"]", "reload = [\"true\"]");
    serving.changed("hook = \"5s\"", "hook = \"200ms\"");
    serving.pack(&Greeter::well("5.0.1"));
    let run = serving.host.run(["upgrade", "5.0.1"]).code(3);
    let pid = serving.pid();
    run.stderr_has("error: cannot move the service from 5.0.0 to 5.0.1: rolled back; 5.0.0 is running\n")
        .stderr_has(&format!(
            "caused by: after 0 s the service runs 5.0.0; process {pid} (greeter) of 5.0.0 listens on port {}\n",
            serving.port
        ))
        .stderr_has("hint: use `--restart`: the service received the reload but did not execute the program of 5.0.1\n");
    is_back(&serving);
}

#[test]
fn failing_hook_is_quoted_with_its_log() {
    let serving = Serving::start("");
    let hot = "#!/bin/sh\nseq 1000\necho the node is not up >&2\nexit 7\n";
    serving.pack(&Greeter { hot, ..Greeter::well("5.0.1") });
    let run = serving.host.run(["upgrade", "5.0.1"]).code(3);
    let run = run.stderr_has("caused by: it ended with exit status 7\n").stderr_has("\nthe node is not up\n");
    let log = run.stderr.lines().find_map(|line| line.strip_prefix("hint: its output is in ")).unwrap();
    assert!(fs::read_to_string(log).unwrap().starts_with("1\n2\n3\n"));
    is_back(&serving);
}

#[test]
fn hanging_hook_is_killed_with_its_children() {
    let serving = Serving::start("");
    let hot = "#!/bin/sh\nsleep 1000 & echo $! >$TENURE_ROOT/../sleeper\nwait\n";
    serving.pack(&Greeter { hot, ..Greeter::well("5.0.1") });
    let run = serving.host.run(["upgrade", "--hook-timeout", "200ms", "5.0.1"]).code(3);
    run.stderr_has("it did not finish within 200ms and was killed");
    let sleeper = fs::read_to_string(serving.dir().join("sleeper")).unwrap();
    let stat = format!("/proc/{}/stat", sleeper.trim());
    serving.until("it is gone", || {
        fs::read_to_string(&stat).is_ok_and(|s| s.contains(") Z ")) || !fs::exists(&stat).unwrap()
    });
    is_back(&serving);
}

#[test]
fn hook_gets_environment() {
    let serving = Serving::start("");
    let hot = "#!/bin/sh\nenv | sort >$TENURE_ROOT/../env\nexit 1\n";
    serving.pack(&Greeter { hot, ..Greeter::well("5.0.1") });
    serving.host.run(["upgrade", "5.0.1"]).code(3);
    let env = fs::read_to_string(serving.dir().join("env")).unwrap();
    let root = serving.host.root().display().to_string();
    for line in [
        "TENURE_ACTION=upgrade".to_owned(),
        "TENURE_OLD_VERSION=5.0.0".to_owned(),
        "TENURE_NEW_VERSION=5.0.1".to_owned(),
        format!("TENURE_ROOT={root}"),
        format!("TENURE_OLD_DIR={root}/releases/5.0.0"),
        format!("TENURE_NEW_DIR={root}/releases/5.0.1"),
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is not in:\n{env}");
    }
    assert!(env.contains("TENURE_TRANSACTION=") && !env.contains("CARGO"), "{env}");
}

/// Tenure does not wait for the health of a release that exits at once or soon, and starts the old release again.
#[test]
fn exiting_release_is_rolled_back() {
    for way in WAYS {
        let serving = Serving::start(way);
        serving.changed("health = \"20s\"", "health = \"10m\"");
        serving.changed("hook = \"5s\"", "hook = \"10m\"");
        serving.changed("stop = \"20s\"", "stop = \"10m\"");
        serving.pack(&Greeter { conf: "exit-after-ms = 1\n", ..Greeter::well("5.0.1") });
        let hot = HOT.replace("exit 0", "sleep 1; exit 0");
        serving.pack(&Greeter { conf: "exit-after-ms = 300\n", hot: &hot, ..Greeter::well("5.0.2") });
        // Without such a slow hook, 5.0.2 proves healthy before it exits.
        let versions: &[&str] =
            if way.contains("signal") || way.contains("reload") { &["5.0.1"] } else { &["5.0.1", "5.0.2"] };
        for version in versions {
            let run = serving.host.run(["upgrade", version]).code(3);
            run.stderr_has(": rolled back; 5.0.0 is running\n");
            is_back(&serving);
        }
        let run = serving.host.run(["upgrade", "--restart", "--retry", "5.0.1"]).code(3);
        run.stderr_has(": rolled back; 5.0.0 is running\n");
        is_back(&serving);
    }
}

#[test]
fn wrong_answer_fails_after_restart() {
    let serving = Serving::start("");
    serving.changed("health = \"20s\"", "health = \"10m\"");
    serving.pack(&Greeter { conf: "broken-after-ms = 1\n", ..Greeter::well("5.0.1") });
    assert_run!(serving.host, "upgrade --restart 5.0.1", @r#"
    exit 3
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/greeter-5.0.1.tar.gz
    Unpacked successfully: "5.0.1"
    --- stderr
    error: release 5.0.1 did not become healthy: rolled back; 5.0.0 is running
    caused by: unhealthy: http://127.0.0.1:[PORT]/healthz answers 500
    "#);
    is_back(&serving);
}

#[test]
fn service_not_ready_after_startup_is_unhealthy() {
    let serving = Serving::start("");
    serving.changed("health = \"20s\"", "health = \"10m\"");
    serving.changed("interval = \"20ms\"", "interval = \"20ms\"\nstartup = \"1s\"");
    serving.pack(&Greeter { conf: "sick-after-ms = 1\n", ..Greeter::well("5.0.1") });
    serving.host.run(["upgrade", "--restart", "5.0.1"]).code(3).stderr_has("/healthz answers 503\n");
    is_back(&serving);
}

/// A script shows no release: it runs as /bin/sh in another directory, started through `current`.
#[test]
fn service_without_evidence_is_refused() {
    let serving = Serving::start("");
    let script = "#!/bin/sh\nwhile :; do sleep 0.1; done\n";
    let kill = format!("kill -9 {}", serving.pid());
    std::process::Command::new("sh").args(["-c", &kill]).status().unwrap();
    let dir = serving.dir().display().to_string();
    let start = format!(
        "start = [\"sh\", \"-c\", \"cd / && {dir}/root/current/bin/hot >/dev/null 2>&1 & echo $! >{dir}/pid\"]"
    );
    serving.settings(&format!(
        "[service]\nmanager = \"command\"\npid-file = \"DIR/pid\"\n{start}\n\
         stop = [\"sh\", \"-c\", \"kill $(cat DIR/pid)\"]\n[health]\ninterval = \"20ms\"\n"
    ));
    serving.pack(&Greeter { hot: script, manifest: "", ..Greeter::well("5.1.0") });
    serving.host.run(["install", "--restart", "--start", "5.1.0"]).ok();
    serving.pack(&Greeter { hot: script, manifest: "", ..Greeter::well("5.1.1") });
    let pid = serving.pid();
    for command in ["check", "upgrade"] {
        let run = serving.host.run([command, "--restart", "5.1.1"]).code(2);
        let said = format!("{}{}", run.stdout, run.stderr);
        for words in ["cannot determine which release the service runs: process ", "`running-version`"] {
            assert!(said.contains(words), "{said}");
        }
    }
    assert_eq!((serving.pid(), serving.host.states()[0].as_str()), (pid, "5.1.0 permanent"));
    serving.host.run(["status"]).code(1).stdout_has("cannot determine which release the service runs");
}

#[test]
fn start_option_starts_stopped_service() {
    let serving = Serving::down("");
    serving.host.run(["status"]).code(1).stdout_has(
        "Problem: the service is down\n  hint: start the service, or run `tenure install --start 5.0.0`\n",
    );
    serving.host.run(["install", "--start", "5.0.0"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
    serving.host.run(["status"]).ok();
    serving.host.run(["install", "--start", "5.0.0"]).ok();
    let stop = format!("kill -9 {}", serving.pid());
    std::process::Command::new("sh").args(["-c", &stop]).status().unwrap();
    // A release that does not stay up is rolled back, and the service is down as before.
    serving.pack(&Greeter { conf: "exit-after-ms = 1\n", ..Greeter::well("5.0.1") });
    let run = serving.host.run(["upgrade", "--start", "5.0.1"]).code(1);
    run.stderr_has(": rolled back; the service is down, as before\n");
    assert_eq!((serving.answers(), serving.host.states()), (None, vec!["5.0.0 permanent".to_owned()]));
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--start", "--watch", "1s", "5.0.1"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
}

#[test]
fn stopped_service_stays_stopped() {
    let serving = Serving::down("");
    serving.pack(&Greeter::well("5.0.1"));
    let run = serving.host.run(["upgrade", "5.0.1"]).ok();
    run.stderr_has("warning: the service is down: only the links are switched");
    assert_eq!(serving.answers(), None);
    serving.up();
    assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
    serving.host.run(["status"]).ok().stdout_has("Service: the service runs 5.0.1, healthy\n");
}

#[test]
fn ordered_start_keeps_new_release() {
    let serving = Serving::start("");
    let boot = format!("start = [\"sh\", \"-c\", \"{} boot || exit 1; ", env!("CARGO_BIN_EXE_tenure"));
    serving.changed("start = [\"sh\", \"-c\", \"", &boot);
    serving.pack(&Greeter::well("5.1.0"));
    assert_run!(serving.host, "upgrade --restart --no-permanent 5.1.0", @r#"
    exit 0
    --- stdout
    Release 5.1.0 not found, attempting to unpack releases/greeter-5.1.0.tar.gz
    Unpacked successfully: "5.1.0"
    Installed Release: 5.1.0
    "#);
    assert_eq!(serving.answers().as_deref(), Some("5.1.0"));
    assert_eq!(serving.host.states(), ["5.1.0 current", "5.0.0 permanent"]);
    // Any other start ends the trial.
    assert_run!(serving.host, "boot", @"
    exit 0
    --- stdout
    Ended the trial of 5.1.0; the service starts with 5.0.0
    ");
    assert_eq!(serving.host.states(), ["5.1.0 unpacked", "5.0.0 permanent"]);
    let run = serving.host.run(["status"]).code(1);
    run.stdout_has("Problem: the service runs 5.1.0, and `current` points to 5.0.0\n");
}

#[test]
fn next_command_undoes_upgrade_killed_by_hook() {
    let serving = Serving::start("");
    let load = serving.load();
    let before = HOT.replace("#!/bin/sh\n", "#!/bin/sh\n[ $TENURE_ACTION = downgrade ] || kill -9 $PPID\n");
    let after = HOT.replace("exit 0", "[ $TENURE_ACTION = downgrade ] || kill -9 $PPID; exit 0");
    for (at, hot) in [("before the move", before), ("after the move", after)] {
        serving.pack(&Greeter { hot: &hot, ..Greeter::well("5.0.1") });
        assert_eq!(serving.host.run(["upgrade", "5.0.1"]).code, None, "{at}");
        // The guard may recover first or at the same time. In each case, one of the two processes rolls back.
        serving.host.run(["uninstall", "--wait", "60", "9.9.9"]).code(2).stderr_has("it is not installed");
        let history = serving.host.run(["history", "--json"]).ok().json();
        let last = history["entries"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(
            (&last["command"], &last["outcome"]),
            (&"upgrade 5.0.1".into(), &"taken-back".into()),
            "{at}"
        );
        is_back(&serving);
    }
    load.lost_none("killed in the middle");
}
