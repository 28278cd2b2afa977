//! Data migrations and multi-hop upgrades under systemd, with restarts and power cuts of the host.

use crate::greeter::{HOT, URL, pack, serving};
use crate::installed::Installed;
use crate::support::serving::Greeter;

const WAY: [&str; 3] = ["5.0.1", "5.1.0", "5.2.0"];

const PATHS: &str = "[[path]]\nto = '~5.0'\nfrom = ['~5.0']\n[[path]]\nto = '~5.1'\nfrom = ['>=5.0.1, <5.1']\n\
                     [[path]]\nto = '~5.2'\nfrom = ['~5.1']\n";

/// Returns the program of a release. As the migrate hook, it waits while /run/hold exists; as the hot hook, it moves
/// the service.
fn program() -> String {
    let migrates = "#!/bin/sh\nif [ \"$TENURE_ACTION\" = migrate ]; then\n\
                    echo \"$TENURE_OLD_VERSION $TENURE_NEW_VERSION $(whoami)\" >>/srv/told\n\
                    [ ! -e /srv/slow ] || sleep 0.5\n\
                    while [ -e /run/hold ]; do sleep 0.05; done\nexit 0\nfi\n";
    format!("{migrates}{}", HOT.trim_start_matches("#!/bin/sh\n"))
}

/// Returns the manifest of the release that writes this data format.
fn manifest(format: usize) -> String {
    format!(
        "[data]\nwrites = {format}\nreads = [{}, {format}]\n[hooks]\nhot-upgrade = ['bin/hot']\n\
         hot-downgrade = ['bin/hot']\nmigrate = ['bin/hot']\n",
        format - 1
    )
}

/// Returns a host that serves 5.0.0, with the archives of the later releases.
fn host() -> Installed {
    let program = program();
    let manifests = [manifest(1), manifest(2), manifest(3)];
    let release = |at: usize| Greeter { hot: &program, manifest: &manifests[at], ..Greeter::well(WAY[at]) };
    let greeter = serving(&release(0));
    (1..3).for_each(|at| pack(&greeter, &release(at)));
    greeter.put("/srv/greeter/releases/paths.toml", PATHS, 0o644);
    greeter
}

fn stage(greeter: &Installed) -> String {
    let status = greeter.sh("tenure --root /srv/greeter status --json").json();
    status["migration"]["stage"].as_str().unwrap_or("none").to_owned()
}

fn told(greeter: &Installed) -> String {
    greeter.sh("cat /srv/told").stdout
}

