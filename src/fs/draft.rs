//! A file that is written before anybody can see it under its name.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::fcntl::{OFlag, renameat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Doing, Result};

use super::Place;
use super::place::Tell;
use super::write::{NEW, sync_around, temporary};

/// A new file under a name of its own. Dropped without being published it is removed; a crash leaves it.
#[must_use = "what is not published is removed"]
#[derive(Debug)]
pub struct Draft {
    spare: Spare,
    file: File,
}

/// A name that is given up again, unless the file has moved to another one.
#[derive(Debug)]
struct Spare {
    at: Place,
    moved: bool,
}

impl Draft {
    /// An empty file in this directory, which until it is published only this user can read.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(dir: &Place) -> Result<Self> {
        Self::open(dir, NEW.difference(OFlag::O_APPEND))
            .tell(|| format!("cannot write into {}", dir.display()))
    }

    /// The same, opened so.
    pub(super) fn open(dir: &Place, flags: OFlag) -> nix::Result<Self> {
        let (at, file) = temporary(dir, flags)?;
        Ok(Self { spare: Spare { at, moved: false }, file })
    }

    /// The file.
    ///
    /// # Errors
    /// Where no more files can be opened.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().doing(|| format!("cannot open {}", self.spare.at.display()))
    }

    /// The file, to be written to.
    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    /// Makes the file durable and puts it in place of whatever has this name in the same directory; everyone may
    /// read it. A crash leaves the old one or this one.
    ///
    /// # Errors
    /// Where any part of it fails.
    pub fn publish(self, place: &Place) -> Result<()> {
        let doing = || format!("cannot write {}", place.display());
        self.file.set_permissions(Permissions::from_mode(0o644)).doing(doing)?;
        self.file.sync_all().doing(doing)?;
        self.replace(place).map(drop)
    }

    /// Puts the file, which is durable, in place of whatever has this name, durably, and returns it.
    ///
    /// # Errors
    /// Where any part of it fails.
    pub(super) fn replace(self, place: &Place) -> Result<File> {
        let doing = || format!("cannot write {}", place.display());
        let Self { mut spare, file } = self;
        let (from, name) = spare.at.spot().tell(doing)?;
        let (parent, to) = place.spot().tell(doing)?;
        renameat(&from, name, &parent, to).tell(doing)?;
        spare.moved = true;
        sync_around(place, &parent)?;
        Ok(file)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if !self.moved {
            let _ = self.at.spot().and_then(|(dir, name)| unlinkat(dir, name, UnlinkatFlags::NoRemoveDir));
        }
    }
}
