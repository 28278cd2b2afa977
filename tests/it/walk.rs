//! Multi-hop upgrades: each release is healthy, permanent and migrated before the next hop.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::case::{Case, Outcome, is_interrupted, links};
use crate::support::serving::{Greeter, Serving};
use crate::support::stepper::{self, Ended};
use crate::support::{Host, assert_run, assert_same, guards, until};

/// 5.1 is reached only from 5.0.1 or a later patch of 5.0, and 5.2 only from 5.1.
const PATHS: &str = "[[path]]\nto = '~5.0'\nfrom = ['~5.0']\n[[path]]\nto = '~5.1'\nfrom = ['>=5.0.1, <5.1']\n\
                     [[path]]\nto = '~5.2'\nfrom = ['~5.1']\n";

const WAY: [&str; 4] = ["5.0.0", "5.0.1", "5.1.0", "5.2.0"];

fn paths(root: &Path) {
    fs::write(root.join("releases/paths.toml"), PATHS).unwrap();
}

fn host() -> Host {
    let host = Host::in_memory();
    host.archives(&WAY);
    paths(host.root());
    host.run(["install", "5.0.0"]).ok();
    host
}

fn serving() -> Serving {
    let serving = Serving::start("");
    WAY[1..].iter().for_each(|version| serving.pack(&Greeter::well(version)));
    paths(serving.host.root());
    serving
}

