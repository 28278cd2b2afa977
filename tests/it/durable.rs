//! Durability between steps, and the last check before a removal. The tests inspect system calls, because on most
//! file systems a later sync hides a missing one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::Host;
use crate::support::case::{Args, installed};
use crate::support::stepper::{self, Call, Ended};

/// Returns the mutating system calls of a command that succeeds.
fn calls(host: &Host, args: Args) -> Vec<Call> {
    let (ended, calls) = stepper::record(&host.command(args));
    assert!(matches!(ended, Ended::Exited { code: 0, .. }), "{args:?}: {ended:?}");
    calls
}

fn is_rename(call: &Call) -> bool {
    call.paths.len() == 2
}

/// Returns the calls between the `nth` call and the next write to the journal, or its removal.
fn before_next_step<'a>(host: &Host, calls: &'a [Call], nth: usize) -> &'a [Call] {
    let journal = host.root().join(".tenure/journal");
    let own = host.root().join(".tenure");
    let is_line = |call: &Call| call.name == "write" && call.paths[0] == journal;
    let is_end = |call: &Call| call.name == "unlinkat" && call.paths[0] == own;
    let rest = &calls[nth + 1..];
    let end = rest.iter().position(|call| is_line(call) || is_end(call)).expect("a journal is ended");
    &rest[..end]
}

fn is_synced(calls: &[Call], dir: &Path) -> bool {
    calls.iter().any(|call| call.name == "fsync" && call.paths[0] == dir)
}

fn cases() -> Vec<(Args, Host)> {
    let two = &["5.0.0", "5.0.1"];
    let (first, second): (Args, Args) = (&["install", "5.0.0"], &["upgrade", "5.0.1"]);
    vec![
        (first, installed(two, &[])),
        (second, installed(two, &[first])),
        (&["downgrade", "5.0.0"], installed(two, &[first, second])),
        (&["uninstall", "5.0.0"], installed(two, &[first, second])),
    ]
}

#[test]
fn switched_link_is_synced_before_next_step() {
    let mut switches = 0;
    for (args, host) in cases() {
        let calls = calls(&host, args);
        let links = ["current", "permanent"].map(|name| host.root().join(name));
        let switched = |call: &Call| is_rename(call) && links.contains(&call.paths[1]);
        for (nth, call) in calls.iter().enumerate().filter(|(_, call)| switched(call)) {
            switches += 1;
            let next = before_next_step(&host, &calls, nth);
            assert!(is_synced(next, host.root()), "{args:?}: {call:?} is followed by {next:#?}");
        }
    }
    // Both links of an install, an upgrade and a downgrade.
    assert!(switches >= 6, "{switches}");
}

#[test]
fn moved_directory_is_synced_before_next_step() {
    let mut moves = 0;
    for (args, host) in cases() {
        let calls = calls(&host, args);
        let journal = host.root().join(".tenure/journal");
        // A directory moved before the journal exists is not published yet. After the last line of the journal,
        // nothing is left to undo.
        let opened = calls.iter().position(|call| is_rename(call) && call.paths[1] == journal).unwrap();
        let ended = calls.iter().rposition(|call| call.paths[0] == journal && call.name == "write").unwrap();
        let moved = |nth: usize, call: &Call| (opened..ended).contains(&nth) && call.moves_dir;
        for (nth, call) in calls.iter().enumerate().filter(|(nth, call)| moved(*nth, call)) {
            moves += 1;
            let next = before_next_step(&host, &calls, nth);
            for side in &call.paths {
                let dir = side.parent().unwrap();
                assert!(
                    is_synced(next, dir),
                    "{args:?}: {call:?}: {} is not synced: {next:#?}",
                    dir.display()
                );
            }
        }
    }
    // Release and receipt of two installed releases and of one removed release.
    assert_eq!(moves, 6);
}

/// Points `current` to another release, as another program might.
fn point_current(host: &Host, version: &str) {
    let spare = host.root().join("spare");
    symlink(format!("releases/{version}"), &spare).unwrap();
    fs::rename(spare, host.root().join("current")).unwrap();
}

#[test]
fn linked_release_is_not_removed() {
    let two = &["5.0.0", "5.0.1"];
    let start = installed(two, &[&["install", "5.0.0"], &["upgrade", "5.0.1"]]);
    let host = start.copy();
    let journal = host.root().join(".tenure/journal");
    let mut pointed = false;
    // The journal exists, so the plan is made and its first step is about to begin.
    let ended = stepper::watch(&host.command(["uninstall", "5.0.0"]), stepper::Syncs::Real, |_, _| {
        if !pointed && journal.exists() {
            point_current(&host, "5.0.0");
            pointed = true;
        }
    });
    assert!(pointed && matches!(ended, Ended::Exited { code: 1, .. }), "{ended:?}");
    host.complete("5.0.0");
    assert!(host.run(["history"]).ok().stdout.contains("cannot remove 5.0.0: current points to it"));
}

#[test]
fn recovery_does_not_remove_linked_release() {
    let start = installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]);
    let mut forged = 0;
    let points = stepper::kill_points(&start.copy().command(["unpack", "5.0.1"]));
    for nth in &points {
        let host = start.copy();
        stepper::kill_before(&host.command(["unpack", "5.0.1"]), *nth);
        let is_published = host.root().join("releases/5.0.1").exists();
        let journal = fs::read_to_string(host.root().join(".tenure/journal")).unwrap_or_default();
        if !is_published || journal.is_empty() || journal.contains("{\"begun\":2}") {
            continue;
        }
        forged += 1;
        point_current(&host, "5.0.1");
        let run = host.run(["prune", "--keep", "9"]).code(1);
        run.stderr_has("error: cannot recover the interrupted `unpack 5.0.1`\n")
            .stderr_has("caused by: cannot remove 5.0.1: current points to it\n");
        host.complete("5.0.1");
    }
    assert!(forged > 0, "of {points:?}");
}
