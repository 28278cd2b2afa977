//! Damaged files that people wrote, and directories of other tools that look like a root. A service still starts, the
//! state can be read and rolled back, and no rule is ignored.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::support::serving::{Greeter, Serving};
use crate::support::{Host, guards};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Invalid settings, each with words of its error.
const WRONG: [(&str, &str); 4] = [
    ("name = 'emqx'\n[helth]\ntcp = '127.0.0.1:1'\n", "tenure.toml, line 2: unknown field `helth`"),
    ("name = 'emqx'\n[trust]\nkeys = ['x']\n", "tenure.toml, line 3: \"x\" is not a minisign public key"),
    ("name = 'emqx'\n[limits]\nsize = 'much'\n", "tenure.toml, line 3"),
    ("name = \n", "tenure.toml, line 1"),
];

/// Returns a host with 5.0.0 permanent, 5.0.1 on trial, 5.0.2 unpacked and an archive of 5.0.3.
fn on_trial() -> Host {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1", "5.0.2", "5.0.3"]);
    host.run(["install", "5.0.0"]).ok();
    host.run(["unpack", "5.0.2"]).ok();
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    host
}

fn settings(host: &Host, text: &str) {
    fs::write(host.root().join("tenure.toml"), text).unwrap();
}

#[test]
fn boot_succeeds_with_wrong_settings() {
    for (text, error) in WRONG {
        let host = on_trial();
        settings(&host, text);
        let run = host.run(["boot"]).ok().stdout("Ended the trial of 5.0.1; the service starts with 5.0.0\n");
        run.stderr_has("warning: cannot use ").stderr_has(error);
        assert_eq!(host.link("current").as_deref(), Some("releases/5.0.0"));
        host.run(["boot", "--dry-run"]).ok().stderr_has(error);
    }
    let host = on_trial();
    fs::remove_file(host.root().join("tenure.toml")).unwrap();
    fs::create_dir(host.root().join("tenure.toml")).unwrap();
    host.run(["boot"]).ok().stderr_has("warning: cannot read ").stderr_has("tenure.toml: it is not a file");
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.0"));
}

#[test]
fn read_commands_work_with_wrong_settings() {
    for (text, error) in WRONG {
        let host = on_trial();
        settings(&host, text);
        let before = host.tree();
        for args in [&["versions"][..], &["history"], &["verify"], &["root-dir"]] {
            host.run(args).ok().stderr_has("warning: cannot use ").stderr_has(error);
        }
        host.run(["versions"]).stdout_has("* 5.0.1\tcurrent\n* 5.0.0\tpermanent\n");
        host.run(["versions", "--json"]).ok().stderr_has(error);
        host.run(["status"]).code(1).stdout_has("Problem: cannot use ").stdout_has(error).stderr("");
        let status = host.run(["status", "--json"]).code(1).json();
        assert_eq!((&status["state"], &status["settings_valid"]), (&"broken".into(), &false.into()));
        let page = host.run(["status", "--format", "prometheus"]).ok().stdout;
        let metric = page.lines().find(|line| line.starts_with("tenure_settings_valid{")).unwrap();
        assert!(metric.ends_with(" 0"), "{metric}");
        assert!(page.contains("tenure_release_info{"), "{page}");
        assert_eq!(host.tree(), before);
    }
    let host = on_trial();
    let page = host.run(["status", "--format", "prometheus"]).ok().stdout;
    assert!(page.lines().any(|line| line.starts_with("tenure_settings_valid{") && line.ends_with(" 1")));
}

#[test]
fn trial_can_end_with_wrong_settings() {
    for (text, error) in WRONG {
        for (command, current, line) in
            [("revert", "5.0.0", "going back to it."), ("confirm", "5.0.1", "Made release permanent")]
        {
            let host = on_trial();
            settings(&host, text);
            host.run([command, "--dry-run"]).ok();
            host.run([command]).ok().stdout_has(line).stderr_has(error);
            for link in ["current", "permanent"] {
                assert_eq!(host.link(link), Some(format!("releases/{current}")), "{command}, {text}");
            }
        }
    }
}

#[test]
fn wrong_settings_block_changes() {
    for (text, error) in WRONG {
        let host = on_trial();
        settings(&host, text);
        let install = host.root().parent().unwrap().join("install");
        fs::create_dir(&install).unwrap();
        let before = host.tree();
        for args in [
            &["install", "5.0.2"][..],
            &["install", "5.0.1"],
            &["upgrade", "5.0.3"],
            &["upgrade", "--dry-run", "5.0.3"],
            &["upgrade", "--multi-hop", "5.0.3"],
            &["upgrade", "--prepare-only", "5.0.3"],
            &["downgrade", "5.0.0"],
            &["check", "5.0.3"],
            &["plan", "5.0.3"],
            &["unpack", "5.0.3"],
            &["unpack", "releases/emqx-5.0.3.zip"],
            &["prune", "--keep", "0"],
            &["uninstall", "5.0.2"],
            &["migrate"],
            &["migrate", "--restored", "1"],
            &["adopt", install.to_str().unwrap(), "4.0.0"],
            &["adopt", "--name", "other", install.to_str().unwrap(), "4.0.0"],
            &["init", "--name", "emqx"],
        ] {
            host.run(args)
                .code(2)
                .stdout("")
                .stderr_has(&format!("error: cannot use {}", host.root().display()));
            host.run(args).stderr_has(error);
            assert_eq!(host.tree(), before, "{args:?} changed something");
        }
    }
}

