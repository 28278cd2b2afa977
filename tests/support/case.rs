//! One command on one root, what an interruption may leave, and what it must come to in the end.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stepper::{self, Ended};
use super::{Host, Run};

/// One command on one root, and what the root looks like where nobody kills it.
pub struct Case {
    pub args: &'static [&'static str],
    pub start: Host,
    pub end: Host,
}

impl Case {
    pub fn new(args: &'static [&'static str], start: Host) -> Self {
        let end = start.copy();
        end.run(args).ok();
        Self { args, start, end }
    }

    /// Kills the command at every point in turn and hands on what is left each time.
    pub fn sweep(&self, judge: impl Fn(&Host, &str) + Sync) -> usize {
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
    pub fn is_sound(&self, host: &Host, at: &str) {
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
    pub fn arrives(&self, host: &Host, at: &str) {
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

    /// Links and states are those of an undisturbed command.
    pub fn has_arrived(&self, host: &Host, at: &str) {
        assert_eq!(listed(host, at), self.end.versions(), "{at}");
        for link in ["current", "permanent"] {
            assert_eq!(host.link(link), self.end.link(link), "{at}");
        }
    }

    /// Links and states are those of an undisturbed command, and nothing is left behind.
    pub fn is_at_end(&self, host: &Host, at: &str) {
        self.has_arrived(host, at);
        assert_eq!(names(host), names(&self.end), "{at}: something was left behind");
    }

    /// As [`Case::arrives`], where a recovery was cut short: whether one is still due is not the point.
    pub fn arrives_again(&self, host: &Host, at: &str) {
        let run = host.run(self.args);
        assert_eq!(run.code, Some(0), "{at}: {run:#?}");
        self.is_at_end(host, at);
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

/// A root with archives of these versions.
pub fn host(versions: &[&str]) -> Host {
    let host = Host::new();
    for version in versions {
        host.archive(version);
    }
    host
}

/// The same after these commands.
pub fn installed(versions: &[&str], commands: &[&[&str]]) -> Host {
    let host = host(versions);
    for command in commands {
        host.run(*command).ok();
    }
    host
}
