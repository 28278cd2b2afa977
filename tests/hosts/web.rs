//! nginx from Debian, in packages from the template for vendors: a service of several processes with its own hook.

use std::fs;
use std::path::Path;

use crate::installed::Installed;
use crate::packages::{Product, apt, dpkg, offer, with_repository};
use crate::support::booted::{Booted, Init};

const URL: &str = "http://127.0.0.1:8080/";

/// The vendor's changes to packaging/product/product.conf.
const CONF: &str = r#"
name=web
summary="nginx under another name"
description="It serves what is in its releases."
maintainer="Web <packages@web.example>"
homepage=https://web.example/
license="BSD-2-Clause"
root=/srv/web
user=web
shared="data"
writable="data"
program=sbin/nginx
arguments="-p /srv/web/current/ -c conf/nginx.conf"
reload=HUP
"#;

/// The vendor's changes to the unit: the master daemonizes, and a new master may replace it.
const FORKING: &str =
    "Type=forking\nPIDFile=/run/web/nginx.pid\nKillMode=mixed\nKillSignal=SIGQUIT\nUser=@USER@\n";

const NGINX: &str = "\
pid /run/web/nginx.pid; error_log /run/web/error.log notice; worker_processes 2;
events { worker_connections 2048; }
http {
  access_log off;
  client_body_temp_path /run/web/1; proxy_temp_path /run/web/2; fastcgi_temp_path /run/web/3;
  uwsgi_temp_path /run/web/4; scgi_temp_path /run/web/5;
  server { listen 127.0.0.1:8080 backlog=4096; location / { root html; } }
}
";

/// Publishes a package with Debian's binary, in which another version text of the same length replaces the version.
fn release(host: &Booted, product: &Product, version: &str, conf: &str) {
    let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
    let put = |path: &str, contents: &[u8]| {
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, contents).unwrap();
        let mode = if path.starts_with("sbin/") || path == "hot" { 0o755 } else { 0o644 };
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    host.ok(&format!("sed s/1.22.1/{version}/g /usr/sbin/nginx >/tmp/nginx"));
    put("sbin/nginx", &fs::read(host.path("/tmp/nginx")).unwrap());
    put("conf/nginx.conf", conf.as_bytes());
    put("html/index.html", version.as_bytes());
    put("html/healthz", b"well\n");
    let hot =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/nginx-hot")).unwrap();
    put("hot", hot.replace("pidfile=$TENURE_ROOT/run/nginx.pid", "pidfile=/run/web/nginx.pid").as_bytes());
    let hooks = "[hooks]\nhot-upgrade = ['hot']\nhot-downgrade = ['hot']\n";
    put("release.toml", format!("name = 'web'\nversion = '{version}'\n{hooks}").as_bytes());
    let (_dir, file) = product.build("deb", dir.path(), CONF);
    offer(host, &file);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn nginx_package_moves_hot() {
    let product = Product::changed(|file, text| match file {
        "service" => text.replace("User=@USER@\n", FORKING),
        "tenure.toml" => text.replace("hot = \"reload\"\n", "").replace("user = \"@USER@\"\n", ""),
        _ => text,
    });
    let host = with_repository(Init::Systemd);
    for version in ["1.22.1", "1.22.2", "1.23.0"] {
        release(&host, &product, version, NGINX);
    }
    release(&host, &product, "1.23.1", &NGINX.replace("access_log", "no_such_directive"));
    let ask = "curl -sI -m5 http://127.0.0.1:8080/ | tr -d '\\r' | sed -n 's,^Server: nginx/,,p'";
    let web = Installed { host, name: "web", ask };
    apt(&web, "install web=1.22.1").ok();
    web.answers("1.22.1");
    let since = web.ok("systemctl show -P ActiveEnterTimestampMonotonic web");
    let load = web.load(URL);
    for version in ["1.22.2", "1.22.1", "1.22.2"] {
        apt(&web, &format!("install web={version}")).ok();
        assert_eq!((web.answer().as_str(), dpkg(&web, "web")), (version, format!("ii  {version}")));
    }
    load.lost_none("nginx's package, up, down and up");
    assert_eq!(web.ok("systemctl show -P ActiveEnterTimestampMonotonic web"), since, "it was never stopped");
    apt(&web, "install web=1.23.0").ok();
    assert_eq!((web.answer().as_str(), dpkg(&web, "web")), ("1.23.0", "ii  1.23.0".into()));
    let load = web.load(URL);
    apt(&web, "install web=1.23.1").code(100).stdout_has("no_such_directive");
    load.lost_none("nginx's package, to a release that cannot start");
    assert_eq!((web.answer().as_str(), dpkg(&web, "web")), ("1.23.0", "iF  1.23.1".into()));
    apt(&web, "purge web").ok();
    assert_eq!((web.answer(), web.has("/srv/web")), (String::new(), false));
}