#[test]
#[ignore = "needs root and a host of its own"]
fn migration_runs_in_its_own_unit() {
    let mut greeter = host();
    greeter.ok("touch /run/hold");
    let load = greeter.load(URL);
    // The shell that gave the command is gone, with its terminal and its session.
    greeter.ok("setsid script -qec 'tenure --root /srv/greeter upgrade 5.0.1' /dev/null; true");
    greeter.until("it is at work", || stage(&greeter) == "running");
    let units = greeter.ok("systemctl list-units --plain --no-legend 'tenure-migrate-*'");
    assert!(units.contains(" loaded active running Migration of data"), "{units}");
    greeter.ok("systemctl restart greeter.service");
    greeter.answers("5.0.1");
    let run = greeter.sh("tenure --root /srv/greeter upgrade --restart 5.1.0").code(2);
    run.stderr_has("error: a data migration is not done: to data format 1 by 5.0.1, running since ");
    assert_eq!(stage(&greeter), "running");
    greeter.ok("rm /run/hold");
    greeter.until("it is done", || stage(&greeter) == "done");
    load.lost_none("the greeter behind a socket while its data is migrated");
    assert_eq!(told(&greeter), "5.0.0 5.0.1 root\n");
    let journal = greeter.ok("journalctl -q --no-pager -o cat -u 'tenure-migrate-*'");
    assert!(journal.contains("Data migration to data format 1 by 5.0.1, done at "), "{journal}");
    // A migration that a restart of the host or a power cut ends counts as failed.
    greeter.ok("touch /run/hold");
    greeter.tenure("upgrade --restart 5.1.0");
    greeter.until("it is at work", || stage(&greeter) == "running");
    greeter.restart();
    greeter.answers("5.1.0");
    let run = greeter.sh("tenure --root /srv/greeter status").code(1);
    run.stdout_has("Problem: the data migration failed: to data format 2 by 5.1.0, failed at ");
    greeter.ok("touch /run/hold; tenure --root /srv/greeter migrate --background");
    greeter.until("it is at work", || stage(&greeter) == "running");
    greeter.cut_power();
    greeter.boot();
    greeter.answers("5.1.0");
    let run = greeter.sh("tenure --root /srv/greeter status").code(1);
    run.stdout_has("it was interrupted: its process ended");
    let run = greeter.sh("tenure --root /srv/greeter upgrade --restart 5.2.0").code(2);
    run.stderr_has("hint: run `tenure status` to see the cause; fix it, then run `tenure migrate`\n");
    greeter.tenure("migrate");
    assert_eq!(told(&greeter).lines().collect::<Vec<_>>()[1..], ["5.0.1 5.1.0 root"; 3]);
    greeter.tenure("upgrade --restart 5.2.0");
    greeter.until("it is done", || stage(&greeter) == "done");
    greeter.tenure("status");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn multi_hop_upgrade_loses_no_request() {
    let greeter = host();
    let load = greeter.load(URL);
    greeter.tenure("upgrade --multi-hop --restart 5.2.0");
    load.lost_none("the greeter behind a socket, three hops, each with a migration");
    assert_eq!(greeter.answer(), "5.2.0");
    assert_eq!(greeter.states(), ["5.2.0 permanent", "5.1.0 old", "5.0.1 old", "5.0.0 old"]);
    greeter.until("the last migration is done", || stage(&greeter) == "done");
    assert_eq!(told(&greeter), "5.0.0 5.0.1 root\n5.0.1 5.1.0 root\n5.1.0 5.2.0 root\n");
    greeter.until("the guards have left", || greeter.guards().is_empty());
}

#[test]
#[ignore = "needs root and a host of its own"]
fn multi_hop_upgrade_survives_power_cuts() {
    let mut greeter = host();
    // The migration takes long enough that a start may find it running.
    greeter.ok("touch /srv/slow");
    let walk = "tenure --root /srv/greeter upgrade --multi-hop --restart 5.2.0";
    let mut stops = ["5.0.0", "5.0.1", "5.1.0", "5.2.0"].as_slice();
    // Cut the power once in the middle of each hop.
    for version in WAY {
        greeter.ok(&format!("({walk}; echo $? >>/srv/ended) >>/srv/walk.log 2>&1 &"));
        greeter.until(&format!("the hop to {version} begins"), || {
            let ended = greeter.sh("test ! -e /srv/ended").code != Some(0);
            let has_begun = greeter.ok("readlink /srv/greeter/current").ends_with(version);
            assert!(has_begun || !ended, "not to {version}: {}", greeter.ok("cat /srv/walk.log"));
            has_begun
        });
        greeter.cut_power();
        greeter.boot();
        let permanent = greeter.ok("basename $(readlink /srv/greeter/permanent)");
        greeter.answers(&permanent);
        assert!(!greeter.is_busy(), "boot has left a command open");
        let at = stops.iter().position(|stop| *stop == permanent);
        stops = &stops[at.unwrap_or_else(|| panic!("on the way to {version}: {permanent}"))..];
        // The operator has to rerun a migration that the power cut ended. A migration that the start continued needs
        // no action.
        if greeter.sh("tenure --root /srv/greeter status").code == Some(1) {
            greeter.tenure("migrate");
        }
    }
    greeter.ok(walk);
    assert_eq!(greeter.answer(), "5.2.0");
    assert_eq!(greeter.states(), ["5.2.0 permanent", "5.1.0 old", "5.0.1 old", "5.0.0 old"]);
}
