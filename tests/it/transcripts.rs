//! The exact output and the exit codes of the commands: the transcripts of the contract, and each command in each
//! state of its target.

use crate::support::Host;

#[test]
fn install_then_upgrade() {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    host.run(["versions"]).ok().stdout("Installed versions:\n* 5.0.0\tpermanent\n").stderr("");

    host.archive("5.0.1");
    host.run(["upgrade", "5.0.1"])
        .ok()
        .stdout(
            "Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip\n\
             Unpacked successfully: \"5.0.1\"\n\
             Installed Release: 5.0.1\n\
             Made release permanent: \"5.0.1\"\n",
        )
        .stderr("");
    host.run(["versions"]).ok().stdout("Installed versions:\n* 5.0.1\tpermanent\n* 5.0.0\told\n");
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.1"));
    assert_eq!(host.link("permanent").as_deref(), Some("releases/5.0.1"));
}

#[test]
fn trial_becomes_permanent() {
    let host = Host::new();
    host.archive("5.0.0");
    host.archive("5.0.1");
    host.run(["install", "5.0.0"]).ok();
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok().stdout(
        "Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip\n\
         Unpacked successfully: \"5.0.1\"\n\
         Installed Release: 5.0.1\n",
    );
    host.run(["versions"]).ok().stdout("Installed versions:\n* 5.0.1\tcurrent\n* 5.0.0\tpermanent\n");
    host.run(["install", "5.0.1"]).ok().stdout(
        "Release 5.0.1 is already installed and current, making permanent.\n\
         Made release permanent: \"5.0.1\"\n",
    );
    host.run(["downgrade", "5.0.0"]).ok().stdout(
        "Release 5.0.0 is marked old, switching to it.\n\
         Installed Release: 5.0.0\n\
         Made release permanent: \"5.0.0\"\n",
    );
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["uninstall", "5.0.0"]).ok().stdout(
        "Release 5.0.0 is marked old, uninstalling it.\n\
         Uninstalled Release: 5.0.0\n",
    );
    host.run(["versions"]).ok().stdout("Installed versions:\n* 5.0.1\tpermanent\n");
}

/// Returns a root with a release in every state: 5.0.0 old, 5.0.1 permanent, 5.0.2 current, 5.0.3 unpacked, and an
/// archive of 5.0.4.
fn all_states() -> Host {
    let host = Host::new();
    for version in ["5.0.0", "5.0.1", "5.0.2", "5.0.3", "5.0.4"] {
        host.archive(version);
    }
    host.run(["install", "5.0.0"]).ok();
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["upgrade", "--no-permanent", "5.0.2"]).ok();
    host.run(["unpack", "5.0.3"]).ok();
    host
}

#[test]
fn unpack_in_every_state() {
    let host = all_states();
    let before = host.states();
    assert_eq!(before, ["5.0.3 unpacked", "5.0.2 current", "5.0.1 permanent", "5.0.0 old"]);
    for (version, state) in [("5.0.0", "old"), ("5.0.1", "permanent"), ("5.0.2", "current")] {
        host.run(["unpack", version])
            .ok()
            .stdout(&format!("Release {version} is already unpacked and marked {state}.\n"));
    }
    host.run(["unpack", "5.0.3"]).ok().stdout("Release 5.0.3 is already unpacked.\n");
    assert_eq!(host.states(), before);
    host.run(["unpack", "5.0.9"]).code(2).stderr_has("emqx-5.0.9.zip");
    host.run(["unpack", "5.0.4"]).ok();
    assert_eq!(host.states()[0], "5.0.4 unpacked");
}

