//! nginx from Debian; a new master takes over from the old one.

use std::fs;
use std::path::Path;

use crate::installed::Installed;
use crate::support::booted::{Booted, Init};

const SETTINGS: &str = r#"
name = "nginx"
[service]
manager = "systemd"
unit = "web.service"
[health]
http = "http://127.0.0.1/healthz"
interval = "50ms"
[timeouts]
hook = "20s"
"#;

const UNIT: &str = "\
[Service]
Type=forking
PIDFile=/srv/nginx/run/nginx.pid
ExecStartPre=/usr/bin/tenure --root /srv/nginx boot
ExecStart=/srv/nginx/current/sbin/nginx -p /srv/nginx/current/ -c conf/nginx.conf
KillMode=mixed
KillSignal=SIGQUIT
TimeoutStopSec=5
[Install]
WantedBy=multi-user.target
";

const MANIFEST: &str = r#"
[hooks]
hot-upgrade = ["hot"]
hot-downgrade = ["hot"]
"#;

const URL: &str = "http://127.0.0.1:80/";

/// Packs a release of nginx. Its binary is Debian's with another version text of the same length.
fn pack(nginx: &Booted, version: &str, server: &str) {
    let conf = format!(
        "pid /srv/nginx/run/nginx.pid; error_log /srv/nginx/run/error.log notice; worker_processes 2; user root;
events {{ worker_connections 2048; }}
http {{ access_log off; server {{ listen 127.0.0.1:80 backlog=4096; {server} location / {{ root html; }} }} }}\n"
    );
    let hot = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/nginx-hot")).unwrap();
    let at = format!("/tmp/nginx-{version}");
    nginx.put(&format!("{at}/conf/nginx.conf"), conf, 0o644);
    nginx.put(&format!("{at}/html/index.html"), format!("{version}\n"), 0o644);
    nginx.put(&format!("{at}/html/healthz"), "well\n", 0o644);
    nginx.put(&format!("{at}/hot"), hot, 0o755);
    let manifest = format!("name = \"nginx\"\nversion = \"{version}\"\n{MANIFEST}");
    nginx.put(&format!("{at}/release.toml"), manifest, 0o644);
    nginx.ok(&format!(
        "mkdir {at}/sbin && sed s/1.22.1/{version}/g /usr/sbin/nginx >{at}/sbin/nginx && chmod 755 {at}/sbin/nginx &&
        tar czf /srv/nginx/releases/nginx-{version}.tar.gz -C {at} ."
    ));
}

fn serving() -> Installed {
    let mut host = Booted::off(Init::Systemd);
    host.put("/srv/nginx/tenure.toml", SETTINGS, 0o644);
    host.put("/etc/systemd/system/web.service", UNIT, 0o644);
    host.put("/srv/nginx/releases/README", "archives\n", 0o644);
    host.put("/srv/nginx/run/README", "what changes\n", 0o644);
    host.boot();
    pack(&host, "1.22.1", "");
    let ask = "curl -sI -m5 http://127.0.0.1/ | tr -d '\\r' | sed -n 's,^Server: nginx/,,p'";
    let nginx = Installed { host, name: "nginx", ask };
    nginx.tenure("install 1.22.1");
    nginx.ok("systemctl enable -q --now web.service");
    nginx.answers("1.22.1");
    nginx
}

fn stays_active(nginx: &Installed, since: &str) {
    assert_eq!(nginx.ok("systemctl is-active web.service"), "active");
    assert_eq!(nginx.ok("systemctl show -P ActiveEnterTimestampMonotonic web.service"), since);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn nginx_moves_hot_and_survives_bad_releases() {
    let nginx = serving();
    let since = nginx.ok("systemctl show -P ActiveEnterTimestampMonotonic web.service");
    pack(&nginx, "1.22.2", "");
    let load = nginx.load(URL);
    for _ in 0..5 {
        for (command, version) in [("upgrade", "1.22.2"), ("downgrade", "1.22.1")] {
            nginx.tenure(&format!("{command} {version}"));
            assert_eq!(nginx.answer(), version);
        }
    }
    load.lost_none("nginx, 10 upgrades and downgrades");
    stays_active(&nginx, &since);

    pack(&nginx, "1.22.3", "no_such_directive on;");
    pack(&nginx, "1.22.4", "location = /healthz { if (-f /srv/nginx/run/sick) { return 503; } root html; }");
    let load = nginx.load(URL);
    nginx.sh("tenure --root /srv/nginx upgrade 1.22.3").code(3).stderr_has("no_such_directive");
    assert_eq!(nginx.states(), ["1.22.2 old", "1.22.1 permanent"]);
    load.lost_none("nginx, to a release that cannot start");

    pack(&nginx, "1.22.5", "");
    // This binary passes the config test, but it does not start a server.
    nginx.put("/tmp/nginx-1.22.5/sbin/nginx", "#!/bin/sh\n[ \"$1\" = -t ]\n", 0o755);
    nginx.ok("tar czf /srv/nginx/releases/nginx-1.22.5.tar.gz -C /tmp/nginx-1.22.5 .");
    let load = nginx.load(URL);
    let run = nginx.sh("tenure --root /srv/nginx upgrade 1.22.5").code(3);
    run.stderr_has("the new master has begun: not within 5 s");
    assert_eq!(
        (nginx.answer().as_str(), nginx.states()),
        ("1.22.1", vec!["1.22.2 old".into(), "1.22.1 permanent".into()])
    );
    load.lost_none("nginx, to a release whose hook fails");

    let load = nginx.load(URL);
    nginx.once_on_trial("touch /srv/nginx/run/sick");
    let run = nginx.sh("tenure --root /srv/nginx upgrade --watch 1h 1.22.4").code(3);
    run.stderr_has("caused by: 1.22.4 is unhealthy: http://127.0.0.1/healthz answers 503");
    assert_eq!(nginx.answer(), "1.22.1");
    load.lost_none("nginx, to a release that falls ill while it is watched");
    stays_active(&nginx, &since);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn killed_upgrade_and_hook_recover_unattended() {
    let nginx = serving();
    pack(&nginx, "1.22.2", "");
    let load = nginx.load(URL);
    for kill in 0..40 {
        let after = kill * 12;
        let tenure = format!("timeout -s KILL 0.{after:03} tenure --root /srv/nginx upgrade 1.22.2");
        nginx.ok(&format!("{tenure} >/dev/null 2>&1 || :"));
        nginx.until("it is over", || !nginx.is_busy());
        let permanent =
            nginx.states().into_iter().find_map(|s| s.strip_suffix(" permanent").map(str::to_owned));
        assert_eq!(Some(nginx.answer()), permanent, "killed after {after} ms");
        nginx.tenure("status");
        nginx.tenure("install 1.22.1");
    }
    load.lost_none("nginx, its upgrades killed 40 times");
}
