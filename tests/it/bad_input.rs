//! Invalid input and damaged roots. The error names the object and has a hint, and nothing changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Host, Run, assert_same, in_shell};

/// Returns a host with 5.0.0 permanent and an archive of 5.0.1.
fn host() -> Host {
    let host = Host::new();
    host.archive("5.0.0");
    host.archive("5.0.1");
    host.run(["install", "5.0.0"]).ok();
    host
}

/// Runs a command that must be refused. Asserts its exit code, words of its error, a hint, and that nothing changed.
fn refused(host: &Host, args: &[&str], code: i32, words: &[&str]) {
    let before = host.tree();
    let run = host.run(args).code(code).stdout("").stderr_has("hint: ");
    words.iter().fold(run, |run, word| run.stderr_has(word));
    assert_eq!(host.tree(), before, "{args:?} changed something");
}

#[test]
fn invalid_version_is_usage_error() {
    let host = host();
    for version in ["banana", "../x", "", "5.0", "v5.0.1", "5.0.1/", "/", ".", "5.0.1 "] {
        for command in ["install", "upgrade", "downgrade", "uninstall", "verify"] {
            let before = host.tree();
            host.run([command, version]).code(64).stderr_has(&format!("{version:?} is not a version"));
            assert_eq!(host.tree(), before);
        }
    }
    host.run(["unpack", "banana"]).code(64);
    host.run(["unpack", "../x"]).code(2).stderr_has("not an archive");
    host.run(["unpack", ""]).code(64);
}

#[test]
fn usage_error_exits_64() {
    let host = host();
    for args in
        [vec![], vec!["upgrade"], vec!["upgrade", "5.0.1", "5.0.2"], vec!["banana"], vec!["versions", "-x"]]
    {
        host.run(&args).code(64).stdout("");
    }
    host.run(["upgrade", "--wait", "soon", "5.0.1"]).code(64);
    host.run(["prune", "--keep", "-1"]).code(64);
}

#[test]
fn directory_or_file_in_place_of_link_is_refused() {
    for name in ["current", "permanent"] {
        let host = host();
        let link = host.root().join(name);
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        for args in [&["upgrade", "5.0.1"][..], &["uninstall", "5.0.0"], &["prune"], &["versions"]] {
            refused(&host, args, 2, &[&format!("`{name}`"), "it is a directory"]);
        }
        host.run(["status"]).code(1).stdout_has("it is a directory");
        fs::remove_dir(&link).unwrap();
        fs::write(&link, "").unwrap();
        refused(&host, &["upgrade", "5.0.1"], 2, &[&format!("`{name}`"), "it is a file"]);
    }
    let host = host();
    fs::remove_file(host.root().join("current")).unwrap();
    fs::create_dir(host.root().join("current")).unwrap();
    refused(&host, &["revert"], 2, &["`current`"]);
    // `boot` reports a link that it cannot repair, because the permanent release has to start.
    host.run(["boot"]).ok().stderr_has("warning: the link `current` is unusable: it is a directory");
}

#[test]
fn link_with_invalid_target_is_refused() {
    let targets = |host: &Host| {
        [
            ("releases/9.9.9".to_owned(), "releases/9.9.9, which does not exist"),
            (host.root().join("releases/5.0.0").to_str().unwrap().to_owned(), "absolute"),
            ("releases/../etc".to_owned(), "releases/../etc"),
            ("shared".to_owned(), "shared"),
        ]
    };
    for at in 0..4 {
        let host = host();
        let (target, words) = targets(&host)[at].clone();
        let link = host.root().join("current");
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        for args in [&["upgrade", "5.0.1"][..], &["install", "5.0.0"], &["prune"], &["versions"]] {
            refused(&host, args, 2, &["`current`", words, "tenure revert"]);
        }
        host.run(["revert"]).ok();
        assert_eq!(host.link("current").as_deref(), Some("releases/5.0.0"), "the hint helps");
        host.run(["upgrade", "5.0.1"]).ok();
    }
}

