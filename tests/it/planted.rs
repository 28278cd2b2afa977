//! Symlinks and hard links planted at every name that Tenure uses. No command creates, changes, gives away or removes
//! anything outside the root.

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::canary::{Canaries, give};
use crate::support::case::Outcome;
use crate::support::stepper::{self, Ended};
use crate::support::{Host, assert_same};
use nix::unistd::Uid;

const SOMEBODY: u32 = 12345;

const DIRECTORIES: &[&str] = &[
    ".tenure",
    ".tenure/staging",
    ".tenure/staging/link",
    ".tenure/staging/x",
    ".tenure/trash",
    ".tenure/trash/x",
    ".tenure/receipts",
    ".tenure/receipts/5.0.0",
    ".tenure/receipts/5.0.2",
    ".tenure/receipts/5.0.4",
    ".tenure/failed",
    "releases",
    "releases/5.0.0",
    "releases/5.0.2",
    "releases/5.0.4",
    "releases/5.0.2/lib",
];

const FILES: &[&str] = &[
    ".tenure/lock",
    ".tenure/journal",
    ".tenure/journal.damaged",
    ".tenure/history",
    ".tenure/staging/.new.0",
    ".tenure/receipts/5.0.0/tenured",
    ".tenure/receipts/5.0.3/tenured",
    ".tenure/receipts/5.0.2/receipt.json",
    ".tenure/failed/5.0.2",
    ".tenure/failed/5.0.3",
    ".tenure/receipts/5.0.2/tree.jsonl",
    "releases/emqx-5.0.4.zip",
    "releases/emqx-5.0.4.zip.sha256",
    "current",
    "permanent",
    ".current.spare",
    ".permanent.spare",
];

const COMMANDS: &[&[&str]] = &[
    &["install", "5.0.4"],
    &["confirm"],
    &["revert"],
    &["uninstall", "5.0.2"],
    &["prune", "--keep", "0"],
    &["verify"],
    &["boot"],
];

/// Returns a host with 5.0.0 permanent, 5.0.3 on trial, 5.0.2 unpacked and an archive of 5.0.4, so that every command
/// has something to do.
fn start() -> Host {
    let host = Host::in_memory();
    host.archives(&["5.0.0", "5.0.2", "5.0.3", "5.0.4"]);
    host.run(["install", "5.0.0"]).ok();
    host.run(["unpack", "5.0.2"]).ok();
    host.run(["install", "--no-permanent", "5.0.3"]).ok();
    fs::create_dir(host.root().join(".tenure/failed")).unwrap();
    host
}

/// Returns the owners of the root to test: this user, and for root also another user.
fn owners() -> Vec<Option<u32>> {
    if Uid::effective().is_root() { vec![None, Some(SOMEBODY)] } else { vec![None] }
}

#[derive(Clone, Copy, Debug)]
enum Plant {
    Link(&'static str),
    HardLink,
}

impl Plant {
    fn at(self, name: &str, host: &Host, canaries: &Canaries, owner: Option<u32>) {
        let place = host.root().join(name);
        // The original stays within reach of the attacker.
        let _ = fs::rename(&place, host.root().join("moved"));
        match self {
            Self::Link(target) => {
                symlink(canaries.dir.join(target), &place).unwrap();
                lchown(place, owner, owner).unwrap();
            }
            Self::HardLink => fs::hard_link(canaries.dir.join("loose"), place).unwrap(),
        }
    }
}

fn plants() -> Vec<(&'static str, Plant)> {
    let like = |name: &'static str| {
        let last = name.rsplit('/').next().unwrap();
        match last {
            ".tenure" => "tenure",
            "staging" => "tenure/staging",
            "trash" => "tenure/trash",
            "receipts" => "tenure/receipts",
            "releases" => "releases",
            _ => "dir",
        }
    };
    let dirs = DIRECTORIES.iter().flat_map(|name| [(*name, Plant::Link(like(name)))]);
    let files = FILES.iter().flat_map(|name| {
        [Plant::Link("file"), Plant::Link("new"), Plant::HardLink].map(|plant| (*name, plant))
    });
    let odd = [("releases/5.0.4", Plant::Link("new")), (".tenure/trash", Plant::Link("new"))];
    dirs.chain(files).chain(odd).collect()
}

/// Returns a copy of the root, given to that user, with canaries next to it.
fn beside(start: &Host, owner: Option<u32>) -> (Host, Canaries) {
    let host = start.copy();
    if let Some(owner) = owner {
        give(host.root(), owner);
    }
    let canaries = Canaries::beside(&host);
    (host, canaries)
}

