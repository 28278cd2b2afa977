//! Shared directories, which outlive releases.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::Host;
use crate::support::case::{self, Case};

fn host(directories: &str) -> Host {
    let host = Host::new();
    settings(&host, directories, "");
    host
}

fn settings(host: &Host, directories: &str, more: &str) {
    let text =
        format!("name = \"emqx\"\n[shared]\ndirectories = {directories}\n[space]\nreserve = \"0 B\"\n{more}");
    fs::write(host.root().join("tenure.toml"), text).unwrap();
}

fn archive(host: &Host, version: &str) {
    let build = host.build(version).file("etc/emqx.conf", version).file("etc/certs/key", "secret");
    build.symlink("etc/certs/current", "key").file("data/none", "").write();
}

fn read(host: &Host, file: &str) -> String {
    fs::read_to_string(host.root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn first_release_fills_shared_directories() {
    let host = host("['etc', 'data', 'log']");
    ["5.0.0", "5.0.1"].iter().for_each(|version| archive(&host, version));
    host.run(["install", "5.0.0"]).ok().stderr("");
    assert_eq!(host.link("releases/5.0.0/etc").as_deref(), Some("../../shared/etc"));
    assert_eq!(read(&host, "current/etc/emqx.conf"), "5.0.0");
    assert_eq!(read(&host, "current/etc/certs/current"), "secret");
    // No release contains `log`, but the directory exists.
    fs::write(host.root().join("current/log/emqx.log"), "started\n").unwrap();
    fs::write(host.root().join("current/etc/emqx.conf"), "by the operator").unwrap();
    fs::remove_file(host.root().join("shared/data/none")).unwrap();
    host.run(["upgrade", "5.0.1"]).ok();
    assert_eq!(read(&host, "current/etc/emqx.conf"), "by the operator");
    assert_eq!(read(&host, "current/log/emqx.log"), "started\n");
    host.run(["verify"])
        .ok()
        .stdout("Release 5.0.1 is unchanged since it was unpacked.\nRelease 5.0.0 is unchanged since it was unpacked.\n");
    host.run(["uninstall", "5.0.0"]).ok();
    host.run(["prune", "--keep", "0"]).ok();
    assert_eq!(read(&host, "shared/etc/emqx.conf"), "by the operator");
    assert!(host.link("releases/5.0.1/data").is_some());
}

#[test]
fn empty_shared_directory_is_filled_later() {
    let host = host("['etc', 'data']");
    host.archive("4.9.0");
    archive(&host, "5.0.0");
    host.run(["install", "4.9.0"]).ok();
    assert_eq!(fs::read_dir(host.root().join("shared/etc")).unwrap().count(), 0);
    fs::write(host.root().join("shared/data/mine"), "mine").unwrap();
    host.run(["unpack", "5.0.0"]).ok();
    assert_eq!(read(&host, "shared/etc/emqx.conf"), "5.0.0");
    assert_eq!(read(&host, "shared/data/mine"), "mine");
    assert!(!host.root().join("shared/data/none").exists());
}

#[test]
fn linked_shared_directory_stays_in_place() {
    let host = host("['etc']");
    let elsewhere = host.root().parent().unwrap().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(host.root().join("shared")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, host.root().join("shared/etc")).unwrap();
    archive(&host, "5.0.0");
    host.run(["install", "5.0.0"]).ok();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::write(elsewhere.join("emqx.conf"), "mine").unwrap();
    assert_eq!(read(&host, "current/etc/emqx.conf"), "mine");
}

#[test]
fn unshareable_directory_is_refused() {
    let host = host("['etc', 'none']");
    archive(&host, "5.0.0");
    host.build("5.0.1").file("etc/x", "x").symlink("etc/lib", "../lib/version").write();
    host.run(["uninstall", "9.9.9"]).code(2);
    let before = host.tree();
    host.run(["install", "5.0.0"]).code(2).stderr_has(
        "error: cannot share the directory none that tenure.toml names: the release has a file or link there\n",
    );
    assert_eq!(host.tree(), before);
    settings(&host, "['etc']", "");
    let before = host.tree();
    let run = host.run(["install", "5.0.1"]).code(2);
    run.stderr_has("caused by: its link lib to ../lib/version points out of it\n");
    assert_eq!(host.tree(), before);
}

#[test]
fn shared_files_are_not_hard_linked() {
    let host = host("['log']");
    settings(&host, "['log']", "share = \"hardlink\"\n");
    archive(&host, "5.0.0");
    archive(&host, "5.0.1");
    host.run(["install", "5.0.0"]).ok();
    // From now on etc is shared, while the running release still has its own.
    settings(&host, "['etc', 'log']", "share = \"hardlink\"\n");
    host.run(["upgrade", "5.0.1"]).ok();
    let links = |file: &str| fs::metadata(host.root().join(file)).unwrap().nlink();
    assert_eq!(links("releases/5.0.1/fixed/file"), 2, "nothing was shared between the releases");
    assert_eq!(links("shared/etc/certs/key"), 1);
    fs::write(host.root().join("shared/etc/certs/key"), "changed").unwrap();
    assert_eq!(read(&host, "releases/5.0.0/etc/certs/key"), "secret");
    host.run(["verify"]).ok();
}

#[test]
fn adopt_fills_shared_directories() {
    let host = host("['etc']");
    let install = host.root().parent().unwrap().join("install");
    fs::create_dir_all(install.join("etc")).unwrap();
    fs::write(install.join("etc/emqx.conf"), "as it was").unwrap();
    host.run(["adopt", install.to_str().unwrap(), "4.4.0"]).ok();
    assert_eq!(read(&host, "shared/etc/emqx.conf"), "as it was");
    assert_eq!(read(&host, "current/etc/emqx.conf"), "as it was");
    host.run(["verify"]).ok();
}

#[test]
fn killed_install_keeps_shared_directories_whole() {
    for edited in [false, true] {
        let start = case::host(&[]);
        settings(&start, "['etc', 'data']", "");
        archive(&start, "5.0.0");
        if edited {
            fs::create_dir_all(start.root().join("shared/etc")).unwrap();
            fs::write(start.root().join("shared/etc/emqx.conf"), "mine").unwrap();
        }
        let points = Case::new(&["install", "5.0.0"], start).sweep(|host, at| {
            let is_seeded = host.root().join("shared/etc/emqx.conf").exists();
            if is_seeded && !edited {
                assert_eq!(read(host, "shared/etc/certs/current"), "secret", "{at}");
            }
            host.run(["install", "5.0.0"]).ok();
            assert_eq!(read(host, "current/etc/emqx.conf"), if edited { "mine" } else { "5.0.0" });
            assert!(fs::exists(host.root().join("shared/data")).unwrap());
            host.run(["verify"]).ok();
        });
        assert!(points > 20, "only {points} points");
    }
}
