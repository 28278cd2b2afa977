//! Copies of an installed tree, and differences between a tree and its record.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use tenure::archive::{Copied, Target, copy};
use tenure::error::{Kind, Result};
use tenure::progress::NoProgress;
use tenure::tree::{Node, TreeEntry, compare, scan};

use super::bench::{Bench, listing};

fn installed(bench: &Bench) -> std::path::PathBuf {
    let from = bench.path().join("installed");
    fs::create_dir_all(from.join("bin")).unwrap();
    fs::create_dir(from.join("fixed")).unwrap();
    fs::write(from.join("bin/run"), "run").unwrap();
    fs::write(from.join("fixed/data"), "data").unwrap();
    fs::hard_link(from.join("bin/run"), from.join("copy")).unwrap();
    symlink("/etc/emqx", from.join("etc")).unwrap();
    symlink("../outside", from.join("outside")).unwrap();
    for (path, mode) in [("bin/run", 0o6775), ("bin", 0o1777), ("fixed", 0o555)] {
        fs::set_permissions(from.join(path), Permissions::from_mode(mode)).unwrap();
    }
    from
}

fn copied(bench: &Bench, from: &Path) -> Result<Copied> {
    let dir = File::open(bench.target()).unwrap();
    copy(from, &Target { dir: dir.as_fd(), owner: None, twins: None }, &mut NoProgress)
}

#[test]
fn copy_drops_sockets_and_special_modes() {
    let bench = Bench::new();
    let from = installed(&bench);
    nix::unistd::mkfifo(&from.join("bin/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(from.join("socket")).unwrap();
    let copied = copied(&bench, &from).unwrap();
    let tree: Vec<TreeEntry> = copied.tree().collect();
    let expected = [
        "bin/ 755",
        "bin/run 755 run",
        "copy 755 run",
        "etc -> /etc/emqx",
        "fixed/ 555",
        "fixed/data 644 data",
        "outside -> ../outside",
    ];
    assert_eq!(listing(&bench.target()), expected);
    assert_eq!(copied.skipped, [Path::new("bin/pipe"), Path::new("socket")]);
    assert_eq!(tree, scan(&bench.target()).unwrap());
    assert_eq!(fs::metadata(bench.target()).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn failed_copy_names_path() {
    let bench = Bench::new();
    let error = copied(&bench, bench.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.causes()[0].ends_with("contains the destination of the copy"), "{:?}", error.causes());
    let error = copied(&bench, &bench.path().join("absent")).unwrap_err();
    assert!(error.causes().concat().contains("absent"), "{error:?}");
}

#[test]
fn compare_finds_every_change() {
    let bench = Bench::new();
    let dir = installed(&bench);
    let before = scan(&dir).unwrap();
    let compared = || {
        let top = std::fs::File::open(&dir).unwrap().into();
        compare(before.iter().cloned().map(Ok), top, &dir, &mut |_| Ok(())).unwrap()
    };
    assert!(compared().is_empty());

    fs::write(dir.join("copy"), "ran").unwrap();
    fs::set_permissions(dir.join("fixed"), Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(dir.join("fixed/data")).unwrap();
    symlink("run", dir.join("fixed/data")).unwrap();
    fs::remove_file(dir.join("etc")).unwrap();
    fs::remove_file(dir.join("outside")).unwrap();
    symlink("elsewhere", dir.join("outside")).unwrap();
    nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"no-\xfftext")), "").unwrap();
    let (after, differences) = (scan(&dir).unwrap(), compared());
    assert_eq!(differences.changed, ["bin/run", "copy", "fixed", "fixed/data", "outside"]);
    assert_eq!(differences.added, ["no-\u{fffd}text", "pipe"]);
    assert_eq!(differences.removed, ["etc"]);
    assert_eq!(after.iter().find(|entry| entry.path == "pipe").unwrap().node, Node::Other);
}
