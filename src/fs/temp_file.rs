//! A file that is written before anybody can see it under its name.

use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::fcntl::{OFlag, renameat};

use crate::error::{Context, Result};

use super::dir_path::ErrnoContext;
use super::read::{names, open_file};
use super::write::{NEW, sync_around, temporary, unlink};
use super::{DirPath, effective_uid};

/// How the names of drafts begin that lie in a directory of anybody's. Whoever makes one holds a lock on it.
const NAME: &str = ".tenure-draft.";

/// A new file under a name of its own. Dropped without being published it is removed; a crash leaves it.
#[must_use = "what is not published is removed"]
#[derive(Debug)]
pub struct TempFile {
    spare: Spare,
    file: File,
}

/// A name that is given up again, unless the file has moved to another one.
#[derive(Debug)]
struct Spare {
    at: DirPath,
    moved: bool,
}

impl TempFile {
    /// An empty file in this directory, which until it is published only this user can read. Those that a crash has
    /// left there are removed.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(dir: &DirPath) -> Result<Self> {
        sweep(dir);
        loop {
            let mut draft = Self::open(dir, NAME, NEW.difference(OFlag::O_APPEND))
                .tell(|| format!("cannot write into {}", dir.display()))?;
            // Where there are no locks, nothing is swept.
            let _ = draft.file.lock();
            if is_at(&draft.file, &draft.spare.at) {
                return Ok(draft);
            }
            // Swept before it was locked; its name may be another's by now.
            draft.spare.moved = true;
        }
    }

    /// The same, under a name that begins like this and is swept by nobody here.
    pub(super) fn open(dir: &DirPath, begin: &str, flags: OFlag) -> nix::Result<Self> {
        let (at, file) = temporary(dir, begin, flags)?;
        Ok(Self { spare: Spare { at, moved: false }, file })
    }

    /// The file.
    ///
    /// # Errors
    /// Where no more files can be opened.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().context(|| format!("cannot open {}", self.spare.at.display()))
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
    pub fn publish(self, place: &DirPath) -> Result<()> {
        let context = || format!("cannot write {}", place.display());
        self.file.set_permissions(Permissions::from_mode(0o644)).context(context)?;
        self.file.sync_all().context(context)?;
        self.replace(place).map(drop)
    }

    /// Puts the file, which is durable, in place of whatever has this name, durably, and returns it.
    ///
    /// # Errors
    /// Where any part of it fails.
    pub(super) fn replace(self, place: &DirPath) -> Result<File> {
        let context = || format!("cannot write {}", place.display());
        let Self { mut spare, file } = self;
        let (from, name) = spare.at.parent_and_name().tell(context)?;
        let (parent, to) = place.parent_and_name().tell(context)?;
        renameat(&from, name, &parent, to).tell(context)?;
        spare.moved = true;
        sync_around(place, &parent)?;
        Ok(file)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if !self.moved {
            unlink(&self.at);
        }
    }
}

/// Removes this user's drafts in the directory that nobody works on any more.
fn sweep(dir: &DirPath) {
    let left = names(dir).unwrap_or_default().into_iter().filter(|name| name.starts_with(NAME));
    for place in left.map(|name| dir.join(name)) {
        let Ok(file) = open_file(&place) else { continue };
        let is_own = file.metadata().is_ok_and(|meta| meta.is_file() && meta.uid() == effective_uid());
        if is_own && file.try_lock().is_ok() && is_at(&file, &place) {
            unlink(&place);
        }
    }
}

/// Whether this is the file that has the name.
fn is_at(file: &File, place: &DirPath) -> bool {
    let there = open_file(place).and_then(|there| there.metadata().context(|| "a draft"));
    let same = |there: Metadata| {
        file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
    };
    there.is_ok_and(same)
}
