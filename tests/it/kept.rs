//! Files that a product's packages keep next to the root while the scripts of an older package run, and then restore.

use std::fs;
use std::process::Command;

use crate::support::disk::private_mounts;

/// The common part of the package scripts.
const KEPT: &str = include_str!("../../packaging/product/kept");

/// Runs a script with this part, next to a root with a release, a link and shared files. Returns the output.
fn run(script: &str) -> String {
    run_with("", script)
}

/// Runs such a script; `before` runs before the files are kept.
fn run_with(before: &str, script: &str) -> String {
    let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
    let root = dir.path().join("acme");
    let files = [("releases/5.0.0/bin/x", "program"), ("shared/data/a", "mine"), (".tenure/history", "h")];
    for (file, text) in files {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), text).unwrap();
    }
    std::os::unix::fs::symlink("releases/5.0.0", root.join("current")).unwrap();
    let kept = KEPT.replace("@NAME@", "acme").replace("@ROOT@", root.to_str().unwrap());
    let text = format!("set -e\n{kept}\ncd {}\n{before}\nkeep\n{script}\n", dir.path().display());
    let out = Command::new("sh").args(["-c", &text]).output().unwrap();
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn deleted_files_are_restored() {
    let whole = "cat acme/current/bin/x acme/shared/data/a acme/.tenure/history; ls -d .acme.kept* 2>/dev/null || true";
    for deleted in
        ["acme", "acme/current acme/releases/5.0.0/bin", "acme/shared/data", "acme/.tenure/history"]
    {
        let told = run(&format!("rm -rf {deleted}\nrestore\n{whole}"));
        assert_eq!(told, "programmineh", "{deleted}");
    }
}

#[test]
fn start_between_scripts_restores_files() {
    let told = run("rm -rf acme\nbring_back\nstat -c %h acme/.tenure/history\nrm -rf acme\nrestore\ncat acme/current/bin/x
        cat acme/shared/data/a acme/.tenure/history; stat -c %h acme/.tenure/history; ls -A acme; ls -d .acme.kept* || true");
    assert_eq!(told, "1\nprogrammineh1\n.tenure\ncurrent\nreleases\nshared\n");
}

#[test]
fn restore_keeps_directory_modes() {
    let modes = "stat -c %a acme acme/.tenure acme/shared acme/releases";
    let told = run_with("chmod 750 acme acme/.tenure", &format!("rm acme/current; restore; {modes}"));
    assert_eq!(told, "750\n750\n755\n755\n");
}

#[test]
fn interrupted_copy_is_not_used() {
    // The first existing copy of the file is truncated.
    let cut = "for f in acme/.kept/.tenure/history acme/.tenure/history; do [ ! -e $f ] || { : >$f; exit 0; }; done";
    let killed = format!("cp() {{ command cp \"$@\"; {cut}; }}");
    let told = run(&format!(
        "rm -rf acme\n({killed}; restore)\nrestore\ncat acme/.tenure/history; ls -d acme/.kept || true"
    ));
    assert_eq!(told, "h");
}

#[test]
fn kept_files_are_synced_before_use() {
    let traced = r#"sync() { echo "sync ${2##*/}"; }; mv() { echo "mv ${1##*/}"; command mv "$@"; }"#;
    let told = run_with(traced, "rm -rf acme/releases; restore");
    assert_eq!(
        told,
        "sync .acme.kept.new\nmv .acme.kept.new\nsync .acme.kept\nsync .kept\nsync acme\nmv .acme.kept\n"
    );
    let failing = "sync() { false; }";
    let told = run(&format!("rm -rf acme/releases; {failing}; restore || ls -d .acme.kept"));
    assert_eq!(told, ".acme.kept\n");
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn root_may_be_its_own_file_system() {
    private_mounts();
    let mount = "mv acme was; mkdir acme; mount -t tmpfs none acme; cp -a was/. acme/";
    let purge = "touch acme/.tenure/lock; clear_away; ls -A acme; delete acme 2>/dev/null; ls -A acme";
    let told = run_with(
        mount,
        &format!("rm -rf acme/releases acme/current; restore; cat acme/current/bin/x; {purge}; umount acme"),
    );
    assert_eq!(told, "program.tenure\nshared\n");
}

#[test]
fn files_removed_by_service_stay_removed() {
    assert_eq!(run("rm acme/shared/data/a\nrestore\nls acme/shared/data"), "");
    // Nothing is restored through a directory that the service replaced by a link.
    let replaced = "rm -r acme/shared/data; mkdir other; ln -s ../../other acme/shared/data";
    assert_eq!(run(&format!("{replaced}\nrestore\nls other; ls -d .acme.kept 2>/dev/null || true")), "");
}

#[test]
fn unrestorable_files_stay_kept() {
    let told = run("rm -rf acme/releases; echo x >acme/releases\nrestore 2>&1 || true\nls -d .acme.kept");
    assert!(told.contains("acme: cannot bring back ") && told.ends_with("\n.acme.kept\n"), "{told}");
}