#[test]
fn install_in_every_state() {
    let after = |args: &[&str]| {
        let host = all_states();
        host.run(args).ok();
        host.states()
    };
    assert_eq!(
        after(&["install", "5.0.4"]),
        ["5.0.4 permanent", "5.0.3 unpacked", "5.0.2 unpacked", "5.0.1 old", "5.0.0 old"]
    );
    assert_eq!(after(&["install", "5.0.3"]), ["5.0.3 permanent", "5.0.2 unpacked", "5.0.1 old", "5.0.0 old"]);
    assert_eq!(
        after(&["install", "--no-permanent", "5.0.3"]),
        ["5.0.3 current", "5.0.2 unpacked", "5.0.1 permanent", "5.0.0 old"]
    );
    assert_eq!(after(&["install", "5.0.2"]), ["5.0.3 unpacked", "5.0.2 permanent", "5.0.1 old", "5.0.0 old"]);
    assert_eq!(
        after(&["install", "--no-permanent", "5.0.2"]),
        ["5.0.3 unpacked", "5.0.2 current", "5.0.1 permanent", "5.0.0 old"]
    );
    assert_eq!(
        after(&["install", "5.0.1"]),
        ["5.0.3 unpacked", "5.0.2 unpacked", "5.0.1 permanent", "5.0.0 old"]
    );
    assert_eq!(
        after(&["install", "5.0.0"]),
        ["5.0.3 unpacked", "5.0.2 unpacked", "5.0.1 old", "5.0.0 permanent"]
    );
    let host = all_states();
    host.run(["install", "5.0.9"]).code(2).stderr_has("emqx-5.0.9.zip, .tar.gz");
    host.run(["install", "5.0.1"]).ok();
    host.run(["install", "5.0.1"]).ok().stdout("Release 5.0.1 is already installed and permanent.\n");
}

#[test]
fn uninstall_in_every_state() {
    let host = all_states();
    host.run(["uninstall", "5.0.4"]).code(2).stderr_has("not installed");
    host.run(["uninstall", "5.0.9"]).code(2).stderr_has("not installed");
    host.run(["uninstall", "5.0.2"]).code(2).stderr_has("it is running");
    host.run(["uninstall", "5.0.1"]).code(2).stderr_has("the next start runs it");
    host.run(["uninstall", "5.0.3"]).ok().stdout_has("Release 5.0.3 is marked unpacked, uninstalling it.\n");
    host.run(["uninstall", "5.0.0"]).ok();
    assert_eq!(host.states(), ["5.0.2 current", "5.0.1 permanent"]);
    host.run(["confirm"]).ok();
    host.run(["uninstall", "5.0.2"]).code(2).stderr_has("it is running");
}

#[test]
fn upgrade_and_downgrade_check_direction() {
    let host = all_states();
    host.run(["upgrade", "5.0.0"]).code(2).stderr_has("lower");
    host.run(["downgrade", "5.0.3"]).code(2).stderr_has("higher");
    host.run(["upgrade", "5.0.2"]).ok();
    host.run(["downgrade", "5.0.1"]).ok();
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 old", "5.0.1 permanent", "5.0.0 old"]);
    Host::new().run(["downgrade", "5.0.0"]).code(2).stderr_has("no release is installed");
}

#[test]
fn downgrade_does_not_confirm_trial() {
    let host = all_states();
    let before = host.states();
    for args in [&["downgrade", "5.0.2"][..], &["downgrade", "--no-permanent", "5.0.2"]] {
        host.run(args).code(2).stderr(
            "error: cannot downgrade to 5.0.2: it is current, on trial\n\
             hint: run `tenure revert` to end the trial and go back to 5.0.1\n\
             hint: run `tenure confirm` to make 5.0.2 permanent\n",
        );
    }
    assert_eq!(host.states(), before);
    // The same applies to a lower release on trial.
    host.run(["revert"]).ok();
    host.run(["downgrade", "--no-permanent", "5.0.0"]).ok();
    host.run(["downgrade", "5.0.0"])
        .code(2)
        .stderr_has("hint: run `tenure confirm` to make 5.0.0 permanent\n");
    host.run(["install", "5.0.0"]).ok();
    host.run(["downgrade", "5.0.0"]).ok().stdout("Release 5.0.0 is already installed and permanent.\n");
}

