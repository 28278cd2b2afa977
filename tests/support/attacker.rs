//! An attacker who can write in a root and swaps its entries for links out of the root, as fast as possible.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::dice::Dice;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// The names that are attacked most often.
const NAMES: &[&str] = &[
    ".tenure",
    ".tenure/staging",
    ".tenure/staging/.new.0",
    ".tenure/staging/link",
    ".tenure/trash",
    ".tenure/receipts",
    ".tenure/lock",
    ".tenure/journal",
    ".tenure/history",
    "releases",
    "releases/5.0.0",
    "releases/5.0.1",
    "releases/5.0.2",
    "current",
    "permanent",
    ".current.spare",
    ".permanent.spare",
];

/// The directories in which any entry is attacked.
const AROUND: &[&str] = &[".tenure/staging", ".tenure/trash", ".tenure/receipts", "releases"];

/// The targets of planted links.
const BAITS: &[&str] = &[
    "file",
    "loose",
    "new",
    "empty",
    "dir",
    "dir/sub",
    "tenure",
    "tenure/trash/x",
    "releases/5.0.0",
    "/etc",
];

/// An attacker on one root.
pub struct Attacker {
    root: PathBuf,
    outside: PathBuf,
    dice: Dice,
    /// The number of swaps.
    pub swaps: u64,
}

impl Attacker {
    pub fn new(root: PathBuf, outside: PathBuf, seed: u64) -> Self {
        Self { root, outside, dice: Dice(seed | 1), swaps: 0 }
    }

    /// Swaps one entry, and swaps it back after a while.
    pub fn strike(&mut self) {
        let victim = self.victim();
        let evil = victim.with_file_name(format!(".evil.{}", self.swaps));
        if self.dice.roll(8) == 0 {
            return self.hide(&victim, &evil);
        }
        if self.prepare(&evil, &victim).is_err() {
            return;
        }
        let flags = [RenameFlags::RENAME_EXCHANGE, RenameFlags::RENAME_NOREPLACE];
        if let Some(flags) = flags.into_iter().find(|flags| rename(&evil, &victim, *flags).is_ok()) {
            self.swaps += 1;
            self.pause();
            let _ = rename(&victim, &evil, flags);
        }
        let _ = fs::remove_file(&evil).or_else(|_| fs::remove_dir(&evil));
    }

    /// Moves the victim, with any process that works in it, elsewhere in the root and back.
    fn hide(&mut self, victim: &Path, place: &Path) {
        let place = self.root.join(place.file_name().unwrap_or_default());
        if rename(victim, &place, RenameFlags::RENAME_NOREPLACE).is_ok() {
            self.swaps += 1;
            self.pause();
            let _ = rename(&place, victim, RenameFlags::RENAME_NOREPLACE)
                .or_else(|_| rename(&place, victim, RenameFlags::RENAME_EXCHANGE));
        }
    }

    /// Creates the replacement of the victim.
    fn prepare(&mut self, evil: &Path, victim: &Path) -> io::Result<()> {
        match self.dice.roll(8) {
            0 => fs::hard_link(self.outside.join("loose"), evil),
            1 => fs::create_dir(evil),
            2 => {
                let bait = self.one_of(BAITS);
                symlink(self.outside.join(bait), evil)
            }
            _ => symlink(self.like(victim), evil),
        }
    }

    /// Returns the path outside the root that resembles the victim.
    fn like(&self, victim: &Path) -> PathBuf {
        let inside = victim.strip_prefix(&self.root).unwrap();
        let path = inside.to_str().unwrap_or_default().replace(".tenure", "tenure");
        let like = self.outside.join(path);
        if fs::symlink_metadata(&like).is_ok() { like } else { self.outside.join("dir") }
    }

    fn victim(&mut self) -> PathBuf {
        if self.dice.roll(2) == 0 {
            let name = self.one_of(NAMES);
            return self.root.join(name);
        }
        let dir = self.one_of(AROUND);
        let mut victim = self.root.join(dir);
        while let Some(next) = self.any_in(&victim) {
            victim = next;
            if self.dice.roll(3) == 0 {
                break;
            }
        }
        victim
    }

    fn any_in(&mut self, dir: &Path) -> Option<PathBuf> {
        let names: Vec<_> = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
        if names.is_empty() { None } else { Some(names[self.dice.roll(names.len())].clone()) }
    }

    fn pause(&mut self) {
        for _ in 0..self.dice.roll(20_000) {
            std::hint::spin_loop();
        }
    }

    fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        names[self.dice.roll(names.len())]
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> nix::Result<()> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, flags)
}
