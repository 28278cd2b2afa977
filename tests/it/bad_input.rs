//! Invalid input and damaged roots. The error names the object and has a hint, and nothing changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Host, Run, assert_run, assert_same, in_shell};
use insta::allow_duplicates;

/// Returns a host with 5.0.0 permanent and an archive of 5.0.1.
fn host() -> Host {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    host
}

#[test]
fn invalid_version_is_usage_error() {
    let host = host();
    for version in ["banana", "../x", "", "5.0.x", "v", "1.2.3.4.5.6", "5.0.1/", "/", ".", "5.0.1 "] {
        for command in ["install", "upgrade", "downgrade", "uninstall", "verify"] {
            let before = host.tree();
            host.run([command, version]).code(64).stderr_has(&format!("{version:?} is not a version"));
            assert_eq!(host.tree(), before);
        }
    }
    assert_run!(host, "upgrade banana", @r#"
    exit 64
    --- stderr
    error: "banana" is not a version: it does not begin with a number
    hint: a version reads like 5.0.1, 24.04, 5.1.0-rc.1 or 7.2.4-52
    "#);
    host.run(["unpack", "banana"]).code(64);
    assert_run!(host, "unpack ../x", @r#"
    exit 64
    --- stderr
    error: "../x" is not a version: it does not begin with a number
    hint: a version reads like 5.0.1, 24.04, 5.1.0-rc.1 or 7.2.4-52
    hint: the path of an archive ends in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    "#);
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
            host.refused(args).stderr_has(&format!("the link `{name}` is unusable: it is a directory"));
        }
        host.run(["status"]).code(1).stdout_has("it is a directory");
        fs::remove_dir(&link).unwrap();
        fs::write(&link, "").unwrap();
        let run = host.refused(["upgrade", "5.0.1"]);
        run.stderr_has(&format!("the link `{name}` is unusable: it is a file"));
    }
    let host = host();
    fs::remove_file(host.root().join("current")).unwrap();
    fs::create_dir(host.root().join("current")).unwrap();
    assert_run!(host.refused(["revert"]), @"
    exit 2
    --- stderr
    error: the link `current` is unusable: it is a directory, not a symlink
    hint: move it out of the root; if it is an installation, `tenure adopt current VERSION` copies it first
    ");
    // `boot` reports a link that it cannot repair, because the permanent release has to start.
    assert_run!(host, "boot", @"
    exit 0
    --- stderr
    warning: the link `current` is unusable: it is a directory, not a symlink
    warning: move it out of the root; if it is an installation, `tenure adopt current VERSION` copies it first
    ");
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
            host.refused(args).stderr_has("`current`").stderr_has(words).stderr_has("tenure revert");
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
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: the link `current` is unusable: it is missing
    hint: run `tenure revert` to point it to the permanent release, 5.0.0
    ");
    host.run(["boot"]).ok();
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.0"));
    fs::remove_file(host.root().join("permanent")).unwrap();
    fs::remove_file(host.root().join(".tenure/history")).unwrap();
    // Nothing shows which release was permanent.
    assert_run!(host.refused(["boot"]), @"
    exit 2
    --- stderr
    error: the link `permanent` is unusable: it is missing
    hint: run `tenure confirm` to make the current release, 5.0.0, permanent
    ");
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
        allow_duplicates! {
            for command in [&["install", "5.0.0"][..], &["uninstall", "5.0.1"], &["prune"]] {
                assert_run!(host.refused(command), @"
                exit 2
                --- stderr
                error: the link `permanent` is unusable: it is missing
                hint: run `tenure boot` to restore the link to 5.0.1, the last permanent release, without touching the service
                ");
            }
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
    assert_run!(host.refused(["prune"]), @"
    exit 2
    --- stderr
    error: the link `permanent` is unusable: it is missing
    hint: run `tenure revert` to go back to 5.0.1, the last permanent release
    hint: run `tenure confirm` to make the current release, 5.0.0, permanent
    ");
    assert_run!(host, "revert", @"
    exit 0
    --- stdout
    Release 5.0.1 is permanent, going back to it.
    Installed Release: 5.0.1
    --- stderr
    warning: the link `permanent` was removed: it points to 5.0.1 again, which was permanent last
    ");
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.1"));
    host.run(["downgrade", "--no-permanent", "5.0.0"]).ok();
    remove(&both[1..]);
    assert_run!(host, "boot", @"
    exit 0
    --- stdout
    Ended the trial of 5.0.0; the service starts with 5.0.1
    --- stderr
    warning: the link `permanent` was removed: it points to 5.0.1 again, which was permanent last
    ");
    // `boot` does not need a release that is gone together with its links.
    remove(&both);
    fs::rename(host.root().join("releases/5.0.1"), host.root().join("releases/away")).unwrap();
    assert_run!(host.refused(["boot"]), @"
    exit 2
    --- stderr
    error: no release is permanent
    hint: run `tenure install VERSION` to install a release
    ");
    host.run(["install", "5.0.0"]).ok();
}

#[test]
fn archive_of_another_release_is_refused() {
    let host = host();
    host.build("5.0.2").file("release.toml", "name = 'emqx'\nversion = '5.0.3'\n").write();
    assert_run!(host.refused(["upgrade", "5.0.2"]), @"
    exit 2
    --- stderr
    error: releases/emqx-5.0.2.zip contains another version: 5.0.3, not 5.0.2
    hint: the archive is misnamed or misbuilt: get it again from its vendor
    ");
    host.build("5.0.4").file("release.toml", "name = 'other'\nversion = '5.0.4'\n").write();
    assert_run!(host.refused(["upgrade", "5.0.4"]), @"
    exit 2
    --- stderr
    error: releases/emqx-5.0.4.zip contains another product: other, not emqx
    hint: the archive is misnamed or misbuilt: get it again from its vendor
    ");
    host.build("5.0.5").file("release.toml", "name = 'emqx'\nversion = '5.0.5'\nbanana = 1\n").write();
    assert_run!(host.refused(["upgrade", "5.0.5"]), @"
    exit 2
    --- stderr
    error: cannot use release.toml in releases/emqx-5.0.5.zip, line 3: unknown field `banana`, expected one of `name`, `version`, `upgrade`, `requires`, `files`, `data`, `hooks`, `health`, `timeouts`
    hint: the nearest known key is `data`
    ");
}

#[test]
fn ambiguous_archives_are_refused() {
    let host = host();
    let releases = host.root().join("releases");
    fs::copy(releases.join("emqx-5.0.1.zip"), releases.join("emqx-5.0.1-el9.zip")).unwrap();
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: more than one archive contains 5.0.1: releases/emqx-5.0.1-el9.zip, releases/emqx-5.0.1.zip
    hint: keep one of them, or name it: `tenure unpack FILE`
    ");
    host.run(["unpack", "releases/emqx-5.0.1-el9.zip"]).ok();
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn archive_name_must_match_exactly() {
    let host = host();
    let releases = host.root().join("releases");
    fs::rename(releases.join("emqx-5.0.1.zip"), releases.join("emqx-5.0.10.zip")).unwrap();
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: release 5.0.1 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-5.0.1, emqx_5.0.1 and 5.0.1, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    caused by: releases/emqx-5.0.10.zip does not match: it is an archive of 5.0.10
    hint: copy the archive there, or did you mean 5.0.10?
    ");
    fs::rename(releases.join("emqx-5.0.10.zip"), releases.join("other-5.0.1.zip")).unwrap();
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: release 5.0.1 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-5.0.1, emqx_5.0.1 and 5.0.1, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    caused by: releases/other-5.0.1.zip does not match: its name does not begin with emqx
    hint: copy the archive there, or did you mean 5.0.0?
    ");
    fs::rename(releases.join("other-5.0.1.zip"), releases.join("emqx-5.0.1-rc.1.zip")).unwrap();
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: release 5.0.1 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-5.0.1, emqx_5.0.1 and 5.0.1, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    caused by: releases/emqx-5.0.1-rc.1.zip does not match: it is an archive of 5.0.1-rc.1
    hint: copy the archive there, or did you mean 5.0.0?
    ");
}

#[test]
fn unknown_settings_keys_are_refused() {
    let host = host();
    let settings = host.root().join("tenure.toml");
    fs::write(&settings, "name = 'emqx'\n[retention]\nkep = 3\n").unwrap();
    allow_duplicates! {
        for args in [&["upgrade", "5.0.1"][..], &["unpack", "5.0.1"], &["prune"]] {
            assert_run!(host.refused(args), @"
            exit 2
            --- stderr
            error: cannot use [ROOT]/tenure.toml, line 3: unknown field `kep`, expected `keep`
            hint: the nearest known key is `keep`
            ");
        }
    }
    fs::write(&settings, "name = \n").unwrap();
    assert_run!(host, "upgrade 5.0.1", @"
    exit 2
    --- stderr
    error: cannot use [ROOT]/tenure.toml, line 1: string values must be quoted, expected literal string
    ");
    // A rule that Tenure cannot follow is not ignored.
    fs::write(&settings, "[shared]\ndirectories = ['var/log']\n").unwrap();
    assert_run!(host, "upgrade 5.0.1", @r#"
    exit 2
    --- stderr
    error: cannot use [ROOT]/tenure.toml, line 2: "var/log" is not a directory at the top of a release
    "#);
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
        let run = host.refused(["upgrade", version]);
        run.stderr_has(&format!("releases/{version} is a file or link"));
    }
}

#[test]
fn rebuilt_archive_needs_replace() {
    let host = host();
    host.run(["unpack", "5.0.1"]).ok();
    host.build("5.0.1").file("lib/new", "rebuilt").write();
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: release 5.0.1 was unpacked from another archive than releases/emqx-5.0.1.zip
    hint: use `--replace` to unpack it again, or remove the archive to keep the installed release
    ");
    assert_run!(host.refused(["unpack", "5.0.1"]), @"
    exit 2
    --- stderr
    error: release 5.0.1 was unpacked from another archive than releases/emqx-5.0.1.zip
    hint: use `--replace` to unpack it again, or remove the archive to keep the installed release
    ");
    assert_run!(host, "upgrade --replace 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 is replaced, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    "#);
    let new = host.root().join("current/lib/new");
    assert_eq!(fs::read_to_string(new).unwrap(), "rebuilt");
    // A release in use is not replaced.
    host.build("5.0.1").file("lib/new", "again").write();
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: release 5.0.1 was unpacked from another archive than releases/emqx-5.0.1.zip
    hint: it is in use: give the rebuilt release a version of its own, or remove the archive
    ");
    assert_run!(host.refused(["install", "--replace", "5.0.1"]), @"
    exit 2
    --- stderr
    error: cannot replace 5.0.1: it is permanent
    hint: install another release first
    ");
}

#[test]
fn digest_file_is_verified() {
    let host = host();
    let digest = host.root().join("releases/emqx-5.0.1.zip.sha256");
    for text in
        ["0".repeat(64), format!("{}  emqx-5.0.1.zip\n", "0".repeat(64)), "banana\n".into(), String::new()]
    {
        fs::write(&digest, text).unwrap();
        host.refused(["upgrade", "5.0.1"]).stderr_has("emqx-5.0.1.zip.sha256");
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
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: cannot unpack emqx-5.0.1.zip: the archive is damaged: it has no end record
    hint: get the archive again from its vendor; nothing was unpacked
    ");
    fs::write(&archive, "").unwrap();
    assert_run!(host.refused(["upgrade", "5.0.1"]), @"
    exit 2
    --- stderr
    error: cannot unpack emqx-5.0.1.zip: the archive is damaged: it has no end record
    hint: get the archive again from its vendor; nothing was unpacked
    ");
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
    assert_run!(host, format!("versions --root {empty}"), @"
    exit 2
    --- stderr
    error: [DIR]/empty is not a root: it has no releases/
    hint: run `tenure init --root [DIR]/empty` to create one
    ");
    assert_run!(host, "versions --root /nowhere/at/all", @"
    exit 2
    --- stderr
    error: /nowhere/at/all is not a root: it has no releases/
    hint: run `tenure init --root /nowhere/at/all` to create one
    ");
    assert_run!(host.run_in(Path::new(empty), ["versions"]), @"
    exit 2
    --- stderr
    error: no root here: neither [DIR]/empty nor a parent contains releases/
    hint: name one with --root or TENURE_ROOT, or make one with `tenure init`
    ");
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
    let run = host.refused(["uninstall", "5.0.0"]).stderr_has(&format!("pid {}", running.id()));
    assert_run!(run, @"
    exit 2
    --- stderr
    error: cannot uninstall 5.0.0: in use by sleep (pid [PID])
    hint: stop these processes first
    ");
    host.archive("5.0.2");
    host.run(["upgrade", "5.0.2"]).ok();
    assert_run!(host, "prune --keep 0", @"
    exit 0
    --- stdout
    Kept release: 5.0.0, it is in use or is a mount point
    ");
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
    assert_run!(host, "status", @r"
    exit 1
    --- stdout
    Root: [ROOT]
    Name: emqx
    Current: 5.0.0
    Permanent: 5.0.0
    Releases:
    * 5.0.0\tpermanent
    Problem: the journal [ROOT]/.tenure/journal is damaged
      hint: run `tenure boot`, or any command that changes something, to move it aside
    ");
    assert_run!(host, "upgrade 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    --- stderr
    warning: the journal was damaged and was moved to [ROOT]/.tenure/journal.damaged; run `tenure status` to check the root
    "#);
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
    assert_run!(host, "boot", @"
    exit 0
    --- stdout
    Ended the trial of 5.0.2; the service starts with 5.0.1
    --- stderr
    warning: the journal was damaged and was moved to [ROOT]/.tenure/journal.damaged; run `tenure status` to check the root
    ");
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
    assert_run!(host, "upgrade 5.0.1", @"
    exit 75
    --- stderr
    error: another Tenure command is running on [ROOT]
    hint: use `--wait 60` to wait up to a minute for it to end
    ");
    host.run(["upgrade", "--wait", "1", "5.0.1"]).code(75);
    assert_eq!(host.run(["upgrade", "5.0.1", "--json"]).code(75).json()["error"]["kind"], "busy");
    // Commands that only read do not wait.
    host.run(["versions"]).ok();
    host.run(["status"]).ok();
    host.run(["verify"]).ok();
    host.run(["upgrade", "--dry-run", "5.0.1"]).ok();
    // The lock does not keep the service from starting.
    assert_run!(host, "boot --wait 0", @"
    exit 0
    --- stderr
    warning: another Tenure command is running on [ROOT]
    warning: use `--wait 60` to wait up to a minute for it to end
    ");
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
    assert_run!(host, "verify 5.0.1", @"
    exit 2
    --- stderr
    error: cannot verify 5.0.1: Tenure did not unpack it and has no record of its files
    hint: `tenure unpack --replace 5.0.1` unpacks it from its archive, while it is not in use
    ");
    assert_run!(host, "unpack 5.0.1", @"
    exit 0
    --- stdout
    Release 5.0.1 is already unpacked.
    ");
    assert_run!(host, "unpack --replace 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 is replaced, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    "#);
    host.run(["verify", "5.0.1"]).ok();
}
