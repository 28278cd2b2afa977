//! Releases on a larger disk, behind a symlink or as a mount, and on overlayfs, where a directory of a lower layer
//! cannot be moved. All commands work, and a killed command completes on a rerun.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::disk::Disk;
use crate::support::serving::{Greeter, Serving};
use crate::support::stepper::{self, Ended};
use crate::support::{Host, copy_tree};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Moves the releases of a host to another directory and links to it. Returns that directory.
fn linked(host: &Host) -> PathBuf {
    let bigger = host.root().parent().unwrap().join("bigger");
    fs::rename(host.root().join("releases"), &bigger).unwrap();
    symlink(&bigger, host.root().join("releases")).unwrap();
    bigger
}

/// Returns a host whose releases are mounted from another directory. The mount ends with the disk.
fn mounted(on: &Disk, from: &Path) -> Host {
    let host = Host::on(&on.place);
    mount(Some(from), &host.root().join("releases"), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    host
}

fn empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| entries.count() == 0)
}

/// Asserts that a command has left nothing in either place.
fn is_swept(host: &Host, at: &str) {
    for dir in [".tenure/staging", ".tenure/trash", "releases/.tenure/staging", "releases/.tenure/trash"] {
        assert!(empty(&host.root().join(dir)), "{at}: {dir} is not empty");
    }
}

/// Runs every command that adds, moves or removes a release.
fn a_whole_life(host: &Host) {
    host.archives(&["5.0.0", "5.0.1", "5.0.2", "5.0.3"]);
    host.run(["init", "--name", "emqx"]).ok();
    host.run(["install", "5.0.0"]).ok();
    host.run(["check", "5.0.1"]).ok().stdout_has("/.tenure/staging");
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["upgrade", "--no-permanent", "5.0.2"]).ok();
    assert_eq!(host.link("current").as_deref(), Some("releases/5.0.2"));
    host.run(["boot"]).ok().stdout("Ended the trial of 5.0.2; the service starts with 5.0.1\n").stderr("");
    host.run(["downgrade", "5.0.0"]).ok();
    host.run(["uninstall", "5.0.2"]).ok().stderr("");
    host.run(["unpack", "5.0.2"]).ok();
    host.build("5.0.2").file("lib/new", "rebuilt").write();
    host.run(["unpack", "--replace", "5.0.2"]).ok().stderr("");
    host.run(["verify"]).ok();
    host.run(["unpack", "5.0.3"]).ok();
    host.complete("5.0.3");
    host.run(["install", "5.0.3"]).ok();
    let run = host.run(["prune", "--keep", "0"]).ok();
    run.stderr("");
    assert_eq!(host.states(), ["5.0.3 permanent", "5.0.0 old"]);
    assert!(!host.root().join("releases/emqx-5.0.2.zip").exists());
    host.run(["status"]).ok();
    host.complete("5.0.0");
    is_swept(host, "in the end");
}

/// Kills a command before every `each`th of its mutating system calls. Asserts that after the next start every listed
/// release is complete, and that a rerun of the command is not an error.
fn killed_everywhere(make: impl Fn() -> Host, args: &[&str], each: usize) {
    let mut points = 0;
    loop {
        let host = make();
        let ended = stepper::kill_before(&host.command(args), points + 1);
        let at = format!("{args:?} before call {}, {ended:?}", points + 1);
        let run = host.run(["boot"]);
        assert_eq!(run.code, Some(0), "{at}: {run:#?}");
        host.run(["boot"]).ok().stderr("");
        host.all_complete();
        let run = host.run(args);
        assert!(matches!(run.code, Some(0 | 2)), "{at}, once more: {run:#?}");
        host.all_complete();
        // Other commands delete only for a short time; this one deletes all leftovers.
        host.run(["prune", "--keep", "9"]).ok();
        for dir in [".tenure/staging", ".tenure/trash", "releases/.tenure/staging", "releases/.tenure/trash"]
        {
            let dir = host.root().join(dir);
            assert!(empty(&dir) || !dir.exists(), "{at}: {} is not empty", dir.display());
        }
        if matches!(ended, Ended::Exited { .. }) {
            break;
        }
        points += each;
    }
    println!("{args:?}: {points} kill points, 0 wrong outcomes");
    assert!(points > 10, "{args:?}: only {points} points");
}

/// Returns a host with 5.0.1 permanent, 5.0.0 old and an archive of 5.0.2.
fn three(host: Host) -> Host {
    host.archives(&["5.0.0", "5.0.1", "5.0.2"]);
    host.run(["install", "5.0.0"]).ok();
    host.run(["install", "5.0.1"]).ok();
    host
}

const COMMANDS: [&[&str]; 4] =
    [&["upgrade", "5.0.2"], &["uninstall", "5.0.0"], &["prune", "--keep", "0"], &["downgrade", "5.0.0"]];

