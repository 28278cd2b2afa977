//! The record of the service's data: its format, and the state of the last migration.

use std::fs::{File, TryLockError};

use crate::data::{OnDisk, Stage};
use crate::error::{Context, Error, Result};
use crate::fs::{self as disk, DirPath};
use crate::manifest::Manifest;
use crate::release::Snapshot;

use super::Root;

/// The maximum size of the record, in bytes.
const LIMIT: u64 = 1 << 20;

const RECORD: &str = "record";
const POST: &str = "post";

/// The migration lock, held while a migration runs or its state is recorded. The kernel releases it with the process.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct MigrationPost(File);

impl Root {
    /// Returns what is known of the data. A migration that no process runs any more counts as failed.
    ///
    /// # Errors
    /// Returns an error if the record, or the manifest of the permanent release, cannot be read.
    pub fn data(&self, now: &Snapshot) -> Result<OnDisk> {
        let known = self.known_data()?;
        let permanent = self.permanent_manifest(now)?;
        Ok(known.or_of(permanent.and_then(|manifest| manifest.data).as_ref()))
    }

    /// Like [`Self::data`], but ignores a manifest that cannot be used.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read.
    pub fn data_as_told(&self, now: &Snapshot) -> Result<OnDisk> {
        let known = self.known_data()?;
        let permanent = self.permanent_manifest(now).ok().flatten();
        Ok(known.or_of(permanent.and_then(|manifest| manifest.data).as_ref()))
    }

    fn permanent_manifest(&self, now: &Snapshot) -> Result<Option<Manifest>> {
        Ok(now.rightful().map(|version| self.manifest(version)).transpose()?.flatten())
    }

    /// Returns the record of the data. A migration that no process runs any more counts as failed.
    fn known_data(&self) -> Result<OnDisk> {
        let mut known = self.recorded_data()?;
        let is_open = |stage| matches!(stage, Stage::Due | Stage::Running);
        if known.migration.as_ref().is_some_and(|m| is_open(m.stage)) && !self.is_migrating()? {
            // The migration may have ended between the two reads.
            known = self.recorded_data()?;
            if let Some(migration) = known.migration.as_mut().filter(|m| is_open(m.stage)) {
                let cut_short = match migration.stage {
                    Stage::Due => "it never began",
                    _ => "it was interrupted: its process ended",
                };
                migration.stage = Stage::Failed;
                migration.error = Some(cut_short.to_owned());
            }
        }
        Ok(known)
    }

    /// Returns the record of the data as it is on disk.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read.
    pub fn recorded_data(&self) -> Result<OnDisk> {
        let file = self.data_dir().join(RECORD);
        let Some(text) = disk::read_text(&file, LIMIT)? else { return Ok(OnDisk::default()) };
        serde_json::from_str(&text).map_err(|e| {
            Error::refused(format!("cannot use {}, the record of the data format", file.display()))
                .because(Error::failed(e.to_string()))
                .hint("`tenure migrate --restored FORMAT` writes it again")
        })
    }

    /// Writes the record of the data durably. The caller holds the migration lock.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written.
    pub fn record_data(&self, data: &OnDisk, _: &MigrationPost) -> Result<()> {
        let text = serde_json::to_vec(data).context(|| "cannot record the format of the data")?;
        let dir = self.data_dir();
        for name in disk::names(&dir)?.iter().filter(|name| name.starts_with(".new.")) {
            disk::remove_file_durable(&dir.join(name))?;
        }
        disk::write_durable(&dir.join(RECORD), &dir, &text, 0o644, self.owner()).map(drop)
    }

    /// Takes the migration lock, or returns `None` if another process holds it.
    ///
    /// # Errors
    /// Returns an error if the lock file cannot be opened or locked.
    pub fn migration_post(&self) -> Result<Option<MigrationPost>> {
        let dir = self.data_dir();
        disk::ensure_dir(&dir, 0o755, self.owner())?;
        let place = dir.join(POST);
        let file = disk::open_kept(&place, &dir, 0o600, self.owner())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(MigrationPost(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e).context(|| format!("cannot lock {}", place.display())),
        }
    }

    /// Files here do not go through the root's staging, which another command may sweep at any moment.
    fn data_dir(&self) -> DirPath {
        self.own().join("data")
    }

    /// Does not create the lock file, because users who may not change the root call this function as well.
    fn is_migrating(&self) -> Result<bool> {
        let place = self.data_dir().join(POST);
        if !disk::exists(&place) {
            return Ok(false);
        }
        match disk::open_file(&place) {
            Ok(file) => Ok(file.try_lock_shared().is_err()),
            // A user who may not open the lock file cannot check the lock, so the recorded stage stands.
            Err(_) => Ok(true),
        }
    }
}

impl Drop for MigrationPost {
    fn drop(&mut self) {
        // The lock is released with the file in any case.
        let _ = self.0.unlock();
    }
}