#[test]
fn hops_become_permanent_one_by_one() {
    let host = host();
    assert_run!(host, "upgrade --multi-hop --restart 5.2.0", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Release 5.1.0 not found, attempting to unpack releases/emqx-5.1.0.zip
    Unpacked successfully: "5.1.0"
    Release 5.2.0 not found, attempting to unpack releases/emqx-5.2.0.zip
    Unpacked successfully: "5.2.0"
    Hop 1 of 3: 5.0.0 to 5.0.1
    Release 5.0.1 is already unpacked, switching to it.
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    Hop 2 of 3: 5.0.1 to 5.1.0
    Release 5.1.0 is already unpacked, switching to it.
    Installed Release: 5.1.0
    Made release permanent: "5.1.0"
    Hop 3 of 3: 5.1.0 to 5.2.0
    Release 5.2.0 is already unpacked, switching to it.
    Installed Release: 5.2.0
    Made release permanent: "5.2.0"
    Reached 5.2.0 from 5.0.0 in 3 hops.
    "#);
    assert_eq!(host.states(), ["5.2.0 permanent", "5.1.0 old", "5.0.1 old", "5.0.0 old"]);
    let history = host.run(["history", "--json"]).ok().json();
    let of_walk = |entry: &&serde_json::Value| entry["command"].as_str().unwrap().contains("--multi-hop");
    assert_eq!(history["entries"].as_array().unwrap().iter().filter(of_walk).count(), 6, "{history:#}");
    assert_run!(host, "upgrade --multi-hop 5.2.0", @"
    exit 0
    --- stdout
    Release 5.2.0 is already installed and permanent.
    ");
    let json = host.run(["upgrade", "--multi-hop", "--json", "5.2.0"]).ok().json();
    assert_eq!(json["hops"].as_array().unwrap().len(), 0);
}

#[test]
fn problems_of_all_hops_are_reported_first() {
    let host = host();
    let requires = "name = \"emqx\"\nversion = \"5.1.0\"\n[requires]\narch = ['sparc']\n";
    host.build("5.1.0").file("release.toml", requires).write();
    let requires = "name = \"emqx\"\nversion = \"5.2.0\"\n[requires]\nos = ['plan9 >= 4']\n";
    host.build("5.2.0").file("release.toml", requires).write();
    let settings = host.root().join("tenure.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("user = 'none-of-this-name'\n{text}")).unwrap();
    let before = host.tree();
    assert_run!(host, "upgrade --multi-hop 5.2.0", @"
    exit 2
    --- stderr
    error: cannot switch to 5.2.0: 5 checks failed
    caused by: the user none-of-this-name does not exist
    caused by: from 5.0.1 to 5.1.0: this host has [HOST], and the release needs sparc
    caused by: from 5.0.1 to 5.1.0: cannot move hot from 5.0.1 to 5.1.0: only a patch of the same major and minor version is a hot upgrade
    caused by: from 5.1.0 to 5.2.0: this host has [HOST], and the release needs plan9 >= 4
    caused by: from 5.1.0 to 5.2.0: cannot move hot from 5.1.0 to 5.2.0: only a patch of the same major and minor version is a hot upgrade
    hint: correct `user` in tenure.toml, or create the user
    hint: get the archive for this architecture from the vendor
    hint: use `--restart` to stop the service and start it in 5.1.0
    hint: upgrade the system first, or stay on a release that runs on this host; `tenure check --os` checks the installed releases against a version of the system
    hint: use `--restart` to stop the service and start it in 5.2.0
    ");
    assert_eq!(host.tree(), before);
    fs::write(&settings, text).unwrap();
    // A damaged archive, and then a missing one.
    fs::write(host.root().join("releases/emqx-5.2.0.zip.sha256"), "0".repeat(64)).unwrap();
    assert_run!(host, "upgrade --multi-hop --restart 5.2.0", @"
    exit 2
    --- stderr
    error: cannot switch to 5.2.0: 2 checks failed
    caused by: from 5.0.1 to 5.1.0: this host has [HOST], and the release needs sparc
    caused by: from 5.1.0 to 5.2.0: [ROOT]/releases/emqx-5.2.0.zip does not match the digest in [ROOT]/releases/emqx-5.2.0.zip.sha256: expected [SHA256], found [SHA256]
    hint: get the archive for this architecture from the vendor
    hint: the archive is damaged or is a different one: get both files again from the vendor
    ");
    fs::remove_file(host.root().join("releases/emqx-5.1.0.zip")).unwrap();
    assert_run!(host, "upgrade --multi-hop --restart 5.2.0", @"
    exit 2
    --- stderr
    error: no upgrade path from 5.0.0 to 5.2.0 with the available releases
    caused by: cannot go from 5.0.0 to 5.2.0: by releases/paths.toml it can be reached from `~5.1` only
    hint: add the missing releases to complete a path: 5.1.0, or another one in ~5.1
    ");
    assert_eq!(host.states(), ["5.0.0 permanent"]);
}

#[test]
fn multi_hop_refuses_downgrade_and_trial() {
    let host = host();
    host.run(["upgrade", "5.0.1"]).ok();
    assert_run!(host, "downgrade --multi-hop 5.0.0", @"
    exit 2
    --- stderr
    error: a downgrade is one hop: 5.0.0 is lower than 5.0.1
    hint: remove `--multi-hop`
    ");
    assert_run!(host, "install --multi-hop 5.0.0", @"
    exit 2
    --- stderr
    error: a downgrade is one hop: 5.0.0 is lower than 5.0.1
    hint: remove `--multi-hop`
    ");
    assert_run!(host, "upgrade --multi-hop 5.0.0", @"
    exit 2
    --- stderr
    error: release 5.0.0 is lower than 5.0.1, which is current
    hint: run `tenure downgrade 5.0.0`, or `tenure install 5.0.0` for either direction
    ");
    host.run(["upgrade", "--no-permanent", "--restart", "5.1.0"]).ok();
    assert_run!(host, "upgrade --multi-hop --restart 5.2.0", @"
    exit 2
    --- stderr
    error: cannot go on to 5.2.0 over several hops: 5.1.0 is on trial
    hint: run `tenure confirm` to make it permanent, or `tenure revert` to end the trial
    ");
    for wrong in ["--no-permanent", "--watch=1m", "--confirm-within=1m"] {
        host.run(["upgrade", "--multi-hop", wrong, "5.2.0"]).code(64);
    }
    assert_run!(Host::new(), "upgrade --multi-hop 5.0.0", @"
    exit 2
    --- stderr
    error: cannot plan an upgrade path: no release is current
    hint: run `tenure install 5.0.0` to install the first release
    ");
}

#[test]
fn dry_run_prints_all_hops() {
    let host = host();
    let before = host.tree();
    assert_run!(host, "upgrade --multi-hop --restart --dry-run 5.1.0", @"
    exit 0
    --- stdout
    Would do:
      1. unpack releases/emqx-5.0.1.zip into releases/5.0.1
      2. record that 5.0.0 has been permanent
      3. point current at releases/5.0.1, now releases/5.0.0
      4. point permanent at releases/5.0.1, now releases/5.0.0
      5. unpack releases/emqx-5.1.0.zip into releases/5.1.0
      6. record that 5.0.1 has been permanent
      7. point current at releases/5.1.0, now releases/5.0.1
      8. point permanent at releases/5.1.0, now releases/5.0.1
    Nothing was changed.
    ");
    assert_run!(host, "upgrade --multi-hop --restart --prepare-only --dry-run 5.1.0", @"
    exit 0
    --- stdout
    Would do:
      1. unpack releases/emqx-5.0.1.zip into releases/5.0.1
      2. unpack releases/emqx-5.1.0.zip into releases/5.1.0
    Nothing was changed.
    ");
    assert_eq!(host.tree(), before);
}

#[test]
fn finished_preparation_is_not_repeated() {
    let host = host();
    for version in &WAY[1..] {
        let manifest = format!("name = 'emqx'\nversion = '{version}'\n[hooks]\nprepare = ['bin/prepare']\n");
        let prepares = "#!/bin/sh\necho $TENURE_NEW_VERSION >>\"$TENURE_ROOT/../told\"\n";
        host.build(version).file("release.toml", &manifest).executable("bin/prepare", prepares).write();
    }
    host.run(["upgrade", "--prepare-only", "5.0.1"]).ok();
    host.run(["unpack", "5.1.0"]).ok();
    assert_run!(host, "upgrade --multi-hop --restart --prepare-only 5.2.0", @r#"
    exit 0
    --- stdout
    Prepared successfully: "5.1.0"
    Release 5.2.0 not found, attempting to unpack releases/emqx-5.2.0.zip
    Unpacked successfully: "5.2.0"
    Prepared successfully: "5.2.0"
    The upgrade path from 5.0.0 to 5.2.0 is prepared, 3 hops; nothing was switched.
    "#);
    assert_eq!(host.states(), ["5.2.0 unpacked", "5.1.0 unpacked", "5.0.1 unpacked", "5.0.0 permanent"]);
    let run = host.run(["upgrade", "--multi-hop", "--restart", "5.2.0"]).ok();
    assert!(
        run.stdout.starts_with("Hop 1 of 3: 5.0.0 to 5.0.1\n") && !run.stdout.contains("Prepared"),
        "{run:#?}"
    );
    let told = fs::read_to_string(host.root().parent().unwrap().join("told")).unwrap();
    assert_eq!(told, "5.0.1\n5.1.0\n5.2.0\n");
}

#[test]
fn failed_preparation_stops_before_first_hop() {
    let host = host();
    let manifest = "name = 'emqx'\nversion = '5.1.0'\n[hooks]\nprepare = ['bin/prepare']\n";
    let prepares = "#!/bin/sh\n[ -e \"$TENURE_ROOT/../mended\" ] || { echo no licence; exit 1; }\n";
    host.build("5.1.0").file("release.toml", manifest).executable("bin/prepare", prepares).write();
    let args = ["upgrade", "--multi-hop", "--restart", "5.2.0"];
    host.run(args)
        .code(1)
        .stderr_has("error: stopped before the first hop: 5.1.0 is not ready; nothing was switched\n")
        .stderr_has("no licence")
        .stderr_has("hint: prepared releases are kept; fix the cause, then run the same command again\n");
    assert_eq!(host.link("permanent").unwrap(), "releases/5.0.0");
    assert_eq!(host.states(), ["5.0.1 unpacked", "5.0.0 permanent"]);
    fs::write(host.root().parent().unwrap().join("mended"), "").unwrap();
    host.run(args).ok();
}

#[test]
fn service_moves_hot_or_by_restart_per_hop() {
    let serving = serving();
    let pid = serving.pid();
    assert_run!(serving.host, "upgrade --multi-hop 5.2.0", @"
    exit 2
    --- stderr
    error: cannot switch to 5.2.0: 2 checks failed
    caused by: from 5.0.1 to 5.1.0: cannot move hot from 5.0.1 to 5.1.0: only a patch of the same major and minor version is a hot upgrade
    caused by: from 5.1.0 to 5.2.0: cannot move hot from 5.1.0 to 5.2.0: only a patch of the same major and minor version is a hot upgrade
    hint: use `--restart` to stop the service and start it in 5.1.0
    hint: use `--restart` to stop the service and start it in 5.2.0
    ");
    assert_run!(serving.host, "upgrade --multi-hop --restart --dry-run 5.1.0", @"
    exit 0
    --- stdout
    Would do:
      1. unpack releases/greeter-5.0.1.tar.gz into releases/5.0.1
      2. record that 5.0.0 has been permanent
      3. point current at releases/5.0.1, now releases/5.0.0
      4. move the running service to 5.0.1, hot, by its hook
      5. wait until the service is healthy on 5.0.1
      6. point permanent at releases/5.0.1, now releases/5.0.0
      7. unpack releases/greeter-5.1.0.tar.gz into releases/5.1.0
      8. record that 5.0.1 has been permanent
      9. point current at releases/5.1.0, now releases/5.0.1
      10. move the running service to 5.1.0, by a restart
      11. wait until the service is healthy on 5.1.0
      12. point permanent at releases/5.1.0, now releases/5.0.1
    Nothing was changed.
    ");
    let load = serving.load();
    serving.host.run(["upgrade", "--multi-hop", "--restart", "5.0.1"]).ok();
    load.lost_none("a walk of one hot hop");
    assert_eq!(serving.pid(), pid, "a hot hop was made by a restart");
    serving.host.run(["upgrade", "--multi-hop", "--restart", "5.2.0"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.2.0"));
    assert_eq!(serving.host.states(), ["5.2.0 permanent", "5.1.0 old", "5.0.1 old", "5.0.0 old"]);
}

#[test]
fn bad_release_stops_at_last_good_one() {
    let serving = serving();
    serving.pack(&Greeter { conf: "broken-after-ms = 1\n", ..Greeter::well("5.1.0") });
    let run = serving.host.run(["upgrade", "--multi-hop", "--restart", "5.2.0"]).code(3);
    run.stderr_has("error: stopped at hop 2 of 3, from 5.0.1 to 5.1.0; 5.0.1 is current and permanent\n")
        .stderr_has("caused by: release 5.1.0 did not become healthy")
        .stderr_has(
            "hint: run `tenure status`; once the cause is fixed, the same command continues from there\n",
        );
    assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
    assert_eq!(
        serving.host.states(),
        ["5.2.0 unpacked", "5.1.0 unpacked, failed its trial", "5.0.1 permanent", "5.0.0 old"]
    );
    serving.host.run(["status"]).ok();
    let again = ["upgrade", "--multi-hop", "--restart", "5.2.0"];
    serving
        .host
        .run(again)
        .code(2)
        .stderr_has("cannot upgrade to 5.1.0: it failed here on 2")
        .stderr_has("hint: run `tenure upgrade --multi-hop --retry --restart 5.2.0` to try it again\n");
    let retry = ["upgrade", "--multi-hop", "--restart", "--retry", "5.2.0"];
    serving.host.run(retry).code(3).stderr_has("error: stopped at hop 1 of 2, from 5.0.1 to 5.1.0");
    // The vendor fixes the release, and the same command continues.
    serving.pack(&Greeter::well("5.1.0"));
    assert_run!(serving.host, "upgrade --multi-hop --restart 5.2.0", @"
    exit 2
    --- stderr
    error: cannot switch to 5.2.0: 2 checks failed
    caused by: from 5.0.1 to 5.1.0: release 5.1.0 was unpacked from another archive than releases/greeter-5.1.0.tar.gz
    caused by: from 5.0.1 to 5.1.0: cannot upgrade to 5.1.0: it failed here on [TIME]: release 5.1.0 did not become healthy: unhealthy: http://127.0.0.1:[PORT]/healthz answers 500
    hint: use `--replace` to unpack it again, or remove the archive to keep the installed release
    hint: run `tenure upgrade --multi-hop --retry --restart 5.2.0` to try it again
    ");
    assert_run!(serving.host, "upgrade --multi-hop --restart --replace 5.2.0", @r#"
    exit 0
    --- stdout
    Release 5.1.0 is replaced, attempting to unpack releases/greeter-5.1.0.tar.gz
    Unpacked successfully: "5.1.0"
    Hop 1 of 2: 5.0.1 to 5.1.0
    Release 5.1.0 is already unpacked, switching to it.
    Installed Release: 5.1.0
    Made release permanent: "5.1.0"
    Hop 2 of 2: 5.1.0 to 5.2.0
    Release 5.2.0 is already unpacked, switching to it.
    Installed Release: 5.2.0
    Made release permanent: "5.2.0"
    Reached 5.2.0 from 5.0.1 in 2 hops.
    "#);
    assert_eq!(serving.answers().as_deref(), Some("5.2.0"));
}

#[test]
fn unhealthy_service_stops_before_next_hop() {
    let serving = serving();
    let hot = crate::support::serving::HOT
        .replace("#!/bin/sh\n", "#!/bin/sh\n[ $TENURE_ACTION != migrate ] || exec sleep 5\n");
    let manifest = "[data]\nwrites = 1\n[hooks]\nhot-upgrade = ['bin/hot']\nhot-downgrade = ['bin/hot']\nmigrate = ['bin/hot']\n";
    // The release proves healthy, but is unhealthy once its data is migrated.
    serving.pack(&Greeter { manifest, hot: &hot, conf: "sick-after-ms = 3000\n", ..Greeter::well("5.0.1") });
    assert_run!(serving.host, "upgrade --multi-hop --restart 5.2.0", @r#"
    exit 1
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/greeter-5.0.1.tar.gz
    Unpacked successfully: "5.0.1"
    Release 5.1.0 not found, attempting to unpack releases/greeter-5.1.0.tar.gz
    Unpacked successfully: "5.1.0"
    Release 5.2.0 not found, attempting to unpack releases/greeter-5.2.0.tar.gz
    Unpacked successfully: "5.2.0"
    Hop 1 of 3: 5.0.0 to 5.0.1
    Release 5.0.1 is already unpacked, switching to it.
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    --- stderr
    error: stopped at hop 1 of 3, from 5.0.0 to 5.0.1; 5.0.1 is current and permanent
    caused by: the service is not healthy on 5.0.1, which was made permanent: unhealthy: http://127.0.0.1:[PORT]/healthz answers 503
    hint: run `tenure status`; once the cause is fixed, the same command continues from there
    "#);
    assert_eq!(serving.host.states(), ["5.2.0 unpacked", "5.1.0 unpacked", "5.0.1 permanent", "5.0.0 old"]);
    // An operator can continue: an earlier failure is not blamed on the upgrade.
    serving.host.run(["upgrade", "--multi-hop", "--restart", "5.2.0"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.2.0"));
}

#[test]
fn next_hop_waits_for_migration() {
    let host = host();
    let migrates = "#!/bin/sh\nsleep 0.3\necho \"$TENURE_OLD_VERSION $TENURE_NEW_VERSION\" >>\"$TENURE_ROOT/../told\"\n\
                    [ \"$TENURE_NEW_VERSION\" != 5.1.0 ] || [ ! -e \"$TENURE_ROOT/../fail\" ]\n";
    for (at, version) in WAY[1..].iter().enumerate() {
        let data = format!(
            "[data]\nwrites = {}\nreads = [{at}, {}]\n[hooks]\nmigrate = ['bin/migrate']\n",
            at + 1,
            at + 1
        );
        let manifest = format!("name = 'emqx'\nversion = '{version}'\n{data}");
        host.build(version).file("release.toml", &manifest).executable("bin/migrate", migrates).write();
    }
    let beside = host.root().parent().unwrap().to_owned();
    fs::write(beside.join("fail"), "").unwrap();
    let run = host
        .run(["upgrade", "--multi-hop", "--restart", "--backup-command", "echo >>../saved", "5.2.0"])
        .code(1);
    run.stderr_has("error: stopped at hop 2 of 3, from 5.0.1 to 5.1.0; 5.1.0 is current and permanent\n")
        .stderr_has("caused by: the data migration failed: to data format 2 by 5.1.0, failed at ");
    assert_eq!(host.link("permanent").unwrap(), "releases/5.1.0");
    assert_eq!(fs::read_to_string(beside.join("told")).unwrap(), "5.0.0 5.0.1\n5.0.1 5.1.0\n");
    assert_eq!(fs::read_to_string(beside.join("saved")).unwrap(), "\n", "one backup, at the start");
    assert_run!(host, "upgrade --multi-hop --restart 5.2.0", @"
    exit 2
    --- stderr
    error: from 5.1.0 to 5.2.0: a data migration is not done: to data format 2 by 5.1.0, failed at [TIME]
    hint: run `tenure status` to see the cause; fix it, then run `tenure migrate`
    ");
    fs::remove_file(beside.join("fail")).unwrap();
    host.run(["migrate"]).ok();
    host.run(["upgrade", "--multi-hop", "--restart", "5.2.0"]).ok();
    let status = || host.run(["status", "--json"]);
    let is_migrated = || status().json()["data_formats"] == serde_json::json!([3]);
    until("the data is migrated", is_migrated, || status().stdout);
}

#[test]
fn resumed_upgrade_waits_for_migration() {
    let host = host();
    let migrates = "#!/bin/sh\nwhile [ -e \"$TENURE_ROOT/../hold\" ]; do sleep 0.02; done\n";
    let manifest =
        "name = 'emqx'\nversion = '5.0.1'\n[data]\nwrites = 1\n[hooks]\nmigrate = ['bin/migrate']\n";
    host.build("5.0.1").file("release.toml", manifest).executable("bin/migrate", migrates).write();
    let only = "name = 'emqx'\nversion = '5.1.0'\n[data]\nwrites = 1\n";
    host.build("5.1.0").file("release.toml", only).write();
    let hold = host.root().parent().unwrap().join("hold");
    fs::write(&hold, "").unwrap();
    host.run(["upgrade", "5.0.1"]).ok();
    let walk = ["upgrade", "--multi-hop", "--restart", "5.2.0"];
    host.run([&walk[..], &["--dry-run"]].concat()).ok().stdout_has("5.2.0");
    host.run(["upgrade", "--restart", "5.1.0"]).code(2).stderr_has("a data migration is not done");
    let mut waiting = host.command(walk).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    assert_eq!(host.link("current").unwrap(), "releases/5.0.1");
    fs::remove_file(hold).unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(host.link("permanent").unwrap(), "releases/5.2.0");
}

#[test]
fn killed_multi_hop_upgrade_resumes() {
    let case = Case::new(&["upgrade", "--multi-hop", "--restart", "5.2.0"], host());
    let points = case.sweep(|host, at| {
        let [current, permanent] = links(host).map(|link| link.unwrap().replace("releases/", ""));
        let place = |version: &str| WAY.iter().position(|stop| *stop == version).unwrap();
        assert!(place(&current) == place(&permanent) || place(&current) == place(&permanent) + 1, "{at}");
        case.arrives(host, at);
    });
    println!("{points} kill points of a walk of three hops, 0 wrong outcomes");
    assert!(points > 100, "only {points} points");
}

#[test]
#[ignore = "takes long; run by .ci/run"]
fn boot_after_kill_starts_good_release() {
    let case = Case::new(&["upgrade", "--multi-hop", "--restart", "5.2.0"], host());
    let points = case.sweep(|host, at| {
        let permanent = host.link("permanent");
        host.run(["boot"]).ok();
        assert_eq!(links(host), [permanent.clone(), permanent], "{at}");
        assert!(!is_interrupted(host), "{at}");
        host.run(case.args).ok();
        case.is_at_end(host, at);
    });
    println!("boot after {points} kill points of a walk of three hops, 0 wrong outcomes");
}

#[test]
#[ignore = "takes long; run by .ci/run"]
fn sigterm_stops_at_good_release() {
    let case = Case::new(&["upgrade", "--multi-hop", "--restart", "5.2.0"], host());
    let points = case.each(|host, nth| {
        let at = format!("asked to end before call {nth}");
        let ended = stepper::signal_before(&host.command(case.args), nth, nix::sys::signal::Signal::SIGTERM);
        let [current, permanent] = links(host);
        assert_eq!(current, permanent, "{at}");
        assert!(!is_interrupted(host), "{at}: {ended:?}");
        host.run(case.args).ok();
        let found = Outcome::of(host, &at);
        assert_eq!(found.links, case.end.links, "{at}");
        assert_same(&found.tree, &case.end.tree, &at);
    });
    println!("{points} points of a walk at which it was asked to end, 0 wrong outcomes");
}

/// Kills a multi-hop upgrade at one point. Asserts that the service returns to a good release unattended, and that
/// the same command continues from there. Returns whether there is a later point.
fn killed(nth: usize) -> bool {
    let serving = serving();
    let args = ["upgrade", "--multi-hop", "--restart", "5.2.0"];
    let ended = stepper::kill_alone_before(&serving.host.command(args), nth);
    let at = format!("killed before call {nth}, {ended:?}");
    serving.until(&at, || {
        let current = serving.host.link("current").unwrap().replace("releases/", "");
        guards(&serving.host).is_empty() && serving.answers() == Some(current)
    });
    let run = serving.host.run(args.into_iter().chain(["--wait", "60"]));
    assert_eq!(run.code, Some(0), "{at}: {run:#?} {}", serving.log());
    assert_eq!(serving.answers().as_deref(), Some("5.2.0"), "{at}");
    assert_eq!(serving.host.states(), ["5.2.0 permanent", "5.1.0 old", "5.0.1 old", "5.0.0 old"], "{at}");
    matches!(ended, Ended::Killed { .. })
}

/// The distance between the tested points of an upgrade with a service.
const EVERY: usize = 4;

#[test]
#[ignore = "takes long; run by .ci/run"]
fn killed_service_upgrade_resumes() {
    let (next, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mine = || {
        while killed(1 + EVERY * next.fetch_add(1, Ordering::Relaxed)) {
            tried.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(mine))));
    let tried = tried.into_inner();
    println!("{tried} kill points of a walk of a service over three hops, 0 wrong outcomes");
    assert!(tried > 50, "only {tried} points");
}
