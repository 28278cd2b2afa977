//! The exact output and the exit codes of the commands: the transcripts of the contract, and each command in each
//! state of its target.

use std::fs;

use crate::support::{Host, assert_run};
use insta::allow_duplicates;

#[test]
fn install_then_upgrade() {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.0\tpermanent
    ");

    host.archive("5.0.1");
    assert_run!(host, "upgrade 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    "#);
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.1\tpermanent
    * 5.0.0\told
    ");
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.1"));
    assert_eq!(host.link("permanent").as_deref(), Some("releases/5.0.1"));
}

#[test]
fn trial_becomes_permanent() {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "upgrade --no-permanent 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Installed Release: 5.0.1
    "#);
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.1\tcurrent
    * 5.0.0\tpermanent
    ");
    assert_run!(host, "install 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 is already installed and current, making permanent.
    Made release permanent: "5.0.1"
    "#);
    assert_run!(host, "downgrade 5.0.0", @r#"
    exit 0
    --- stdout
    Release 5.0.0 is marked old, switching to it.
    Installed Release: 5.0.0
    Made release permanent: "5.0.0"
    "#);
    host.run(["upgrade", "5.0.1"]).ok();
    assert_run!(host, "uninstall 5.0.0", @"
    exit 0
    --- stdout
    Release 5.0.0 is marked old, uninstalling it.
    Uninstalled Release: 5.0.0
    ");
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.1\tpermanent
    ");
}

/// Returns a root with a release in every state: 5.0.0 old, 5.0.1 permanent, 5.0.2 current, 5.0.3 unpacked, and an
/// archive of 5.0.4.
fn all_states() -> Host {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1", "5.0.2", "5.0.3", "5.0.4"]);
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
    assert_run!(host, "unpack 5.0.0", @"
    exit 0
    --- stdout
    Release 5.0.0 is already unpacked and marked old.
    ");
    assert_run!(host, "unpack 5.0.1", @"
    exit 0
    --- stdout
    Release 5.0.1 is already unpacked and marked permanent.
    ");
    assert_run!(host, "unpack 5.0.2", @"
    exit 0
    --- stdout
    Release 5.0.2 is already unpacked and marked current.
    ");
    assert_run!(host, "unpack 5.0.3", @"
    exit 0
    --- stdout
    Release 5.0.3 is already unpacked.
    ");
    assert_eq!(host.states(), before);
    assert_run!(host, "unpack 5.0.9", @"
    exit 2
    --- stderr
    error: release 5.0.9 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-5.0.9, emqx_5.0.9 and 5.0.9, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    hint: copy the archive there, or did you mean 5.0.4?
    ");
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
    assert_run!(host, "install 5.0.9", @"
    exit 2
    --- stderr
    error: release 5.0.9 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-5.0.9, emqx_5.0.9 and 5.0.9, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    hint: copy the archive there, or did you mean 5.0.4?
    ");
    host.run(["install", "5.0.1"]).ok();
    assert_run!(host, "install 5.0.1", @"
    exit 0
    --- stdout
    Release 5.0.1 is already installed and permanent.
    ");
}

#[test]
fn uninstall_in_every_state() {
    let host = all_states();
    assert_run!(host, "uninstall 5.0.4", @"
    exit 2
    --- stderr
    error: cannot uninstall 5.0.4: it is not installed
    hint: 5.0.3 is installed
    ");
    assert_run!(host, "uninstall 5.0.9", @"
    exit 2
    --- stderr
    error: cannot uninstall 5.0.9: it is not installed
    hint: 5.0.3 is installed
    ");
    assert_run!(host, "uninstall 5.0.2", @"
    exit 2
    --- stderr
    error: cannot uninstall 5.0.2: it is running, on trial
    hint: run `tenure revert` to go back to the permanent release
    ");
    assert_run!(host, "uninstall 5.0.1", @"
    exit 2
    --- stderr
    error: cannot uninstall 5.0.1: the next start runs it
    hint: run `tenure confirm` to make the current release permanent instead
    ");
    assert_run!(host, "uninstall 5.0.3", @"
    exit 0
    --- stdout
    Release 5.0.3 is marked unpacked, uninstalling it.
    Uninstalled Release: 5.0.3
    ");
    host.run(["uninstall", "5.0.0"]).ok();
    assert_eq!(host.states(), ["5.0.2 current", "5.0.1 permanent"]);
    host.run(["confirm"]).ok();
    assert_run!(host, "uninstall 5.0.2", @"
    exit 2
    --- stderr
    error: cannot uninstall 5.0.2: it is running
    hint: install another release first
    ");
}

#[test]
fn upgrade_and_downgrade_check_direction() {
    let host = all_states();
    assert_run!(host, "upgrade 5.0.0", @"
    exit 2
    --- stderr
    error: release 5.0.0 is lower than 5.0.2, which is current
    hint: run `tenure downgrade 5.0.0`, or `tenure install 5.0.0` for either direction
    ");
    assert_run!(host, "downgrade 5.0.3", @"
    exit 2
    --- stderr
    error: release 5.0.3 is higher than 5.0.2, which is current
    hint: run `tenure upgrade 5.0.3`, or `tenure install 5.0.3` for either direction
    ");
    host.run(["upgrade", "5.0.2"]).ok();
    host.run(["downgrade", "5.0.1"]).ok();
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 old", "5.0.1 permanent", "5.0.0 old"]);
    assert_run!(Host::new(), "downgrade 5.0.0", @"
    exit 2
    --- stderr
    error: cannot downgrade: no release is installed yet
    hint: run `tenure install 5.0.0` to install the first release
    ");
}

#[test]
fn downgrade_does_not_confirm_trial() {
    let host = all_states();
    let before = host.states();
    allow_duplicates! {
        for args in [&["downgrade", "5.0.2"][..], &["downgrade", "--no-permanent", "5.0.2"]] {
            assert_run!(host.run(args), @"
            exit 2
            --- stderr
            error: cannot downgrade to 5.0.2: it is current, on trial
            hint: run `tenure revert` to end the trial and go back to 5.0.1
            hint: run `tenure confirm` to make 5.0.2 permanent
            ");
        }
    }
    assert_eq!(host.states(), before);
    // The same applies to a lower release on trial.
    host.run(["revert"]).ok();
    host.run(["downgrade", "--no-permanent", "5.0.0"]).ok();
    assert_run!(host, "downgrade 5.0.0", @"
    exit 2
    --- stderr
    error: cannot downgrade to 5.0.0: it is current, on trial
    hint: run `tenure revert` to end the trial and go back to 5.0.1
    hint: run `tenure confirm` to make 5.0.0 permanent
    ");
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "downgrade 5.0.0", @"
    exit 0
    --- stdout
    Release 5.0.0 is already installed and permanent.
    ");
}

#[test]
fn minor_upgrade_needs_restart() {
    let host = Host::new();
    host.archives(&["5.0.0", "5.1.0"]);
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "upgrade 5.1.0", @"
    exit 2
    --- stderr
    error: cannot move hot from 5.0.0 to 5.1.0: only a patch of the same major and minor version is a hot upgrade
    hint: use `--restart` to stop the service and start it in 5.1.0
    ");
    assert_eq!(host.states(), ["5.0.0 permanent"]);
    host.run(["upgrade", "--restart", "5.1.0"]).ok();
    assert_run!(host, "downgrade 5.0.0", @"
    exit 2
    --- stderr
    error: cannot move hot from 5.1.0 to 5.0.0: only a patch of the same major and minor version is a hot upgrade
    hint: use `--restart` to stop the service and start it in 5.0.0
    ");
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
    assert_run!(host, "boot", @"
    exit 0
    --- stdout
    Ended the trial of 5.0.2; the service starts with 5.0.1
    ");
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 unpacked", "5.0.1 permanent", "5.0.0 old"]);
    assert_run!(host, "boot", @"exit 0");
    assert_run!(Host::new(), "boot", @"
    exit 2
    --- stderr
    error: no release is permanent
    hint: run `tenure install VERSION` to install a release
    ");
}

#[test]
fn revert_and_confirm_end_trial() {
    let host = all_states();
    assert_run!(host, "revert", @"
    exit 0
    --- stdout
    Release 5.0.1 is permanent, going back to it.
    Installed Release: 5.0.1
    ");
    assert_run!(host, "revert", @"
    exit 0
    --- stdout
    Release 5.0.1 is current and permanent; no release is on trial.
    ");
    host.run(["upgrade", "--no-permanent", "5.0.3"]).ok();
    host.run(["confirm"]).ok();
    assert_run!(host, "confirm", @"
    exit 0
    --- stdout
    Release 5.0.3 is already installed and permanent.
    ");
    assert_eq!(host.states()[0], "5.0.3 permanent");
    Host::new().run(["confirm"]).code(2);
    Host::new().run(["revert"]).code(2);
}

#[test]
fn late_confirm_is_refused() {
    let host = all_states();
    host.run(["revert"]).ok();
    allow_duplicates! {
        for args in [&["confirm"][..], &["confirm", "5.0.2"], &["confirm", "--dry-run"]] {
            assert_run!(host.run(args), @"
            exit 2
            --- stderr
            error: cannot confirm 5.0.2: it is not on trial any more; 5.0.1 is current
            caused by: 5.0.2 was rolled back to 5.0.1 on [TIME] by [USER] with `revert`
            hint: run `tenure upgrade 5.0.2` to try it again
            ");
        }
    }
    // A command that does not move a release does not change this.
    host.run(["unpack", "5.0.4"]).ok();
    assert_run!(host, "confirm", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.2: it is not on trial any more; 5.0.1 is current
    caused by: 5.0.2 was rolled back to 5.0.1 on [TIME] by [USER] with `revert`
    hint: run `tenure upgrade 5.0.2` to try it again
    ");
    host.run(["downgrade", "--no-permanent", "5.0.0"]).ok();
    host.run(["boot"]).ok();
    assert_run!(host, "confirm", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.0: it is not on trial any more; 5.0.1 is current
    caused by: 5.0.0 was rolled back to 5.0.1 on [TIME] by [USER] with `boot`
    hint: run `tenure downgrade 5.0.0` to try it again
    ");
    assert_run!(host, "confirm 5.0.2", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.2: it is not on trial any more; 5.0.1 is current
    caused by: 5.0.2 was rolled back to 5.0.1 on [TIME] by [USER] with `revert`
    hint: run `tenure upgrade 5.0.2` to try it again
    ");
    host.run(["upgrade", "--no-permanent", "5.0.2"]).ok();
    host.run(["install", "5.0.1"]).ok();
    assert_run!(host, "confirm", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.2: it is not on trial any more; 5.0.1 is current
    caused by: 5.0.2 was rolled back to 5.0.1 on [TIME] by [USER] with `install 5.0.1`
    hint: run `tenure upgrade 5.0.2` to try it again
    ");
    // After an upgrade that was meant to stay, no rolled-back trial is reported.
    host.run(["upgrade", "5.0.3"]).ok();
    assert_run!(host, "confirm", @"
    exit 0
    --- stdout
    Release 5.0.3 is already installed and permanent.
    ");
}

#[test]
fn confirm_checks_named_release() {
    let host = all_states();
    assert_run!(host, "confirm 5.0.3", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.3: it is not on trial; 5.0.2 is on trial
    hint: run `tenure confirm 5.0.2` to make that permanent
    ");
    assert_run!(host, "confirm 5.0.1", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.1: it is not on trial; 5.0.2 is on trial
    hint: run `tenure confirm 5.0.2` to make that permanent
    ");
    assert_run!(host, "confirm 5.0.9", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.9: it is not on trial; 5.0.2 is on trial
    hint: run `tenure confirm 5.0.2` to make that permanent
    ");
    host.run(["confirm", "banana"]).code(64);
    host.run(["confirm", "5.0.2"]).ok();
    // A repeated confirm succeeds.
    assert_run!(host, "confirm 5.0.2", @"
    exit 0
    --- stdout
    Release 5.0.2 is already installed and permanent.
    ");
    assert_run!(host, "confirm 5.0.1", @"
    exit 2
    --- stderr
    error: cannot confirm 5.0.1: it is not on trial; 5.0.2 is current
    hint: run `tenure status` to see the releases and the last trial
    ");
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 permanent", "5.0.1 old", "5.0.0 old"]);
}

#[test]
fn revert_checks_named_release() {
    let host = all_states();
    assert_run!(host, "revert 5.0.3", @"
    exit 2
    --- stderr
    error: cannot revert 5.0.3: 5.0.2 is on trial
    hint: run `tenure revert 5.0.2` to end that trial
    ");
    assert_run!(host, "revert 5.0.1", @"
    exit 2
    --- stderr
    error: cannot revert 5.0.1: 5.0.2 is on trial
    hint: run `tenure revert 5.0.2` to end that trial
    ");
    assert_run!(host, "revert 5.0.9", @"
    exit 2
    --- stderr
    error: cannot revert 5.0.9: 5.0.2 is on trial
    hint: run `tenure revert 5.0.2` to end that trial
    ");
    assert_run!(host, "revert 5.0.2", @"
    exit 0
    --- stdout
    Release 5.0.1 is permanent, going back to it.
    Installed Release: 5.0.1
    ");
    // A repeated revert has nothing to do, because 5.0.2 no longer runs.
    assert_run!(host, "revert 5.0.2", @"
    exit 0
    --- stdout
    Release 5.0.1 is current and permanent; no release is on trial.
    ");
    assert_run!(host, "revert 5.0.1", @"
    exit 2
    --- stderr
    error: cannot revert 5.0.1: it is permanent, not on trial
    hint: run `tenure install 5.0.0` to go back to 5.0.0
    ");
    assert_eq!(host.states(), ["5.0.3 unpacked", "5.0.2 unpacked", "5.0.1 permanent", "5.0.0 old"]);
}

#[test]
fn dry_run_prints_plan_and_changes_nothing() {
    let host = all_states();
    let before = host.tree();
    assert_run!(host, "upgrade --dry-run 5.0.4", @"
    exit 0
    --- stdout
    Would do:
      1. unpack releases/emqx-5.0.4.zip into releases/5.0.4
      2. record that 5.0.1 has been permanent
      3. point current at releases/5.0.4, now releases/5.0.2
      4. point permanent at releases/5.0.4, now releases/5.0.1
    Nothing was changed.
    ");
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
    assert_run!(host, "prune --keep 1", @"
    exit 0
    --- stdout
    Removed release: 5.0.3 (old), 11.8 KiB
    Removed archive: releases/emqx-5.0.3.zip, 1.4 KiB
    Removed release: 5.0.2 (old), 11.8 KiB
    Removed archive: releases/emqx-5.0.2.zip, 1.4 KiB
    Removed release: 5.0.0 (old), 11.8 KiB
    Removed archive: releases/emqx-5.0.0.zip, 1.4 KiB
    ");
    assert_eq!(host.states(), ["5.0.5 permanent", "5.0.4 old", "5.0.1 old"]);
    assert!(!host.root().join("releases/emqx-5.0.3.zip").exists(), "its archive goes as well");
    assert!(host.root().join("releases/emqx-5.0.4.zip").exists());
    host.run(["prune", "--keep", "0"]).ok();
    assert_eq!(host.states(), ["5.0.5 permanent", "5.0.1 old"]);
    assert_run!(host, "prune --keep 0", @"
    exit 0
    --- stdout
    Nothing to remove.
    ");
}

#[test]
fn verify_names_every_difference() {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "verify", @"
    exit 0
    --- stdout
    Release 5.0.0 is unchanged since it was unpacked.
    ");
    let release = host.root().join("releases/5.0.0");
    fs::write(release.join("bin/emqx"), "edited").unwrap();
    fs::write(release.join("added"), "").unwrap();
    fs::remove_file(release.join("release.toml")).unwrap();
    assert_run!(host, "verify 5.0.0", @"
    exit 1
    --- stdout
    Release 5.0.0 has changed since it was unpacked:
      changed: bin/emqx
      added: added
      removed: release.toml
    ");
    host.release("4.9.0");
    assert_run!(host, "verify 4.9.0", @"
    exit 2
    --- stderr
    error: cannot verify 4.9.0: Tenure did not unpack it and has no record of its files
    hint: `tenure unpack --replace 4.9.0` unpacks it from its archive, while it is not in use
    ");
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
    assert_run!(host, "history", @"
    exit 0
    --- stdout
    [TIME]  install 5.0.0  by [USER]: done in [DURATION]
    ");
}

#[test]
fn versions_in_json() {
    let host = all_states();
    host.release("4.0.0");
    assert_run!(host, "versions --json", @r#"
    exit 0
    --- stdout
    {
      "schema": 1,
      "name": "emqx",
      "root": "[ROOT]",
      "releases": [
        {
          "version": "5.0.3",
          "state": "unpacked",
          "path": "[ROOT]/releases/5.0.3",
          "unpacked_at": "[TIME]",
          "archive": "emqx-5.0.3.zip",
          "sha256": "[SHA256]",
          "failed": null
        },
        {
          "version": "5.0.2",
          "state": "current",
          "path": "[ROOT]/releases/5.0.2",
          "unpacked_at": "[TIME]",
          "archive": "emqx-5.0.2.zip",
          "sha256": "[SHA256]",
          "failed": null
        },
        {
          "version": "5.0.1",
          "state": "permanent",
          "path": "[ROOT]/releases/5.0.1",
          "unpacked_at": "[TIME]",
          "archive": "emqx-5.0.1.zip",
          "sha256": "[SHA256]",
          "failed": null
        },
        {
          "version": "5.0.0",
          "state": "old",
          "path": "[ROOT]/releases/5.0.0",
          "unpacked_at": "[TIME]",
          "archive": "emqx-5.0.0.zip",
          "sha256": "[SHA256]",
          "failed": null
        },
        {
          "version": "4.0.0",
          "state": "unpacked",
          "path": "[ROOT]/releases/4.0.0",
          "unpacked_at": null,
          "archive": null,
          "sha256": null,
          "failed": null
        }
      ]
    }
    "#);
}

#[test]
fn error_prints_json() {
    let host = Host::new();
    assert_run!(host, "upgrade 5.0.9 --json", @r#"
    exit 2
    --- stdout
    {
      "schema": 1,
      "error": {
        "kind": "refused",
        "code": 2,
        "message": "release 5.0.9 is not installed, and no archive of it is in [ROOT]/releases",
        "causes": [
          "looked for emqx-5.0.9, emqx_5.0.9 and 5.0.9, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar"
        ],
        "hints": [
          "copy the archive there; run `tenure versions` to see the installed releases"
        ]
      }
    }
    "#);
    assert_run!(host, "versions --json --banana", @r#"
    exit 64
    --- stdout
    {
      "schema": 1,
      "error": {
        "kind": "usage",
        "code": 64,
        "message": "unexpected argument '--banana' found",
        "causes": [],
        "hints": [
          "`tenure --help` shows the usage"
        ]
      }
    }
    "#);
}

#[test]
fn adopt_copies_an_install() {
    let host = Host::new();
    let old = host.root().parent().unwrap().join("opt");
    fs::create_dir_all(old.join("bin")).unwrap();
    fs::write(old.join("bin/emqx"), "4.9.0").unwrap();
    std::os::unix::fs::symlink("/var/log/emqx", old.join("log")).unwrap();
    let adopt = format!("adopt {} 4.9.0", old.display());
    assert_run!(host, adopt, @r#"
    exit 0
    --- stdout
    Adopted [DIR]/opt as release 4.9.0
    Installed Release: 4.9.0
    Made release permanent: "4.9.0"
    "#);
    assert_eq!(host.states(), ["4.9.0 permanent"]);
    let adopted = host.root().join("current");
    assert_eq!(fs::read_to_string(adopted.join("bin/emqx")).unwrap(), "4.9.0");
    assert_eq!(fs::read_link(adopted.join("log")).unwrap().to_str(), Some("/var/log/emqx"));
    assert!(old.join("bin/emqx").exists(), "the install stays as it is");
    assert_run!(host, adopt, @"
    exit 2
    --- stderr
    error: cannot adopt [DIR]/opt as 4.9.0: that release is installed
    hint: run `tenure versions` to see the installed releases
    ");
    assert_run!(host, "adopt /nowhere 4.9.1", @"
    exit 2
    --- stderr
    error: cannot find /nowhere
    caused by: No such file or directory (os error 2)
    ");
    // Nothing is created if the adoption is refused.
    let none = host.root().parent().unwrap().join("none");
    host.run(["adopt", "--root", none.to_str().unwrap(), "/nowhere", "4.9.1"]).code(2);
    assert!(!none.exists());
    assert_run!(host, "adopt .. 4.9.1", @"
    exit 2
    --- stderr
    error: cannot adopt [DIR]: the root is in it
    hint: make the root elsewhere: `tenure init --root DIR`
    ");
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
    fs::create_dir(&old).unwrap();
    let adopt = |manifest: &str, name: &str| {
        fs::write(old.join("release.toml"), manifest).unwrap();
        let (root, old) = (none.to_str().unwrap(), old.to_str().unwrap());
        host.run(["adopt", "--root", root, "--name", name, old, "4.9.0"])
    };
    let manifest = "name = 'emqx'\nversion = '4.9.0'\n";
    assert_run!(adopt(&manifest.replace("4.9.0", "4.9.1"), "emqx"), @"
    exit 2
    --- stderr
    error: cannot adopt [DIR]/opt: release.toml declares another version: 4.9.1, not 4.9.0
    hint: give the version and the product of the manifest, or correct the manifest
    ");
    assert_run!(adopt(manifest, "other"), @"
    exit 2
    --- stderr
    error: cannot adopt [DIR]/opt: release.toml declares another product: emqx, not other
    hint: give the version and the product of the manifest, or correct the manifest
    ");
    assert_run!(adopt(&format!("{manifest}nme = 'x'\n"), "emqx"), @"
    exit 2
    --- stderr
    error: cannot use [DIR]/opt/release.toml, line 3: unknown field `nme`, expected one of `name`, `version`, `upgrade`, `requires`, `files`, `data`, `hooks`, `health`, `timeouts`
    hint: the nearest known key is `name`
    ");
    assert!(!none.exists(), "a refused command creates nothing");
    adopt(manifest, "emqx").ok();
}

#[test]
fn init_creates_root() {
    let host = Host::new();
    let new = host.root().parent().unwrap().join("new");
    let root = new.to_str().unwrap();
    host.run(["init", "--root", root, "--name", "emqx", "--dry-run"]).ok();
    let app = host.root().display();
    assert_run!(host, format!("adopt --root {root} --name ../x {app} 1.0.0"), @r#"
    exit 2
    --- stderr
    error: "../x" is not a product name
    hint: a name is 1 to 128 letters of a to z and A to Z, digits, `.`, `_`, `+` and `-`, and begins with neither `.` nor `-`
    "#);
    assert!(!new.exists(), "a refused command creates nothing");
    assert_run!(host, format!("init --root {root} --name emqx"), @"
    exit 0
    --- stdout
    Made a root: [DIR]/new
    ");
    assert_run!(host, format!("init --root {root} --name emqx"), @"
    exit 0
    --- stdout
    Already a root: [DIR]/new
    ");
    assert_run!(host, format!("init --root {root} --name other"), @r#"
    exit 2
    --- stderr
    error: [DIR]/new/tenure.toml exists already and names emqx, not other
    hint: write `name = "other"` into it
    "#);
    assert_run!(host, format!("init --root {root} --name ../x"), @r#"
    exit 2
    --- stderr
    error: "../x" is not a product name
    hint: a name is 1 to 128 letters of a to z and A to Z, digits, `.`, `_`, `+` and `-`, and begins with neither `.` nor `-`
    "#);
    assert_run!(host, format!("versions --root {root}"), @"
    exit 0
    --- stdout
    Installed versions:
    ");
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