#[test]
fn missing_link_is_refused() {
    let host = host();
    fs::remove_file(host.root().join("current")).unwrap();
    refused(&host, &["upgrade", "5.0.1"], 2, &["`current`", "missing", "tenure revert"]);
    host.run(["boot"]).ok();
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.0"));
    fs::remove_file(host.root().join("permanent")).unwrap();
    fs::remove_file(host.root().join(".tenure/history")).unwrap();
    // Nothing shows which release was permanent.
    refused(&host, &["boot"], 2, &["`permanent`", "missing", "tenure confirm"]);
    host.run(["confirm"]).ok();
    assert_eq!(host.states(), ["5.0.0 permanent"]);
}

#[test]
fn boot_restores_removed_links() {
    let host = host();
    host.run(["upgrade", "5.0.1"]).ok();
    let remove =
        |names: &[&str]| names.iter().for_each(|name| fs::remove_file(host.root().join(name)).unwrap());
    let both = ["current", "permanent"];
    for removed in [&both[..], &both[1..]] {
        remove(removed);
        let before = host.tree();
        let hint = "hint: run `tenure boot` to restore the link to 5.0.1, the last permanent release, without touching the service\n";
        for command in [&["install", "5.0.0"][..], &["uninstall", "5.0.1"], &["prune"]] {
            refused(&host, command, 2, &["the link `permanent` is unusable: it is missing", hint]);
        }
        host.run(["status"]).code(1).stdout_has("it is missing");
        host.run(["boot", "--dry-run"]).ok().stdout_has("point permanent at releases/5.0.1");
        assert_eq!(host.tree(), before);
        let warning =
            "warning: the link `permanent` was removed: it points to 5.0.1 again, which was permanent last\n";
        host.run(["boot"]).ok().stdout("").stderr_has(warning);
        assert_eq!(host.states(), ["5.0.1 permanent", "5.0.0 old"]);
        host.run(["status"]).ok();
    }
    // During a trial, only the previous permanent release is known to be good.
    host.run(["downgrade", "--no-permanent", "5.0.0"]).ok();
    remove(&both[1..]);
    refused(&host, &["prune"], 2, &["tenure revert` to go back to 5.0.1", "tenure confirm"]);
    host.run(["revert"]).ok().stderr_has("the link `permanent` was removed");
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.1"));
    host.run(["downgrade", "--no-permanent", "5.0.0"]).ok();
    remove(&both[1..]);
    host.run(["boot"]).ok().stdout("Ended the trial of 5.0.0; the service starts with 5.0.1\n");
    // `boot` does not need a release that is gone together with its links.
    remove(&both);
    fs::rename(host.root().join("releases/5.0.1"), host.root().join("releases/away")).unwrap();
    refused(&host, &["boot"], 2, &["no release is permanent"]);
    host.run(["install", "5.0.0"]).ok();
}

#[test]
fn archive_of_another_release_is_refused() {
    let host = host();
    host.build("5.0.2").file("release.toml", "name = 'emqx'\nversion = '5.0.3'\n").write();
    refused(&host, &["upgrade", "5.0.2"], 2, &["releases/emqx-5.0.2.zip", "5.0.3, not 5.0.2"]);
    host.build("5.0.4").file("release.toml", "name = 'other'\nversion = '5.0.4'\n").write();
    refused(&host, &["upgrade", "5.0.4"], 2, &["other, not emqx"]);
    host.build("5.0.5").file("release.toml", "name = 'emqx'\nversion = '5.0.5'\nbanana = 1\n").write();
    refused(&host, &["upgrade", "5.0.5"], 2, &["line 3", "`banana`"]);
}