#[test]
fn linked_releases_support_every_command() {
    let host = Host::new();
    let bigger = linked(&host);
    a_whole_life(&host);
    let listed = host.run(["versions", "--json"]).ok().json();
    assert_eq!(listed["releases"][0]["path"], bigger.join("5.0.3").to_str().unwrap());
    // A running process is detected by its resolved path.
    let host = three(host_behind_a_link());
    let mut sleeps = std::process::Command::new("sleep");
    let mut sleeps = sleeps.arg("60").current_dir(host.root().join("releases/5.0.0")).spawn().unwrap();
    host.run(["uninstall", "5.0.0"]).code(2).stderr_has("in use by sleep");
    sleeps.kill().unwrap();
    sleeps.wait().unwrap();
}

fn host_behind_a_link() -> Host {
    let host = Host::new();
    linked(&host);
    host
}

#[test]
fn killed_command_completes_with_linked_releases() {
    for args in COMMANDS {
        killed_everywhere(|| three(host_behind_a_link()), args, 7);
    }
}

#[test]
fn service_moves_with_linked_releases() {
    let serving = Serving::start("");
    linked(&serving.host);
    serving.pack(&Greeter::well("5.0.1"));
    // The service started before the releases moved, and now runs from their new place.
    serving.host.run(["upgrade", "5.0.1"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
    serving.host.run(["status"]).ok().stdout_has("the service runs 5.0.1, healthy");
    serving.host.run(["downgrade", "5.0.0"]).ok();
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
}

#[test]
fn shared_directories_stay_in_root_with_link() {
    let host = host_behind_a_link();
    let settings = "name = 'emqx'\n[space]\nreserve = '0 B'\n[shared]\ndirectories = ['etc']\n";
    fs::write(host.root().join("tenure.toml"), settings).unwrap();
    for version in ["5.0.0", "5.0.1"] {
        let manifest = format!("name = 'emqx'\nversion = '{version}'\n[hooks]\ncheck = ['bin/check']\n");
        let check = "#!/bin/sh\ncat \"$TENURE_NEW_DIR/etc/emqx.conf\" || echo none\n";
        let build = host.build(version).file("release.toml", &manifest).file("etc/emqx.conf", version);
        build.executable("bin/check", check).write();
    }
    host.run(["install", "5.0.0"]).ok();
    assert_eq!(fs::read_to_string(host.root().join("shared/etc/emqx.conf")).unwrap(), "5.0.0");
    // This also holds for a check that runs before the release is published.
    host.run(["check", "5.0.1"]).ok().stdout_has("5.0.0");
    host.run(["upgrade", "5.0.1"]).ok();
    assert_eq!(fs::read_to_string(host.root().join("current/etc/emqx.conf")).unwrap(), "5.0.0");
    host.run(["verify"]).ok();
}

#[test]
fn link_to_missing_disk_is_reported() {
    let host = Host::new();
    let bigger = linked(&host);
    fs::rename(&bigger, bigger.with_extension("away")).unwrap();
    let root = host.root().to_str().unwrap();
    let error = format!(
        "error: cannot use {root}: its link releases points to {}, which does not exist\n",
        bigger.display()
    );
    let hint = "hint: mount the disk that holds it, or correct the link\n";
    host.run(["versions", "--root", root]).code(2).stderr(&format!("{error}{hint}"));
    host.run(["boot", "--root", root]).code(2).stderr(&format!("{error}{hint}"));
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn link_of_another_user_is_not_followed() {
    let host = Host::new();
    let bigger = linked(&host);
    std::os::unix::fs::lchown(host.root().join("releases"), Some(65534), Some(65534)).unwrap();
    host.run(["versions"]).code(2).stderr_has("error: cannot use the link ").stderr_has("chown");
    std::os::unix::fs::lchown(host.root().join("releases"), Some(0), Some(0)).unwrap();
    host.run(["versions"]).ok();
    std::os::unix::fs::chown(&bigger, Some(65534), None).unwrap();
    host.run(["versions"]).code(2).stderr_has("which belongs to nobody: the root belongs to root");
    // The owner of a root must not make Tenure write to directories of root.
    std::os::unix::fs::chown(&bigger, Some(0), None).unwrap();
    std::os::unix::fs::chown(host.root(), Some(65534), None).unwrap();
    std::os::unix::fs::lchown(host.root().join("releases"), Some(65534), None).unwrap();
    let versions = ["--root", host.root().to_str().unwrap(), "versions"];
    host.run(versions).code(2).stderr_has("which belongs to root: the root belongs to nobody");
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn separate_disk_supports_every_command() {
    let small = Disk::tmpfs("size=32m");
    for disk in [Disk::ext4(32 << 20, "4096"), Disk::tmpfs("size=32m")] {
        let host = mounted(&small, &disk.place);
        assert_ne!(
            fs::metadata(host.root()).unwrap().dev(),
            fs::metadata(host.root().join("releases")).unwrap().dev()
        );
        a_whole_life(&host);
        let host = Host::new();
        fs::remove_dir(host.root().join("releases")).unwrap();
        fs::create_dir(disk.place.join("emqx")).unwrap();
        symlink(disk.place.join("emqx"), host.root().join("releases")).unwrap();
        a_whole_life(&host);
    }
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn bind_mount_supports_every_command() {
    let disk = Disk::tmpfs("size=32m");
    let other = disk.place.join("other");
    fs::create_dir(&other).unwrap();
    let host = mounted(&disk, &other);
    assert_eq!(
        fs::metadata(host.root()).unwrap().dev(),
        fs::metadata(host.root().join("releases")).unwrap().dev()
    );
    a_whole_life(&host);
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn killed_command_completes_on_separate_disk() {
    let (small, disk) = (Disk::tmpfs("size=256m"), Disk::tmpfs("size=256m"));
    for args in COMMANDS {
        let make = || {
            let dir = tempfile::tempdir_in(&disk.place).unwrap().keep();
            three(mounted(&small, &dir))
        };
        killed_everywhere(make, args, 1);
    }
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn shared_directories_stay_in_root_with_mount() {
    let (small, disk) = (Disk::tmpfs("size=32m"), Disk::tmpfs("size=32m"));
    let host = mounted(&small, &disk.place);
    let settings = "name = 'emqx'\n[space]\nreserve = '0 B'\n[shared]\ndirectories = ['etc', 'data']\n";
    fs::write(host.root().join("tenure.toml"), settings).unwrap();
    for version in ["5.0.0", "5.0.1"] {
        host.build(version).file("etc/deep/emqx.conf", version).write();
    }
    host.run(["install", "5.0.0"]).ok();
    host.run(["upgrade", "5.0.1"]).ok();
    assert_eq!(fs::read_to_string(host.root().join("shared/etc/deep/emqx.conf")).unwrap(), "5.0.0");
    assert_eq!(fs::read_to_string(host.root().join("current/etc/deep/emqx.conf")).unwrap(), "5.0.0");
    assert_eq!(fs::read_link(host.root().join("current/data")).unwrap(), Path::new("../../shared/data"));
    host.run(["verify"]).ok();
    is_swept(&host, "shared");
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn mounted_release_is_refused_before_change() {
    let disk = Disk::tmpfs("size=8m");
    let host = three(Host::new());
    let release = host.root().join("releases/5.0.0");
    mount(Some(&disk.place), &release, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let error = format!("error: cannot uninstall 5.0.0: {} is a mount point\n", release.display());
    let hint = format!("hint: unmount it first: `umount {}`\n", release.display());
    host.run(["uninstall", "5.0.0"]).code(2).stderr(&format!("{error}{hint}"));
    host.run(["prune", "--keep", "0"]).ok();
    umount2(&release, MntFlags::MNT_DETACH).unwrap();
    host.run(["uninstall", "5.0.0"]).ok();
    let ro = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let releases = host.root().join("releases");
    mount(Some(&releases), &releases, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    mount(None::<&str>, &releases, None::<&str>, ro, None::<&str>).unwrap();
    let run = host.run(["check", "5.0.2"]).code(2);
    run.stdout_has(&format!("cannot unpack into {}: it is mounted read-only", releases.display()));
    umount2(&releases, MntFlags::MNT_DETACH).unwrap();
}

/// Returns a host on overlayfs whose releases are all in the lower layer, as in a container image.
fn overlaid(disk: &Disk, lower: &Path) -> Host {
    let dir = tempfile::tempdir_in(&disk.place).unwrap().keep();
    for name in ["upper", "work", "root"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off",
        lower.display(),
        dir.join("upper").display(),
        dir.join("work").display()
    );
    let root = dir.join("root");
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
    Host::at(root)
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn overlayfs_removes_and_restores_lower_releases() {
    let disk = Disk::ext4(256 << 20, "65536");
    let image = three(Host::new());
    image.run(["unpack", "5.0.2"]).ok();
    let lower = disk.place.join("lower");
    copy_tree(image.root(), &lower);
    let host = overlaid(&disk, &lower);
    host.run(["uninstall", "5.0.2"]).ok().stderr("");
    host.run(["upgrade", "5.0.2"]).ok();
    host.run(["uninstall", "5.0.0"]).ok().stderr("");
    host.run(["prune", "--keep", "9"]).ok().stderr("");
    assert!(empty(&host.root().join(".tenure/trash")));
    host.run(["boot"]).ok().stderr("");
    let host = overlaid(&disk, &lower);
    host.build("5.0.2").file("lib/new", "rebuilt").write();
    host.run(["unpack", "--replace", "5.0.2"]).ok().stderr("");
    host.run(["prune", "--keep", "0"]).ok().stderr("");
    host.archive("5.0.2");
    for args in [&["uninstall", "5.0.2"][..], &["prune", "--keep", "0"]] {
        killed_everywhere(|| overlaid(&disk, &lower), args, 3);
    }
}