#[test]
fn minor_upgrade_needs_restart() {
    let host = Host::new();
    host.archive("5.0.0");
    host.archive("5.1.0");
    host.run(["install", "5.0.0"]).ok();
    host.run(["upgrade", "5.1.0"]).code(2).stderr_has("--restart").stdout("");
    assert_eq!(host.states(), ["5.0.0 permanent"]);
    host.run(["upgrade", "--restart", "5.1.0"]).ok();
    host.run(["downgrade", "5.0.0"]).code(2).stderr_has("--restart");
    host.run(["downgrade", "--restart", "5.0.0"]).ok();
    // The end of a trial does not need `--restart`.
    host.run(["upgrade", "--restart", "--no-permanent", "5.1.0"]).ok();
    host.run(["revert"]).ok();
    assert_eq!(host.states(), ["5.1.0 old", "5.0.0 permanent"]);
}

#[test]
fn hot_from_allows_minor_upgrade() {
    let host = Host::new();
    host.archive("5.0.0");
    let manifest = "name = 'emqx'\nversion = '5.1.0'\n[upgrade]\nhot-from = ['~5.0']\n";
    host.build("5.1.0").file("release.toml", manifest).write();
    host.run(["install", "5.0.0"]).ok();
    host.run(["upgrade", "5.1.0"]).ok();
    host.run(["downgrade", "5.0.0"]).ok();
}

#[test]
fn boot_ends_trial() {
    let host = all_states();
    host.run(["boot"]).ok().stdout("Ended the trial of 5.0.2; the service starts with 5.0.1\n");
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 unpacked", "5.0.1 permanent", "5.0.0 old"]);
    host.run(["boot"]).ok().stdout("");
    Host::new().run(["boot"]).code(2).stderr_has("no release is permanent");
}

#[test]
fn revert_and_confirm_end_trial() {
    let host = all_states();
    host.run(["revert"])
        .ok()
        .stdout("Release 5.0.1 is permanent, going back to it.\nInstalled Release: 5.0.1\n");
    host.run(["revert"]).ok().stdout("Release 5.0.1 is current and permanent; there is no trial to end.\n");
    host.run(["upgrade", "--no-permanent", "5.0.3"]).ok();
    host.run(["confirm"]).ok();
    host.run(["confirm"]).ok().stdout("Release 5.0.3 is already installed and permanent.\n");
    assert_eq!(host.states()[0], "5.0.3 permanent");
    Host::new().run(["confirm"]).code(2);
    Host::new().run(["revert"]).code(2);
}

#[test]
fn late_confirm_is_refused() {
    let host = all_states();
    let refused = |args: &[&str], version: &str, how: &str, again: &str| {
        let run = host.run(args).code(2).stdout("");
        let first =
            format!("error: cannot confirm {version}: it is not on trial any more; 5.0.1 is current\n");
        run.stderr_has(&first)
            .stderr_has(&format!("caused by: {version} was rolled back to 5.0.1 on 2"))
            .stderr_has(how)
            .stderr_has(&format!("hint: run `tenure {again}` to try it again\n"));
    };
    host.run(["revert"]).ok();
    for args in [&["confirm"][..], &["confirm", "5.0.2"], &["confirm", "--dry-run"]] {
        refused(args, "5.0.2", "with `revert`\n", "upgrade 5.0.2");
    }
    // A command that does not move a release does not change this.
    host.run(["unpack", "5.0.4"]).ok();
    refused(&["confirm"], "5.0.2", "with `revert`\n", "upgrade 5.0.2");
    host.run(["downgrade", "--no-permanent", "5.0.0"]).ok();
    host.run(["boot"]).ok();
    refused(&["confirm"], "5.0.0", "with `boot`\n", "downgrade 5.0.0");
    refused(&["confirm", "5.0.2"], "5.0.2", "with `revert`\n", "upgrade 5.0.2");
    host.run(["upgrade", "--no-permanent", "5.0.2"]).ok();
    host.run(["install", "5.0.1"]).ok();
    refused(&["confirm"], "5.0.2", "with `install 5.0.1`\n", "upgrade 5.0.2");
    // After an upgrade that was meant to stay, no rolled-back trial is reported.
    host.run(["upgrade", "5.0.3"]).ok();
    host.run(["confirm"]).ok().stdout("Release 5.0.3 is already installed and permanent.\n");
}