#[test]
fn ambiguous_archives_are_refused() {
    let host = host();
    let releases = host.root().join("releases");
    fs::copy(releases.join("emqx-5.0.1.zip"), releases.join("emqx-5.0.1-el9.zip")).unwrap();
    refused(&host, &["upgrade", "5.0.1"], 2, &["emqx-5.0.1-el9.zip, releases/emqx-5.0.1.zip"]);
    host.run(["unpack", "releases/emqx-5.0.1-el9.zip"]).ok();
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn archive_name_must_match_exactly() {
    let host = host();
    let releases = host.root().join("releases");
    fs::rename(releases.join("emqx-5.0.1.zip"), releases.join("emqx-5.0.10.zip")).unwrap();
    refused(&host, &["upgrade", "5.0.1"], 2, &["no archive of it is in", "emqx-5.0.1.zip", ".tar.gz"]);
    fs::rename(releases.join("emqx-5.0.10.zip"), releases.join("other-5.0.1.zip")).unwrap();
    refused(&host, &["upgrade", "5.0.1"], 2, &["no archive of it is in"]);
    fs::rename(releases.join("other-5.0.1.zip"), releases.join("emqx-5.0.1-rc.1.zip")).unwrap();
    refused(&host, &["upgrade", "5.0.1"], 2, &["no archive of it is in"]);
}

#[test]
fn unknown_settings_keys_are_refused() {
    let host = host();
    let settings = host.root().join("tenure.toml");
    fs::write(&settings, "name = 'emqx'\n[retention]\nkep = 3\n").unwrap();
    for args in [&["upgrade", "5.0.1"][..], &["unpack", "5.0.1"], &["prune"]] {
        refused(&host, args, 2, &["tenure.toml, line 3", "`kep`", "nearest known key is `keep`"]);
    }
    fs::write(&settings, "name = \n").unwrap();
    host.run(["upgrade", "5.0.1"]).code(2).stderr_has("tenure.toml, line 1");
    // A rule that Tenure cannot follow is not ignored.
    fs::write(&settings, "[shared]\ndirectories = ['var/log']\n").unwrap();
    host.run(["upgrade", "5.0.1"])
        .code(2)
        .stderr_has("\"var/log\" is not a directory at the top of a release");
    // Settings may be a symlink into /etc.
    let elsewhere = host.root().parent().unwrap().join("emqx.toml");
    fs::write(&elsewhere, "name = 'emqx'\n").unwrap();
    fs::remove_file(&settings).unwrap();
    symlink(&elsewhere, &settings).unwrap();
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn other_files_are_not_listed_or_removed() {
    let host = host();
    let releases = host.root().join("releases");
    fs::write(releases.join("README"), "x").unwrap();
    fs::create_dir(releases.join("v5.0.9")).unwrap();
    fs::create_dir(releases.join("lost+found")).unwrap();
    symlink("5.0.0", releases.join("5.0.7")).unwrap();
    fs::write(releases.join("5.0.8"), "x").unwrap();
    assert_eq!(host.states(), ["5.0.0 permanent"]);
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["prune", "--keep", "0"]).ok();
    for name in ["README", "v5.0.9", "lost+found", "5.0.7", "5.0.8"] {
        assert!(fs::symlink_metadata(releases.join(name)).is_ok(), "{name} was removed");
    }
    // Tenure cannot unpack a release at such a path.
    for version in ["5.0.7", "5.0.8"] {
        host.archive(version);
        refused(&host, &["upgrade", version], 2, &[&format!("releases/{version} is a file or link")]);
    }
}

#[test]
fn rebuilt_archive_needs_replace() {
    let host = host();
    host.run(["unpack", "5.0.1"]).ok();
    host.build("5.0.1").file("lib/new", "rebuilt").write();
    for command in ["upgrade", "unpack"] {
        refused(
            &host,
            &[command, "5.0.1"],
            2,
            &["another archive than releases/emqx-5.0.1.zip", "--replace"],
        );
    }
    host.run(["upgrade", "--replace", "5.0.1"]).ok().stdout_has("Release 5.0.1 is replaced");
    let new = host.root().join("current/lib/new");
    assert_eq!(fs::read_to_string(new).unwrap(), "rebuilt");
    // A release in use is not replaced.
    host.build("5.0.1").file("lib/new", "again").write();
    refused(&host, &["upgrade", "5.0.1"], 2, &["in use"]);
    refused(&host, &["install", "--replace", "5.0.1"], 2, &["cannot replace 5.0.1: it is permanent"]);
}

#[test]
fn digest_file_is_verified() {
    let host = host();
    let digest = host.root().join("releases/emqx-5.0.1.zip.sha256");
    for text in
        ["0".repeat(64), format!("{}  emqx-5.0.1.zip\n", "0".repeat(64)), "banana\n".into(), String::new()]
    {
        fs::write(&digest, text).unwrap();
        refused(&host, &["upgrade", "5.0.1"], 2, &["emqx-5.0.1.zip.sha256"]);
    }
    let hex = host.sha256("releases/emqx-5.0.1.zip");
    fs::write(&digest, format!("{hex}  emqx-5.0.1.zip\n")).unwrap();
    host.run(["upgrade", "--dry-run", "5.0.1"]).ok();
    fs::write(&digest, hex.to_uppercase()).unwrap();
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn damaged_archive_is_refused() {
    let host = host();
    let archive = host.root().join("releases/emqx-5.0.1.zip");
    let whole = fs::read(&archive).unwrap();
    fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    refused(&host, &["upgrade", "5.0.1"], 2, &["emqx-5.0.1.zip"]);
    fs::write(&archive, "").unwrap();
    refused(&host, &["upgrade", "5.0.1"], 2, &["emqx-5.0.1.zip"]);
    // A failed unpack does not prevent the use of a good archive.
    fs::write(&archive, &whole).unwrap();
    host.run(["upgrade", "5.0.1"]).ok();
    host.complete("5.0.1");
}

#[test]
fn missing_root_is_refused() {
    let host = Host::new();
    let empty = host.root().parent().unwrap().join("empty");
    fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    host.run(["versions", "--root", empty]).code(2).stderr_has("has no releases/").stderr_has("tenure init");
    host.run(["versions", "--root", "/nowhere/at/all"]).code(2).stderr_has("/nowhere/at/all");
    host.run_in(Path::new(empty), ["versions"]).code(2).stderr_has("no root here");
}

#[test]
fn environment_selects_root() {
    let host = host();
    let path = host.root().to_str().unwrap().to_owned();
    let run =
        |root: &str| host.command(["root-dir"]).current_dir("/").env("TENURE_ROOT", root).output().unwrap();
    assert_eq!(String::from_utf8(run(&path).stdout).unwrap(), format!("{path}\n"));
    assert_eq!(run("/nowhere").status.code(), Some(2));
    let unset = String::from_utf8(run("").stderr).unwrap();
    assert!(unset.contains("no root here"), "empty is as good as unset: {unset}");
}

#[test]
fn root_is_found_from_subdirectory() {
    let host = host();
    let expected = format!("{}\n", host.root().display());
    // A release may contain its own releases/ directory, as Erlang releases do.
    let inner = host.root().join("releases/5.0.0/releases");
    fs::create_dir(&inner).unwrap();
    for dir in [host.root().join("releases"), host.root().join("current/bin"), inner] {
        host.run_in(&dir, ["root-dir"]).ok().stdout(&expected);
    }
}

#[test]
fn release_in_use_is_not_removed() {
    let host = host();
    host.run(["upgrade", "5.0.1"]).ok();
    let old = host.root().join("releases/5.0.0");
    let mut running = std::process::Command::new("sleep").arg("60").current_dir(&old).spawn().unwrap();
    let pid = format!("pid {}", running.id());
    refused(&host, &["uninstall", "5.0.0"], 2, &["in use by sleep", &pid]);
    host.archive("5.0.2");
    host.run(["upgrade", "5.0.2"]).ok();
    host.run(["prune", "--keep", "0"])
        .ok()
        .stdout_has("Kept release: 5.0.0, it is in use or is a mount point");
    running.kill().unwrap();
    running.wait().unwrap();
    host.run(["uninstall", "5.0.0"]).ok();
}

#[test]
fn damaged_journal_does_not_block_commands() {
    let host = host();
    fs::write(host.root().join(".tenure/journal"), "{\"torn").unwrap();
    fs::write(host.root().join(".tenure/history"), "{\"torn").unwrap();
    host.run(["versions"]).ok();
    host.run(["status"]).code(1).stdout_has("damaged");
    host.run(["upgrade", "5.0.1"]).ok().stderr_has("journal.damaged");
    host.run(["status"]).ok();
    assert_eq!(host.run(["history", "--json"]).ok().json()["entries"].as_array().unwrap().len(), 1);
}

#[test]
fn non_text_state_does_not_block_commands() {
    let host = host();
    host.run(["upgrade", "5.0.1"]).ok();
    host.archive("5.0.2");
    host.run(["upgrade", "--no-permanent", "5.0.2"]).ok();
    for file in ["journal", "history", "receipts/5.0.0/tenured"] {
        fs::write(host.root().join(".tenure").join(file), b"\xff\xfe\n").unwrap();
    }
    assert_eq!(host.states()[2], "5.0.0 old", "a damaged mark is still one");
    host.run(["boot"]).ok().stdout("Ended the trial of 5.0.2; the service starts with 5.0.1\n");
    assert_eq!(host.run(["history", "--json"]).ok().json()["entries"].as_array().unwrap().len(), 1);
    host.run(["status"]).ok();
    fs::write(host.root().join(".tenure/receipts/5.0.0/tenured"), vec![b'x'; 5000]).unwrap();
    host.run(["upgrade", "5.0.2"]).ok();
}

#[test]
fn leftovers_of_crashes_are_removed() {
    let host = host();
    let root = host.root();
    symlink("releases/5.0.9", root.join(".current.spare")).unwrap();
    fs::create_dir_all(root.join(".tenure/staging/x/tree/bin")).unwrap();
    fs::create_dir_all(root.join(".tenure/trash/x/release-5.0.9/bin")).unwrap();
    host.run(["upgrade", "5.0.1"]).ok();
    assert!(fs::symlink_metadata(root.join(".current.spare")).is_err());
    for dir in [".tenure/staging", ".tenure/trash"] {
        assert_eq!(fs::read_dir(root.join(dir)).unwrap().count(), 0, "{dir}");
    }
}

#[test]
fn full_stdout_is_an_error() {
    let host = host();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = |args: &[&str]| {
        let full = full.try_clone().unwrap();
        host.command(args).stdout(full).output().unwrap().status.code()
    };
    assert_eq!(status(&["versions"]), Some(1));
    // The change is done. Exit code 1 would say that it failed.
    assert_eq!(status(&["upgrade", "5.0.1"]), Some(0));
    host.complete("5.0.1");
}

#[test]
fn lock_of_another_tenure_is_respected() {
    let host = host();
    let lock = fs::File::options().write(true).open(host.root().join(".tenure/lock")).unwrap();
    lock.lock().unwrap();
    let before = host.tree();
    host.run(["upgrade", "5.0.1"])
        .code(75)
        .stderr_has("another Tenure command is running on")
        .stderr_has("--wait");
    host.run(["upgrade", "--wait", "1", "5.0.1"]).code(75);
    assert_eq!(host.run(["upgrade", "5.0.1", "--json"]).code(75).json()["error"]["kind"], "busy");
    // Commands that only read do not wait.
    host.run(["versions"]).ok();
    host.run(["status"]).ok();
    host.run(["verify"]).ok();
    host.run(["upgrade", "--dry-run", "5.0.1"]).ok();
    // The lock does not keep the service from starting.
    host.run(["boot", "--wait", "0"]).ok().stderr_has("another Tenure command is running on");
    assert_eq!(host.tree(), before);
    drop(lock);
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn signal_ends_wait_for_lock() {
    let host = host();
    let lock = fs::File::options().write(true).open(host.root().join(".tenure/lock")).unwrap();
    lock.lock().unwrap();
    let mut waiting = host.command(["upgrade", "--wait", "600", "5.0.1"]).spawn().unwrap();
    // The signal handler is installed once the process sleeps between two attempts.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(waiting.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(1));
}

/// The thread that writes the files ends at the first one that is too large, and thousands follow it.
#[test]
fn failure_to_write_names_its_cause() {
    let host = host();
    let mut build = host.build("5.0.2").format("tar.gz").file("a", &"x".repeat(80 << 10));
    for file in 0..5000 {
        build = build.file(&format!("lib/{file}"), "some text");
    }
    build.write();
    let before = host.tree();
    let command = host.command(["unpack", "5.0.2"]);
    let mut limited = in_shell("trap '' XFSZ && ulimit -f 128", &command);
    let run = Run::of(limited.output().unwrap(), &limited).code(1);
    run.stderr_has("cannot write \"emqx/a\"").stderr_has("File too large");
    assert_same(&host.tree(), &before, "nothing is left");
}

/// The hint of `verify` for a release without a record works.
#[test]
fn release_without_record_is_replaced_and_verified() {
    let host = host();
    host.run(["unpack", "5.0.1"]).ok();
    fs::remove_dir_all(host.root().join(".tenure/receipts/5.0.1")).unwrap();
    host.run(["verify", "5.0.1"]).code(2).stderr_has("hint: `tenure unpack --replace 5.0.1` unpacks it");
    host.run(["unpack", "5.0.1"]).ok().stdout_has("already unpacked");
    host.run(["unpack", "--replace", "5.0.1"]).ok().stdout_has("Unpacked successfully");
    host.run(["verify", "5.0.1"]).ok();
}
