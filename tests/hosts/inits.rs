//! Hosts without systemd: sysvinit and OpenRC.

use crate::greeter::{URL, installed, pack};
use crate::installed::Installed;
use crate::packages::{put_files, release};
use crate::support::booted::{Booted, Init};
use crate::support::serving::Greeter;

fn serving(init: Init) -> Installed {
    let (manager, script, enable, ask_up) = match init {
        Init::OpenRc => (
            "openrc",
            "etc/init.d/greeter.openrc",
            "rc-update -q add greeter default",
            "rc-service greeter start",
        ),
        _ => ("sysv", "etc/init.d/greeter", "update-rc.d greeter defaults", "service greeter start"),
    };
    let mut host = Booted::off(init);
    let settings = format!(
        "name = \"greeter\"\n[service]\nmanager = \"{manager}\"\nunit = \"greeter\"\nhot = \"reload\"\n\
         pid-file = \"/run/greeter.pid\"\n[health]\nhttp = \"http://127.0.0.1:8080/healthz\"\ninterval = \"20ms\"\n"
    );
    host.put("/srv/greeter/tenure.toml", settings, 0o644);
    put_files(&host, script);
    for version in ["5.0.0", "5.0.1", "5.1.0"] {
        pack(&host, &release(version));
    }
    pack(&host, &Greeter { conf: "no such key = 1\n", ..release("5.2.0") });
    host.boot();
    let greeter = installed(host);
    greeter.ok("adduser --system --ingroup daemon --quiet --no-create-home --home /nonexistent greeter");
    greeter.tenure("install 5.0.0");
    greeter.ok(enable);
    greeter.ok(ask_up);
    greeter.answers("5.0.0");
    greeter
}

fn restart(greeter: &Installed, init: Init) {
    greeter.ok(if init == Init::OpenRc { "rc-service greeter restart" } else { "service greeter restart" });
}

fn upgrades_and_trials(init: Init) {
    let mut greeter = serving(init);
    let load = greeter.load(URL);
    for _ in 0..5 {
        for (command, version) in [("upgrade", "5.0.1"), ("downgrade", "5.0.0")] {
            greeter.tenure(&format!("{command} {version}"));
            assert_eq!(greeter.answer(), version);
        }
    }
    greeter.tenure("uninstall 5.0.1");
    load.lost_none(&format!("the greeter under {init:?}, 10 reloads"));

    greeter.sh("tenure --root /srv/greeter upgrade 5.1.0").code(2).stderr_has("hint: use `--restart`");
    greeter.tenure("upgrade --restart 5.1.0");
    assert_eq!(
        (greeter.answer().as_str(), greeter.states()),
        ("5.1.0", vec!["5.1.0 permanent".into(), "5.0.0 old".into()])
    );
    greeter.tenure("downgrade --restart 5.0.0");
    greeter.tenure("uninstall 5.1.0");
    let bad = "tenure --root /srv/greeter upgrade --restart --stop-timeout 2s 5.2.0";
    // The bad release may seem to run for a moment.
    greeter.sh(bad).code(3).stderr_has("5.2.0");
    greeter.answers("5.0.0");
    assert_eq!(greeter.states(), ["5.0.0 permanent"]);

    greeter.try_out("--confirm-within 2s", "5.0.1", "5.0.0");
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--no-permanent --restart", "5.0.1", "5.0.0");
    restart(&greeter, init);
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    greeter.restart();
    greeter.is_back("5.0.1", "5.0.0");
    greeter.try_out("--confirm-within 1h", "5.0.1", "5.0.0");
    greeter.cut_power();
    greeter.boot();
    greeter.is_back("5.0.1", "5.0.0");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn sysvinit_runs_upgrades_and_trials() {
    upgrades_and_trials(Init::Sysv);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn openrc_runs_upgrades_and_trials() {
    upgrades_and_trials(Init::OpenRc);
}