#[test]
fn confirm_checks_named_release() {
    let host = all_states();
    host.run(["confirm", "5.0.3"]).code(2).stderr(
        "error: cannot confirm 5.0.3: it is not on trial; 5.0.2 is on trial\n\
         hint: run `tenure confirm 5.0.2` to make that permanent\n",
    );
    host.run(["confirm", "5.0.1"]).code(2).stderr_has("it is not on trial; 5.0.2 is on trial\n");
    host.run(["confirm", "5.0.9"]).code(2).stderr_has("it is not on trial; 5.0.2 is on trial\n");
    host.run(["confirm", "banana"]).code(64);
    host.run(["confirm", "5.0.2"]).ok();
    // A repeated confirm succeeds.
    host.run(["confirm", "5.0.2"]).ok().stdout("Release 5.0.2 is already installed and permanent.\n");
    host.run(["confirm", "5.0.1"]).code(2).stderr(
        "error: cannot confirm 5.0.1: it is not on trial; 5.0.2 is current\n\
         hint: run `tenure status` to see the releases and the last trial\n",
    );
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 permanent", "5.0.1 old", "5.0.0 old"]);
}

#[test]
fn revert_checks_named_release() {
    let host = all_states();
    for other in ["5.0.3", "5.0.1", "5.0.9"] {
        host.run(["revert", other]).code(2).stderr(&format!(
            "error: cannot revert {other}: 5.0.2 is on trial\n\
             hint: run `tenure revert 5.0.2` to end that trial\n"
        ));
    }
    host.run(["revert", "5.0.2"]).ok().stdout_has("Release 5.0.1 is permanent, going back to it.\n");
    // A repeated revert has nothing to do, because 5.0.2 no longer runs.
    host.run(["revert", "5.0.2"])
        .ok()
        .stdout("Release 5.0.1 is current and permanent; there is no trial to end.\n");
    host.run(["revert", "5.0.1"]).code(2).stderr(
        "error: cannot revert 5.0.1: it is permanent, not on trial\n\
         hint: run `tenure install 5.0.0` to go back to 5.0.0\n",
    );
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 unpacked", "5.0.1 permanent", "5.0.0 old"]);
}

#[test]
fn dry_run_prints_plan_and_changes_nothing() {
    let host = all_states();
    let before = host.tree();
    host.run(["upgrade", "--dry-run", "5.0.4"]).ok().stdout(
        "Would do:\n\
        \x20 1. unpack releases/emqx-5.0.4.zip into releases/5.0.4\n\
        \x20 2. record that 5.0.1 has been permanent\n\
        \x20 3. point current at releases/5.0.4, now releases/5.0.2\n\
        \x20 4. point permanent at releases/5.0.4, now releases/5.0.1\n\
         Nothing was changed.\n",
    );
    for args in [
        vec!["unpack", "--dry-run", "5.0.4"],
        vec!["revert", "--dry-run"],
        vec!["confirm", "--dry-run"],
        vec!["boot", "--dry-run"],
        vec!["uninstall", "--dry-run", "5.0.0"],
        vec!["prune", "--dry-run", "--keep", "0"],
        vec!["install", "--dry-run", "5.0.2"],
    ] {
        host.run(&args).ok().stdout_has("Nothing was changed.");
        let plan = host.run([&args[..], &["--json"]].concat()).ok().json();
        assert_eq!(plan["schema"], 1, "{args:?}");
        assert!(plan["plan"]["steps"].is_array(), "{args:?}: {plan}");
    }
    assert_eq!(host.tree(), before);
}

