//! A file that is written before anybody can see it under its name.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::fcntl::{OFlag, renameat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Doing, Result};

use super::Place;
use super::place::Tell;
use super::write::{NEW, sync_around, temporary};

/// A new file beside those that are there. Dropped without being published it is removed; a crash leaves it, under a
/// name of its own.
#[must_use = "what is not published is removed"]
#[derive(Debug)]
pub struct Draft {
    at: Place,
    file: File,
    published: bool,
}

impl Draft {
    /// An empty file in this directory, which until it is published only this user can read.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(dir: &Place) -> Result<Self> {
        let (at, file) = temporary(dir, NEW.difference(OFlag::O_APPEND))
            .tell(|| format!("cannot write into {}", dir.display()))?;
        Ok(Self { at, file, published: false })
    }

    /// The file.
    ///
    /// # Errors
    /// Where no more files can be opened.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().doing(|| format!("cannot open {}", self.at.display()))
    }

    /// Makes the file durable and puts it in place of whatever has this name in the same directory; everyone may
    /// read it. A crash leaves the old one or this one.
    ///
    /// # Errors
    /// Where any part of it fails.
    pub fn publish(mut self, place: &Place) -> Result<()> {
        let doing = || format!("cannot write {}", place.display());
        self.file.set_permissions(Permissions::from_mode(0o644)).doing(doing)?;
        self.file.sync_all().doing(doing)?;
        let (from, name) = self.at.spot().tell(doing)?;
        let (parent, to) = place.spot().tell(doing)?;
        renameat(&from, name, &parent, to).tell(doing)?;
        self.published = true;
        sync_around(place, &parent)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            let _ = self.at.spot().and_then(|(dir, name)| unlinkat(dir, name, UnlinkatFlags::NoRemoveDir));
        }
    }
}
