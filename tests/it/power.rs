//! Power cuts: before every mutating system call, the disk is copied in its current state, and the copy is mounted
//! and checked. Both links point to a complete release, old or new. Acknowledged changes are present, and the next
//! command recovers.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::case::{Case, installed, links, listed};
use crate::support::disk::{done, private_mounts};
use crate::support::stepper::{self, Ended, Syncs};
use crate::support::{Host, copy_tree, kill_guards};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// A file system: the command that makes it, the size of its image, and the mount options.
struct Kind {
    mkfs: &'static [&'static str],
    size: u64,
    options: &'static str,
}

const EXT4: Kind = Kind { mkfs: &["mkfs.ext4", "-q"], size: 16 << 20, options: "loop" };
// xfs and btrfs have minimum sizes.
const XFS: Kind = Kind { mkfs: &["mkfs.xfs", "-q"], size: 300 << 20, options: "loop,nouuid" };
const BTRFS: Kind = Kind { mkfs: &["mkfs.btrfs", "-q"], size: 128 << 20, options: "loop" };

/// Whether another process syncs just before the power cut, which may make a part of Tenure's writes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noise {
    Silent,
    Sync,
}

/// A host whose disk is an image in memory.
struct Machine {
    dir: tempfile::TempDir,
    kind: &'static Kind,
    host: Host,
    cuts: Cell<usize>,
    /// The modification time of the image at the last check.
    written: Cell<(i64, i64)>,
}

impl Machine {
    fn new(kind: &'static Kind, start: &Host) -> Self {
        private_mounts();
        let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir_in("/dev/shm").unwrap();
        let (image, disk) = (dir.path().join("image"), dir.path().join("disk"));
        File::create(&image).unwrap().set_len(kind.size).unwrap();
        done(Command::new(kind.mkfs[0]).args(&kind.mkfs[1..]).arg(&image));
        mount(kind, &image, &disk);
        copy_tree(start.root(), &disk.join("root"));
        done(Command::new("sync").arg("-f").arg(&disk));
        Self { host: Host::at(disk.join("root")), dir, kind, cuts: Cell::new(0), written: Cell::default() }
    }

    fn sync_something_else(&self) {
        let noise = File::create(self.dir.path().join("disk/noise")).unwrap();
        noise.sync_all().unwrap();
    }

    /// Makes the noise, and returns whether the image was written to since the last call.
    fn has_written(&self, noise: Noise) -> bool {
        if noise == Noise::Sync {
            self.sync_something_else();
        }
        let meta = fs::metadata(self.dir.path().join("image")).unwrap();
        let now = (meta.mtime(), meta.mtime_nsec());
        self.written.replace(now) != now
    }

    /// Calls `look` with the disk as a power cut would leave it now.
    fn cut(&self, look: impl FnOnce(&Host)) {
        // Each copy has a new name, because the loop device of an earlier cut may still use the earlier file.
        self.cuts.set(self.cuts.get() + 1);
        let (image, disk) =
            (self.dir.path().join(format!("cut{}", self.cuts.get())), self.dir.path().join("found"));
        done(Command::new("cp").arg("--sparse=always").arg(self.dir.path().join("image")).arg(&image));
        mount(self.kind, &image, &disk);
        let looked = catch_unwind(AssertUnwindSafe(|| look(&Host::at(disk.join("root")))));
        unmount(&disk);
        fs::remove_file(&image).unwrap();
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for disk in ["found", "disk"] {
            let _ = umount2(&self.dir.path().join(disk), MntFlags::MNT_DETACH);
        }
    }
}

fn mount(kind: &Kind, image: &Path, disk: &PathBuf) {
    fs::create_dir_all(disk).unwrap();
    done(Command::new("mount").args(["-o", kind.options]).arg(image).arg(disk));
}

/// Unmounts a disk. Retries, because a process that another thread is about to start may hold files open for a short
/// time.
fn unmount(disk: &Path) {
    let busy = |_: &usize| umount2(disk, MntFlags::empty()) == Err(Errno::EBUSY);
    let tries = (0..500).take_while(busy).inspect(|_| std::thread::sleep(Duration::from_millis(20))).count();
    assert!(tries < 500, "{} stays busy", disk.display());
}

/// Runs the command once and cuts the power before each of its mutating system calls and after its end.
fn sweep(kind: &'static Kind, case: &Case, noise: Noise, syncs: Syncs) -> usize {
    let machine = Machine::new(kind, &case.start);
    let mut looks = 0;
    let ended = stepper::watch(&machine.host.command(case.args), syncs, |nth, call| {
        if !machine.has_written(noise) {
            return;
        }
        looks += 1;
        machine.cut(|found| {
            let at = format!("{:?}, {noise:?}, power cut before call {nth}, {call}", case.args);
            case.is_sound(found, &at);
            case.arrives(found, &at);
        });
    });
    assert!(matches!(ended, Ended::Exited { code: 0, .. }), "{ended:?}");
    machine.cut(|found| {
        let at = format!("{:?}, power cut after exit 0", case.args);
        case.has_arrived(found, &at);
        // A deletion that was not durable may be undone; the next command deletes again.
        found.run(["prune", "--keep", "99"]).ok();
        case.is_at_end(found, &at);
    });
    let Ended::Exited { calls, .. } = ended else { return 0 };
    println!("{} {noise:?} {:?}: {calls} points, {looks} disks, 0 wrong", kind.mkfs[0], case.args);
    calls
}