#[test]
fn prune_keeps_last_known_good() {
    let host = Host::new();
    for version in ["5.0.0", "5.0.1", "5.0.2", "5.0.3", "5.0.4", "5.0.5"] {
        host.archive(version);
        host.run(["install", version]).ok();
    }
    // The last known good release is 5.0.1, although its version is low.
    host.run(["install", "5.0.1"]).ok();
    host.run(["install", "5.0.5"]).ok();
    host.run(["prune", "--keep", "1"]).ok().stdout_has("Removed release: 5.0.3 (old)");
    assert_eq!(host.states(), ["5.0.5 permanent", "5.0.4 old", "5.0.1 old"]);
    assert!(!host.root().join("releases/emqx-5.0.3.zip").exists(), "its archive goes as well");
    assert!(host.root().join("releases/emqx-5.0.4.zip").exists());
    host.run(["prune", "--keep", "0"]).ok();
    assert_eq!(host.states(), ["5.0.5 permanent", "5.0.1 old"]);
    host.run(["prune", "--keep", "0"]).ok().stdout("Nothing to remove.\n");
}

#[test]
fn verify_names_every_difference() {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    host.run(["verify"]).ok().stdout("Release 5.0.0 is unchanged since it was unpacked.\n");
    let release = host.root().join("releases/5.0.0");
    std::fs::write(release.join("bin/emqx"), "edited").unwrap();
    std::fs::write(release.join("added"), "").unwrap();
    std::fs::remove_file(release.join("release.toml")).unwrap();
    host.run(["verify", "5.0.0"]).code(1).stdout(
        "Release 5.0.0 has changed since it was unpacked:\n\
        \x20 changed: bin/emqx\n\
        \x20 added: added\n\
        \x20 removed: release.toml\n",
    );
    host.release("4.9.0");
    host.run(["verify", "4.9.0"]).code(2).stderr_has("cannot verify 4.9.0");
}

