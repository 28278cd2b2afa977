//! Tenure as root on a root whose owner replaces its entries by links out of the root while Tenure works. Nothing
//! outside is created, changed, given away or removed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::attacker::Attacker;
use crate::support::canary::{Canaries, give};
use crate::support::{Host, assert_same, stepper};

const NOBODY: u32 = 65534;

/// The number of attacked roots.
const ROUNDS: u64 = 100;

/// The environment variable that passes the seed and the directory around the root to the attacker.
const TARGET: &str = "TENURE_TEST_ATTACK";

const COMMANDS: &[&[&str]] = &[
    &["install", "5.0.1"],
    &["verify"],
    &["downgrade", "5.0.0"],
    &["uninstall", "5.0.1"],
    &["unpack", "5.0.2"],
    &["upgrade", "--no-permanent", "5.0.2"],
    &["boot"],
    &["upgrade", "5.0.2"],
    &["versions"],
    &["install", "5.0.0"],
    &["uninstall", "5.0.2"],
    &["unpack", "5.0.1"],
];

/// The attacker's process: this test binary, run as another user. It ends when the file `stop` appears.
#[test]
#[ignore = "is started by the other test"]
fn attacker() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let (seed, around) = target.split_once(':').unwrap();
    let around = PathBuf::from(around);
    let mut attacker = Attacker::new(around.join("root"), around.join("outside"), seed.parse().unwrap());
    while !around.join("stop").exists() {
        (0..20).for_each(|_| attacker.strike());
    }
    println!("swaps {}", attacker.swaps);
}

fn start(host: &Host, seed: u64) -> Child {
    let around = host.root().parent().unwrap();
    fs::set_permissions(around, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "racing::attacker"]).current_dir("/");
    command.env_clear().env(TARGET, format!("{seed}:{}", around.display()));
    command.uid(NOBODY).gid(NOBODY).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(host: &Host, attacker: Child) -> u64 {
    fs::write(host.root().parent().unwrap().join("stop"), "").unwrap();
    let out = String::from_utf8(attacker.wait_with_output().unwrap().stdout).unwrap();
    let swaps = out.split_once("swaps ").unwrap_or_else(|| panic!("{out}")).1;
    swaps.split_whitespace().next().unwrap().parse().unwrap()
}

/// The results of all rounds.
#[derive(Debug, Default)]
struct Tally {
    swaps: u64,
    codes: BTreeMap<i32, usize>,
    violations: Vec<String>,
}

fn round(seed: u64, tally: &mut Tally) {
    let host = Host::in_memory();
    host.archives(&["5.0.0", "5.0.1", "5.0.2"]);
    host.run(["install", "5.0.0"]).ok();
    give(host.root(), NOBODY);
    let canaries = Canaries::beside(&host);
    let mut before = canaries.now();
    let attacker = start(&host, seed);
    let last: &[&str] = &["prune", "--keep", "0"];
    for args in COMMANDS.iter().chain(COMMANDS).chain([&last]) {
        let run = host.run([&["--root", "."], *args].concat());
        *tally.codes.entry(run.code.unwrap_or(-1)).or_default() += 1;
        let now = canaries.now();
        let touched = |(path, what): &(&String, &String)| before.get(*path) != Some(*what);
        let gone = before.keys().filter(|path| !now.contains_key(*path));
        let paths: Vec<_> = now.iter().filter(touched).map(|(path, _)| path).chain(gone).collect();
        if !paths.is_empty() {
            tally.violations.push(format!("{args:?} touched {paths:?}: {}", run.stderr));
        }
        before = now;
    }
    tally.swaps += end(&host, attacker);
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn racing_attacker_changes_nothing_outside() {
    let mut tally = Tally::default();
    (1..=ROUNDS).for_each(|seed| round(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), &mut tally));
    let Tally { swaps, codes, violations } = tally;
    let commands: usize = codes.values().sum();
    println!(
        "{commands} commands against {swaps} swaps ended with {codes:?}, {} violations",
        violations.len()
    );
    violations.iter().take(20).for_each(|violation| println!("{violation}"));
    assert!(violations.is_empty());
    assert!(codes.keys().all(|code| (0..=4).contains(code) || *code == 75), "{codes:?}");
    // The attacker was active, but did not make every command fail.
    assert!(swaps > 10_000 && codes[&0] > commands / 10, "{swaps} swaps, {codes:?}");
}

/// The entries that are replaced by a link while a command is between two system calls.
const SWAPPED: &[(&str, &str)] = &[
    (".tenure", "tenure"),
    (".tenure/staging", "tenure/staging"),
    (".tenure/staging/*", "dir"),
    (".tenure/trash", "tenure/trash"),
    (".tenure/trash/*", "dir"),
    (".tenure/receipts", "tenure/receipts"),
    ("releases", "releases"),
];

fn swap(host: &Host, canaries: &Canaries, (name, to): (&str, &str)) {
    let mut place = host.root().join(name);
    if name.ends_with('*') {
        let dir = place.parent().unwrap().to_owned();
        let Some(any) = fs::read_dir(dir).ok().and_then(|mut dir| dir.next()) else { return };
        place = any.unwrap().path();
    }
    let _ = fs::rename(&place, place.with_extension("away"));
    if symlink(canaries.dir.join(to), &place).is_ok() {
        lchown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn swapped_entries_do_not_lead_outside() {
    let start = Host::in_memory();
    start.archives(&["5.0.0", "5.0.1", "5.0.2"]);
    start.run(["install", "5.0.0"]).ok();
    start.run(["unpack", "5.0.2"]).ok();
    for args in [&["install", "5.0.1"][..], &["uninstall", "5.0.2"]] {
        let moment = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(
                    || while each_swapped(&start, args, moment.fetch_add(1, Ordering::Relaxed) + 1) {},
                );
            }
        });
        println!("{args:?}: {} moments, {} swaps at each, 0 violations", moment.into_inner(), SWAPPED.len());
    }
}

/// Tries each swap before one system call. Returns whether the command reached this call.
fn each_swapped(start: &Host, args: &[&str], moment: usize) -> bool {
    let mut reached = false;
    for what in SWAPPED {
        let host = start.copy();
        give(host.root(), NOBODY);
        let canaries = Canaries::beside(&host);
        let before = canaries.now();
        let ended = stepper::disturb_naming(&host.command([&["--root", "."], args].concat()), moment, || {
            reached = true;
            swap(&host, &canaries, *what);
        });
        assert_same(&canaries.now(), &before, &format!("{args:?}, {what:?} before call {moment}: {ended:?}"));
    }
    reached
}
