//! A file that is written before it appears under its name.

use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::fcntl::{OFlag, renameat};

use crate::error::{Context, Result};

use super::dir_path::ErrnoContext;
use super::read::{names, open_file};
use super::write::{NEW, sync_around, temporary, unlink};
use super::{DirPath, effective_uid};

/// The prefix of temporary files in a directory of any user. The creator of such a file holds a lock on it.
const NAME: &str = ".tenure-draft.";

/// A new file under a temporary name. A drop without publishing removes the file; a crash leaves it.
#[must_use = "the file is removed on drop unless it is published"]
#[derive(Debug)]
pub struct TempFile {
    spare: Spare,
    file: File,
}

/// A temporary name, which is removed on drop unless the file was moved to another name.
#[derive(Debug)]
struct Spare {
    at: DirPath,
    moved: bool,
}

impl TempFile {
    /// Creates an empty file in this directory, which only this user can read until it is published. Removes the
    /// files that crashes left there.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn new(dir: &DirPath) -> Result<Self> {
        sweep(dir);
        loop {
            let mut draft = Self::open(dir, NAME, NEW.difference(OFlag::O_APPEND))
                .tell(|| format!("cannot write into {}", dir.display()))?;
            // On a file system without locks, no file is swept.
            let _ = draft.file.lock();
            if is_at(&draft.file, &draft.spare.at) {
                return Ok(draft);
            }
            // Another process swept the file before it was locked. Its name may belong to another file by now.
            draft.spare.moved = true;
        }
    }

    /// Creates a file whose name begins with `begin`. Does not sweep the directory.
    pub(super) fn open(dir: &DirPath, begin: &str, flags: OFlag) -> nix::Result<Self> {
        let (at, file) = temporary(dir, begin, flags)?;
        Ok(Self { spare: Spare { at, moved: false }, file })
    }

    /// Returns another handle of the file.
    ///
    /// # Errors
    /// Returns an error if no more files can be opened.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().context(|| format!("cannot open {}", self.spare.at.display()))
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    /// Makes the file durable and readable for everyone, and moves it to `place` in the same directory. Replaces an
    /// existing file. A crash leaves the old or the new file.
    ///
    /// # Errors
    /// Returns an error if a step fails.
    pub fn publish(self, place: &DirPath) -> Result<()> {
        let context = || format!("cannot write {}", place.display());
        self.file.set_permissions(Permissions::from_mode(0o644)).context(context)?;
        self.file.sync_all().context(context)?;
        self.replace(place).map(drop)
    }

    /// Moves the file, whose contents are durable, to `place`, durably. Replaces an existing file. Returns the file.
    ///
    /// # Errors
    /// Returns an error if a step fails.
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

/// Removes this user's temporary files in the directory that no process holds a lock on.
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

/// Returns whether `place` is still the name of this file.
fn is_at(file: &File, place: &DirPath) -> bool {
    let there = open_file(place).and_then(|there| there.metadata().context(|| "a draft"));
    let same = |there: Metadata| {
        file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
    };
    there.is_ok_and(same)
}
