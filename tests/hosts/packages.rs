//! Packages of the greeter, built from the template for vendors, in a repository on the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::installed::Installed;
use crate::support::Run;
use crate::support::booted::{Booted, Init};
use crate::support::serving::Greeter;

/// The vendor's changes to packaging/product/product.conf.
const CONF: &str = r#"
name=greeter
summary="server that greets & tells its version"
description="It answers every request for /version with the version that it is."
maintainer="Greeter <packages@greeter.example>"
homepage=https://greeter.example/
license="Apache-2.0"
root=/srv/greeter
user=greeter
shared="data log"
program=bin/greeter
arguments="8080 /run/greeter/address"
"#;

/// The path of the template in Tenure's package.
const EXAMPLE: &str = "usr/share/doc/tenure/examples/product";

/// Runs a command on this machine, which must succeed.
pub fn ran(command: &mut Command) -> Run {
    Run::of(command.output().unwrap(), command).ok()
}

/// Returns a release of the greeter as its vendor builds it: without a manifest, so that the service manager moves
/// it.
pub fn release(version: &str) -> Greeter<'_> {
    Greeter { manifest: "", ..Greeter::well(version) }
}

/// A copy of the template for vendors.
pub struct Product {
    unpacked: tempfile::TempDir,
}

impl Product {
    /// Copies the template from Tenure's package and passes the text of each changeable file through `change`.
    pub fn changed(change: impl Fn(&str, String) -> String) -> Self {
        let unpacked = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
        ran(Command::new("dpkg-deb").arg("-x").arg(tenure("deb")).arg(unpacked.path()));
        let product = Self { unpacked };
        for name in ["service", "tenure.toml", "rpm/spec"] {
            let file = product.dir().join(name);
            let text = fs::read_to_string(&file).unwrap();
            fs::write(file, change(name, text)).unwrap();
        }
        product
    }

    fn dir(&self) -> PathBuf {
        self.unpacked.path().join(EXAMPLE)
    }

    /// Builds a "deb", "rpm" or "tree" package of a release. Returns its path and its directory, which is removed on
    /// drop. `conf` is appended to the template's product.conf.
    pub fn build(&self, kind: &str, release: &Path, conf: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
        let out = dir.path().join("out");
        let given = fs::read_to_string(self.dir().join("product.conf")).unwrap();
        fs::write(dir.path().join("conf"), given + conf).unwrap();
        let tenure = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().unwrap();
        let mut build = Command::new(self.dir().join("build"));
        build.env("PATH", format!("{}:{}", tenure.display(), std::env::var("PATH").unwrap()));
        ran(build.arg(kind).args([release, &out]).arg(dir.path().join("conf")));
        let file = fs::read_dir(out).unwrap().next().unwrap().unwrap().path();
        (dir, file)
    }

    /// Builds a package of the greeter.
    fn of(&self, kind: &str, greeter: &Greeter<'_>) -> (tempfile::TempDir, PathBuf) {
        let release = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
        let archive = greeter.packed();
        tar::Archive::new(flate2::read::GzDecoder::new(archive.as_slice())).unpack(release.path()).unwrap();
        self.build(kind, release.path(), CONF)
    }
}

/// Builds a package of the greeter, as [`Product::build`] does.
pub fn package(kind: &str, greeter: &Greeter<'_>) -> (tempfile::TempDir, PathBuf) {
    Product::changed(|_, text| text).of(kind, greeter)
}

/// Returns an rpm of 5.0.0 whose scripts delete the links and the releases.
pub fn careless_rpm() -> (tempfile::TempDir, PathBuf) {
    let acts = "%preun\nrm -f /srv/greeter/current /srv/greeter/permanent\n%postun\nrm -rf /srv/greeter\n";
    let product = Product::changed(|file, text| match file {
        "rpm/spec" => text.split("%preun\n").next().unwrap().to_owned() + acts,
        _ => text,
    });
    product.of("rpm", &release("5.0.0"))
}

/// Puts the files of the greeter's package on a host without package installation, with this script in init.d.
pub fn put_files(host: &Booted, script: &str) {
    let (dir, _) = package("tree", &release("5.0.0"));
    for (from, to) in [(script, "etc/init.d/greeter"), ("usr/lib/greeter/boot", "usr/lib/greeter/boot")] {
        host.put(to, fs::read(dir.path().join("out").join(from)).unwrap(), 0o755);
    }
}

/// Returns Tenure's own package of this kind, which is built once.
pub fn tenure(kind: &'static str) -> &'static Path {
    static MADE: Mutex<BTreeMap<&str, &Path>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(kind).or_insert_with(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(kind);
        let _ = fs::remove_dir_all(&out);
        let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/tenure/build"));
        ran(build.arg(&out).arg(kind));
        let file = fs::read_dir(out).unwrap().next().unwrap().unwrap().path();
        Box::leak(file.into_boxed_path())
    })
}

/// Returns a running host whose only repository contains Tenure.
pub fn with_repository(init: Init) -> Booted {
    let mut host = Booted::without_tenure(init);
    host.boot();
    offer(&host, tenure("deb"));
    host
}

/// Puts the packages of these releases into the host's only repository.
pub fn publish(host: &Booted, releases: &[Greeter<'_>]) {
    for greeter in releases {
        let (_dir, file) = package("deb", greeter);
        offer(host, &file);
    }
}

/// Puts a package into the host's only repository.
pub fn offer(host: &Booted, file: &Path) {
    let name = file.file_name().unwrap().to_str().unwrap();
    host.put(&format!("/srv/repository/{name}"), fs::read(file).unwrap(), 0o644);
    host.put("/etc/apt/sources.list", "deb [trusted=yes] file:/srv/repository ./\n", 0o644);
    host.ok(
        "cd /srv/repository && for deb in *.deb; do dpkg-deb -f $deb | sed '/^ *$/d' && echo \"Filename: ./$deb\" &&
         echo \"Size: $(stat -c %s $deb)\" && echo \"SHA256: $(sha256sum $deb | cut -d' ' -f1)\" && echo; done >Packages &&
         apt-get update -q",
    );
}

/// Runs apt-get with these arguments.
pub fn apt(host: &Booted, words: &str) -> Run {
    host.sh(&format!("DEBIAN_FRONTEND=noninteractive apt-get -qy --allow-downgrades {words} 2>&1"))
}

/// Unpacks a release from its package with `greeter unpack`.
pub fn unpack_by_hand(greeter: &Installed, version: &str) {
    greeter.ok(&format!(
        "dpkg-deb -x /srv/repository/greeter_{version}_*.deb /tmp/x && greeter unpack /tmp/x/usr/lib/greeter/*.zst && rm -r /tmp/x"
    ));
}

/// Returns the state and version of a package according to dpkg.
pub fn dpkg(host: &Booted, name: &str) -> String {
    let asked = format!("dpkg-query -W -f='${{db:Status-Abbrev}} ${{Version}}' {name} 2>/dev/null");
    host.sh(&asked).stdout.trim().to_owned()
}

/// Installs a release with apt and kills all its processes after this number of milliseconds. Returns whether apt had
/// ended before the kill.
pub fn apt_is_killed(host: &Booted, version: &str, after: u64) -> bool {
    let killed = host.sh(&format!(
        "systemd-run -q --collect --unit=killed apt-get -qy --allow-downgrades install greeter={version}
         sleep {}.{:03}; echo 1 >/sys/fs/cgroup/system.slice/killed.service/cgroup.kill",
        after / 1000,
        after % 1000
    ));
    killed.code != Some(0)
}
