//! SIGKILL before every mutating system call of every command: both links always name a complete release, the
//! very next command recovers and says so, and it gets where it was going.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unused_must_use, reason = "a test may")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::stepper::{self, Ended};
use support::{Host, Run};

/// One command on one root, and what the root looks like where nobody kills it.
struct Case {
    args: &'static [&'static str],
    start: Host,
    end: Host,
}

impl Case {
    fn new(args: &'static [&'static str], start: Host) -> Self {
        let end = start.copy();
        end.run(args).ok();
        Self { args, start, end }
    }

    /// Kills the command at every point in turn and hands on what is left each time.
    fn sweep(&self, judge: impl Fn(&Host, &str) + Sync) -> usize {
        let probe = self.start.copy();
        let points = stepper::count(&probe.command(self.args));
        let next = AtomicUsize::new(1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth > points {
                            return;
                        }
                        let host = self.start.copy();
                        match stepper::kill_before(&host.command(self.args), nth) {
                            Ended::Killed { before } => {
                                judge(&host, &format!("{:?} killed before call {nth}, {before}", self.args));
                            }
                            Ended::Exited { code, .. } => panic!("{:?} ended at {nth}: {code}", self.args),
                        }
                    }
                });
            }
        });
        points
    }

    /// Both links name a complete release, old or new, and `versions` lists only what is complete.
    fn is_sound(&self, host: &Host, at: &str) {
        for link in ["current", "permanent"] {
            let (old, new) = (self.start.link(link), self.end.link(link));
            let found = host.link(link);
            assert!(found == old || found == new, "{at}: {link} is {found:?}, was {old:?}, to be {new:?}");
        }
        for (version, _) in listed(host, at) {
            host.complete(&version);
        }
    }

    /// The same command again recovers, says so, and leaves what an undisturbed one leaves.
    fn arrives(&self, host: &Host, at: &str) {
        let interrupted = fs::metadata(host.root().join(".tenure/journal")).is_ok();
        let run = host.run(self.args);
        let done = self.is_done(&run);
        assert!(run.code == Some(0) || done, "{at}: {run:#?}");
        let said = run.stderr.contains(&format!("recovered an interrupted `{}`", self.args.join(" ")));
        assert_eq!(said, interrupted, "{at}: {run:#?}");
        self.is_at_end(host, at);
    }

    /// `uninstall` of what is gone is refused; nothing else that was done is.
    fn is_done(&self, run: &Run) -> bool {
        self.args[0] == "uninstall" && run.code == Some(2) && run.stderr.contains("not installed")
    }

    fn is_at_end(&self, host: &Host, at: &str) {
        assert_eq!(listed(host, at), self.end.versions(), "{at}");
        for link in ["current", "permanent"] {
            assert_eq!(host.link(link), self.end.link(link), "{at}");
        }
        assert_eq!(names(host), names(&self.end), "{at}: something was left behind");
    }
}

/// Every name in the root: nothing may be left in staging or trash, no journal, no unfinished link.
fn names(host: &Host) -> Vec<String> {
    host.tree().into_keys().collect()
}

fn listed(host: &Host, at: &str) -> Vec<(String, String)> {
    let run = host.run(["versions"]);
    assert_eq!(run.code, Some(0), "{at}: {run:#?}");
    run.listed()
}

fn host(versions: &[&str]) -> Host {
    let host = Host::new();
    for version in versions {
        host.archive(version);
    }
    host
}

fn installed(versions: &[&str], commands: &[&[&str]]) -> Host {
    let host = host(versions);
    for command in commands {
        host.run(*command).ok();
    }
    host
}

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

impl Case {
    /// As [`Case::arrives`], where a recovery was cut short: whether one is still due is not the point.
    fn arrives_again(&self, host: &Host, at: &str) {
        let run = host.run(self.args);
        assert_eq!(run.code, Some(0), "{at}: {run:#?}");
        self.is_at_end(host, at);
    }
}
