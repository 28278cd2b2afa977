//! Roots and users: who may change a root, who may read it, and who owns its files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Host, Run};

const NOBODY: u32 = 65534;
const SOMEBODY: u32 = 12345;

fn give(path: &Path, to: u32) {
    std::os::unix::fs::lchown(path, Some(to), Some(to)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), to);
        }
    }
}

fn owners(path: &Path, found: &mut Vec<(String, u32)>) {
    let meta = fs::symlink_metadata(path).unwrap();
    found.push((path.display().to_string(), meta.uid()));
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| owners(&entry.unwrap().path(), found));
    }
}

/// Runs a command as root and names the root explicitly, because it belongs to another user.
fn named(host: &Host, args: &[&str]) -> Run {
    let mut command = host.command(args);
    command.env("TENURE_ROOT", host.root());
    Run::of(command.output().unwrap(), &command)
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn files_belong_to_owner_of_root() {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    give(host.root(), SOMEBODY);
    named(&host, &["install", "5.0.0"]).ok();
    named(&host, &["upgrade", "--no-permanent", "5.0.1"]).ok();
    named(&host, &["confirm"]).ok();
    let mut found = Vec::new();
    owners(host.root(), &mut found);
    assert!(found.len() > 30, "{found:?}");
    for (path, uid) in found {
        assert_eq!(uid, SOMEBODY, "{path}");
    }
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn other_users_may_only_read() {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    chown(host.root(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let around = host.root().parent().unwrap();
    fs::set_permissions(around, fs::Permissions::from_mode(0o755)).unwrap();
    let before = host.tree();
    let root = host.root();
    let run =
        |args: &[&str]| host.command(args).env("TENURE_ROOT", root).uid(NOBODY).gid(NOBODY).output().unwrap();
    for args in
        [&["versions"][..], &["versions", "--json"], &["status"], &["history"], &["root-dir"], &["verify"]]
    {
        let out = run(args);
        assert!(out.status.success(), "{args:?}: {out:?}");
    }
    assert_eq!(
        String::from_utf8_lossy(&run(&["versions"]).stdout),
        "Installed versions:\n* 5.0.0\tpermanent\n"
    );
    for args in
        [&["upgrade", "5.0.1"][..], &["uninstall", "5.0.0"], &["prune"], &["revert"], &["unpack", "5.0.1"]]
    {
        let out = run(args);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains("it belongs to 12345, and you are nobody"), "{stderr}");
        assert!(stderr.contains("hint: run it as root or as 12345"), "{stderr}");
    }
    assert_eq!(host.tree(), before);
    // The hint names root only once.
    chown(host.root(), Some(0), Some(0)).unwrap();
    let stderr = String::from_utf8(run(&["upgrade", "5.0.1"]).stderr).unwrap();
    assert!(
        stderr.contains("it belongs to root, and") && stderr.contains("hint: run it as root\n"),
        "{stderr}"
    );
}

/// Returns a root with a permanent release, which other users may read.
fn looked_at() -> Host {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    fs::set_permissions(host.root().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    host
}

/// Runs a command as another user and returns its output.
fn as_nobody(host: &Host, args: &[&str]) -> String {
    let out = host.command(args).uid(NOBODY).gid(NOBODY).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn unreadable_lock_is_not_reported_as_interruption() {
    let host = looked_at();
    let record = r#"{"transaction":"t","command":"upgrade 5.0.1","by":"root","started":"2026-01-01T00:00:00Z","plan":{"from":"5.0.0","to":"5.0.1","steps":[]}}"#;
    fs::write(host.root().join(".tenure/journal"), format!("{record}\n")).unwrap();
    host.run(["status"]).code(1).stdout_has("was interrupted");
    let status = as_nobody(&host, &["status"]);
    assert!(status.contains("Under way or interrupted: upgrade 5.0.1, begun 2026"), "{status}");
    assert!(status.contains("Problem: cannot determine whether a command is running on "), "{status}");
    assert!(status.ends_with("  hint: run it as root\n") && !status.contains("was interrupted"), "{status}");
    let page = as_nobody(&host, &["status", "--format", "prometheus"]);
    assert!(page.contains("tenure_problems{") && !page.contains("tenure_interrupted{"), "{page}");
    let checks = as_nobody(&host, &["check", "5.0.0"]);
    assert!(checks.contains("FAILED  lock: cannot determine whether a command is running on "), "{checks}");
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn status_reports_processes_hidden_from_user() {
    let host = looked_at();
    let pid = host.root().join("pid");
    fs::write(&pid, std::process::id().to_string()).unwrap();
    let (settings, command) = (host.root().join("tenure.toml"), r#"["true"]"#);
    let service = format!("[service]\nmanager = \"command\"\nstart = {command}\nstop = {command}\n");
    fs::write(settings, format!("{service}pid-file = {pid:?}\n")).unwrap();
    host.run(["status"])
        .code(1)
        .stdout_has("cannot be matched to a release")
        .stdout_has("hint: restart the service to run");
    let status = as_nobody(&host, &["status"]);
    assert!(status.contains(" runs, and `current` points to 5.0.0\n"), "{status}");
    assert!(status.ends_with("  hint: run it as root\n"), "{status}");
    fs::write(host.root().join("tenure.toml"), service).unwrap();
    host.run(["status"]).stdout_has("Service: the service does not run\n");
    let status = as_nobody(&host, &["status"]);
    assert!(
        status.contains("cannot determine whether the service is up: this user cannot see what the processes of other users run"),
        "{status}"
    );
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn lock_is_private_to_owner() {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    let lock = fs::metadata(host.root().join(".tenure/lock")).unwrap();
    assert_eq!(lock.mode() & 0o777, 0o600);
}

/// Returns a root with an archive of 5.0.0, whose check hook is this script.
fn checking(script: &str) -> Host {
    let host = Host::new();
    let manifest = "name = 'emqx'\nversion = '5.0.0'\n[hooks]\ncheck = ['bin/check']\n";
    host.build("5.0.0").file("release.toml", manifest).executable("bin/check", script).write();
    host
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn programs_run_with_groups_of_their_user() {
    let host = checking("#!/bin/sh\nid >\"$TENURE_ROOT/../out/told\"\n");
    fs::write(host.root().join("tenure.toml"), "user = 'nobody'\n").unwrap();
    let around = host.root().parent().unwrap();
    fs::set_permissions(around, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(around.join("out")).unwrap();
    fs::set_permissions(around.join("out"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(around.join("group"), "root:x:0:\nnogroup:x:65534:\nwatchers:x:4711:somebody,nobody\n")
        .unwrap();
    // The caller is in a group of root that the user nobody is not in.
    let script = "mount --bind \"$1\" /etc/group && shift && exec setpriv --groups 0,4 \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(around.join("group"));
    let out = command.arg(env!("CARGO_BIN_EXE_tenure")).args(["check", "5.0.0"]).current_dir(host.root());
    let out = out.env("TENURE_ROOT", host.root()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    assert_eq!(
        fs::read_to_string(around.join("out/told")).unwrap(),
        "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup),4711(watchers)\n"
    );
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn programs_also_get_primary_group_of_their_user() {
    let host = checking("#!/bin/sh\nid -u >\"$TENURE_ROOT/told\"\nid -G >>\"$TENURE_ROOT/told\"\n");
    let user = nix::unistd::User::from_name("games").unwrap().unwrap();
    for path in ["", "releases"] {
        chown(host.root().join(path), Some(user.uid.as_raw()), Some(4)).unwrap();
    }
    fs::set_permissions(host.root().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    named(&host, &["check", "5.0.0"]).ok();
    let told = fs::read_to_string(host.root().join("told")).unwrap();
    assert_eq!(told, format!("{}\n4 {}\n", user.uid, user.gid));
}
