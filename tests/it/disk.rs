//! Full and read-only disks. Commands leave nothing behind, keep all releases, and succeed once there is space.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::support::disk::Disk;
use crate::support::stepper::{self, Ended};
use crate::support::{Host, Run, assert_same};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Returns a host with 5.0.0 permanent and an archive of 5.0.1.
fn host(disk: &Disk) -> Host {
    let host = Host::on(&disk.place);
    host.archives(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    host
}

/// Fills the disk except for `blocks` of 4 KiB.
fn leave_blocks(disk: &Disk, blocks: usize) {
    let mut ballast = File::create(disk.place.join("ballast")).unwrap();
    let mut written = 0;
    while ballast.write_all(&[1; 4096]).is_ok() {
        written += 4096;
    }
    ballast.set_len(written - written.min(4096 * blocks as u64)).unwrap();
    ballast.sync_all();
}

/// Uses all inodes except for `inodes`.
fn leave_inodes(disk: &Disk, inodes: usize) {
    let dir = disk.place.join("ballast");
    fs::create_dir(&dir).unwrap();
    let made = (0..).take_while(|n| File::create(dir.join(n.to_string())).is_ok()).count();
    (0..inodes.min(made)).for_each(|n| fs::remove_file(dir.join(n.to_string())).unwrap());
}

fn make_room(disk: &Disk) {
    let ballast = disk.place.join("ballast");
    if ballast.is_dir() { fs::remove_dir_all(ballast).unwrap() } else { fs::remove_file(ballast).unwrap() }
}

/// Asserts that the command succeeded, or that it failed or was refused without a change. Returns the exit code.
fn clean(host: &Host, run: &Run, before: &std::collections::BTreeMap<String, String>, at: &str) -> i32 {
    let code = run.code.unwrap();
    assert!(matches!(code, 0..=2), "{at}: {run:#?}");
    if code != 0 {
        assert!(run.stderr.starts_with("error: "), "{at}: {run:#?}");
        assert_same(&host.tree(), before, &format!("{at}: {run:#?}"));
    }
    code
}

/// Upgrades with more and more space until the release fits. Returns the number of runs for each exit code.
fn sweep(disk: &Disk, leave: fn(&Disk, usize), rooms: impl Iterator<Item = usize>) -> [usize; 3] {
    let host = host(disk);
    let before = host.tree();
    let mut codes = [0; 3];
    for room in rooms {
        leave(disk, room);
        let at = format!("with room for {room}");
        let code = clean(&host, &host.run(["upgrade", "5.0.1"]), &before, &at);
        codes[usize::try_from(code).unwrap()] += 1;
        host.states();
        make_room(disk);
        host.run(["upgrade", "5.0.1"]).ok();
        host.complete("5.0.0");
        host.complete("5.0.1");
        host.run(["downgrade", "5.0.0"]).ok();
        host.run(["uninstall", "5.0.1"]).ok();
        fs::remove_file(host.root().join(".tenure/receipts/5.0.0/tenured")).unwrap();
    }
    codes
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn upgrade_on_nearly_full_tmpfs() {
    let codes = sweep(&Disk::tmpfs("size=1m"), leave_blocks, 0..64);
    println!("tmpfs, blocks: {codes:?} ended with 0, 1, 2");
    // An upgrade that passes the space check fits; none fails halfway.
    assert!(codes[0] > 0 && codes[1] == 0 && codes[2] > 0, "{codes:?}");
    let codes = sweep(&Disk::tmpfs("size=4m,nr_inodes=120"), leave_inodes, 0..64);
    println!("tmpfs, inodes: {codes:?} ended with 0, 1, 2");
    assert!(codes[0] > 0 && codes[1] == 0 && codes[2] > 0, "{codes:?}");
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn upgrade_on_nearly_full_ext4() {
    let codes = sweep(&Disk::ext4(8 << 20, "256"), leave_blocks, (0..60).step_by(3));
    println!("ext4, blocks: {codes:?} ended with 0, 1, 2");
    assert!(codes[0] > 0 && codes[2] > 0, "{codes:?}");
    let codes = sweep(&Disk::ext4(8 << 20, "96"), leave_inodes, (0..40).step_by(2));
    println!("ext4, inodes: {codes:?} ended with 0, 1, 2");
    assert!(codes[0] > 0 && codes[2] > 0, "{codes:?}");
}

/// Fills the disk, as another process might, before each mutating system call of the command in turn.
fn filled_meanwhile(options: &str, leave: fn(&Disk, usize), args: &[&str]) {
    let points = {
        let disk = Disk::tmpfs(options);
        stepper::count(&on_trial(&disk).command(args))
    };
    let mut codes = [0; 3];
    for nth in 1..=points {
        let disk = Disk::tmpfs(options);
        let host = on_trial(&disk);
        let before = host.tree();
        let mut at = String::new();
        let ended = stepper::disturb_before(&host.command(args), nth, |call| {
            leave(&disk, 0);
            at = format!("{args:?}, full before call {nth}, {call}");
        });
        let Ended::Exited { code, .. } = ended else { panic!("{at}: {ended:?}") };
        assert!(matches!(code, 0..=2), "{at}: {code}");
        codes[usize::try_from(code).unwrap()] += 1;
        if code != 0 {
            assert_same(&host.tree(), &before, &at);
        }
        make_room(&disk);
        let run = host.run(args);
        assert!(matches!(run.code, Some(0 | 2)), "{at}, then room: {run:#?}");
        host.all_complete();
    }
    println!("{args:?}, {options}: {points} points, {codes:?} ended with 0, 1, 2");
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn disk_filled_during_command_loses_nothing() {
    for args in [
        &["install", "5.0.3"][..],
        &["install", "5.0.0"],
        &["upgrade", "--no-permanent", "5.0.3"],
        &["unpack", "5.0.3"],
        &["confirm"],
        &["revert"],
        &["uninstall", "5.0.0"],
        &["boot"],
    ] {
        filled_meanwhile("size=2m", leave_blocks, args);
        filled_meanwhile("size=4m,nr_inodes=200", leave_inodes, args);
    }
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn space_error_names_free_and_reserve() {
    let disk = Disk::tmpfs("size=1m");
    let host = host(&disk);
    leave_blocks(&disk, 4);
    let before = host.tree();
    host.run(["upgrade", "5.0.1"])
        .code(2)
        .stderr_has("not enough space for 5.0.1")
        // The running command itself uses one block.
        .stderr_has("12.0 KiB free");
    let settings = host.root().join("tenure.toml");
    make_room(&disk);
    fs::write(&settings, "name = 'emqx'\n[space]\nreserve = '4 GiB'\n").unwrap();
    host.run(["upgrade", "5.0.1"]).code(2).stderr_has("4.0 GiB in reserve").stderr_has("hint: ");
    fs::write(&settings, "name = \"emqx\"\n[space]\nreserve = \"0 B\"\n").unwrap();
    assert_eq!(host.tree(), before);
}

/// Returns a host with 5.0.0 permanent, and archives of 5.0.1 and 5.0.2 of 5 MiB each, with `more` in their
/// manifests.
fn large(disk: &Disk, more: &str) -> Host {
    let host = Host::on(&disk.place);
    host.archive("5.0.0");
    for (version, letter) in [("5.0.1", "x"), ("5.0.2", "y")] {
        let manifest = format!("name = 'emqx'\nversion = '{version}'\n{more}");
        host.build(version).file("release.toml", &manifest).file("data", &letter.repeat(5 << 20)).write();
    }
    host.run(["install", "5.0.0"]).ok();
    host
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn multi_hop_upgrade_needs_space_for_all_hops() {
    for (leave, options) in
        [(leave_blocks as fn(&Disk, usize), "size=32m"), (leave_inodes, "size=32m,nr_inodes=300")]
    {
        let disk = Disk::tmpfs(options);
        let host = large(&disk, "");
        let rules = "[[path]]\nto = '=5.0.1'\nfrom = ['*']\n[[path]]\nto = '=5.0.2'\nfrom = ['=5.0.1']\n";
        fs::write(host.root().join("releases/paths.toml"), rules).unwrap();
        leave(&disk, if options.contains("nr") { 50 } else { 2_000 });
        let before = host.tree();
        host.run(["upgrade", "--dry-run", "5.0.1"]).ok();
        let run = host.run(["upgrade", "--multi-hop", "5.0.2"]).code(2);
        run.stderr_has("from 5.0.1 to 5.0.2: not enough space for 5.0.2 on ")
            .stderr_has(", of which releases before it take up to 5.");
        assert_eq!(host.tree(), before);
        make_room(&disk);
        host.run(["upgrade", "--multi-hop", "5.0.2"]).ok();
    }
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn free_space_requirement_counts_after_unpack() {
    let disk = Disk::tmpfs("size=32m");
    let host = large(&disk, "[requires]\nfree-space = '6 MiB'\n");
    for (blocks, code) in [(2_000, 2), (3_500, 0)] {
        leave_blocks(&disk, blocks);
        for args in [&["check"][..], &["upgrade", "--dry-run"], &["upgrade", "--prepare-only"], &["upgrade"]]
        {
            let run = host.run([args, &["5.0.1"]].concat()).code(code);
            let said = format!("{}{}", run.stdout, run.stderr);
            assert_eq!(
                said.contains(" MiB free once it is unpacked, and the release needs 6.0 MiB free"),
                code != 0
            );
        }
        make_room(&disk);
    }
}

/// Returns a host with a trial and an old release, so that every command has something to do.
fn on_trial(disk: &Disk) -> Host {
    let host = host(disk);
    host.archives(&["5.0.2", "5.0.3"]);
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["upgrade", "--no-permanent", "5.0.2"]).ok();
    host
}

const COMMANDS: [&[&str]; 7] = [
    &["confirm"],
    &["revert"],
    &["install", "5.0.0"],
    &["uninstall", "5.0.0"],
    &["prune", "--keep", "0"],
    &["unpack", "5.0.3"],
    &["boot"],
];

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn commands_fail_cleanly_on_full_disk() {
    for (leave, options) in
        [(leave_blocks as fn(&Disk, usize), "size=2m"), (leave_inodes, "size=4m,nr_inodes=160")]
    {
        for args in COMMANDS {
            for room in 0..6 {
                let disk = Disk::tmpfs(options);
                let host = on_trial(&disk);
                leave(&disk, room);
                let before = host.tree();
                let at = format!("{args:?} with room for {room}");
                let run = host.run(args);
                if args[0] == "boot" {
                    assert_eq!(run.code, Some(0), "{at}: {run:#?}");
                } else {
                    clean(&host, &run, &before, &at);
                }
                host.states();
                make_room(&disk);
                let run = host.run(args);
                assert!(matches!(run.code, Some(0 | 2)), "{at}, then room: {run:#?}");
                host.all_complete();
            }
        }
    }
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn commands_fail_cleanly_on_read_only_disk() {
    let disk = Disk::ext4(8 << 20, "512");
    let host = on_trial(&disk);
    let before = host.tree();
    disk.remount("remount,ro");
    for args in COMMANDS.iter().filter(|args| args[0] != "boot") {
        let run = host.run(*args);
        assert!(matches!(run.code, Some(1 | 2)), "{args:?}: {run:#?}");
        run.stderr_has("Read-only file system");
    }
    for args in [&["versions"][..], &["status"], &["root-dir"], &["history"], &["verify"]] {
        host.run(args).ok();
    }
    // `boot` reports that it cannot end the trial, but succeeds, because the service has to start.
    host.run(["boot"]).ok().stderr_has("Read-only file system");
    assert_eq!(host.tree(), before);
    disk.remount("remount,rw");
    host.run(["boot"]).ok();
    host.run(["upgrade", "5.0.3"]).ok();
    host.complete("5.0.3");
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn undeletable_release_does_not_block_commands() {
    let disk = Disk::tmpfs("size=4m");
    let host = on_trial(&disk);
    let busy = host.root().join("releases/5.0.0/empty");
    mount(Some("none"), &busy, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    host.run(["uninstall", "5.0.0"]).ok().stderr_has("warning: cannot delete").stderr_has("busy");
    assert_eq!(host.states().len(), 2);
    host.run(["confirm"]).ok().stderr_has("warning: cannot delete");
    host.run(["install", "5.0.0"]).ok();
    host.complete("5.0.0");
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let in_trash =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).find(|p| p.contains("/.tenure/trash/"));
    umount2(in_trash.unwrap(), MntFlags::MNT_DETACH).unwrap();
    host.run(["boot"]).ok().stderr("");
    assert_eq!(fs::read_dir(host.root().join(".tenure/trash")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn mount_in_trash_is_not_emptied() {
    let disk = Disk::tmpfs("size=4m");
    let host = on_trial(&disk);
    let (place, file) = (host.root().join(".tenure/trash/x"), disk.place.join("outside/file"));
    fs::create_dir(&place).unwrap();
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "canary").unwrap();
    mount(Some(file.parent().unwrap()), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    host.run(["confirm"]).ok().stderr_has("warning: cannot delete").stderr_has("busy");
    assert_eq!(fs::read_to_string(&file).unwrap(), "canary");
    umount2(&place, MntFlags::MNT_DETACH).unwrap();
    host.run(["boot"]).ok().stderr("");
    assert!(!place.exists() && file.exists());
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn test_mounts_are_private() {
    let disk = Disk::tmpfs("size=1m");
    let place = disk.place.clone();
    let seen =
        |mounts: &str, place: &Path| fs::read_to_string(mounts).unwrap().contains(place.to_str().unwrap());
    assert!(seen("/proc/thread-self/mounts", &place));
    assert!(!seen("/proc/self/mounts", &place));
}
