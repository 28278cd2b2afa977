//! The greeter behind a systemd socket, and its trials.

use std::collections::BTreeMap;

use crate::installed::Installed;
use crate::support::booted::{Booted, Init};
use crate::support::serving::Greeter;

const SETTINGS: &str = r#"
name = "greeter"
[space]
reserve = "0 B"
[service]
manager = "systemd"
unit = "greeter.service"
[health]
http = "http://127.0.0.1:8080/healthz"
interval = "20ms"
[timeouts]
hook = "10s"
"#;

const SOCKET: &str = "\
[Socket]
ListenStream=127.0.0.1:8080
[Install]
WantedBy=sockets.target
";

const SERVICE: &str = "\
[Service]
ExecStartPre=/usr/bin/tenure --root /srv/greeter boot
ExecStart=/srv/greeter/current/bin/greeter 0 /run/greeter.address
Restart=on-failure
[Install]
WantedBy=multi-user.target
";

/// The hot hook of a service whose main process systemd knows.
pub const HOT: &str = r#"#!/bin/sh
pid=$(systemctl show -P MainPID greeter.service)
kill -USR2 "$pid"
for _ in $(seq 500); do
  case $(readlink "/proc/$pid/exe") in "$TENURE_NEW_DIR"/*) exit 0;; esac
  sleep 0.01
done
echo "it did not take over"
exit 1
"#;

pub const URL: &str = "http://127.0.0.1:8080/version";

/// Returns the greeter on a host; it reports its version at [`URL`].
pub fn installed(host: Booted) -> Installed {
    Installed { host, name: "greeter", ask: "curl -s -m5 http://127.0.0.1:8080/version" }
}

pub fn pack(host: &Booted, greeter: &Greeter<'_>) {
    host.put(&format!("/srv/greeter/releases/greeter-{}.tar.gz", greeter.version), greeter.packed(), 0o644);
}

fn release(version: &str) -> Greeter<'_> {
    Greeter { hot: HOT, ..Greeter::well(version) }
}

/// Returns a host that serves 5.0.0 behind a socket, with an archive of `next`.
pub fn serving(next: &Greeter<'_>) -> Installed {
    serving_on(next, |_| ())
}

/// Returns such a host, on which `prepare` runs before the first boot.
fn serving_on(next: &Greeter<'_>, prepare: impl Fn(&Booted)) -> Installed {
    let mut host = Booted::off(Init::Systemd);
    prepare(&host);
    host.put("/srv/greeter/tenure.toml", SETTINGS, 0o644);
    host.put("/etc/systemd/system/greeter.socket", SOCKET, 0o644);
    host.put("/etc/systemd/system/greeter.service", SERVICE, 0o644);
    pack(&host, &release("5.0.0"));
    pack(&host, next);
    host.boot();
    let greeter = installed(host);
    greeter.tenure("install 5.0.0");
    greeter.ok("systemctl enable -q --now greeter.socket greeter.service");
    greeter.answers("5.0.0");
    greeter
}

#[test]
#[ignore = "needs root and a host of its own"]
fn upgrades_and_downgrades_lose_no_request() {
    let greeter = serving(&release("5.0.1"));
    let load = greeter.load(URL);
    for restart in ["", "--restart", "", "--restart", ""] {
        for (command, version) in [("upgrade", "5.0.1"), ("downgrade", "5.0.0")] {
            greeter.tenure(&format!("{command} {restart} {version}"));
            assert_eq!(greeter.answer(), version);
        }
    }
    load.lost_none("the greeter behind a socket, 10 upgrades and downgrades");
    assert_eq!(greeter.states(), ["5.0.1 old", "5.0.0 permanent"]);
    greeter.until("the guards have left", || greeter.guards().is_empty());
    assert_eq!(greeter.ok("systemctl show -P NRestarts greeter.service"), "0");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn failed_watch_loses_no_request() {
    let greeter = serving(&Greeter { conf: "sick-after-ms = 1500\n", ..release("5.0.1") });
    let load = greeter.load(URL);
    let run = greeter.sh("tenure --root /srv/greeter upgrade --watch 1h 5.0.1").code(3);
    run.stderr_has("caused by: 5.0.1 is unhealthy: http://127.0.0.1:8080/healthz answers 503");
    greeter.is_back("5.0.1", "5.0.0");
    load.lost_none("the greeter behind a socket, ill while it was watched");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn deadline_holds_without_guards() {
    let greeter = serving(&release("5.0.1"));
    let timers = || greeter.ok("systemctl list-units --all --plain --no-legend 'tenure-deadline-*'");
    greeter.try_out("--confirm-within 8s", "5.0.1", "5.0.0");
    greeter.ok("systemctl stop 'tenure-guard-*'");
    assert_eq!(greeter.guards(), "");
    // No command runs; the timer ends the trial.
    greeter.until("it is rolled back", || greeter.ok("readlink /srv/greeter/current") == "releases/5.0.0");
    greeter.is_back("5.0.1", "5.0.0");
    greeter.until("nothing is left of the timer", || timers().is_empty());
    let history = greeter.tenure("history");
    assert!(history.contains("5.0.1 was not confirmed in time"), "{history}");
    // With guards and timers stopped, `status` starts a guard again.
    greeter.try_out("--confirm-within 8s", "5.0.1", "5.0.0");
    greeter.ok("systemctl stop 'tenure-guard-*' 'tenure-deadline-*.timer'");
    // The trial may end while `status` runs.
    greeter.sh("tenure --root /srv/greeter status");
    greeter.until("it is rolled back", || greeter.ok("readlink /srv/greeter/current") == "releases/5.0.0");
    greeter.is_back("5.0.1", "5.0.0");
    // A confirmed trial leaves no timer.
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    assert!(timers().contains(".timer"), "{}", timers());
    greeter.tenure("confirm");
    greeter.until("nothing is left of the timer", || timers().is_empty());
}

#[test]
#[ignore = "needs root and a host of its own"]
fn trial_ends_after_restarts_and_power_cuts() {
    let mut greeter = serving(&release("5.0.1"));
    let load = greeter.load(URL);
    greeter.try_out("--confirm-within 2s", "5.0.1", "5.0.0");
    // A second guard takes over when the first one is killed.
    greeter.ok("systemctl kill --signal=KILL 'tenure-guard-*'");
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    greeter.ok("systemctl restart greeter.service");
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    load.lost_none("the greeter behind a socket, trials that ended by their time and by a restart");
    greeter.ok("systemctl kill --signal=KILL --kill-who=main greeter.service");
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    greeter.restart();
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    greeter.cut_power();
    greeter.boot();
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    greeter.tenure("confirm");
    greeter.cut_power();
    greeter.boot();
    greeter.answers("5.0.1");
    assert_eq!(greeter.states(), ["5.0.1 permanent", "5.0.0 old"]);
}

/// Makes every unit read the time of day from a file. The monotonic clock stays unchanged.
fn with_another_time_of_day(host: &Booted) {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    let environment = "FAKETIME_TIMESTAMP_FILE=/run/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1";
    let default = format!("[Manager]\nDefaultEnvironment=LD_PRELOAD={library} {environment}\n");
    host.put("/etc/systemd/system.conf.d/clock.conf", default, 0o644);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn clock_jump_does_not_affect_trial() {
    let greeter = serving_on(&release("5.0.1"), with_another_time_of_day);
    let hour = |clock: &str| clock.split(['T', ':']).nth(1).map(str::to_owned);
    let trial = "--confirm-within 10s";
    for (jump, back) in [("+5h", false), ("-5h", true)] {
        greeter.ok("echo +0 >/run/clock");
        greeter.try_out(trial, "5.0.1", "5.0.0");
        greeter.ok(&format!("echo {jump} >/run/clock"));
        if !back {
            // By the time of day, the trial would be long over.
            greeter.ok("sleep 2");
            assert_eq!(greeter.answer(), "5.0.1");
        }
        greeter.is_back("5.0.1", "5.0.0");
        let ended = greeter.tenure("history").lines().last().unwrap().to_owned();
        assert!(ended.contains("revert  by the guard: 5.0.1 failed, rolled back to 5.0.0"), "{ended}");
        assert_ne!(hour(&ended), hour(&greeter.ok("date -u +%FT%T")), "its clock did not jump: {ended}");
    }
}

#[test]
#[ignore = "needs root and a host of its own"]
fn trial_ends_while_service_is_disabled() {
    let mut greeter = serving(&release("5.0.1"));
    greeter.ok("systemctl disable -q greeter.service greeter.socket");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    greeter.cut_power();
    greeter.boot();
    // The service has not started; the next command detects that the trial is from an earlier boot.
    greeter.sh("tenure --root /srv/greeter uninstall 9.9.9").code(2);
    let states = ["5.0.1 unpacked", "5.0.0 permanent"];
    greeter.until("it is reverted", || greeter.states() == states);
    assert_eq!(greeter.answer(), "", "it was started");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn power_cut_during_move_leaves_whole_release() {
    // The hook creates /cut/now at its begin or before its end, and then waits for the power cut.
    let cut = |at: &str| format!("[ ! -e /cut/$TENURE_ACTION-{at} ] || {{ touch /cut/now; sleep 1000; }}");
    let slow = HOT
        .replace("#!/bin/sh\n", &format!("#!/bin/sh\n{}\n", cut("begins")))
        .replace("exit 0", &format!("{}; exit 0", cut("ends")));
    let mut greeter = serving(&Greeter { hot: &slow, ..release("5.0.1") });
    greeter.ok("mkdir /cut");
    for at in ["upgrade-begins", "upgrade-ends", "downgrade-begins", "downgrade-ends"] {
        let command = match at.starts_with("upgrade") {
            true => "upgrade 5.0.1",
            false => {
                greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
                "revert"
            }
        };
        greeter.ok(&format!("touch /cut/{at}"));
        let mut cut = greeter.command(&format!("tenure --root /srv/greeter {command} >&2")).spawn().unwrap();
        greeter.until("it is in the middle", || greeter.has("/cut/now"));
        greeter.cut_power();
        cut.wait();
        greeter.boot();
        greeter.answers("5.0.0");
        let states = greeter.states();
        assert_eq!(states.last().map(String::as_str), Some("5.0.0 permanent"), "{at}: {states:?}");
        assert!(!greeter.is_busy(), "{at}");
        greeter.tenure("status");
        greeter.ok("rm -f /cut/*");
    }
}

#[test]
#[ignore = "needs root and a host of its own"]
fn killed_upgrade_recovers_unattended() {
    let greeter = serving(&release("5.0.1"));
    let load = greeter.load(URL);
    let mut ends = BTreeMap::new();
    for kill in 0..60 {
        let args = ["upgrade", "upgrade --confirm-within 1h", "upgrade --restart"][kill % 3];
        let after = kill * 12;
        let tenure = format!("timeout -s KILL 0.{after:03} tenure --root /srv/greeter {args} 5.0.1");
        greeter.ok(&format!("{tenure} >/dev/null 2>&1 || :"));
        greeter.until("it is over", || !greeter.is_busy());
        let states = greeter.states();
        let of = |state: &str| states.iter().find(|s| s.ends_with(state)).cloned();
        let runs = of(" current").or_else(|| of(" permanent")).unwrap();
        assert_eq!(
            Some(greeter.answer().as_str()),
            runs.split(' ').next(),
            "killed after {after} ms: {states:?}"
        );
        greeter.tenure("status");
        *ends.entry(runs).or_insert(0) += 1;
        greeter.tenure("install 5.0.0");
        greeter.sh("tenure --root /srv/greeter uninstall 5.0.1");
    }
    println!("killed 60 times, which ended on {ends:?}");
    load.lost_none("the greeter behind a socket, its upgrades killed");
    assert!(ends.len() > 1, "{ends:?}");
    greeter.until("the guards have left", || greeter.guards().is_empty());
}
