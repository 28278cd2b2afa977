//! SIGKILL before every mutating system call of every command: both links always name a complete release, the
//! very next command recovers and says so, and it gets where it was going.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unused_must_use, reason = "a test may")]

mod support;

use std::fs;

use support::Host;
use support::case::{Case, host, installed};
use support::stepper;

fn rebuilt() -> Host {
    let host = installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]);
    // What is installed as 5.0.1 came from an archive that has been rebuilt since.
    host.build("5.0.1").file("lib/version", "first build").write();
    host.run(["unpack", "5.0.1"]).ok();
    host.archive("5.0.1");
    host
}

fn cases() -> Vec<Case> {
    let two = &["5.0.0", "5.0.1"];
    let first: &[&str] = &["install", "5.0.0"];
    let up: &[&str] = &["upgrade", "5.0.1"];
    let trial: &[&str] = &["upgrade", "--no-permanent", "5.0.1"];
    vec![
        Case::new(&["install", "5.0.1"], host(two)),
        Case::new(&["install", "5.0.1"], installed(two, &[first])),
        Case::new(&["upgrade", "5.0.1"], installed(two, &[first])),
        Case::new(&["upgrade", "--no-permanent", "5.0.1"], installed(two, &[first])),
        Case::new(&["confirm"], installed(two, &[first, trial])),
        Case::new(&["revert"], installed(two, &[first, trial])),
        Case::new(&["boot"], installed(two, &[first, trial])),
        Case::new(&["downgrade", "5.0.0"], installed(two, &[first, up])),
        Case::new(&["uninstall", "5.0.0"], installed(two, &[first, up])),
        Case::new(&["unpack", "5.0.1"], installed(two, &[first])),
        Case::new(
            &["prune", "--keep", "0"],
            installed(
                &["5.0.0", "5.0.1", "5.0.2", "5.0.3"],
                &[first, up, &["upgrade", "5.0.2"], &["unpack", "5.0.3"]],
            ),
        ),
    ]
}

#[test]
fn killed_anywhere_every_command_arrives_in_the_end() {
    let mut all = 0;
    for case in cases() {
        let points = case.sweep(|host, at| {
            case.is_sound(host, at);
            case.arrives(host, at);
        });
        println!("{:?}: {points} kill points, 0 wrong outcomes", case.args);
        assert!(points > 10, "{:?}: only {points} points", case.args);
        all += points;
    }
    println!("{all} kill points in all");
}

#[test]
fn killed_anywhere_a_rebuilt_release_is_old_or_new() {
    let case = Case::new(&["unpack", "--replace", "5.0.1"], rebuilt());
    let points = case.sweep(|host, at| {
        for link in ["current", "permanent"] {
            assert_eq!(host.link(link).as_deref(), Some("releases/5.0.0"), "{at}");
        }
        // Unpacked anew or not: the same command once more gets there, and says so where it has to recover.
        let interrupted = fs::metadata(host.root().join(".tenure/journal")).is_ok();
        let run = host.run(case.args).ok();
        assert_eq!(run.stderr.contains("recovered"), interrupted, "{at}: {run:#?}");
        host.complete("5.0.1");
        case.is_at_end(host, at);
    });
    println!("{:?}: {points} kill points, 0 wrong outcomes", case.args);
}

#[test]
fn killed_anywhere_an_upgrade_lets_the_service_start() {
    let case = Case::new(&["upgrade", "5.0.1"], installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]));
    let points = case.sweep(|host, at| {
        host.run(["boot"]).ok();
        let current = host.link("current").unwrap();
        assert_eq!(Some(&current), host.link("permanent").as_ref(), "{at}");
        host.complete(current.strip_prefix("releases/").unwrap());
    });
    println!("boot after {points} kill points, 0 wrong outcomes");
}

#[test]
fn recovery_is_killed_anywhere_as_well() {
    let case = Case::new(&["upgrade", "5.0.1"], installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]));
    let halfway = [("5.0.1", "5.0.0"), ("5.0.1", "5.0.1")].map(|(current, permanent)| {
        let points = stepper::count(&case.start.copy().command(case.args));
        let killed = (1..=points).map(|nth| {
            let host = case.start.copy();
            stepper::kill_before(&host.command(case.args), nth);
            host
        });
        let is = |host: &Host, link: &str, version: &str| {
            host.link(link).unwrap().strip_prefix("releases/") == Some(version)
        };
        let open = |host: &Host| host.root().join(".tenure/journal").exists();
        let mut killed = killed;
        killed.find(|h| is(h, "current", current) && is(h, "permanent", permanent) && open(h)).unwrap()
    });
    for start in halfway {
        // The same command recovers first and then arrives; `boot` recovers and is done.
        for args in [&["upgrade", "5.0.1"][..], &["boot"]] {
            let again = Case::new(args, start.copy());
            let points = again.sweep(|host, at| {
                case.is_sound(host, at);
                case.arrives_again(host, at);
            });
            println!("recovery by {args:?}: {points} kill points, 0 wrong outcomes");
        }
    }
}
