//! What a product's packages keep beside its root while the scripts of an older package run, and bring back.

use std::fs;
use std::process::Command;

use crate::support::disk::private_mounts;

/// The part of the packages' scripts, as they have it.
const KEPT: &str = include_str!("../../packaging/product/kept");

/// Runs a script that has it, beside a root with a release, a link and shared files; returns what is printed.
fn run(script: &str) -> String {
    run_with("", script)
}

/// The same, with a script that is run before anything is kept.
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
fn what_scripts_of_an_older_package_delete_comes_back() {
    let whole = "cat acme/current/bin/x acme/shared/data/a acme/.tenure/history; ls -d .acme.kept* 2>/dev/null || true";
    for deleted in
        ["acme", "acme/current acme/releases/5.0.0/bin", "acme/shared/data", "acme/.tenure/history"]
    {
        let told = run(&format!("rm -rf {deleted}\nrestore\n{whole}"));
        assert_eq!(told, "programmineh", "{deleted}");
    }
}

#[test]
fn a_start_among_the_scripts_brings_back_and_leaves_what_the_next_one_needs() {
    let told = run("rm -rf acme\nbring_back\nstat -c %h acme/.tenure/history\nrm -rf acme\nrestore\ncat acme/current/bin/x
        cat acme/shared/data/a acme/.tenure/history; stat -c %h acme/.tenure/history; ls -A acme; ls -d .acme.kept* || true");
    assert_eq!(told, "1\nprogrammineh1\n.tenure\ncurrent\nreleases\nshared\n");
}

#[test]
fn a_directory_stays_as_it_is() {
    let modes = "stat -c %a acme acme/.tenure acme/shared acme/releases";
    let told = run_with("chmod 750 acme acme/.tenure", &format!("rm acme/current; restore; {modes}"));
    assert_eq!(told, "750\n750\n755\n755\n");
}

#[test]
fn what_was_cut_short_in_the_middle_of_a_file_is_not_taken_for_the_whole() {
    // Whichever copy is the first of it ends in the middle.
    let cut = "for f in acme/.kept/.tenure/history acme/.tenure/history; do [ ! -e $f ] || { : >$f; exit 0; }; done";
    let killed = format!("cp() {{ command cp \"$@\"; {cut}; }}");
    let told = run(&format!(
        "rm -rf acme\n({killed}; restore)\nrestore\ncat acme/.tenure/history; ls -d acme/.kept || true"
    ));
    assert_eq!(told, "h");
}

#[test]
fn what_is_kept_and_brought_back_is_on_the_disk_before_it_is_relied_on() {
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
fn a_root_may_be_a_file_system_of_its_own() {
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
fn what_the_service_removes_meanwhile_stays_away() {
    assert_eq!(run("rm acme/shared/data/a\nrestore\nls acme/shared/data"), "");
    // Nor does anything go where it has put something else.
    let replaced = "rm -r acme/shared/data; mkdir other; ln -s ../../other acme/shared/data";
    assert_eq!(run(&format!("{replaced}\nrestore\nls other; ls -d .acme.kept 2>/dev/null || true")), "");
}

#[test]
fn what_cannot_be_brought_back_stays_where_it_is_kept() {
    let told = run("rm -rf acme/releases; echo x >acme/releases\nrestore 2>&1 || true\nls -d .acme.kept");
    assert!(told.contains("acme: cannot bring back ") && told.ends_with("\n.acme.kept\n"), "{told}");
}
