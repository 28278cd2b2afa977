//! 32 writers and readers work on one root at the same time. No link is ever missing, no release is incomplete, and
//! exactly one release is permanent.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::dice::Dice;
use crate::support::{Host, Run};
use serde_json::Value;

const VERSIONS: [&str; 4] = ["5.0.0", "5.0.1", "5.0.2", "5.0.3"];
const WRITERS: u64 = 16;
const READERS: usize = 8;
const OPENERS: usize = 8;
/// The number of commands of each writer.
const COMMANDS: usize = 12;

fn command(dice: &mut Dice) -> Vec<&'static str> {
    let version = VERSIONS[dice.roll(VERSIONS.len())];
    let mut args = match dice.roll(11) {
        0 | 1 => vec!["install", version],
        2 => vec!["upgrade", version],
        3 => vec!["downgrade", version],
        4 => vec!["install", "--no-permanent", version],
        5 => vec!["uninstall", version],
        6 => vec!["unpack", version],
        7 => vec!["confirm"],
        8 => vec!["revert"],
        9 => vec!["prune", "--keep", ["0", "1", "3"][dice.roll(3)]],
        _ => vec!["boot"],
    };
    args.extend(["--wait", ["0", "1", "10"][dice.roll(3)]]);
    args
}

#[derive(Default)]
struct Tally {
    codes: Mutex<BTreeMap<i32, usize>>,
    opens: AtomicUsize,
    looks: AtomicUsize,
    supplied: AtomicUsize,
    over: AtomicBool,
}

fn write(host: &Host, seed: u64, tally: &Tally) {
    let mut dice = Dice(seed * 7919 + 1);
    for _ in 0..COMMANDS {
        let args = command(&mut dice);
        let run = host.run(&args);
        let code = run.code.unwrap_or_else(|| panic!("{run:#?}"));
        assert!(matches!(code, 0 | 2 | 75), "{run:#?}");
        assert!(!run.stderr.contains("recovered"), "nothing was interrupted: {run:#?}");
        *tally.codes.lock().unwrap().entry(code).or_default() += 1;
    }
}

/// Commands that only read or plan. They never wait and never find a problem.
const LOOKS: [&[&str]; 6] = [
    &["versions"],
    &["versions", "--json"],
    &["status", "--json"],
    &["history", "--json"],
    &["install", "--dry-run", "5.0.2"],
    &["prune", "--dry-run", "--keep", "0"],
];

fn read(host: &Host, turn: usize, tally: &Tally) {
    let states = |run: &Run| match serde_json::from_str::<Value>(&run.stdout) {
        Ok(json) => json["releases"].as_array().into_iter().flatten().map(|r| text(&r["state"])).collect(),
        Err(_) => {
            run.states().iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
        }
    };
    for args in LOOKS.iter().cycle().skip(turn).take_while(|_| !tally.over.load(Ordering::Relaxed)) {
        let run = host.run(*args);
        // A dry run may be refused if the archive was just pruned.
        let refused = args.contains(&"--dry-run") && run.code == Some(2);
        assert!(run.code == Some(0) || refused, "{run:#?}");
        if matches!(args[0], "versions" | "status") {
            let states = states(&run);
            let count = |state: &str| states.iter().filter(|s| *s == state).count();
            assert_eq!(count("permanent"), 1, "{run:#?}");
            assert!(count("current") <= 1, "{run:#?}");
        }
        tally.looks.fetch_add(1, Ordering::Relaxed);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Copies pruned archives back, as an operator does. Each archive appears complete.
fn supply(host: &Host, spare: &Host, tally: &Tally) {
    while !tally.over.load(Ordering::Relaxed) {
        for file in VERSIONS.map(|version| format!("emqx-{version}.zip")) {
            let releases = host.root().join("releases");
            if !releases.join(&file).exists() {
                fs::copy(spare.root().join("releases").join(&file), host.root().join("arriving")).unwrap();
                fs::rename(host.root().join("arriving"), releases.join(&file)).unwrap();
                tally.supplied.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn open(host: &Host, tally: &Tally) {
    let file = host.root().join("current/lib/version");
    while !tally.over.load(Ordering::Relaxed) {
        let text =
            fs::read_to_string(&file).unwrap_or_else(|e| panic!("an open through current failed: {e}"));
        assert!(VERSIONS.contains(&text.as_str()), "{text:?} was read through current");
        let permanent = host.link("permanent").expect("permanent is always there");
        assert!(permanent.starts_with("releases/5.0."), "{permanent}");
        tally.opens.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn concurrent_writers_and_readers_succeed() {
    let host = Host::new();
    host.archives(&VERSIONS);
    let spare = host.copy();
    host.run(["install", "5.0.0"]).ok();
    let tally = Tally::default();
    std::thread::scope(|scope| {
        scope.spawn(|| supply(&host, &spare, &tally));
        let (host, tally) = (&host, &tally);
        (0..READERS).for_each(|turn| drop(scope.spawn(move || read(host, turn, tally))));
        (0..OPENERS).for_each(|_| drop(scope.spawn(|| open(host, tally))));
        let writers: Vec<_> =
            (0..WRITERS).map(|seed| scope.spawn(move || write(host, seed + 1, tally))).collect();
        let failed = writers.into_iter().filter_map(|writer| writer.join().err()).count();
        tally.over.store(true, Ordering::Relaxed);
        assert_eq!(failed, 0, "writers failed");
    });
    let codes = tally.codes.lock().unwrap();
    assert!(codes[&0] > 20, "{codes:?}");
    println!("writers' exit codes: {codes:?}");
    println!("{} opens through current, 0 failed", tally.opens.load(Ordering::Relaxed));
    println!("{} looks, each with one permanent release", tally.looks.load(Ordering::Relaxed));
    println!("{} archives copied back after a prune", tally.supplied.load(Ordering::Relaxed));
    fs::copy(spare.root().join("releases/emqx-5.0.3.zip"), host.root().join("releases/emqx-5.0.3.zip"))
        .unwrap();
    host.run(["install", "5.0.3"]).ok();
    host.run(["verify"]).ok();
    host.all_complete();
    let history = host.run(["history", "--json"]).ok().json();
    assert!(history["entries"].as_array().unwrap().iter().all(|entry| entry["outcome"] == "done"));
}
