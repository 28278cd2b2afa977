//! Data that outlives releases: formats, backups and migrations, and the hooks that run before a switch.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::case::{Case, links};
use crate::support::stepper;
use crate::support::{self, Host, assert_run};

/// A program that records its action and versions.
const TELLS: &str = r#"#!/bin/sh
echo "$TENURE_ACTION ${TENURE_OLD_VERSION:-none} ${TENURE_NEW_VERSION:-none}" >>"$TENURE_ROOT/../told"
"#;

/// A migration that waits while `hold` exists, fails if `fail` exists, and records each run.
const MIGRATES: &str = r#"#!/bin/sh
echo "$TENURE_ACTION ${TENURE_OLD_VERSION:-none} ${TENURE_NEW_VERSION:-none}" >>"$TENURE_ROOT/../told"
echo $$ >>"$TENURE_ROOT/../pids"
echo "so far so good"
while [ -e "$TENURE_ROOT/../hold" ]; do sleep 0.02; done
[ ! -e "$TENURE_ROOT/../fail" ] || { echo "the index is torn"; exit 7; }
"#;

/// Returns a root whose release 5.0.0 writes data format 2.
fn host() -> Host {
    let host = Host::in_memory();
    release(&host, "5.0.0", "[data]\nwrites = 2\nreads = [1, 2]\n", &[]);
    host.run(["install", "5.0.0"]).ok();
    host
}

fn release(host: &Host, version: &str, manifest: &str, programs: &[(&str, &str)]) {
    let manifest = format!("name = \"emqx\"\nversion = \"{version}\"\n{manifest}");
    let build = host.build(version).file("release.toml", &manifest);
    programs.iter().fold(build, |build, (path, text)| build.executable(path, text)).write();
}

/// Packs 5.0.1, which migrates the data from format 2 to format 3.
fn migrating(host: &Host, more: &str) {
    let manifest = format!("[data]\nwrites = 3\nreads = [2, 3]\n[hooks]\nmigrate = ['bin/migrate']\n{more}");
    release(host, "5.0.1", &manifest, &[("bin/migrate", MIGRATES), ("bin/tell", TELLS)]);
}

fn beside(host: &Host, name: &str) -> std::path::PathBuf {
    host.root().parent().unwrap().join(name)
}

fn set(host: &Host, name: &str) {
    fs::write(beside(host, name), "").unwrap();
}

fn clear(host: &Host, name: &str) {
    fs::remove_file(beside(host, name)).unwrap();
}

