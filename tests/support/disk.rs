//! File systems for one test, for example small ones.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Hides later mounts of this thread from all other threads.
pub fn private_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let all = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, all, None::<&str>).unwrap();
}

/// A file system that only this thread sees and that ends with it.
pub struct Disk {
    pub place: PathBuf,
    _dir: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        private_mounts();
        let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
        Self { place: dir.path().join("disk"), _dir: dir }
    }

    pub fn tmpfs(options: &str) -> Self {
        let disk = Self::new();
        fs::create_dir(&disk.place).unwrap();
        // A tmpfs is writable by all users by default, and Tenure refuses such a root.
        let options = format!("mode=755,{options}");
        mount(Some("none"), &disk.place, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        disk
    }

    pub fn ext4(size: u64, inodes: &str) -> Self {
        let disk = Self::new();
        let image = disk.place.with_extension("img");
        File::create(&image).unwrap().set_len(size).unwrap();
        fs::create_dir(&disk.place).unwrap();
        done(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-N", inodes]).arg(&image));
        done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&disk.place));
        disk
    }

    /// Returns an xfs or btrfs of `size` bytes.
    pub fn formatted(kind: &str, size: u64) -> Self {
        let disk = Self::new();
        let image = disk.place.with_extension("img");
        File::create(&image).unwrap().set_len(size).unwrap();
        fs::create_dir(&disk.place).unwrap();
        done(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&disk.place));
        disk
    }

    pub fn remount(&self, how: &str) {
        done(Command::new("mount").args(["-o", how]).arg(&self.place));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

pub fn done(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {out:?}");
}