#[test]
fn boot_succeeds_with_wrong_manifests_and_paths() {
    let damage = |host: &Host| {
        let releases = host.root().join("releases");
        fs::write(releases.join("5.0.0/release.toml"), "name = 'emqx'\nversion = '5.0.0'\n[x]\n").unwrap();
        fs::write(releases.join("5.0.1/release.toml"), "name = \n").unwrap();
        fs::write(releases.join("paths.toml"), "[[paths]]\n").unwrap();
    };
    let errors = ["5.0.0/release.toml, line 3", "5.0.1/release.toml, line 1", "paths.toml, line 1"];
    let host = on_trial();
    damage(&host);
    for args in [&["versions"][..], &["history"], &["root-dir"], &["boot", "--dry-run"]] {
        let run = host.run(args).ok();
        errors.iter().fold(run, |run, error| run.stderr_has(error));
    }
    let run = host.run(["status"]).code(1);
    errors.iter().fold(run, |run, error| run.stdout_has(error));
    host.run(["status", "--format", "prometheus"]).ok().stdout_has("tenure_problems{");
    host.run(["upgrade", "5.0.3"]).code(2);
    host.run(["boot"])
        .ok()
        .stdout("Ended the trial of 5.0.1; the service starts with 5.0.0\n")
        .stderr_has(errors[0]);
    for (command, current) in [("revert", "5.0.0"), ("confirm", "5.0.1")] {
        let host = on_trial();
        damage(&host);
        host.run([command]).ok().stderr_has(errors[0]);
        assert_eq!(host.link("permanent"), Some(format!("releases/{current}")));
        assert_eq!(host.link("current"), Some(format!("releases/{current}")));
    }
    let host = on_trial();
    damage(&host);
    host.run(["confirm"])
        .ok()
        .stderr_has("warning: the data of 5.0.1 is not migrated: cannot use ")
        .stderr_has("warning: correct the file, then run `tenure migrate`\n");
}

#[test]
fn boot_succeeds_with_damaged_state_files() {
    for name in ["journal", "trial", "history", "receipts", "log", "guard", "data"] {
        let host = on_trial();
        let place = host.root().join(".tenure").join(name);
        let _ = fs::remove_file(&place);
        let _ = fs::remove_dir_all(&place);
        match name {
            "receipts" | "log" | "data" => fs::write(&place, "x").unwrap(),
            _ => fs::create_dir(&place).unwrap(),
        }
        host.run(["versions"]).ok();
        host.run(["status"]);
        host.run(["boot"]).ok();
        assert_eq!(host.link("permanent").as_deref(), Some("releases/5.0.0"), "{name}");
        if name != "receipts" {
            assert_eq!(host.link("current").as_deref(), Some("releases/5.0.0"), "{name}");
        }
    }
    let host = on_trial();
    fs::remove_dir_all(host.root().join(".tenure")).unwrap();
    fs::write(host.root().join(".tenure"), "x").unwrap();
    host.run(["boot"]).ok().stderr_has("warning: ");
    host.run(["versions"]).ok();
}

#[test]
fn wrong_key_elsewhere_does_not_block_revert() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    serving.changed("[timeouts]", "[timeout]");
    let status = serving.host.run(["status"]).code(1);
    status.stdout_has("Service: the service runs 5.0.1, healthy\n").stdout_has("unknown field `timeout`");
    serving.host.run(["revert"]).ok().stderr_has("the nearest known key is `timeouts`");
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
}

#[test]
fn unreadable_service_table_moves_links_only() {
    for (from, to) in [("[service]", "[servce]"), ("[service]", "[service"), ("start = ", "start = 5 #")] {
        let serving = Serving::start("");
        serving.pack(&Greeter::well("5.0.1"));
        serving.host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
        serving.changed(from, to);
        let run = serving.host.run(["revert"]).ok();
        run.stderr_has("warning: the service is not moved: the table [service] of tenure.toml cannot be read\n")
            .stderr_has("warning: restart the service after the links are switched, for example with `systemctl restart UNIT`\n");
        assert_eq!(serving.host.link("current").as_deref(), Some("releases/5.0.0"));
        assert_eq!(serving.answers().as_deref(), Some("5.0.1"), "it was not moved");
        serving.changed(to, from);
        serving
            .host
            .run(["status"])
            .code(1)
            .stdout_has("the service runs 5.0.1, and `current` points to 5.0.0");
    }
}

