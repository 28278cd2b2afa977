//! Real services under systemd and the command manager, with good moves under load and with failing releases. The old
//! release must answer after each failure. Each case prints a line of a table.

use std::thread;
use std::time::{Duration, Instant};

use crate::installed::Installed;
use crate::services_kinds::{self as kinds, Fault, Kind, Manager, Tree};
use crate::services_load::{Clients, Seen, ask};
use crate::support::Run;
use crate::support::booted::Booted;

/// The release from which every move starts.
pub const OLD: &str = "5.0.10";
pub const NEW: &str = "5.0.11";

/// A service on its own host.
pub struct Served<'a> {
    kind: &'a Kind,
    manager: Manager,
    pub on: Installed,
    problems: Vec<String>,
    /// The number of bad releases so far.
    tried: usize,
}

impl<'a> Served<'a> {
    /// Starts the service with the old release and unpacks the new one.
    pub fn start(kind: &'a Kind, manager: Manager) -> Self {
        let mut host = Booted::with_packages(kind.debian.suite, kind.debian.packages);
        host.put("/etc/systemd/system/served.service", unit(kind), 0o644);
        host.put("/etc/systemd/system/served.socket", "[Socket]\nListenStream=127.0.0.1:8080\n", 0o644);
        host.boot();
        let on = Installed { host, name: kind.name, ask: "false" };
        let served = Self { kind, manager, on, problems: Vec::new(), tried: 0 };
        served.on.ok(&format!("mkdir -p /run/{0} /srv/{0}/releases", kind.name));
        served.settings(kind.hot);
        for version in [OLD, NEW] {
            served.release(version, Fault::None);
        }
        served.tenure(&format!("install {OLD}")).ok();
        served.up();
        served
    }

    fn settings(&self, hot: &str) {
        let Kind { name, health, .. } = self.kind;
        let service = match self.manager {
            Manager::Systemd => "manager = \"systemd\"\nunit = \"served.service\"\n".to_owned(),
            Manager::Command => by_command(self.kind),
        };
        let startup = if hot.is_empty() { "startup = \"3s\"\n" } else { "" };
        let text = format!(
            "name = \"{name}\"\n[service]\n{service}{hot}\n[health]\n{health}\n{startup}interval = \"50ms\"\n\
             timeout = \"1500ms\"\n[timeouts]\nhealth = \"60s\"\nhook = \"15s\"\nstop = \"15s\"\n"
        );
        self.on.put(&format!("/srv/{name}/tenure.toml"), text, 0o644);
    }

    fn release(&self, version: &str, fault: Fault) {
        let (name, host) = (self.kind.name, &self.on.host);
        let dir = format!("/srv/{name}/build/{version}");
        (self.kind.build)(&Tree { host, dir: dir.clone(), version: version.to_owned(), fault });
        host.ok(&format!("mv {dir} /srv/{name}/releases/"));
    }

    pub fn tenure(&self, words: &str) -> Run {
        self.on.sh(&format!("tenure --root /srv/{} {words}", self.kind.name))
    }