#[test]
fn history_records_changes() {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    host.run(["upgrade", "5.0.9"]).code(2);
    let history = host.run(["history", "--json"]).ok().json();
    let entries = history["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "what was refused changed nothing: {history}");
    assert_eq!(entries[0]["command"], "install 5.0.0");
    assert_eq!(entries[0]["outcome"], "done");
    assert_eq!(entries[0]["to"], "5.0.0");
    host.run(["history"]).ok().stdout_has("install 5.0.0");
}

#[test]
fn versions_in_json() {
    let host = all_states();
    host.release("4.0.0");
    let all = host.run(["versions", "--json"]).ok().json();
    assert_eq!(all["schema"], 1);
    assert_eq!(all["name"], "emqx");
    let releases = all["releases"].as_array().unwrap();
    assert_eq!(releases[0]["version"], "5.0.3");
    assert_eq!(releases[1]["state"], "current");
    assert_eq!(releases[0]["archive"], "emqx-5.0.3.zip");
    assert_eq!(releases[0]["sha256"].as_str().unwrap().len(), 64);
    assert!(releases[0]["unpacked_at"].as_str().unwrap().ends_with('Z'));
    let by_hand = releases.last().unwrap();
    assert_eq!(by_hand["version"], "4.0.0");
    assert!(by_hand["archive"].is_null() && by_hand["sha256"].is_null() && by_hand["unpacked_at"].is_null());
}

#[test]
fn error_prints_json() {
    let host = Host::new();
    let error = host.run(["upgrade", "5.0.9", "--json"]).code(2).json();
    assert_eq!(error["schema"], 1);
    assert_eq!(error["error"]["kind"], "refused");
    assert_eq!(error["error"]["code"], 2);
    assert!(error["error"]["message"].as_str().unwrap().contains("5.0.9"));
    assert!(error["error"]["causes"].is_array());
    assert!(!error["error"]["hints"].as_array().unwrap().is_empty());
    assert_eq!(host.run(["versions", "--json", "--banana"]).code(64).json()["error"]["kind"], "usage");
}

#[test]
fn adopt_copies_an_install() {
    let host = Host::new();
    let old = host.root().parent().unwrap().join("opt");
    std::fs::create_dir_all(old.join("bin")).unwrap();
    std::fs::write(old.join("bin/emqx"), "4.9.0").unwrap();
    std::os::unix::fs::symlink("/var/log/emqx", old.join("log")).unwrap();
    host.run(["adopt", old.to_str().unwrap(), "4.9.0"]).ok().stdout_has("Made release permanent: \"4.9.0\"");
    assert_eq!(host.states(), ["4.9.0 permanent"]);
    let adopted = host.root().join("current");
    assert_eq!(std::fs::read_to_string(adopted.join("bin/emqx")).unwrap(), "4.9.0");
    assert_eq!(std::fs::read_link(adopted.join("log")).unwrap().to_str(), Some("/var/log/emqx"));
    assert!(old.join("bin/emqx").exists(), "the install stays as it is");
    host.run(["adopt", old.to_str().unwrap(), "4.9.0"]).code(2).stderr_has("that release is installed");
    host.run(["adopt", "/nowhere", "4.9.1"]).code(2).stderr_has("/nowhere");
    // Nothing is created if the adoption is refused.
    let none = host.root().parent().unwrap().join("none");
    host.run(["adopt", "--root", none.to_str().unwrap(), "/nowhere", "4.9.1"]).code(2);
    assert!(!none.exists());
    host.run(["adopt", "..", "4.9.1"]).code(2).stderr_has("the root is in it");
    // A downgrade to the adopted release is possible.
    host.archive("4.9.1");
    host.run(["upgrade", "4.9.1"]).ok();
    host.run(["downgrade", "4.9.0"]).ok();
    host.run(["verify", "4.9.0"]).ok();
}

#[test]
fn adopt_refuses_another_release() {
    let host = Host::new();
    let beside = host.root().parent().unwrap();
    let (old, none) = (beside.join("opt"), beside.join("none"));
    std::fs::create_dir(&old).unwrap();
    let adopt = |manifest: &str, name: &str| {
        std::fs::write(old.join("release.toml"), manifest).unwrap();
        let (root, old) = (none.to_str().unwrap(), old.to_str().unwrap());
        host.run(["adopt", "--root", root, "--name", name, old, "4.9.0"])
    };
    let manifest = "name = 'emqx'\nversion = '4.9.0'\n";
    adopt(&manifest.replace("4.9.0", "4.9.1"), "emqx")
        .code(2)
        .stderr_has("another version: 4.9.1, not 4.9.0");
    adopt(manifest, "other").code(2).stderr_has("another product: emqx, not other");
    adopt(&format!("{manifest}nme = 'x'\n"), "emqx").code(2).stderr_has("release.toml, line 3");
    assert!(!none.exists(), "a refused command creates nothing");
    adopt(manifest, "emqx").ok();
}

#[test]
fn init_creates_root() {
    let host = Host::new();
    let new = host.root().parent().unwrap().join("new");
    let root = new.to_str().unwrap();
    host.run(["init", "--root", root, "--name", "emqx", "--dry-run"]).ok();
    let app = host.root().to_str().unwrap();
    host.run(["adopt", "--root", root, "--name", "../x", app, "1.0.0"])
        .code(2)
        .stderr_has("not a product name");
    assert!(!new.exists(), "a refused command creates nothing");
    host.run(["init", "--root", root, "--name", "emqx"]).ok().stdout_has("Made a root: ");
    host.run(["init", "--root", root, "--name", "emqx"]).ok().stdout_has("Already a root: ");
    host.run(["init", "--root", root, "--name", "other"]).code(2).stderr_has("tenure.toml");
    host.run(["init", "--root", root, "--name", "../x"]).code(2).stderr_has("not a product name");
    host.run(["versions", "--root", root]).ok().stdout("Installed versions:\n");
    host.run(["root-dir", "--root", root]).ok().stdout(&format!("{root}\n"));
    host.run(["root_dir", "--root", root]).ok().stdout(&format!("{root}\n"));
}

#[test]
fn every_archive_format_installs() {
    let host = Host::new();
    let mut patch = 0;
    for format in ["zip", "tar", "tar.gz", "tgz", "tar.zst", "tar.xz"] {
        for flat in [false, true] {
            patch += 1;
            let version = format!("5.0.{patch}");
            let build = host.build(&version).format(format);
            if flat {
                build.flat().write()
            } else {
                build.write()
            };
            host.run(["upgrade", &version])
                .ok()
                .stdout_has(&format!("attempting to unpack releases/emqx-{version}.{format}\n"));
            host.complete(&version);
        }
    }
    host.run(["verify"]).ok();
}