/// Returns the recorded trial, or `None` if there is none or if it is unreadable.
fn trial(host: &Host) -> Option<serde_json::Value> {
    serde_json::from_str(&fs::read_to_string(host.root().join(".tenure/trial")).ok()?).ok()
}

/// Returns whether a release is on trial on this disk. Asserts that it then has a deadline, and that the trial ends
/// after a boot: by `boot`, or by the first command if the host does not run `boot`.
fn trial_ends(found: &Host, command: &[&str], at: &str) -> bool {
    let (old, new) = (Some("releases/5.0.0".to_owned()), Some("releases/5.0.1".to_owned()));
    let [current, permanent] = links(found);
    assert!(permanent == old && [&old, &new].contains(&&current), "{at}: {current:?}, {permanent:?}");
    let on_trial = current == new;
    let trial = trial(found);
    let has_deadline = trial.as_ref().is_some_and(|t| t["version"] == "5.0.1" && t["ends_ms"].is_u64());
    assert!(has_deadline || !on_trial, "{at}: current without a deadline: {trial:?}");
    if let Some(mut trial) = trial {
        trial["boot"] = "before the power cut".into();
        fs::write(found.root().join(".tenure/trial"), trial.to_string()).unwrap();
    }
    found.run(command).ok();
    assert_eq!(links(found), [old.clone(), old], "{at}, then {command:?}");
    assert!(!found.root().join(".tenure/trial").exists(), "{at}, then {command:?}");
    listed(found, at).iter().for_each(|(version, _)| found.complete(version));
    on_trial
}

/// Begins a trial once and cuts the power before each of the command's mutating system calls and after its end.
/// Meanwhile, the guards work on the same disk.
fn sweep_trial(kind: &'static Kind, noise: Noise, syncs: Syncs) {
    let machine = Machine::new(kind, &installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]));
    let _guards = Guards(&machine.host);
    let ends: [&[&str]; 2] = [&["boot"], &["prune", "--keep", "99"]];
    let (mut looks, mut trials) = (0, 0);
    let upgrade = machine.host.command(["upgrade", "--confirm-within", "1h", "5.0.1"]);
    let ended = stepper::watch_alone(&upgrade, syncs, |nth, call| {
        if !machine.has_written(noise) {
            return;
        }
        looks += 1;
        let at = format!("{noise:?}, power cut before call {nth}, {call}");
        machine.cut(|found| trials += usize::from(trial_ends(found, ends[looks % 2], &at)));
    });
    assert!(matches!(ended, Ended::Exited { code: 0, .. }), "{ended:?}");
    for end in ends {
        machine.cut(|found| assert!(trial_ends(found, end, "after exit 0"), "what was acknowledged is lost"));
    }
    println!("{} {noise:?} trial: {looks} disks, {trials} on trial, 0 wrong", kind.mkfs[0]);
    assert!(looks > 3, "{looks}");
}

/// Ends the guards of a root on drop, because they keep its file system busy.
struct Guards<'a>(&'a Host);

impl Drop for Guards<'_> {
    fn drop(&mut self) {
        kill_guards(self.0);
    }
}

fn cases() -> Vec<Case> {
    let two = &["5.0.0", "5.0.1"];
    let first: &[&str] = &["install", "5.0.0"];
    let up: &[&str] = &["upgrade", "5.0.1"];
    vec![
        Case::new(&["install", "5.0.1"], installed(two, &[])),
        Case::new(&["upgrade", "5.0.1"], installed(two, &[first])),
        Case::new(&["upgrade", "--no-permanent", "5.0.1"], installed(two, &[first])),
        Case::new(&["downgrade", "5.0.0"], installed(two, &[first, up])),
        Case::new(&["uninstall", "5.0.0"], installed(two, &[first, up])),
        Case::new(
            &["prune", "--keep", "0"],
            installed(&["5.0.0", "5.0.1", "5.0.2"], &[first, up, &["upgrade", "5.0.2"]]),
        ),
    ]
}

fn sweep_all(kind: &'static Kind) {
    for case in cases() {
        for noise in [Noise::Silent, Noise::Sync] {
            assert!(sweep(kind, &case, noise, Syncs::Real) > 10);
        }
    }
    [Noise::Silent, Noise::Sync].into_iter().for_each(|noise| sweep_trial(kind, noise, Syncs::Real));
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn ext4_survives_power_cuts() {
    sweep_all(&EXT4);
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn xfs_survives_power_cuts() {
    sweep_all(&XFS);
}

#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn btrfs_survives_power_cuts() {
    sweep_all(&BTRFS);
}

/// With syncs that do nothing, the suite must fail. Otherwise it proves nothing.
#[test]
#[ignore = "needs root and mounts; run by .ci/run"]
fn ignored_syncs_are_detected() {
    for kind in [&EXT4, &XFS, &BTRFS] {
        let case = Case::new(&["upgrade", "5.0.1"], installed(&["5.0.0", "5.0.1"], &[&["install", "5.0.0"]]));
        let caught = catch_unwind(AssertUnwindSafe(|| sweep(kind, &case, Noise::Sync, Syncs::Faked)));
        assert!(caught.is_err(), "{}: syncs that do nothing were not noticed", kind.mkfs[0]);
        let caught = catch_unwind(AssertUnwindSafe(|| sweep_trial(kind, Noise::Sync, Syncs::Faked)));
        assert!(caught.is_err(), "{}: a trial whose deadline is lost was not noticed", kind.mkfs[0]);
    }
}