/// Runs one command on one planted root and returns its exit code.
fn attempt(start: &Host, args: &[&str], (name, plant): (&str, Plant), owner: Option<u32>) -> i32 {
    let (host, canaries) = beside(start, owner);
    plant.at(name, &host, &canaries, owner);
    let before = canaries.now();
    let run = host.run([&["--root", host.root().to_str().unwrap()], args].concat());
    let at = format!("{args:?} with {plant:?} at {name}, the root of {owner:?}: {run:#?}");
    assert_same(&canaries.now(), &before, &at);
    let code = run.code.unwrap_or_else(|| panic!("{at}"));
    assert!((0..=4).contains(&code), "{at}");
    code
}

#[test]
fn planted_links_do_not_lead_outside() {
    let start = start();
    let cases: Vec<_> = COMMANDS
        .iter()
        .flat_map(|args| plants().into_iter().map(move |plant| (*args, plant)))
        .flat_map(|(args, plant)| owners().into_iter().map(move |owner| (args, plant, owner)))
        // Tenure follows a `releases` link of the root's owner, because releases may be on another disk.
        .filter(|(_, (name, _), owner)| *name != "releases" || owner.is_some())
        .collect();
    let (next, worked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((args, plant, owner)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let code = attempt(&start, args, *plant, *owner);
                    worked.fetch_add(usize::from(code == 0), Ordering::Relaxed);
                }
            });
        }
    });
    let worked = worked.into_inner();
    println!("{} commands on planted roots, {worked} worked all the same", cases.len());
    assert!(worked > cases.len() / 4, "{worked} of {}", cases.len());
}

/// A user who can write the journal can write anything into it.
#[test]
fn planted_journal_does_not_lead_outside() {
    let start = start();
    let archive = |file: &str| format!(r#"{{"archive":"{file}"}}"#);
    let [up, there] = ["../../outside/file", "../../../outside"].map(str::to_owned);
    for (transaction, step, item, to) in [
        ("t", "discard", archive(&up), r#""5.0.0""#),
        ("t", "discard", archive(&up), "null"),
        (&there, "discard", archive("x"), "null"),
        ("..", "discard", archive("emqx-5.0.4.zip"), r#""5.0.0""#),
        ("/", "discard", archive("emqx-5.0.4.zip"), r#""5.0.0""#),
        ("t", "discard", archive("emqx-5.0.4.zip/../../../outside/file"), r#""5.0.0""#),
        ("t", "discard", r#"{"release":"../outside"}"#.to_owned(), r#""5.0.0""#),
    ] {
        for owner in owners() {
            let (host, canaries) = beside(&start, owner);
            let before = canaries.now();
            let plan = format!(r#"{{"from":null,"to":{to},"steps":[{{"step":"{step}","item":{item}}}]}}"#);
            let journal = format!(
                r#"{{"transaction":"{transaction}","command":"x","by":"x","started":"x","plan":{plan}}}"#
            );
            fs::write(host.root().join(".tenure/journal"), format!("{journal}\n{{\"begun\":1}}\n")).unwrap();
            let boot = || host.run(["--root", host.root().to_str().unwrap(), "boot"]).ok();
            let run = boot().stderr_has("the journal was damaged");
            assert_same(&canaries.now(), &before, &format!("{journal}: {run:#?}"));
            boot().stderr("");
        }
    }
}

#[test]
fn linked_archive_is_refused_with_hint() {
    let host = start();
    let archive = host.root().join("releases/emqx-5.0.4.zip");
    let elsewhere = host.root().parent().unwrap().join("emqx-5.0.4.zip");
    fs::rename(&archive, &elsewhere).unwrap();
    symlink(&elsewhere, &archive).unwrap();
    host.run(["unpack", "5.0.4"])
        .code(2)
        .stderr_has("releases/emqx-5.0.4.zip")
        .stderr_has("Tenure does not follow symlinks in a root")
        .stderr_has("hint: name the target of the link");
    // Tenure trusts a path that the operator names.
    host.run(["unpack".as_ref(), elsewhere.as_os_str()]).ok();
    host.complete("5.0.4");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn kernel_without_openat2_works() {
    let start = start();
    for args in COMMANDS {
        let (with, without) = (start.copy(), start.copy());
        with.run(*args).ok();
        let (ended, asked) = stepper::without_openat2(&without.command(*args));
        assert!(matches!(ended, Ended::Exited { code: 0, .. }), "{args:?}: {ended:?}");
        assert_eq!(asked, 1, "{args:?}: it is asked for once");
        assert_eq!(Outcome::of(&without, "without"), Outcome::of(&with, "with"), "{args:?}");
    }
}
