//! One command on one root: the states that an interruption may leave, and the state at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure::ops;

use super::stepper::{self, Ended};
use super::{Host, Run, assert_same};

pub type Args = &'static [&'static str];

/// One command on one root, and the state that an undisturbed run leaves.
pub struct Case {
    pub args: Args,
    pub start: Host,
    pub end: Outcome,
    /// The number of transactions in the history at the start.
    remembered: usize,
}

/// The result of a command: the targets of `current` and `permanent`, the listed releases, and the files on disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub links: [Option<String>; 2],
    pub versions: Vec<(String, String)>,
    pub tree: BTreeMap<String, String>,
}

impl Outcome {
    pub fn of(host: &Host, at: &str) -> Self {
        Self { links: links(host), versions: listed(host, at), tree: lasting(host) }
    }
}

impl Case {
    pub fn new(args: Args, start: Host) -> Self {
        let end = start.copy();
        end.run(args).ok();
        let (end, remembered) = (Outcome::of(&end, "undisturbed"), outcomes(&start).len());
        Self { args, start, end, remembered }
    }

    /// Calls `work` for each mutating system call of the command, in several threads, with a copy of the root and the
    /// number of the call. Returns the number of calls.
    pub fn each(&self, work: impl Fn(&Host, usize) + Sync) -> usize {
        let calls = stepper::count(&self.start.copy().command(self.args));
        self.at(&(1..=calls).collect::<Vec<_>>(), work)
    }

    /// Does the same for the calls before which a kill leaves a new state.
    pub fn each_kill(&self, work: impl Fn(&Host, usize) + Sync) -> usize {
        self.at(&stepper::kill_points(&self.start.copy().command(self.args)), work)
    }

    fn at(&self, points: &[usize], work: impl Fn(&Host, usize) + Sync) -> usize {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mine = std::iter::repeat_with(|| points.get(next.fetch_add(1, Ordering::Relaxed)));
                    mine.map_while(|nth| nth).for_each(|nth| work(&self.start.copy(), *nth));
                });
            }
        });
        points.len()
    }

    /// Kills the command at every such point in turn and passes the remaining state to `judge`.
    pub fn sweep(&self, judge: impl Fn(&Host, &str) + Sync) -> usize {
        self.each_kill(|host, nth| judge(host, &self.kill(host, nth)))
    }

    /// Kills the command on that host before its `nth` mutating system call. Returns a description of the point.
    pub fn kill(&self, host: &Host, nth: usize) -> String {
        match stepper::kill_before(&host.command(self.args), nth) {
            Ended::Killed { before } => format!("{:?} killed before call {nth}, {before}", self.args),
            Ended::Exited { code, .. } => panic!("{:?} ended before call {nth}: {code}", self.args),
        }
    }

    /// Asserts that the links are as before, as after, or halfway: `current` changes first, because `permanent` is
    /// the commit point. Asserts that all listed releases are complete.
    pub fn is_sound(&self, host: &Host, at: &str) {
        let (old, new, found) = (links(&self.start), &self.end.links, links(host));
        let halfway = [new[0].clone(), old[1].clone()];
        assert!(
            found == old || found == halfway || found == *new,
            "{at}: current and permanent lead to {found:?}, before {old:?}, to be {new:?}"
        );
        listed(host, at).iter().for_each(|(version, _)| host.complete(version));
    }

    /// Runs the command again. Asserts that it recovers, reports the recovery, and leaves the state of an undisturbed
    /// run. Returns the run.
    pub fn arrives(&self, host: &Host, at: &str) -> Run {
        let interrupted = is_interrupted(host);
        let run = self.again(host, at);
        let said = run.stderr.contains(&format!("recovered an interrupted `{}`", self.args.join(" ")));
        assert_eq!(said, interrupted, "{at}: what was said of a recovery: {run:#?}");
        self.is_at_end(host, at);
        run
    }

    /// Does the same as [`Case::arrives`] after an interrupted recovery, whether or not a recovery is still due.
    pub fn arrives_again(&self, host: &Host, at: &str) {
        self.again(host, at);
        self.is_at_end(host, at);
    }

    /// Runs the command again. A change that is already done is not an error.
    fn again(&self, host: &Host, at: &str) -> Run {
        let run = host.run(self.args);
        // `uninstall` of a removed release is refused; other commands accept that they are already done.
        let gone = self.args[0] == "uninstall" && run.code == Some(2) && run.stderr.contains("not installed");
        assert!(run.code == Some(0) || gone, "{at}, then once more: {run:#?}");
        run
    }

    /// Asserts that links and states are those of an undisturbed run.
    pub fn has_arrived(&self, host: &Host, at: &str) {
        assert_eq!(listed(host, at), self.end.versions, "{at}: versions");
        assert_eq!(links(host), self.end.links, "{at}: current and permanent");
    }

    /// Asserts that links, states and all files on disk are those of an undisturbed run: nothing in staging or trash,
    /// no journal, no spare link.
    pub fn is_at_end(&self, host: &Host, at: &str) {
        self.has_arrived(host, at);
        assert_same(&lasting(host), &self.end.tree, at);
    }

    /// Asserts that after [`Case::arrives`] the history contains each transaction once, and for an interrupted
    /// transaction the outcome that the recovery reported.
    pub fn is_remembered(&self, host: &Host, run: &Run, at: &str) {
        let found = outcomes(host).split_off(self.remembered);
        let says = |text: &str| run.stderr.contains(text);
        use tenure::root::Outcome::{Done, Finished, TakenBack};
        let expected: &[&[tenure::root::Outcome]] = match (says("recovered"), says("rolled back")) {
            (true, true) => &[&[TakenBack, Done]],
            (true, false) => &[&[Finished], &[Done]],
            (false, _) => &[&[Done]],
        };
        assert!(expected.iter().any(|e| *e == found), "{at}: history {found:?} after {run:#?}");
    }
}

