//! Files that the running release contains too. Tenure shares them only if that is safe.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Host;
use crate::support::build::Build;
use crate::support::disk::{Disk, done};

const FORMATS: [&str; 3] = ["zip", "tar.gz", "tar"];
const LINKS: &str = "[space]\nreserve = '0 B'\nshare = 'hardlink'\n";
const IMMUTABLE: &str = "[files]\nimmutable = true\n";

/// A root in which 5.0.0 runs, and an archive of 5.0.1 with few differences.
struct Pair {
    host: Host,
    format: &'static str,
    manifests: [&'static str; 2],
}

impl Pair {
    fn new(host: Host, format: &'static str, settings: &str, manifests: [&'static str; 2]) -> Self {
        fs::write(host.root().join("tenure.toml"), format!("name = 'emqx'\n{settings}")).unwrap();
        let pair = Self { host, format, manifests };
        pair.build("5.0.0", manifests[0]).write();
        pair.host.run(["install", "5.0.0"]).ok();
        pair
    }

    fn build(&self, version: &str, more: &str) -> Build {
        // Random words, so that the compressed data is longer than one chunk.
        let word = |n: u32| format!("{:08x} ", n.wrapping_mul(2_654_435_761));
        let large: String = (0..100_000).map(word).collect();
        let build = self.host.build(version).format(self.format);
        let manifest = format!("name = \"emqx\"\nversion = \"{version}\"\n{more}");
        build
            .file("release.toml", &manifest)
            .file("lib/small", "the same in both")
            .file("lib/large", &large)
            .executable("bin/tool", "#!/bin/sh\n")
    }

    fn unpack(&self) {
        let build = self.build("5.0.1", self.manifests[1]);
        build.write();
        self.host.run(["unpack", "5.0.1"]).ok();
        let mut found = self.host.tree();
        found.retain(|path, _| path.starts_with("releases/5.0.1/"));
        let found = found.into_iter().map(|(path, node)| (path["releases/5.0.1/".len()..].to_owned(), node));
        assert_eq!(found.collect::<std::collections::BTreeMap<_, _>>(), build.tree());
        self.host.run(["verify", "5.0.1"]).ok();
    }

    fn file(&self, version: &str, path: &str) -> PathBuf {
        self.host.root().join("releases").join(version).join(path)
    }

    fn is_linked(&self, path: &str) -> bool {
        let [old, new] = ["5.0.0", "5.0.1"].map(|v| fs::symlink_metadata(self.file(v, path)).unwrap().ino());
        old == new
    }
}

#[test]
fn share_setting_makes_hard_links() {
    for format in FORMATS {
        let pair = Pair::new(Host::new(), format, LINKS, ["", ""]);
        pair.unpack();
        if !blocks_are_shared(pair.host.root()) {
            assert!(pair.is_linked("lib/small") && pair.is_linked("bin/tool"), "{format}");
            assert!(format != "zip" || pair.is_linked("lib/large"), "{format}");
        }
        assert!(!pair.is_linked("lib/version") && !pair.is_linked("release.toml"), "{format}");
        pair.host.run(["verify"]).ok();
        pair.host.run(["install", "5.0.1"]).ok();
        pair.host.run(["uninstall", "5.0.0"]).ok();
        pair.host.run(["verify"]).ok();
    }
}

#[test]
fn changed_file_is_not_shared() {
    for format in FORMATS {
        for path in ["lib/small", "lib/large"] {
            let pair = Pair::new(Host::new(), format, LINKS, ["", ""]);
            let file = File::options().write(true).open(pair.file("5.0.0", path)).unwrap();
            let before = file.metadata().unwrap();
            file.write_all_at(b"X", 3).unwrap();
            file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
            pair.unpack();
            assert!(!pair.is_linked(path), "{format} {path}");
        }
    }
}

#[test]
fn other_modes_and_links_are_not_shared() {
    for format in FORMATS {
        let pair = Pair::new(Host::new(), format, LINKS, ["", ""]);
        let [small, tool] = ["lib/small", "bin/tool"].map(|path| pair.file("5.0.0", path));
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o700)).unwrap();
        let outside = pair.host.root().join("outside");
        fs::rename(&small, &outside).unwrap();
        symlink(&outside, &small).unwrap();
        pair.unpack();
        assert!(!pair.is_linked("bin/tool"), "{format}");
        assert_eq!(fs::metadata(&outside).unwrap().nlink(), 1, "{format}");
    }
}

#[test]
fn immutable_releases_share_hard_links() {
    for (manifests, linked) in [
        ([IMMUTABLE, IMMUTABLE], true),
        ([IMMUTABLE, ""], false),
        (["", IMMUTABLE], false),
        (["", ""], false),
    ] {
        for format in FORMATS {
            let pair = Pair::new(Host::new(), format, "[space]\nreserve = '0 B'\n", manifests);
            pair.unpack();
            let linked = linked && !blocks_are_shared(pair.host.root());
            assert_eq!(pair.is_linked("lib/small"), linked, "{format} {manifests:?}");
        }
    }
}

#[test]
fn share_none_disables_sharing() {
    let pair = Pair::new(Host::new(), "zip", "[space]\nshare = 'none'\n", [IMMUTABLE, IMMUTABLE]);
    pair.unpack();
    assert!(!pair.is_linked("lib/small"));
}

/// Returns whether the file system can clone files, in which case hard links are not needed.
fn blocks_are_shared(place: &Path) -> bool {
    let [one, other] = ["one", "other"].map(|name| place.join(format!("clone-{name}")));
    fs::write(&one, "x").unwrap();
    let cp = Command::new("cp").arg("--reflink=always").args([&one, &other]).output().unwrap();
    [one, other].iter().for_each(|path| drop(fs::remove_file(path)));
    cp.status.success()
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn reflinks_share_blocks() {
    for fs_type in ["xfs", "btrfs"] {
        for format in FORMATS {
            let disk = Disk::formatted(fs_type, 512 << 20);
            let pair = Pair::new(Host::on(&disk.place), format, "[space]\nreserve = '0 B'\n", ["", ""]);
            for path in ["lib/small", "lib/large"] {
                assert!(!shares_blocks(&pair.file("5.0.0", path)), "{fs_type} {format} {path}");
            }
            pair.unpack();
            let large = pair.file("5.0.1", "lib/large");
            assert!(shares_blocks(&large), "{fs_type} {format}");
            assert!(!pair.is_linked("lib/large"));
            // A write to one of the files changes only this file.
            File::options().write(true).open(&large).unwrap().write_all_at(b"X", 3).unwrap();
            pair.host.run(["verify", "5.0.0"]).ok();
            pair.host.run(["verify", "5.0.1"]).code(1);
        }
    }
}

/// Returns whether the file shares blocks with another file.
fn shares_blocks(file: &Path) -> bool {
    done(Command::new("sync").arg("-f").arg(file));
    let out = Command::new("filefrag").arg("-v").arg(file).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap().contains("shared")
}