fn told(host: &Host) -> Vec<String> {
    let text = fs::read_to_string(beside(host, "told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Returns the stage of the migration.
fn stage(host: &Host) -> String {
    host.run(["status", "--json"]).json()["migration"]["stage"].as_str().unwrap_or("none").to_owned()
}

fn until(host: &Host, wanted: &str) {
    support::until(wanted, || stage(host) == wanted, || host.run(["status"]).stdout);
}

#[test]
fn migration_runs_in_background_once_permanent() {
    let host = host();
    migrating(&host, "");
    set(&host, "hold");
    host.run(["check", "5.0.1"]).ok().stdout_has(
        "ok      data: format 2 is on disk; 5.0.1 migrates it to format 3 once it is permanent, and has no hook for a \
         backup\n",
    );
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    assert_eq!((told(&host), stage(&host).as_str()), (vec![], "none"), "on trial nothing is migrated");
    let run = host.run(["upgrade", "5.0.1"]).ok();
    run.stdout_has(
        "Made release permanent: \"5.0.1\"\nData migration to data format 3 by 5.0.1, running since ",
    );
    until(&host, "running");
    let run = host.run(["status"]).ok();
    run.stdout_has("Data: format 2\nData migration: to data format 3 by 5.0.1, running since ");
    clear(&host, "hold");
    until(&host, "done");
    host.run(["status"])
        .ok()
        .stdout_has("Data: format 3\nData migration: to data format 3 by 5.0.1, done at ");
    assert_eq!(told(&host), ["migrate 5.0.0 5.0.1"]);
    host.run(["history"]).ok().stdout_has("  migrate  by the migrator: done in ");
    // No later command migrates the data again.
    assert_run!(host, "migrate", @"
    exit 0
    --- stdout
    The data is in format 3.
    There is nothing to migrate.
    ");
    host.run(["install", "5.0.1"]).ok();
    assert_eq!(told(&host).len(), 1);
}

#[test]
fn running_migration_blocks_switch() {
    let host = host();
    migrating(&host, "");
    release(&host, "5.0.2", "", &[]);
    set(&host, "hold");
    host.run(["upgrade", "5.0.1"]).ok();
    until(&host, "running");
    // The log of the running migration may change meanwhile.
    let tree =
        || host.tree().into_iter().filter(|(path, _)| !path.starts_with(".tenure/log/")).collect::<Vec<_>>();
    let before = tree();
    let why = "error: a data migration is not done: to data format 3 by 5.0.1, running since ";
    host.run(["upgrade", "5.0.2"]).code(2).stderr_has(why);
    host.run(["downgrade", "5.0.0"]).code(2).stderr_has(why);
    host.run(["upgrade", "--prepare-only", "5.0.2"]).code(2).stderr_has(why);
    assert_run!(host, "check 5.0.2", @"
    exit 2
    --- stdout
    ok      lock: no other command is running
    ok      links: 5.0.1 is current
    ok      trial: no release is on trial
    ok      owner: [USER], as of 5.0.1
    ok      archive: would unpack releases/emqx-5.0.2.zip into releases/5.0.2
    ok      digest: SHA-256 [SHA256]; a digest file to compare it with is missing
    ok      signature: not needed: tenure.toml names no trusted keys
    ok      space: it takes up to [SIZE] in 12 files; [FREE] free, 0 B in reserve
    ok      path: 5.0.2 can be reached from 5.0.1
    FAILED  data: a data migration is not done: to data format 3 by 5.0.1, running since [TIME]
            hint: run `tenure migrate` to wait for its end
    ok      service: no service is moved
    One check failed for 5.0.2.
    ");
    assert_eq!(tree(), before);
    // The contents of an archive with a wrong digest are not checked further.
    let digest = host.root().join("releases/emqx-5.0.2.zip.sha256");
    fs::write(&digest, "0".repeat(64)).unwrap();
    assert_run!(host, "check 5.0.2", @"
    exit 2
    --- stdout
    ok      lock: no other command is running
    ok      links: 5.0.1 is current
    ok      trial: no release is on trial
    ok      owner: [USER], as of 5.0.1
    FAILED  digest: [ROOT]/releases/emqx-5.0.2.zip does not match the digest in [ROOT]/releases/emqx-5.0.2.zip.sha256: expected [SHA256], found [SHA256]
            hint: the archive is damaged or is a different one: get both files again from the vendor
    FAILED  data: a data migration is not done: to data format 3 by 5.0.1, running since [TIME]
            hint: run `tenure migrate` to wait for its end
    2 checks failed for 5.0.2.
    ");
    assert_run!(host, "upgrade 5.0.2", @"
    exit 2
    --- stderr
    error: cannot switch to 5.0.2: 2 checks failed
    caused by: [ROOT]/releases/emqx-5.0.2.zip does not match the digest in [ROOT]/releases/emqx-5.0.2.zip.sha256: expected [SHA256], found [SHA256]
    caused by: a data migration is not done: to data format 3 by 5.0.1, running since [TIME]
    hint: the archive is damaged or is a different one: get both files again from the vendor
    hint: run `tenure migrate` to wait for its end
    ");
    fs::remove_file(digest).unwrap();
    // `migrate` only waits for the running migration.
    let mut waiting = host.command(["migrate"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(waiting.try_wait().unwrap().is_none());
    clear(&host, "hold");
    assert!(waiting.wait().unwrap().success());
    assert_eq!(told(&host).len(), 1);
    host.run(["upgrade", "5.0.2"]).ok();
}

#[test]
fn failed_migration_is_reported_and_rerun() {
    let host = host();
    migrating(&host, "");
    release(&host, "5.0.2", "[data]\nwrites = 3\nreads = [3]\n", &[]);
    set(&host, "fail");
    host.run(["upgrade", "5.0.1"]).ok();
    until(&host, "failed");
    assert_run!(host, "status", @r"
    exit 1
    --- stdout
    Root: [ROOT]
    Name: emqx
    Current: 5.0.1
    Permanent: 5.0.1
    Data: format 2
    Data migration: to data format 3 by 5.0.1, failed at [TIME]
    Releases:
    * 5.0.1\tpermanent
    * 5.0.0\told
    Last: 5.0.1 became permanent on [TIME] by [USER]
    Problem: the data migration failed: to data format 3 by 5.0.1, failed at [TIME]: the migrate program of 5.0.1, bin/migrate, failed: it ended with exit status 7: so far so good; the index is torn
      hint: fix the cause, then run `tenure migrate`; until then upgrades are refused
    ");
    host.run(["upgrade", "5.0.2"])
        .code(2)
        .stderr_has("error: a data migration is not done: to data format 3 by 5.0.1, failed");
    let run = host.run(["downgrade", "5.0.0"]).code(2);
    run.stderr_has("release 5.0.0 cannot start on the data: it reads data formats 1 and 2 only, and formats 2 and 3 are on disk");
    host.run(["migrate"]).code(1).stderr_has("the index is torn");
    assert_run!(host, "migrate --dry-run", @"
    exit 0
    --- stdout
    Would migrate the data with the migrate hook of 5.0.1.
    Nothing was changed.
    ");
    assert_eq!(told(&host).len(), 2);
    clear(&host, "fail");
    let run = host.run(["migrate"]).ok();
    run.stdout_has("Data migration to data format 3 by 5.0.1, done at ");
    assert_eq!(told(&host), ["migrate 5.0.0 5.0.1"; 3], "the release before is still known");
    host.run(["status"]).ok();
    host.run(["upgrade", "5.0.2"]).ok();
}

#[test]
fn due_migration_has_not_failed() {
    let host = host();
    migrating(&host, "");
    host.run(["upgrade", "5.0.1"]).ok();
    until(&host, "done");
    let record = host.root().join(".tenure/data/record");
    let text = fs::read_to_string(&record).unwrap();
    let mut due: serde_json::Value = serde_json::from_str(&text).unwrap();
    due["migration"]["stage"] = "due".into();
    fs::write(&record, due.to_string()).unwrap();
    let lock = fs::File::open(host.root().join(".tenure/lock")).unwrap();
    lock.lock().unwrap();
    host.run(["status"]).ok().stdout_has("Data migration: to data format 3 by 5.0.1, pending since ");
    lock.unlock().unwrap();
    assert_run!(host, "status", @r"
    exit 1
    --- stdout
    Root: [ROOT]
    Name: emqx
    Current: 5.0.1
    Permanent: 5.0.1
    Data: format 3
    Data migration: to data format 3 by 5.0.1, failed at [TIME]
    Releases:
    * 5.0.1\tpermanent
    * 5.0.0\told
    Last: 5.0.1 became permanent on [TIME] by [USER]
    Problem: the data migration failed: to data format 3 by 5.0.1, failed at [TIME]: it never began
      hint: fix the cause, then run `tenure migrate`; until then upgrades are refused
    ");
    host.run(["migrate"]).ok();
}

/// Waits until `count` migration programs have started, and returns their process IDs.
fn migrators(host: &Host, count: usize) -> Vec<String> {
    let pids = || fs::read_to_string(beside(host, "pids")).unwrap_or_default();
    support::until("all have begun", || pids().lines().count() >= count, pids);
    pids().lines().map(str::to_owned).collect()
}

/// Returns whether a process has ended, reaped or not.
fn is_over(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// Returns a host whose migrator was killed while the migration program still runs.
fn killed() -> Host {
    let host = host();
    migrating(&host, "");
    set(&host, "hold");
    host.run(["upgrade", "5.0.1"]).ok();
    until(&host, "running");
    migrators(&host, 1);
    let migrator = format!("{} migrator --for ", host.root().display());
    let killed = Command::new("pkill").args(["-KILL", "-f", &migrator]).status().unwrap();
    assert!(killed.success());
    until(&host, "failed");
    host
}

#[test]
fn killed_migration_has_failed() {
    let host = killed();
    host.run(["status"]).code(1).stdout_has("it was interrupted: its process ended");
    // The remaining program is ended before a new migration starts, so that two never run at once.
    let mut again = host.command(["migrate"]).spawn().unwrap();
    until(&host, "running");
    assert!(is_over(&migrators(&host, 2)[0]), "two of them are at work");
    clear(&host, "hold");
    assert!(again.wait().unwrap().success());
}

#[test]
fn restore_ends_processes_of_killed_migration() {
    let host = killed();
    host.run(["migrate", "--restored", "2"]).ok();
    assert!(is_over(&migrators(&host, 1)[0]), "it is at work");
}

#[test]
fn history_records_restored_data() {
    let host = host();
    let before = host.run(["history", "--json"]).ok().json()["entries"].as_array().unwrap().len();
    host.run(["migrate", "--restored", "2", "--dry-run"]).ok();
    host.run(["migrate", "--restored", "2"]).ok();
    let entries = host.run(["history", "--json"]).ok().json();
    let entries = entries["entries"].as_array().unwrap();
    assert_eq!(entries.len(), before + 1, "{entries:#?}");
    let last = entries.last().unwrap();
    assert_eq!((&last["command"], &last["outcome"]), (&"migrate --restored 2".into(), &"done".into()));
    assert_eq!((&last["to"], &last["by"]), (&"5.0.0".into(), &entries[0]["by"]), "{last}");
    assert_eq!(last["permanent"], "5.0.0", "{last}");
}

#[test]
fn killed_upgrade_migrates_exactly_once() {
    let host = host();
    migrating(&host, "backup = ['bin/tell']\nprepare = ['bin/tell']\ncheck = ['bin/tell']\n");
    let case = Case::new(&["upgrade", "5.0.1"], host);
    let points = case.each_kill(|host, nth| {
        let at = format!("killed before call {nth}");
        stepper::kill_alone_before(&host.command(case.args), nth);
        let is_permanent = host.link("permanent").unwrap() == "releases/5.0.1";
        let migrated = |host: &Host| told(host).iter().filter(|line| line.starts_with("migrate")).count();
        assert!(is_permanent || migrated(host) == 0, "{at}: {:?}", told(host));
        host.run(["verify"]).ok();
        host.run(case.args).ok();
        until(host, "done");
        assert_eq!((migrated(host), case.end.links.clone()), (1, links(host)), "{at}: {:?}", told(host));
        assert!(told(host).iter().any(|line| line.starts_with("backup")), "{at}: {:?}", told(host));
        host.run(["status"]).ok().stdout_has("Data: format 3\n");
    });
    println!("{points} kill points of an upgrade that migrates, 0 wrong outcomes");
    assert!(points > 30, "{points}");
}

#[test]
fn release_that_cannot_read_data_is_refused() {
    let host = host();
    release(&host, "5.0.1", "[data]\nwrites = 3\nreads = [2, 3]\n", &[]);
    release(&host, "5.0.2", "[data]\nwrites = 4\nreads = [3, 4]\n", &[]);
    release(&host, "5.0.3", "", &[]);
    let why = "error: release 5.0.2 cannot start on the data: it reads data formats 3 and 4 only, and format 2 is on disk\n";
    host.run(["upgrade", "5.0.2"]).code(2).stderr_has(why);
    host.run(["upgrade", "5.0.2"])
        .code(2)
        .stderr_has("hint: run `tenure plan 5.0.2` to look for an upgrade path");
    let run = host.run(["plan", "5.0.2"]).ok();
    run.stdout_has("From 5.0.0 to 5.0.2 in 2 hops:\n  1. 5.0.1, hot, an archive in releases/\n");
    host.run(["upgrade", "5.0.1"]).ok();
    let before = host.tree();
    let why = "release 5.0.0 cannot start on the data: it reads data formats 1 and 2 only, and format 3 is on disk\n";
    host.run(["downgrade", "5.0.0"]).code(2).stderr_has(why);
    host.run(["downgrade", "--no-permanent", "5.0.0"]).code(2).stderr_has(why);
    assert_eq!(host.tree(), before);
    // A release without data formats is accepted if no migration has ever run.
    host.run(["upgrade", "5.0.3"]).ok();
    host.run(["status"]).ok().stdout_has("Data: format 3\n");
    // The operator states the format of restored data.
    assert_run!(host, "migrate --restored 2", @"
    exit 0
    --- stdout
    The data is in format 2.
    ");
    host.run(["downgrade", "5.0.0"]).ok();
    host.run(["status"]).ok().stdout_has("Data: format 2\n");
}

#[test]
fn path_leads_over_releases_that_read_data() {
    let host = host();
    release(&host, "5.0.1", "[data]\nwrites = 3\nreads = [2, 3]\n", &[]);
    release(&host, "5.0.2", "[data]\nwrites = 3\nreads = [3]\n", &[]);
    release(&host, "5.0.3", "[data]\nwrites = 2\nreads = [2]\n", &[]);
    assert_run!(host, "upgrade --multi-hop 5.0.2", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Release 5.0.2 not found, attempting to unpack releases/emqx-5.0.2.zip
    Unpacked successfully: "5.0.2"
    Hop 1 of 2: 5.0.0 to 5.0.1
    Release 5.0.1 is already unpacked, switching to it.
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    Hop 2 of 2: 5.0.1 to 5.0.2
    Release 5.0.2 is already unpacked, switching to it.
    Installed Release: 5.0.2
    Made release permanent: "5.0.2"
    Reached 5.0.2 from 5.0.0 in 2 hops.
    "#);
    assert_run!(host, "plan 5.0.3", @"
    exit 2
    --- stderr
    error: no upgrade path from 5.0.2 to 5.0.3 with the available releases
    caused by: 5.0.3 cannot start on the data: format 3 is on disk at that point
    hint: a release between 5.0.2 and 5.0.3 that reads format 3 and writes a format that 5.0.3 reads would complete a path
    ");
    // The format on disk counts, not the format that the running release would write.
    host.run(["migrate", "--restored", "2"]).ok();
    assert_run!(host, "plan 5.0.3", @"
    exit 0
    --- stdout
    From 5.0.2 to 5.0.3 in 1 hop:
      1. 5.0.3, hot, an archive in releases/
    ");
}

/// A multi-hop upgrade does not wait for the migration of the last release.
#[test]
fn multi_hop_upgrade_reports_last_migration() {
    let host = host();
    migrating(&host, "");
    release(&host, "5.0.2", "", &[]);
    set(&host, "hold");
    let run = host.run(["upgrade", "--multi-hop", "5.0.1"]).ok();
    run.stdout_has(
        "Reached 5.0.1 from 5.0.0 in 1 hop.\nData migration to data format 3 by 5.0.1, running since ",
    );
    set(&host, "fail");
    clear(&host, "hold");
    until(&host, "failed");
    let run = host.run(["upgrade", "--multi-hop", "5.0.1"]).ok();
    run.stdout_has(
        "Release 5.0.1 is already installed and permanent.\nData migration to data format 3 by 5.0.1, failed",
    );
    let json = host.run(["upgrade", "--multi-hop", "--json", "5.0.1"]).ok().json();
    assert_eq!(json["migration"]["stage"], "failed");
    clear(&host, "fail");
    host.run(["migrate"]).ok();
    let json = host.run(["upgrade", "--multi-hop", "--json", "5.0.2"]).ok().json();
    assert_eq!(json["migration"], serde_json::Value::Null);
}

/// A release without data formats leaves the data unchanged, so a hop over it does not make the data readable.
#[test]
fn path_avoids_release_that_does_not_convert_data() {
    let host = host();
    host.build("5.0.2").file("release.toml", "name = 'emqx'\nversion = '5.0.2'\n").write();
    release(&host, "5.0.3", "[data]\nwrites = 3\nreads = [3]\n", &[]);
    let rules =
        "[[path]]\nto = '=5.0.3'\nfrom = ['=5.0.1', '=5.0.2']\n[[path]]\nto = '<5.0.3'\nfrom = ['*']\n";
    fs::write(host.root().join("releases/paths.toml"), rules).unwrap();
    for args in [&["plan"][..], &["upgrade", "--multi-hop"]] {
        host.run([args, &["5.0.3"]].concat())
            .code(2)
            .stderr_has("error: no upgrade path from 5.0.0 to 5.0.3")
            .stderr_has("hint: add the missing releases to complete a path: 5.0.1");
    }
    let run = host.run(["plan", "5.0.3", "--available", "5.0.1"]).ok();
    run.stdout_has("  1. 5.0.1, hot\n");
    release(&host, "5.0.1", "[data]\nwrites = 3\nreads = [2, 3]\n", &[]);
    host.run(["plan", "5.0.3"]).ok().stdout_has("  1. 5.0.1, hot, an archive in releases/\n");
    host.run(["upgrade", "5.0.3"]).code(2).stderr_has("hint: use this path: 5.0.1, then 5.0.3; ");
    host.run(["upgrade", "--multi-hop", "5.0.3"]).ok();
}

#[test]
fn downgrade_keeps_higher_data_format() {
    let host = host();
    release(&host, "5.0.1", "[data]\nwrites = 3\nreads = [2, 3]\n", &[]);
    release(&host, "5.0.2", "[data]\nwrites = 4\nreads = [3, 4]\n", &[]);
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["upgrade", "5.0.2"]).ok();
    let why = "release 5.0.1 cannot start on the data: it reads data formats 2 and 3 only, and format 4 is on disk\n";
    host.run(["downgrade", "5.0.1"]).code(2).stderr_has(why);
    release(&host, "5.0.4", "[data]\nwrites = 3\nreads = [3, 4]\n", &[]);
    release(&host, "5.0.5", "[data]\nwrites = 4\nreads = [4]\n", &[]);
    host.run(["upgrade", "5.0.5"]).ok();
    host.run(["downgrade", "5.0.4"]).ok();
    host.run(["status"]).ok().stdout_has("Data: formats 3 and 4\n");
    let why = "it reads data formats 2 and 3 only, and formats 3 and 4 are on disk\n";
    host.run(["downgrade", "5.0.1"]).code(2).stderr_has(why);
    let why = "error: release 5.0.5 cannot start on the data: it reads data format 4 only, and formats 3 and 4 are on disk\n";
    host.run(["upgrade", "5.0.5"]).code(2).stderr_has(why);
    let run = host.run(["plan", "5.0.5"]).code(2);
    run.stderr_has("caused by: 5.0.5 cannot start on the data: formats 3 and 4 are on disk at that point\n");
}

/// The lower release writes its own format, so each upgrade migrates the data again.
#[test]
fn upgrade_migrates_again_after_downgrade() {
    let host = Host::in_memory();
    release(&host, "5.0.0", "[data]\nwrites = 2\nreads = [2, 3]\n", &[]);
    host.run(["install", "5.0.0"]).ok();
    migrating(&host, "");
    release(&host, "5.0.2", "[data]\nwrites = 3\nreads = [3]\n", &[]);
    for times in 1..=2 {
        host.run(["upgrade", "5.0.1"]).ok();
        until(&host, "done");
        assert_eq!(told(&host).len(), times);
        assert_eq!(host.run(["status", "--json"]).json()["data_formats"], serde_json::json!([3]));
        let run = host.run(["downgrade", "--dry-run", "5.0.0"]).ok();
        run.stdout_has("record that the data is in formats 2 and 3\n");
        host.run(["downgrade", "5.0.0"]).ok();
        assert_eq!(host.run(["status", "--json"]).json()["data_formats"], serde_json::json!([2, 3]));
        let why = "it reads data format 3 only, and formats 2 and 3 are on disk\n";
        host.run(["upgrade", "5.0.2"]).code(2).stderr_has(why);
        host.run(["check", "5.0.1"]).ok().stdout_has(
            "ok      data: formats 2 and 3 are on disk; 5.0.1 migrates it to format 3 once it is permanent",
        );
        let run = host.run(["migrate"]).ok();
        run.stdout("The data is in formats 2 and 3.\nThere is nothing to migrate.\n");
    }
    let run = host.run(["plan", "5.0.2"]).ok();
    run.stdout_has("From 5.0.0 to 5.0.2 in 2 hops:\n  1. 5.0.1, hot, installed\n");
    host.run(["upgrade", "--multi-hop", "5.0.2"]).ok();
    assert_eq!(told(&host).len(), 3);
}

#[test]
fn migration_to_unknown_format_blocks_downgrade() {
    let host = host();
    release(&host, "5.0.1", "[hooks]\nmigrate = ['bin/migrate']\n", &[("bin/migrate", MIGRATES)]);
    release(&host, "5.0.2", "[data]\nwrites = 3\nreads = [3]\n", &[]);
    for (outcome, formats) in [("fail", serde_json::json!([2])), ("well", serde_json::json!([]))] {
        set(&host, outcome);
        host.run(["upgrade", "5.0.1"]).ok();
        until(&host, if outcome == "fail" { "failed" } else { "done" });
        assert_eq!(host.run(["status", "--json"]).json()["data_formats"], formats);
        host.run(["downgrade", "5.0.0"]).code(2).stderr_has("it reads data formats 1 and 2 only, and the manifest of 5.0.1 does not declare the format after its migration\n");
        if outcome == "fail" {
            clear(&host, outcome);
            host.run(["migrate", "--restored", "2"]).ok();
            host.run(["downgrade", "5.0.0"]).ok();
        }
    }
    host.run(["upgrade", "--multi-hop", "5.0.2"]).ok();
    host.run(["status"]).ok().stdout_has("Data: format 3\n");
}

/// The format of data from a release without formats is unknown until a migration succeeds.
#[test]
fn failed_migration_does_not_change_data_format() {
    let host = Host::in_memory();
    release(&host, "5.0.0", "", &[]);
    host.run(["install", "5.0.0"]).ok();
    migrating(&host, "");
    set(&host, "fail");
    host.run(["upgrade", "5.0.1"]).ok();
    until(&host, "failed");
    let formats = || host.run(["status", "--json"]).json()["data_formats"].clone();
    release(&host, "4.9.0", "[data]\nwrites = 3\n", &[]);
    for _ in 0..2 {
        assert_eq!(formats(), serde_json::json!([]));
        host.run(["downgrade", "--restart", "4.9.0"]).code(2).stderr_has(
            "it reads data format 3 only, and the format before the migration by 5.0.1 is unknown\n",
        );
        host.run(["migrate"]).code(1);
    }
    clear(&host, "fail");
    host.run(["migrate"]).ok();
    assert_eq!(formats(), serde_json::json!([3]));
    host.run(["downgrade", "--restart", "4.9.0"]).ok();
}

#[test]
fn revert_ignores_data_format_of_trial() {
    let host = host();
    release(&host, "5.0.1", "[data]\nwrites = 3\nreads = [2, 3]\n", &[]);
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    host.run(["status"]).ok().stdout_has("Data: format 2\n");
    host.run(["revert"]).ok();
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    host.run(["install", "5.0.0"]).ok();
}

#[test]
fn failed_backup_stops_upgrade() {
    let host = host();
    migrating(&host, "backup = ['bin/tell']\n");
    assert_run!(host, "upgrade --dry-run 5.0.1", @"
    exit 0
    --- stdout
    Would do:
      1. unpack releases/emqx-5.0.1.zip into releases/5.0.1
      2. make a backup by the hook of 5.0.1
      3. record that 5.0.0 has been permanent
      4. point current at releases/5.0.1, now releases/5.0.0
      5. point permanent at releases/5.0.1, now releases/5.0.0
      6. migrate the data to format 3 by the hook of 5.0.1, in the background
    Nothing was changed.
    ");
    let before = host.tree();
    let run = host.run(["upgrade", "--backup-command", "echo no room on tape; exit 3", "5.0.1"]).code(1);
    run.stderr_has("error: cannot make the backup that this operation needs\n")
        .stderr_has("caused by: it ended with exit status 3\ncaused by: no room on tape\n")
        .stderr_has("hint: its output is in ");
    assert!(told(&host).is_empty());
    let mut after = host.tree();
    after.retain(|path, _| !path.starts_with(".tenure/log"));
    assert_eq!(after, before);
    let run = host.run(["upgrade", "5.0.1"]).ok();
    run.stdout_has("Made a backup.\nInstalled Release: 5.0.1\n");
    until(&host, "done");
    assert_eq!(told(&host), ["backup 5.0.0 5.0.1", "migrate 5.0.0 5.0.1"]);
}

/// The release converts the data by itself when it starts.
#[test]
fn backup_precedes_format_change_without_hook() {
    let host = host();
    for (version, writes) in [("5.0.1", 2), ("5.0.2", 3)] {
        let manifest = format!("[data]\nwrites = {writes}\nreads = [2, 3]\n[hooks]\nbackup = ['bin/tell']\n");
        let fails = format!("{TELLS}[ ! -e \"$TENURE_ROOT/../fail\" ]\n");
        release(&host, version, &manifest, &[("bin/tell", &fails)]);
    }
    host.run(["upgrade", "5.0.1"]).ok();
    assert!(told(&host).is_empty(), "the data stays as it is");
    set(&host, "fail");
    host.run(["check", "5.0.2"]).ok().stdout_has(
        "ok      data: format 2 is on disk; 5.0.2 writes format 3 once it is permanent, after a backup by its own hook\n",
    );
    host.run(["upgrade", "5.0.2"])
        .code(1)
        .stderr_has("error: cannot make the backup that this operation needs\n");
    assert_eq!(host.link("current").unwrap(), "releases/5.0.1");
    clear(&host, "fail");
    host.run(["upgrade", "5.0.2"]).ok().stdout_has("Made a backup.\n");
    assert_eq!(told(&host), ["backup 5.0.1 5.0.2"; 2]);
    host.run(["downgrade", "5.0.1"]).ok();
    assert_eq!(told(&host).len(), 2, "what is gone back to does not rewrite it");
}

#[test]
fn trial_makes_backup_on_confirm() {
    let host = host();
    migrating(&host, "backup = ['bin/tell']\n");
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    assert!(told(&host).is_empty());
    host.run(["confirm", "--backup-command", "false"]).code(1).stderr_has("cannot make the backup");
    assert_eq!(host.link("permanent").unwrap(), "releases/5.0.0");
    host.run(["confirm"]).ok().stdout_has("Made a backup.\n");
    until(&host, "done");
    assert_eq!(told(&host), ["backup 5.0.0 5.0.1", "migrate 5.0.0 5.0.1"]);
    // A requested backup is always made, before the trial begins.
    release(&host, "5.0.2", "", &[]);
    let command = "env | grep ^TENURE_ | cut -d= -f1 | sort | tr '\\n' ' ' >../saved";
    host.run(["upgrade", "--no-permanent", "--backup-command", command, "5.0.2"]).ok();
    assert_eq!(
        fs::read_to_string(beside(&host, "saved")).unwrap(),
        "TENURE_ACTION TENURE_ROOT TENURE_TRANSACTION "
    );
}

#[test]
fn check_hook_runs_before_any_change() {
    let host = host();
    let objects = "#!/bin/sh\necho hm\necho \"no $TENURE_ACTION from $TENURE_OLD_VERSION in ${TENURE_NEW_DIR##*/}\"\nexit 1\n";
    let agrees = "#!/bin/sh\n[ -x \"$TENURE_NEW_DIR/bin/check\" ] && grep -q emqx release.toml && echo the disks are fine\n";
    release(
        &host,
        "5.0.1",
        "[hooks]\ncheck = ['bin/check']\n[requires]\narch = ['sparc']\n",
        &[("bin/check", objects)],
    );
    release(&host, "5.0.2", "[hooks]\ncheck = ['bin/check']\n", &[("bin/check", agrees)]);
    let before = host.tree();
    for command in [&["check", "5.0.1"][..], &["upgrade", "5.0.1"], &["upgrade", "--prepare-only", "5.0.1"]] {
        let run = host.run(command).code(2);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("the release needs sparc"), "{said}");
        assert!(said.contains("the check program of 5.0.1, bin/check, failed"), "{said}");
        assert!(said.contains("no check from 5.0.0 in tree"), "{said}");
        assert_eq!(host.tree(), before, "{command:?}");
    }
    host.run(["check", "5.0.2"]).ok().stdout_has("ok      check hook: the disks are fine\n");
    assert_eq!(host.tree(), before);
    host.run(["unpack", "5.0.2"]).ok();
    host.run(["check", "5.0.2"]).ok().stdout_has("ok      check hook: the disks are fine\n");
    host.run(["upgrade", "5.0.2"]).ok();
    // The check hook does not run for a release that ran here before.
    host.run(["downgrade", "5.0.0"]).ok();
}

#[test]
fn check_hook_sees_shared_directories() {
    let host = Host::new();
    let settings = "name = \"emqx\"\n[space]\nreserve = \"0 B\"\n[shared]\ndirectories = ['etc']\n";
    fs::write(host.root().join("tenure.toml"), settings).unwrap();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    fs::write(host.root().join("shared/etc/emqx.conf"), "of this host").unwrap();
    let looks = "#!/bin/sh\ncat etc/emqx.conf\n";
    release(&host, "5.0.1", "[hooks]\ncheck = ['bin/check']\n", &[("bin/check", looks)]);
    host.run(["check", "5.0.1"]).ok().stdout_has("ok      check hook: of this host\n");
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn release_is_prepared_once() {
    let host = host();
    let prepares = "#!/bin/sh\necho \"$TENURE_ACTION $TENURE_OLD_VERSION $TENURE_NEW_VERSION\" >>\"$TENURE_ROOT/../told\"\n\
                    echo driver >driver.ko\nmkdir -p cache && echo warm >cache/x\n";
    for version in ["5.0.1", "5.0.2"] {
        release(&host, version, "[hooks]\nprepare = ['bin/prepare']\n", &[("bin/prepare", prepares)]);
    }
    assert_run!(host, "upgrade --prepare-only 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Prepared successfully: "5.0.1"
    Release 5.0.1 is prepared; nothing was switched.
    "#);
    assert_run!(host, "upgrade --prepare-only 5.0.1", @"
    exit 0
    --- stdout
    Release 5.0.1 was prepared already; nothing was switched.
    ");
    assert_eq!(
        (told(&host), host.link("current").unwrap().as_str()),
        (vec!["prepare 5.0.0 5.0.1".to_owned()], "releases/5.0.0")
    );
    // Files that the prepare hook made belong to the release; later changes are reported.
    host.run(["verify", "5.0.1"]).ok();
    fs::write(host.root().join("releases/5.0.1/driver.ko"), "another").unwrap();
    host.run(["verify", "5.0.1"]).code(1).stdout_has("  changed: driver.ko\n");
    assert_run!(host, "upgrade 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 is already unpacked, switching to it.
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    "#);
    assert_eq!(told(&host).len(), 1);
    // One command unpacks the release, and the next one prepares it. The file changes in between.
    host.run(["unpack", "5.0.2"]).ok();
    fs::write(host.root().join("releases/5.0.2/bin/emqx"), "tampered").unwrap();
    host.run(["upgrade", "5.0.2"]).ok().stdout_has("Prepared successfully: \"5.0.2\"\n");
    assert_run!(host, "verify 5.0.2", @"
    exit 1
    --- stdout
    Release 5.0.2 has changed since it was unpacked:
      changed: bin/emqx
    ");
    host.run(["downgrade", "5.0.1"]).ok();
    host.run(["upgrade", "5.0.2"]).ok();
    assert_eq!(told(&host).len(), 2);
}

#[test]
fn failed_prepare_removes_release() {
    let host = host();
    let fails = "#!/bin/sh\necho x >half\necho no compiler\nexit 1\n";
    release(&host, "5.0.1", "[hooks]\nprepare = ['bin/prepare']\n", &[("bin/prepare", fails)]);
    for command in [&["upgrade", "5.0.1"][..], &["upgrade", "--prepare-only", "5.0.1"]] {
        let run = host.run(command).code(1);
        run.stderr_has("error: the prepare program of 5.0.1, bin/prepare, failed\n")
            .stderr_has("caused by: no compiler\n");
        assert_eq!(host.states(), ["5.0.0 permanent"]);
    }
    for wrong in [
        &["upgrade", "--prepare-only", "--watch", "1m", "5.0.1"][..],
        &["migrate", "--restored", "two"],
        &["migrate", "--restored", "2", "--background"],
    ] {
        host.run(wrong).code(64);
    }
}

#[test]
fn invalid_data_formats_are_refused() {
    for (data, why) in [
        ("writes = 3\nreads = [2]", "reads does not hold 3, which the release writes"),
        ("reads = [2]", "missing field `writes`"),
        ("writes = -1", "release.toml in releases/emqx-5.0.1.zip, line 4"),
        ("writes = 3\nread = [3]", "the nearest known key is `reads`"),
    ] {
        let host = host();
        release(&host, "5.0.1", &format!("[data]\n{data}\n"), &[]);
        host.run(["upgrade", "5.0.1"]).code(2).stderr_has(why);
    }
    let host = host();
    fs::create_dir_all(host.root().join(".tenure/data"));
    fs::write(host.root().join(".tenure/data/record"), "torn").unwrap();
    host.run(["status"]).code(1).stdout_has("the record of the data format");
    host.archive("5.0.1");
    host.run(["upgrade", "5.0.1"]).code(2).stderr_has("`tenure migrate --restored FORMAT` writes it again");
    host.run(["boot"]).ok();
    host.run(["migrate", "--restored", "2"]).ok();
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn migrate_needs_permanent_release_with_hook() {
    let host = Host::new();
    host.run(["migrate"]).code(2).stderr_has("cannot migrate: no release is permanent");
    let host = self::host();
    assert_run!(host, "migrate", @"
    exit 0
    --- stdout
    The data is in format 2.
    There is nothing to migrate.
    ");
    migrating(&host, "");
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    host.run(["migrate"]).code(2).stderr_has("error: cannot migrate: 5.0.1 is on trial\n");
    assert!(!Path::new(&beside(&host, "told")).exists());
}

#[test]
fn failed_migration_blocks_upgrade_after_trial() {
    let host = host();
    migrating(&host, "");
    release(&host, "5.0.2", "[data]\nwrites = 4\nreads = [2, 3, 4]\n", &[]);
    release(&host, "4.9.0", "[data]\nwrites = 2\nreads = [2, 3]\n", &[]);
    set(&host, "fail");
    host.run(["upgrade", "5.0.1"]).ok();
    until(&host, "failed");
    let why = "error: a data migration is not done: to data format 3 by 5.0.1, failed";
    host.run(["install", "--no-permanent", "--restart", "4.9.0"]).ok();
    host.run(["upgrade", "--restart", "5.0.2"]).code(2).stderr_has(why);
    host.run(["confirm"]).ok();
    host.run(["upgrade", "--restart", "5.0.2"]).code(2).stderr_has(why);
    assert_eq!(
        (stage(&host).as_str(), host.link("permanent").as_deref()),
        ("failed", Some("releases/4.9.0"))
    );
    // The migration runs again once any command makes 5.0.1 permanent.
    clear(&host, "fail");
    host.run(["upgrade", "--no-permanent", "--restart", "5.0.1"]).ok();
    host.run(["install", "5.0.1"]).ok();
    until(&host, "done");
    host.run(["status"]).ok().stdout_has("Data: format 3\n");
}

#[test]
fn confirm_runs_migration_without_previous_link() {
    let host = host();
    migrating(&host, "");
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    fs::remove_file(host.root().join("permanent")).unwrap();
    host.run(["confirm", "--backup-command", "touch ../saved"]).ok();
    until(&host, "done");
    assert_eq!(told(&host), ["migrate 5.0.0 5.0.1"]);
    assert!(beside(&host, "saved").exists());
    host.run(["status"]).ok().stdout_has("Data: format 3\n");
}
