//! An Erlang/OTP release with a relup, which the hook for Erlang products moves.

use std::fs;
use std::path::Path;

use crate::installed::Installed;
use crate::support::booted::{Booted, Init};

const SETTINGS: &str = "\
name = \"counter\"
[service]
manager = \"systemd\"
unit = \"counter.service\"
";

const UNIT: &str = "\
[Service]
ExecStartPre=/usr/bin/tenure --root /srv/counter boot
ExecStart=/srv/counter/current/bin/hot start
Restart=on-failure
[Install]
WantedBy=multi-user.target
";

const URL: &str = "http://127.0.0.1:8080/";

fn serving() -> Installed {
    let mut host = Booted::off(Init::Systemd);
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (to, from, mode) in [
        ("/opt/otp/build", "fixtures/hosts/otp/build", 0o755),
        ("/opt/otp/counter.erl", "fixtures/hosts/otp/counter.erl", 0o644),
        ("/opt/otp/counter_app.erl", "fixtures/hosts/otp/counter_app.erl", 0o644),
        ("/opt/otp/hot", "packaging/erlang/hot", 0o755),
    ] {
        host.put(to, fs::read(source.join(from)).unwrap(), mode);
    }
    host.put("/srv/counter/tenure.toml", SETTINGS, 0o644);
    host.put("/srv/counter/releases/README", "archives\n", 0o644);
    host.put("/etc/systemd/system/counter.service", UNIT, 0o644);
    host.boot();
    host.ok("/opt/otp/build /opt/otp/hot /srv/counter/releases");
    let counter =
        Installed { host, name: "counter", ask: "curl -s -m5 http://127.0.0.1:8080/ | cut -d' ' -f1" };
    counter.tenure("install 1.0.0");
    counter.ok("systemctl enable -q --now counter.service");
    counter.answers("1.0.0");
    counter
}

/// Returns the number of requests that the node has answered.
fn count(counter: &Installed) -> u64 {
    counter.ok("curl -s -m5 http://127.0.0.1:8080/ | cut -d' ' -f2").parse().unwrap()
}

fn process(counter: &Installed) -> String {
    counter.ok("systemctl show -P MainPID counter.service")
}

#[test]
#[ignore = "needs root and a host of its own"]
fn relup_upgrade_keeps_state() {
    let mut counter = serving();
    let begun = process(&counter);
    let load = counter.load(URL);
    counter.until("it was asked often", || count(&counter) > 500);
    let before = count(&counter);
    counter.try_out("--no-permanent", "1.1.0", "1.0.0");
    counter.ok("tenure --root /srv/counter status | grep -q '^Service: the service runs 1.1.0, healthy'");
    assert!(count(&counter) > before, "it lost its count");
    counter.tenure("revert");
    counter.is_back("1.1.0", "1.0.0");
    counter.try_out("--confirm-within 20s", "1.1.0", "1.0.0");
    counter.is_back("1.1.0", "1.0.0");
    // The trial was not confirmed in time, which counts as a failure.
    for (command, version) in
        [("upgrade --retry", "1.1.0"), ("downgrade", "1.0.0"), ("upgrade", "1.1.0"), ("downgrade", "1.0.0")]
    {
        counter.tenure(&format!("{command} {version}"));
        assert_eq!(counter.answer(), version);
    }
    assert!(count(&counter) > before, "it lost its count");
    assert_eq!(process(&counter), begun, "it is another process");
    load.lost_none("an OTP node, up, back, up, back by its deadline, up, down, up, down");

    let load = counter.load(URL);
    counter.once_on_trial("touch /run/sick");
    let run = counter.sh("tenure --root /srv/counter upgrade --watch 1h 1.1.0").code(3);
    run.stderr_has("caused by: 1.1.0 is unhealthy: http://127.0.0.1:8080/ answers 503");
    assert_eq!((counter.answer(), process(&counter)), ("1.0.0".into(), begun.clone()));
    counter.ok("rm /run/sick");
    drop(load);

    counter.try_out("--no-permanent", "1.1.0", "1.0.0");
    counter.ok("systemctl restart counter.service");
    counter.answers("1.0.0");
    assert_eq!(counter.states(), ["1.1.0 old", "1.0.0 permanent"]);
    counter.tenure("upgrade --retry 1.1.0");
    // The emulator still runs from the release that started it.
    counter.sh("tenure --root /srv/counter uninstall 1.0.0").code(2).stderr_has("cannot uninstall 1.0.0");
    counter.cut_power();
    counter.boot();
    counter.answers("1.1.0");
    counter.ok("tenure --root /srv/counter status | grep -q '^Service: the service runs 1.1.0, healthy'");
    counter.tenure("uninstall 1.0.0");
}
