//! 32 writers and readers at once on one root: nobody ever finds a link missing, a release incomplete, or two
//! releases permanent.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unused_must_use, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::Host;

const VERSIONS: [&str; 4] = ["5.0.0", "5.0.1", "5.0.2", "5.0.3"];
const WRITERS: u64 = 16;
const READERS: u64 = 8;
const OPENERS: u64 = 8;
/// Commands by each writer.
const COMMANDS: usize = 12;

/// A small generator, the same every time (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

fn command(dice: &mut Dice) -> Vec<&'static str> {
    let version = VERSIONS[dice.roll(VERSIONS.len())];
    let mut args = match dice.roll(10) {
        0 | 1 => vec!["install", version],
        2 => vec!["upgrade", version],
        3 => vec!["downgrade", version],
        4 => vec!["install", "--no-permanent", version],
        5 => vec!["uninstall", version],
        6 => vec!["unpack", version],
        7 => vec!["confirm"],
        8 => vec!["revert"],
        _ => vec!["boot"],
    };
    args.extend(["--wait", ["0", "1", "10"][dice.roll(3)]]);
    args
}

#[derive(Default)]
struct Tally {
    codes: Mutex<BTreeMap<i32, usize>>,
    opens: AtomicUsize,
    listings: AtomicUsize,
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

fn read(host: &Host, tally: &Tally) {
    while !tally.over.load(Ordering::Relaxed) {
        let listed = host.versions();
        let in_state = |state: &str| listed.iter().filter(|(_, s)| s == state).count();
        assert_eq!(in_state("permanent"), 1, "{listed:?}");
        assert!(in_state("current") <= 1, "{listed:?}");
        tally.listings.fetch_add(1, Ordering::Relaxed);
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
fn writers_and_readers_at_once() {
    let host = Host::new();
    VERSIONS.iter().for_each(|version| host.archive(version));
    host.run(["install", "5.0.0"]).ok();
    let tally = Tally::default();
    std::thread::scope(|scope| {
        (0..READERS).for_each(|_| drop(scope.spawn(|| read(&host, &tally))));
        (0..OPENERS).for_each(|_| drop(scope.spawn(|| open(&host, &tally))));
        let (host, tally) = (&host, &tally);
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
    println!("{} listings, each with one permanent release", tally.listings.load(Ordering::Relaxed));
    host.run(["install", "5.0.3"]).ok();
    host.run(["verify"]).ok();
    host.versions().iter().for_each(|(version, _)| host.complete(version));
    let history = host.run(["history", "--json"]).ok().json();
    assert!(history["entries"].as_array().unwrap().iter().all(|entry| entry["outcome"] == "done"));
}