    fn up(&self) {
        let run = self.on.sh(&match self.manager {
            Manager::Systemd => {
                "systemctl reset-failed served 2>/dev/null; systemctl start served".to_owned()
            }
            Manager::Command => format!("cd /srv/{} && {}", self.kind.name, start(self.kind)),
        });
        assert_eq!(run.code, Some(0), "{run:#?} {}", self.log());
        let begun = Instant::now();
        while self.answers(3) != vec![Some(OLD.to_owned()); 3] {
            assert!(begun.elapsed() < Duration::from_secs(20), "{OLD} does not answer: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self, count: usize) -> Vec<Option<String>> {
        ask(&self.on.host, self.kind.ask, count)
    }

    fn note(&mut self, at: &str, problem: &str) {
        let problem = format!("{} {:?} {at}: {problem}", self.kind.name, self.manager);
        println!("PROBLEM {problem}");
        self.problems.push(problem);
    }

    /// Upgrades and downgrades under load, as often as the kind specifies.
    fn good_moves(&mut self) {
        let clients = Clients::start(&self.on.host, self.kind.ask);
        let begun = Instant::now();
        for round in 0..self.kind.moves {
            let (command, version) = if round % 2 == 0 { ("upgrade", NEW) } else { ("downgrade", OLD) };
            let run = self.tenure(&format!("{command} {} {version}", self.kind.options));
            let answered = self.answers(20);
            if run.code != Some(0) {
                self.note("good moves", &format!("move {round} to {version}: {:?} {}", run.code, run.stderr));
                clients.stop();
                return self.heal(NEW);
            }
            let wrong = answered.iter().filter(|answer| answer.as_deref() != Some(version)).count();
            if wrong > 0 {
                self.note(
                    "good moves",
                    &format!("move {round}: {wrong} of 20 answers were not {version}: {answered:?}"),
                );
            }
        }
        let took = begun.elapsed();
        let seen = clients.stop();
        self.print(&format!("{} good moves", self.kind.moves), Some(0), took, &self.answers(1), &seen);
        if self.kind.lossless && seen.lost > 0 {
            self.note("good moves", &format!("{} of {} requests were lost", seen.lost, seen.asked));
        }
        self.steady("good moves");
    }

    pub fn print(
        &self,
        case: &str,
        code: Option<i32>,
        took: Duration,
        answered: &[Option<String>],
        seen: &Seen,
    ) {
        let code = code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
        let answers = answered.first().cloned().flatten();
        println!(
            "| {} | {:?} | {case} | exit {code} in {:.1} s | outage {:.2} s{} | {} answers | {} requests, {} lost |",
            self.kind.name,
            self.manager,
            took.as_secs_f64(),
            seen.outage.as_secs_f64(),
            if answers.is_none() { ", goes on" } else { "" },
            answers.unwrap_or_else(|| "nothing".to_owned()),
            seen.asked,
            seen.lost
        );
    }

    fn steady(&mut self, at: &str) {
        let run = self.tenure("status --json");
        let state = if run.stdout.is_empty() { "none".into() } else { run.json()["state"].to_string() };
        if run.code != Some(0) || state != "\"steady\"" {
            self.note(
                at,
                &format!("status exits {:?} with state {state}: {}{}", run.code, run.stdout, run.stderr),
            );
        }
    }

    /// Upgrades to a release that fails. The old release must answer afterwards.
    fn upgrade_to_bad_release(&mut self, fault: Fault, trial: &str) {
        let case = format!("{fault:?} {trial}").trim().to_owned();
        let before = self.problems.len();
        // Processes ignore SIGURG by default.
        let is_ignored = fault == Fault::IgnoresSignal && self.kind.hot.contains("signal");
        self.settings(if is_ignored { "hot = \"signal:URG\"" } else { self.kind.hot });
        self.tried += 1;
        let bad = format!("5.0.{}", 11 + self.tried);
        self.release(&bad, fault);
        let clients = Clients::start(&self.on.host, self.kind.ask);
        let begun = Instant::now();
        let run = self.tenure(&format!("upgrade {} {trial} {bad}", self.kind.options));
        let by_deadline = trial.starts_with("--confirm-within") && run.code == Some(0);
        if by_deadline {
            self.await_end_of_trial(&case);
        }
        let took = begun.elapsed();
        let answered = self.answers(20);
        let seen = clients.stop();
        self.print(&case, run.code, took, &answered, &seen);
        self.is_back(&case, &answered);
        if !by_deadline {
            self.says_so(&case, &run);
        }
        self.steady(&case);
        let left = self.left(&bad);
        if !left.is_empty() {
            self.note(&case, &format!("processes of {bad} are left: {left}"));
        }
        if self.problems.len() > before {
            println!("{}{}\n{}", run.stdout, run.stderr, self.log());
        }
        self.settings(self.kind.hot);
        self.heal(&bad);
    }

    fn is_back(&mut self, case: &str, answered: &[Option<String>]) {
        let wrong = answered.iter().filter(|answer| answer.as_deref() != Some(OLD)).count();
        if wrong > 0 {
            self.note(case, &format!("{wrong} of 20 answers were not {OLD}: {answered:?}"));
        }
    }

    fn says_so(&mut self, case: &str, run: &Run) {
        if run.code != Some(3) {
            self.note(case, &format!("it exited with {:?}", run.code));
        }
        if !run.stderr.contains(&format!("{OLD} is running")) {
            self.note(case, "the message does not name the release that runs");
        }
    }

    fn await_end_of_trial(&mut self, case: &str) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            let on_trial = self.tenure("versions").stdout.contains("\tcurrent");
            if !on_trial && !self.on.is_busy() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.note(case, "the trial did not end within 30 s");
    }

    /// Returns the processes of a release that still run after 3 s.
    fn left(&self, version: &str) -> String {
        // The bracket keeps the shell's own arguments from matching.
        let dir = format!("/s[r]v/{}/releases/{version}", self.kind.name);
        self.on.ok(&format!(
            "for _ in $(seq 30); do
               left=$(for p in /proc/[0-9]*; do
                 of=\"$(readlink $p/exe) $(readlink $p/cwd) $(tr '\\0' ' ' <$p/cmdline)\"
                 case $of in *{dir}*) echo \"${{p#/proc/}} ($of)\" ;; esac
               done 2>/dev/null)
               [ -n \"$left\" ] || break
               sleep 0.1
             done
             echo $left"
        ))
    }

    fn log(&self) -> String {
        let script = match self.manager {
            Manager::Systemd => "journalctl -u served -u 'tenure-guard*' -n 25 -o cat --no-pager".to_owned(),
            Manager::Command => format!("tail -n 15 /run/{}/log", self.kind.name),
        };
        self.on.sh(&script).stdout
    }

    /// Makes the old release run again, so that the next case starts in the same state.
    fn heal(&self, bad: &str) {
        let root = format!("/srv/{}", self.kind.name);
        let links = self.on.sh(&format!("readlink {root}/current {root}/permanent")).stdout;
        let answers = self.answers(5) == vec![Some(OLD.to_owned()); 5];
        if answers
            && links == format!("releases/{OLD}\n").repeat(2)
            && self.left(bad).is_empty()
            && !self.on.is_busy()
        {
            return;
        }
        self.on.sh(
            "pkill -9 -f '^/usr/bin/tenure|^tenure'; systemctl kill -s KILL served; systemctl stop served",
        );
        // A killed guard may have started the service once more.
        self.on.sh(&format!(
            "for _ in 1 2 3; do for p in /proc/[0-9]*; do
               case \"$(readlink $p/exe) $(readlink $p/cwd) $(tr '\\0' ' ' <$p/cmdline)\" in
                 */s[r]v/{name}/*) kill -9 ${{p#/proc/}} ;;
               esac
             done 2>/dev/null; sleep 0.3; done
             rm -rf {root}/.tenure/journal {root}/.tenure/trial /run/{name}/pid
             ln -sfn releases/{OLD} {root}/current; ln -sfn releases/{OLD} {root}/permanent",
            name = self.kind.name
        ));
        self.tenure("boot").ok();
        self.up();
    }
}

fn unit(kind: &Kind) -> String {
    let pid_file = if kind.forks { format!("PIDFile=/run/{}/pid\n", kind.name) } else { String::new() };
    format!(
        "[Service]\n{}\n{pid_file}ExecStartPre=/usr/bin/tenure --root /srv/{} boot\nExecStart={}\n\
         KillMode=mixed\nTimeoutStartSec=5\nTimeoutStopSec=2\n",
        kind.unit, kind.name, kind.start
    )
}

fn start(kind: &Kind) -> String {
    let Kind { name, start, .. } = kind;
    match kind.forks {
        true => format!("{start} >>/run/{name}/log 2>&1"),
        false => format!("setsid {start} >>/run/{name}/log 2>&1 </dev/null & echo $! >/run/{name}/pid"),
    }
}

/// Returns settings as an operator writes them. The stop command fails if the service does not run.
fn by_command(kind: &Kind) -> String {
    let pid = format!("/run/{}/pid", kind.name);
    let stop = format!(
        "p=$(cat {pid}); kill $p || exit 1; for _ in $(seq 100); do [ -d /proc/$p ] || exit 0; sleep 0.02; done; kill -9 $p"
    );
    format!(
        "manager = \"command\"\npid-file = \"{pid}\"\nstart = [\"sh\", \"-c\", '''{}''']\nstop = [\"sh\", \"-c\", '''{stop}''']\n",
        start(kind)
    )
}

/// Runs all cases of one service under one manager, and returns the problems.
fn suite(kind: &Kind, manager: Manager) -> Vec<String> {
    let mut served = Served::start(kind, manager);
    served.good_moves();
    for fault in kind.faults {
        match fault {
            Fault::ExitsLater => {
                served.upgrade_to_bad_release(*fault, "--watch 30s");
                served.upgrade_to_bad_release(*fault, "--confirm-within 8s");
            }
            _ => served.upgrade_to_bad_release(*fault, ""),
        }
    }
    served.problems
}

pub fn everywhere(kind: &'static Kind) {
    let suite = |manager: &Manager| {
        let manager = *manager;
        thread::spawn(move || suite(kind, manager))
    };
    let suites: Vec<_> = kind.managers.iter().map(suite).collect();
    let problems: Vec<String> = suites.into_iter().flat_map(|suite| suite.join().unwrap()).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
#[ignore = "needs root and a host of its own"]
fn nginx_survives_bad_releases() {
    everywhere(&kinds::NGINX);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn haproxy_survives_bad_releases() {
    everywhere(&kinds::HAPROXY);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn gunicorn_survives_bad_releases() {
    everywhere(&kinds::GUNICORN);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn redis_survives_bad_releases() {
    everywhere(&kinds::REDIS);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn prometheus_survives_bad_releases() {
    everywhere(&kinds::PROMETHEUS);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn node_cluster_survives_bad_releases() {
    everywhere(&kinds::NODE);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn python_service_survives_bad_releases() {
    everywhere(&kinds::PYTHON);
}
