//! The greeter as a distribution package, which is upgraded and downgraded while the service is under load.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::greeter::{URL, installed};
use crate::installed::Installed;
use crate::packages::{
    apt, apt_is_killed, dpkg, offer, package, publish, ran, release, tenure, unpack_by_hand, with_repository,
};
use crate::services_kinds::answers_version;
use crate::services_load::Clients;
use crate::support::booted::Init;
use crate::support::serving::Greeter;

/// Returns a host whose repository contains Tenure and these releases.
fn host(init: Init, releases: &[Greeter<'_>]) -> Installed {
    let host = with_repository(init);
    publish(&host, releases);
    installed(host)
}

/// Returns such a host, on which 5.0.0 is installed from its package.
fn serving(init: Init, releases: &[Greeter<'_>]) -> Installed {
    let greeter = host(init, releases);
    first(&greeter);
    greeter
}

/// Installs 5.0.0 and shortens the health interval and the hook timeout.
fn first(greeter: &Installed) {
    apt(greeter, "install greeter=5.0.0").ok();
    greeter.answers("5.0.0");
    let lines = [("/^http/", "interval = \"20ms\""), ("$", "[timeouts]"), ("$", "hook = \"5s\"")];
    for (after, line) in lines {
        greeter.ok(&format!("sed -i '{after} a {line}' /etc/greeter/tenure.toml"));
    }
}

/// Asserts that the service, dpkg and Tenure agree on the version.
fn in_step(greeter: &Installed, version: &str) {
    assert_eq!(greeter.answer(), version);
    assert_eq!(dpkg(greeter, "greeter"), format!("ii  {version}"));
    assert_eq!(greeter.ok("basename $(readlink /srv/greeter/permanent)"), version);
}

/// Continues an interrupted upgrade to 5.0.1 as dpkg and apt advise, and then downgrades again.
fn goes_on(greeter: &Installed) {
    let is_done = || {
        greeter.sh("dpkg --configure -a");
        let run = apt(greeter, "install -f greeter=5.0.1");
        // A kill while files are replaced makes dpkg ask for a reinstallation; apt reinstalls only on request.
        let is_broken = run.stdout.contains("reinstall it before attempting configuration");
        // A killed process may hold dpkg's lock for a moment.
        assert!(
            run.code == Some(0)
                || is_broken
                || run.stdout.contains("dpkg was interrupted")
                || run.stdout.contains("lock"),
            "{run:#?}"
        );
        run.code == Some(0) || is_broken && apt(greeter, "install --reinstall greeter=5.0.1").code == Some(0)
    };
    greeter.until("it is installed", is_done);
    in_step(greeter, "5.0.1");
    greeter.ok("greeter verify && greeter status");
    apt(greeter, "install greeter=5.0.0").ok();
    in_step(greeter, "5.0.0");
}

fn pid(greeter: &Installed) -> String {
    greeter.ok("pgrep -o -x greeter")
}

/// Returns all remaining files of the product.
fn left(greeter: &Installed) -> String {
    greeter.ok(
        "find / -xdev -path /proc -prune -o -path /srv/repository -prune -o -iname '*greeter*' -print | sort",
    )
}

#[test]
#[ignore = "needs root and a host of its own"]
fn package_upgrades_hot_or_by_restart() {
    let sick = Greeter { conf: "no such key = 1\n", ..release("5.1.1") };
    let releases = [release("5.0.0"), release("5.0.1"), release("5.1.0"), sick, release("5.1.2")];
    let greeter = serving(Init::Systemd, &releases);
    in_step(&greeter, "5.0.0");
    println!("{}", greeter.ok("systemd-analyze security --no-pager greeter.service | tail -n 1"));
    greeter.ok("systemd-analyze security --no-pager --threshold=20 greeter.service");
    assert_eq!(greeter.ok("ps -o user= -C greeter; systemctl is-enabled greeter"), "greeter\nenabled");
    let begun = pid(&greeter);
    let load = greeter.load(URL);
    for version in ["5.0.1", "5.0.0", "5.0.1"] {
        apt(&greeter, &format!("install greeter={version}")).ok();
        in_step(&greeter, version);
    }
    load.lost_none("the greeter's package, up, down and up");
    assert_eq!(pid(&greeter), begun, "it was moved hot");
    apt(&greeter, "install greeter=5.1.0").ok();
    in_step(&greeter, "5.1.0");
    assert_ne!(pid(&greeter), begun);
    let load = greeter.load(URL);
    let run = apt(&greeter, "install greeter=5.1.1").code(100);
    run.stdout_has(
        "hint: once the cause is fixed, run `greeter install --restart-if-needed --retry 5.1.1`, \
         then `dpkg --configure greeter`",
    );
    assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter").as_str()), ("5.1.0", "iF  5.1.1"));
    apt(&greeter, "install greeter=5.1.2").ok();
    load.lost_none("the greeter's package, to a release that cannot start, and to one that can");
    in_step(&greeter, "5.1.2");
    assert_eq!(greeter.ok("greeter versions | sed -n 2p"), "* 5.1.2\tpermanent");
    greeter.ok("greeter verify");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn package_is_removed_and_purged() {
    let greeter = host(Init::Systemd, &[release("5.0.0"), release("5.0.1")]);
    apt(&greeter, "install tenure").ok();
    let before = left(&greeter);
    apt(&greeter, "install greeter=5.0.0").ok();
    greeter.answers("5.0.0");
    greeter.ok("echo mine >/srv/greeter/shared/data/mine");
    // A trial with a guard does not prevent the removal.
    unpack_by_hand(&greeter, "5.0.1");
    greeter.ok("greeter upgrade --confirm-within 1h 5.0.1");
    apt(&greeter, "remove greeter").ok();
    greeter.until("the guards have left", || greeter.guards().is_empty());
    assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter").as_str()), ("", "rc  5.0.0"));
    assert_eq!(
        greeter.ok("ls -A /srv/greeter /srv/greeter/shared/data"),
        "/srv/greeter:\n.tenure\nshared\ntenure.toml\n\n/srv/greeter/shared/data:\nmine"
    );
    greeter.restart();
    assert!(!greeter.ok("systemctl --failed --no-legend --plain").contains("greeter"));
    apt(&greeter, "install greeter=5.0.1").ok();
    greeter.answers("5.0.1");
    in_step(&greeter, "5.0.1");
    assert_eq!(greeter.ok("cat /srv/greeter/current/data/mine"), "mine");
    apt(&greeter, "purge greeter").ok();
    assert_eq!(
        (greeter.answer().as_str(), dpkg(&greeter, "greeter").as_str(), left(&greeter)),
        ("", "", before)
    );
}

/// Publishes a package of 5.0.0 whose scripts delete the links and the releases.
fn careless(greeter: &Installed) {
    let (dir, file) = package("deb", &release("5.0.0"));
    let tree = dir.path().join("tree");
    ran(Command::new("dpkg-deb").arg("-R").args([&file, &tree]));
    // Each script can pause in the middle and at its end, if the test asks for it.
    let script = |name: &str, acts: [&str; 2]| {
        let pause = |at: &str| format!("[ ! -e /run/{at} ] || {{ touch /run/reached; sleep 60; }}");
        let (middle, end) = (pause(&format!("{name}-middle")), pause(&format!("{name}-end")));
        let text = format!("#!/bin/sh\n{}\n{middle}\n{}\n{end}\nexit 0\n", acts[0], acts[1]);
        fs::write(tree.join("DEBIAN").join(name), text).unwrap();
    };
    script("prerm", ["rm -f /srv/greeter/permanent", "rm -f /srv/greeter/current"]);
    let half = "rm -rf /srv/greeter/.tenure/history /srv/greeter/releases/*/bin /srv/greeter/shared/data";
    script("postrm", [half, "rm -rf /srv/greeter"]);
    ran(Command::new("dpkg-deb").arg("-b").args([&tree, &file]));
    offer(greeter, &file);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn links_and_releases_survive_old_package_scripts() {
    let greeter = host(Init::Systemd, &[release("5.0.1"), release("5.0.2")]);
    careless(&greeter);
    first(&greeter);
    greeter.ok("echo mine >/srv/greeter/shared/data/mine");
    let begun = pid(&greeter);
    let load = greeter.load(URL);
    apt(&greeter, "install greeter=5.0.1").ok();
    load.lost_none("the greeter's package, over one whose scripts delete links and releases");
    in_step(&greeter, "5.0.1");
    assert_eq!(pid(&greeter), begun);
    assert_eq!(greeter.states(), ["5.0.1 permanent", "5.0.0 old"]);
    greeter.ok("greeter verify && greeter status && greeter downgrade 5.0.0 && greeter upgrade 5.0.1");
    assert_eq!(greeter.ok("cat /srv/greeter/current/data/mine; ls -A /srv | grep kept; true"), "mine");
    apt(&greeter, "install greeter=5.0.2").ok();
    in_step(&greeter, "5.0.2");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn power_cut_in_old_package_scripts_keeps_release() {
    let mut greeter = host(Init::Systemd, &[release("5.0.1")]);
    careless(&greeter);
    first(&greeter);
    greeter.ok("echo mine >/srv/greeter/shared/data/mine");
    for stop in ["prerm-middle", "prerm-end", "postrm-middle", "postrm-end"] {
        greeter.ok(&format!("touch /run/{stop}; systemd-run -q --collect apt-get -qy install greeter=5.0.1"));
        greeter.until(&format!("{stop} is reached"), || greeter.has("/run/reached"));
        greeter.cut_power();
        greeter.boot();
        greeter.answers("5.0.0");
        println!("power cut in the older package's {stop}: dpkg has {}", dpkg(&greeter, "greeter"));
        assert_eq!(greeter.ok("cat /srv/greeter/current/data/mine"), "mine");
        goes_on(&greeter);
    }
}

#[test]
#[ignore = "needs root and a host of its own"]
fn killed_dpkg_continues() {
    let greeter = serving(Init::Systemd, &[release("5.0.0"), release("5.0.1")]);
    // A load that leaves the host its processors: dozens of runs of apt follow.
    let clients = Clients::start(&greeter.host, answers_version);
    let mut stages = BTreeMap::new();
    for after in (1..60).map(|at| at * 40) {
        if apt_is_killed(&greeter, "5.0.1", after) {
            break;
        }
        *stages.entry(dpkg(&greeter, "greeter")).or_insert(0) += 1;
        goes_on(&greeter);
    }
    let seen = clients.stop();
    println!("the greeter's package, its upgrades killed: {} requests, {} lost", seen.asked, seen.lost);
    assert!(seen.asked > 1000 && seen.lost == 0, "{seen:#?}");
    println!("apt was killed, and dpkg then had: {stages:?}");
    assert!(stages.len() > 2, "{stages:?}");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn sysvinit_package_upgrades() {
    let greeter = serving(Init::Sysv, &[release("5.0.0"), release("5.0.1"), release("5.1.0")]);
    greeter.ok("grep -q 'manager = \"sysv\"' /etc/greeter/tenure.toml");
    let load = greeter.load(URL);
    for version in ["5.0.1", "5.0.0"] {
        apt(&greeter, &format!("install greeter={version}")).ok();
        in_step(&greeter, version);
    }
    load.lost_none("the greeter's package under sysvinit, up and down");
    apt(&greeter, "install greeter=5.1.0").ok();
    in_step(&greeter, "5.1.0");
    greeter.restart();
    greeter.answers("5.1.0");
    apt(&greeter, "purge greeter").ok();
    assert_eq!((greeter.answer().as_str(), greeter.has("/srv/greeter")), ("", false));
}

#[test]
#[ignore = "needs root and a host of its own"]
fn package_respects_operator_changes() {
    let releases = [release("5.0.0"), release("5.0.1"), release("5.0.2"), release("5.0.3")];
    let greeter = serving(Init::Systemd, &releases);
    unpack_by_hand(&greeter, "5.0.2");
    // Only an operator ends a trial, independent of dpkg.
    greeter.ok("greeter upgrade --no-permanent 5.0.2");
    let run = apt(&greeter, "install greeter=5.0.1").code(100);
    run.stdout_has("greeter: 5.0.2 is on trial").stdout_has("hint: `greeter confirm` makes it permanent");
    assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter").as_str()), ("5.0.2", "ii  5.0.0"));
    let run = greeter.sh("greeter confirm").ok();
    run.stderr_has("note: 5.0.2 is permanent, and the package greeter brought 5.0.0");
    let run = apt(&greeter, "install greeter=5.0.1").code(100);
    run.stdout_has("greeter: 5.0.2 is permanent, which is higher than 5.0.1: an upgrade does not go down");
    assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter").as_str()), ("5.0.2", "ii  5.0.0"));
    // The package of the running release, a higher one, and a downgrade.
    for version in ["5.0.2", "5.0.3", "5.0.0"] {
        apt(&greeter, &format!("install greeter={version}")).ok();
        in_step(&greeter, version);
    }
    // A stopped service stays stopped.
    greeter.ok("systemctl stop greeter");
    apt(&greeter, "install greeter=5.0.1").ok();
    assert_eq!(greeter.answer(), "");
    greeter.ok("systemctl start greeter");
    greeter.answers("5.0.1");
    in_step(&greeter, "5.0.1");
    // Another process holds the lock; the package waits for it.
    greeter.ok("flock /srv/greeter/.tenure/lock sleep 3 >/dev/null 2>&1 & sleep 0.2");
    apt(&greeter, "install greeter=5.0.3").ok();
    in_step(&greeter, "5.0.3");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn masked_service_does_not_fail_package() {
    let greeter = serving(Init::Systemd, &[release("5.0.0"), release("5.0.1"), release("5.0.2")]);
    greeter.ok("systemctl mask --now greeter");
    apt(&greeter, "install greeter=5.0.1").ok();
    assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter").as_str()), ("", "ii  5.0.1"));
    greeter.ok("systemctl unmask greeter && systemctl start greeter");
    greeter.answers("5.0.1");
    // systemd cannot move a masked service that still runs.
    greeter.ok("systemctl mask greeter");
    let run = apt(&greeter, "install greeter=5.0.2").code(100);
    run.stdout_has("hint: run `systemctl unmask greeter.service` first");
    greeter.answers("5.0.1");
    greeter.ok("systemctl unmask greeter && dpkg --configure -a");
    in_step(&greeter, "5.0.2");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn failed_unpack_leaves_package_recoverable() {
    let greeter = serving(Init::Systemd, &[release("5.0.0"), release("5.0.1")]);
    greeter.ok("cp /etc/greeter/tenure.toml /tmp && printf '[space]\\nreserve = \"900 TB\"\\n' >>/etc/greeter/tenure.toml");
    let run = apt(&greeter, "install greeter=5.0.1").code(100);
    run.stdout_has("error: not enough space for 5.0.1")
        .stdout_has("hint: run `greeter prune` to remove releases")
        .stdout_has("greeter: 5.0.1 is not installed, and 5.0.0 stays permanent")
        .stdout_has("hint: once the cause is fixed, run `dpkg --configure greeter`");
    assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter").as_str()), ("5.0.0", "iF  5.0.1"));
    greeter.ok("cp /tmp/tenure.toml /etc/greeter/ && dpkg --configure greeter");
    in_step(&greeter, "5.0.1");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn package_installs_without_init() {
    let greeter = host(Init::Systemd, &[release("5.0.0"), release("5.0.1")]);
    // This is the state of an image under construction, which may have no init yet.
    greeter.ok("mv /sbin/init /sbin/init.away");
    for version in ["5.0.0", "5.0.1"] {
        greeter.ok(&format!(
            "unshare -m sh -c 'mount -t tmpfs none /run && apt-get -qy install greeter={version}' 2>&1"
        ));
        assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter")), ("", format!("ii  {version}")));
    }
    let manager = "grep -q 'manager = \"systemd\"' /srv/greeter/tenure.toml";
    greeter.ok(manager);
    // A settings file that a power cut left empty, and a removed settings file.
    for lost in [": >/etc/greeter/tenure.toml", "rm /srv/greeter/tenure.toml"] {
        greeter.ok(&format!("{lost}; apt-get -qy install --reinstall greeter=5.0.1 2>&1 && {manager}"));
    }
    greeter.ok("mv /sbin/init.away /sbin/init");
    greeter.restart();
    greeter.answers("5.0.1");
    in_step(&greeter, "5.0.1");
    greeter.ok("greeter status && systemctl is-enabled greeter");
}

#[test]
#[ignore = "needs lintian, shellcheck and mandoc"]
fn packages_pass_linters() {
    let (dir, product) = package("deb", &release("5.0.0"));
    for file in [&product, tenure("deb")] {
        let strict = ["--no-cfg", "--allow-root", "--pedantic", "--fail-on", "error,warning"];
        println!("{}", ran(Command::new("lintian").args(strict).arg(file)).stdout);
    }
    let tree = dir.path().join("tree");
    ran(Command::new("dpkg-deb").arg("-R").args([&product, &tree]));
    let by_dpkg = ["preinst", "postinst", "prerm", "postrm"].map(|name| tree.join("DEBIAN").join(name));
    let others =
        ["usr/bin/greeter", "usr/lib/greeter/boot", "etc/init.d/greeter"].map(|name| tree.join(name));
    ran(Command::new("shellcheck").args(by_dpkg).args(others));
    let page = tree.join("usr/share/man/man1/greeter.1.gz");
    ran(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page));
    let unit = tree.join("usr/lib/systemd/system/greeter.service");
    let strict = ["security", "--offline=true", "--threshold=20"];
    println!("{}", ran(Command::new("systemd-analyze").args(strict).arg(unit)).stdout);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn data_migration_blocks_package_changes() {
    let migrates = "#!/bin/sh\nid -un >/run/mine/user\nwhile [ -e /run/hold ]; do sleep 0.05; done\n[ ! -e /run/fail ]\n";
    let migrating = Greeter {
        manifest: "[data]\nwrites = 2\nreads = [1, 2]\n[hooks]\nmigrate = ['bin/hot']\n",
        hot: migrates,
        ..release("5.0.1")
    };
    let old = Greeter { manifest: "[data]\nwrites = 1\n", ..release("5.0.0") };
    let next = Greeter { manifest: "[data]\nwrites = 2\n", ..release("5.0.2") };
    let greeter = serving(Init::Systemd, &[old, migrating, next]);
    greeter.ok("touch /run/hold /run/fail; install -d -o greeter /run/mine");
    apt(&greeter, "install greeter=5.0.1").ok();
    in_step(&greeter, "5.0.1");
    for words in ["install greeter=5.0.2", "install greeter=5.0.0", "remove greeter"] {
        let run = apt(&greeter, words).code(100);
        run.stdout_has("greeter: a data migration is running")
            .stdout_has("run `greeter migrate` to wait for its end");
        in_step(&greeter, "5.0.1");
    }
    greeter.ok("rm /run/hold");
    assert_eq!(greeter.ok("cat /run/mine/user"), "greeter");
    greeter.until("it has failed", || greeter.sh("greeter status").code == Some(1));
    apt(&greeter, "install greeter=5.0.2").code(100).stdout_has("greeter: a data migration has failed");
    greeter.ok("rm /run/fail; greeter migrate");
    apt(&greeter, "install greeter=5.0.2").ok();
    in_step(&greeter, "5.0.2");
    // Tenure refuses a release that cannot read the data, and dpkg does not report it as installed.
    apt(&greeter, "install greeter=5.0.0").code(100).stdout_has("release 5.0.0 cannot start on the data");
    assert_eq!((greeter.answer().as_str(), dpkg(&greeter, "greeter")), ("5.0.2", "iF  5.0.0".to_owned()));
    apt(&greeter, "install greeter=5.0.2").ok();
    in_step(&greeter, "5.0.2");
}