/// Returns the outcome of each transaction, oldest first. Asserts that no transaction occurs twice.
fn outcomes(host: &Host) -> Vec<tenure::root::Outcome> {
    let entries = host.opened().history().unwrap();
    let mut names: Vec<_> = entries.iter().map(|entry| &entry.transaction).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), entries.len(), "a transaction occurs twice: {entries:#?}");
    entries.iter().map(|entry| entry.outcome).collect()
}

/// Returns whether a transaction was interrupted, so that the next command has to recover.
pub fn is_interrupted(host: &Host) -> bool {
    host.root().join(".tenure/journal").exists()
}

/// Returns the targets of `current` and `permanent`.
pub fn links(host: &Host) -> [Option<String>; 2] {
    ["current", "permanent"].map(|name| host.link(name))
}

/// Returns the releases and their states as `versions` lists them. A sweep asks thousands of times, which takes too long
/// by the binary.
pub fn listed(host: &Host, at: &str) -> Vec<(String, String)> {
    let listed = ops::versions(&host.opened()).unwrap_or_else(|error| panic!("{at}: {error}"));
    let text = |release: &ops::ListedRelease| (release.version.to_string(), release.state.to_string());
    listed.releases.iter().map(text).collect()
}

/// Returns the tree of the root without the contents of receipts, which contain times.
pub fn lasting(host: &Host) -> BTreeMap<String, String> {
    let mut tree = host.tree();
    let receipts = tree.iter_mut().filter(|(path, _)| path.ends_with("/receipt.json"));
    receipts.for_each(|(_, what)| *what = "a receipt".into());
    tree
}

/// Returns a root with archives of these versions.
pub fn host(versions: &[&str]) -> Host {
    let host = Host::in_memory();
    host.archives(versions);
    host
}

/// Returns such a root after these commands.
pub fn installed(versions: &[&str], commands: &[&[&str]]) -> Host {
    let host = host(versions);
    for command in commands {
        host.run(*command).ok();
    }
    host
}
