//! Archives by the names that vendors give them: in releases/, at any path, and with a stated version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Host, assert_run};

/// Returns a host that runs 5.0.0, and a directory beside its root.
fn host() -> (Host, PathBuf) {
    let host = Host::new();
    host.archive("5.0.0");
    host.run(["install", "5.0.0"]).ok();
    let downloads = host.root().parent().unwrap().join("downloads");
    fs::create_dir(&downloads).unwrap();
    (host, downloads)
}

/// Packs a release into a file of this name.
fn pack(host: &Host, version: &str, path: &Path) {
    let packed = host.build(version).format("tar.gz").write();
    fs::rename(packed, path).unwrap();
}

/// Packs a release without a manifest.
fn pack_without_manifest(path: &Path) {
    let made = Command::new("tar").arg("-czf").arg(path).args(["-C", "/etc", "passwd"]).status().unwrap();
    assert!(made.success());
}

#[test]
fn archives_in_releases_are_found_by_usual_names() {
    let (host, _) = host();
    let releases = host.root().join("releases");
    let named = [
        ("5.0.1", "emqx-5.0.1.linux-amd64-arm64.tar.gz"),
        ("5.0.2", "emqx-v5.0.2.TAR.GZ"),
        ("5.0.3", "emqx_5.0.3_linux.tgz"),
        ("5.0.4", "v5.0.4.tar.gz"),
        ("5.0.5", "5.0.5-el9.tar.gz"),
        ("5.0.5-110", "emqx-5.0.5-110-rhel8.tar.gz"),
        ("5.0.5.1", "emqx-5.0.5.1.tar.gz"),
        ("5.0.07", "emqx-5.0.07.tar.gz"),
    ];
    named.iter().for_each(|(version, name)| pack(&host, version, &releases.join(name)));
    for (version, _) in named {
        host.run(["upgrade", &format!("v{version}")]).ok();
        assert!(releases.join(version).is_dir(), "{version}");
    }
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.07\tpermanent
    * 5.0.5.1\told
    * 5.0.5-110\told
    * 5.0.5\told
    * 5.0.4\told
    * 5.0.3\told
    * 5.0.2\told
    * 5.0.1\told
    * 5.0.0\told
    ");
}

#[test]
fn archive_is_upgraded_to_by_path() {
    let (host, downloads) = host();
    let named = downloads.join("emqx-5.0.1.tar.gz");
    pack(&host, "5.0.1", &named);
    let named = named.to_str().unwrap();
    assert_run!(host.run(["upgrade", named]), @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack [DIR]/downloads/emqx-5.0.1.tar.gz
    Unpacked successfully: "5.0.1"
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    "#);
    let nameless = downloads.join("download.tar.gz");
    pack_without_manifest(&nameless);
    let nameless = nameless.to_str().unwrap();
    assert_run!(host.refused(["upgrade", nameless]), @"
    exit 2
    --- stderr
    error: cannot determine which release [DIR]/downloads/download.tar.gz contains: its name has no version, and it has no release.toml
    hint: use `--version VERSION` to state it
    hint: or name the file emqx-VERSION.zip, or with another ending of an archive
    ");
    assert_run!(host.refused(["upgrade", "--version", "5.0.3", named]), @"
    exit 2
    --- stderr
    error: [DIR]/downloads/emqx-5.0.1.tar.gz is an archive of 5.0.1, not of 5.0.3
    hint: remove `--version`, or rename the archive
    ");
    assert_run!(host.refused(["upgrade", "--multi-hop", "--version", "5.0.2", nameless]), @"
    exit 2
    --- stderr
    error: cannot upgrade over several hops with [DIR]/downloads/download.tar.gz
    hint: copy the archives of all hops into releases/, then name the version
    ");
    host.run(["upgrade", "--version", "5.0.2", nameless]).ok();
    assert_run!(host.run(["upgrade", "--version", "5.0.2", "5.0.1"]), @"
    exit 64
    --- stderr
    error: `--version` needs the path of an archive
    hint: name the archive instead of a version, for example ./service.zip
    ");
    let foreign = downloads.join("grafana-11.0.0.tar.gz");
    pack_without_manifest(&foreign);
    host.refused(["unpack", foreign.to_str().unwrap()]).stderr_has("its name does not begin with emqx");
}

#[test]
fn archive_for_another_platform_is_refused_by_name() {
    let (host, downloads) = host();
    for name in ["emqx-5.0.1.linux-s390x.tar.gz", "emqx-5.0.1.darwin-amd64.tar.gz"] {
        let path = downloads.join(name);
        pack(&host, "5.0.1", &path);
        host.refused(["upgrade", path.to_str().unwrap()]).stderr_has(&format!("{name} is for "));
        fs::copy(path, host.root().join("releases").join(name)).unwrap();
    }
    host.refused(["upgrade", "5.0.1"]).stderr_has(", and this host is Linux on ");
    // The archive for this host is taken, whatever lies beside it.
    host.archive("5.0.1");
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn release_of_the_same_precedence_is_suggested() {
    let (host, _) = host();
    host.archive("5.0.1");
    for (command, version) in [("upgrade", "5.0"), ("downgrade", "v5.0.00"), ("uninstall", "5")] {
        let run = host.refused([command, version]);
        assert!(run.stderr.contains("5.0.0"), "{}", run.stderr);
    }
}