#[test]
fn guard_ends_trial_with_wrong_settings() {
    taken_over_with(("[timeouts]", "[timeout]"), false);
}

#[test]
fn guard_moves_service_after_settings_are_fixed() {
    taken_over_with(("[service]", "[servce]"), true);
}

/// Returns the process ID of the active guard, which holds the lock, or `None`.
fn on_duty(host: &Host) -> Option<i32> {
    let inode = fs::metadata(host.root().join(".tenure/guard")).unwrap().ino();
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let held = locks.lines().find(|line| line.contains("FLOCK") && line.contains(&format!(":{inode} ")))?;
    held.split_whitespace().nth(4)?.parse().ok()
}

/// Asserts that a trial ends under guards that started after the settings became wrong.
fn taken_over_with((right, wrong): (&str, &str), corrected: bool) {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    serving.host.run(["upgrade", "--confirm-within", "12s", "5.0.1"]).ok();
    serving.until("one is on duty", || on_duty(&serving.host).is_some());
    let mut first = guards(&serving.host);
    assert_eq!(first.len(), 2);
    first.sort_by_key(|pid| Some(*pid) != on_duty(&serving.host));
    serving.changed(right, wrong);
    // After the active guard is killed, a new guard starts and reads the current settings.
    for pid in &first {
        serving.until("two stand guard", || guards(&serving.host).len() == 2);
        // A guard that has just started may not have noticed the active guard yet.
        std::thread::sleep(std::time::Duration::from_millis(500));
        kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
        serving.until("it is gone", || !guards(&serving.host).contains(pid));
    }
    serving.until("two others stand guard", || guards(&serving.host).len() == 2);
    if corrected {
        serving.changed(wrong, right);
    }
    serving.until("the guards have left", || guards(&serving.host).is_empty());
    assert_eq!(serving.host.link("current").as_deref(), Some("releases/5.0.0"));
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
    serving.host.run(["history"]).ok().stdout_has("5.0.1 was not confirmed in time");
}

#[test]
fn watched_trial_ends_with_wrong_manifest() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    let settings = fs::read_to_string(serving.host.root().join("tenure.toml")).unwrap();
    let without = settings.replace("[health]", "[x-health]");
    let (before, rest) = without.split_once("[x-health]").unwrap();
    let (_, timeouts) = rest.split_once("[timeouts]").unwrap();
    fs::write(serving.host.root().join("tenure.toml"), format!("{before}[timeouts]{timeouts}")).unwrap();
    let mut upgrade = serving.host.command(["upgrade", "--watch", "3s", "5.0.1"]);
    let mut upgrade = upgrade.stderr(std::process::Stdio::null()).spawn().unwrap();
    serving.until("it is on trial", || serving.host.root().join(".tenure/trial").exists());
    serving.until("it is followed", || !serving.host.root().join(".tenure/journal").exists());
    fs::write(serving.host.root().join("releases/5.0.1/release.toml"), "name = \n").unwrap();
    assert_eq!(upgrade.wait().unwrap().code(), Some(3));
    serving.until("the guards have left", || guards(&serving.host).is_empty());
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
}

#[test]
fn directory_of_another_tool_is_not_a_root() {
    let host = Host::new();
    fs::remove_file(host.root().join("tenure.toml")).unwrap();
    fs::create_dir_all(host.root().join("releases/20240101120000")).unwrap();
    host.release("5.0.0");
    symlink("releases/20240101120000", host.root().join("current")).unwrap();
    let before = host.tree();
    let hint = format!("hint: to make it a root, run `tenure init --root {}`\n", host.root().display());
    for args in [
        &["boot"][..],
        &["prune"],
        &["install", "5.0.0"],
        &["install", "--dry-run", "5.0.0"],
        &["check", "5.0.0"],
        &["uninstall", "5.0.0"],
        &["revert"],
        &["confirm"],
        &["migrate"],
        &["adopt", "/etc", "1.0.0"],
        &["adopt", "--name", "emqx", "/etc", "1.0.0"],
    ] {
        let error = format!(
            "error: cannot change {}: it contains releases/, but it is not a Tenure root\n",
            host.root().display()
        );
        host.run(args).code(2).stdout("").stderr(&format!("{error}{hint}"));
        assert_eq!(host.tree(), before, "{args:?}");
    }
    for args in [&["root-dir"][..], &["history"]] {
        host.run(args).ok();
    }
    host.run(["status"]).code(1).stdout_has("* 5.0.0\tunpacked");
    assert_eq!(host.tree(), before);
    fs::remove_file(host.root().join("current")).unwrap();
    host.run(["init", "--dry-run"]).ok();
    host.run(["init"]).ok();
    host.run(["install", "5.0.0"]).ok();
    // A start does not need the contents of .tenure/.
    fs::remove_dir_all(host.root().join(".tenure")).unwrap();
    host.run(["boot"]).ok();
    assert!(host.root().join(".tenure").exists());
}
