//! Products that vendors build: their files must match the release that they contain.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Builds a product around a release, with these replacements in product.conf. Returns the version in the result, or
/// `None` if the build fails, and the messages.
fn built(conf: &[(&str, &str)]) -> (Option<String>, String) {
    let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
    let release = dir.path().join("release");
    ["bin", "data"].iter().for_each(|dir| fs::create_dir_all(release.join(dir)).unwrap());
    fs::write(release.join("data/seed"), "").unwrap();
    fs::write(release.join("release.toml"), "name = 'acme'\nversion = '5.0.1'\n").unwrap();
    fs::write(release.join("bin/acme"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(release.join("bin/acme"), fs::Permissions::from_mode(0o755)).unwrap();
    let product = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/product");
    let text = fs::read_to_string(product.join("product.conf")).unwrap();
    let text = conf.iter().fold(text, |text, (from, to)| text.replace(from, to));
    fs::write(dir.path().join("conf"), text).unwrap();
    let tenure = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().unwrap();
    let path = format!("{}:{}", tenure.display(), std::env::var("PATH").unwrap());
    let mut build = Command::new(product.join("build"));
    build.args(["tree", "release", "out", "./conf"]).current_dir(&dir).env("PATH", path);
    let out = build.output().unwrap();
    let version = fs::read_to_string(dir.path().join("out/usr/lib/acme/version")).ok();
    (version.filter(|_| out.status.success()), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn product_must_match_its_release() {
    let (version, told) = built(&[]);
    assert_eq!(version.as_deref(), Some("5.0.1\n"), "{told}");
    for (conf, why) in [
        (("name=acme", "name=acm"), "acme-5.0.1.tar.zst is of another product than acm,"),
        (("name=acme", "name=acme+x"), "acme+x, which ./conf names, is not the name of a service"),
        (("program=bin/acme", "program=bin/acmed"), "release has no bin/acmed,"),
        (
            ("shared=\"etc data log\"", "shared=\"etc log\""),
            "data: contains a file, where services usually write",
        ),
    ] {
        let (version, told) = built(&[conf]);
        assert!(version.is_none() && told.contains(why), "{told}");
    }
}
