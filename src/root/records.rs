//! The records of a root that outlive a command: the history, the releases that failed, and the format of the data.

use std::fs::{File, TryLockError};

use serde::{Deserialize, Serialize};

use crate::data::{Formats, OnDisk, Stage};
use crate::error::{Context, Error, Result};
use crate::fs::{self as disk, DirPath};
use crate::release::Snapshot;
use crate::version::Version;

use super::Root;

/// The maximum size of the history, in bytes.
const HISTORY_LIMIT: u64 = 1 << 28;

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It failed and was rolled back.
    Failed,
    /// It failed and could not be rolled back.
    Unfinished,
    /// It was interrupted, and a later command finished it.
    Finished,
    /// It was interrupted, and a later command rolled it back.
    TakenBack,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The name of the transaction.
    pub transaction: String,
    /// The command, without `tenure`.
    pub command: String,
    /// The user who gave the command.
    pub by: String,
    /// The time when it began, in RFC 3339.
    pub started: String,
    /// The duration in milliseconds; `None` if the transaction was interrupted.
    pub took_ms: Option<u64>,
    /// The outcome.
    pub outcome: Outcome,
    /// The release that ran before.
    pub from: Option<Version>,
    /// The release that the transaction moved to.
    pub to: Option<Version>,
    /// The reason for a failure, or for a transaction that no user asked for.
    pub error: Option<String>,
    /// The release that was permanent at the end; `None` if the link did not lead to one.
    #[serde(default)]
    pub permanent: Option<Version>,
    /// Whether the service was moved or started along with `current`; `None` if `current` was not switched or if an
    /// earlier version of Tenure wrote the entry.
    #[serde(default)]
    pub moved_service: Option<bool>,
}

impl Root {
    /// Appends an entry, unless the last entry has the same transaction.
    ///
    /// # Errors
    /// Returns an error if the entry cannot be written.
    pub fn remember(&self, entry: &HistoryEntry) -> Result<()> {
        if self.history()?.last().is_some_and(|last| last.transaction == entry.transaction) {
            return Ok(());
        }
        let line = serde_json::to_string(entry).context(|| "cannot write the history")?;
        disk::append_durable(&self.own().join("history"), &self.staging(), &line, self.owner())
    }

    /// Returns the transactions, oldest first. Leaves out a line that a crash cut short.
    ///
    /// # Errors
    /// Returns an error if the history cannot be read.
    pub fn history(&self) -> Result<Vec<HistoryEntry>> {
        let text = disk::read_torn(&self.own().join("history"), HISTORY_LIMIT)?.unwrap_or_default();
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Returns whether the service moved along when the release last became current; `true` if that is unknown.
    #[must_use]
    pub fn has_moved_service_to(&self, version: &Version) -> bool {
        let entries = self.history().unwrap_or_default();
        let of = |entry: &&HistoryEntry| entry.to.as_ref() == Some(version);
        entries.iter().rev().filter(of).find_map(|entry| entry.moved_service).unwrap_or(true)
    }

    /// Returns the release that was permanent after the last transaction, or `None` if no readable history names one.
    pub(super) fn last_permanent(&self) -> Option<Version> {
        self.history().ok()?.into_iter().rev().find_map(|entry| entry.permanent)
    }
}

/// The maximum size of the mark of a failure, in bytes.
const MARK_LIMIT: u64 = 1 << 16;

/// The failure of a release on this host, which was rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The release.
    pub version: Version,
    /// The transaction that rolled it back.
    pub transaction: String,
    /// The time of the failure, in RFC 3339.
    pub when: String,
    /// The reason.
    pub why: String,
    /// The SHA-256, in hex, of the archive that the release came from; `None` if it is unknown.
    pub sha256: Option<String>,
}

impl Failure {
    /// Returns whether the failure concerns the release from the archive with this SHA-256; `true` if one is unknown.
    #[must_use]
    pub fn is_about(&self, sha256: Option<&str>) -> bool {
        match (&self.sha256, sha256) {
            (Some(failed), Some(asked)) => failed == asked,
            _ => true,
        }
    }
}

impl Root {
    /// Returns the failure of a release on this host, from any archive; `None` if its mark is missing or cannot be read.
    #[must_use]
    pub fn failure(&self, version: &Version) -> Option<Failure> {
        let text = disk::read_text(&self.mark(version), MARK_LIMIT).ok().flatten()?;
        serde_json::from_str(&text).ok().filter(|failure: &Failure| failure.version == *version)
    }

    /// Like [`Self::failure`], but only for the archive that the installed release came from.
    #[must_use]
    pub fn installed_failure(&self, version: &Version) -> Option<Failure> {
        let failure = self.failure(version)?;
        let sha256 = self.receipt(version).and_then(|receipt| receipt.sha256);
        failure.is_about(sha256.as_deref()).then_some(failure)
    }

    /// Returns all failures, highest version first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        let names = disk::names(&self.failed()).unwrap_or_default();
        let versions = names.into_iter().filter_map(|name| Version::of_directory(&name));
        let mut failures: Vec<_> = versions.filter_map(|version| self.failure(&version)).collect();
        failures.sort_by(|one, other| other.version.cmp(&one.version));
        failures
    }

    /// Marks a release durably as failed.
    ///
    /// # Errors
    /// Returns an error if the mark cannot be written.
    pub fn set_failure(&self, failure: &Failure) -> Result<()> {
        let text = serde_json::to_vec(failure).context(|| "cannot record that a release failed")?;
        disk::ensure_dir(&self.failed(), 0o755, self.owner())?;
        disk::sync_dir(&self.own())?;
        self.write_record(&self.mark(&failure.version), &text)
    }

    /// Removes the mark of a release durably, if there is one.
    ///
    /// # Errors
    /// Returns an error if the mark cannot be removed.
    pub fn clear_failure(&self, version: &Version) -> Result<()> {
        let mark = self.mark(version);
        if disk::exists(&mark) { disk::remove_file_durable(&mark) } else { Ok(()) }
    }

    fn failed(&self) -> DirPath {
        self.own().join("failed")
    }

    fn mark(&self, version: &Version) -> DirPath {
        self.failed().join(version.to_string())
    }
}

/// The maximum size of the record of the data, in bytes.
const DATA_LIMIT: u64 = 1 << 20;

/// The migration lock, held while a migration runs or its state is recorded. The kernel releases it with the process.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct MigrationPost(File);

impl Root {
    /// Returns the formats of the data, and the migration. A migration whose process has ended counts as failed.
    ///
    /// # Errors
    /// Returns an error if the record, or the manifest of the permanent release, cannot be read.
    pub fn data(&self, now: &Snapshot) -> Result<OnDisk> {
        let known = self.known_data()?;
        Ok(known.or_of(self.permanent_formats(now)?.as_ref()))
    }

    /// Like [`Self::data`], but ignores a manifest that cannot be used.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read.
    pub fn data_as_told(&self, now: &Snapshot) -> Result<OnDisk> {
        let known = self.known_data()?;
        Ok(known.or_of(self.permanent_formats(now).ok().flatten().as_ref()))
    }

    /// Returns the data formats that the permanent release declares.
    fn permanent_formats(&self, now: &Snapshot) -> Result<Option<Formats>> {
        let manifest = now.rightful().map(|version| self.manifest(version)).transpose()?.flatten();
        Ok(manifest.and_then(|manifest| manifest.data))
    }

    /// Like [`Self::data`], without the formats that only a manifest declares.
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
        let file = self.data_dir().join("record");
        let Some(text) = disk::read_text(&file, DATA_LIMIT)? else { return Ok(OnDisk::default()) };
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
        disk::write_durable(&dir.join("record"), &dir, &text, 0o644, self.owner()).map(drop)
    }

    /// Takes the migration lock, or returns `None` if another process holds it.
    ///
    /// # Errors
    /// Returns an error if the lock file cannot be opened or locked.
    pub fn migration_post(&self) -> Result<Option<MigrationPost>> {
        let dir = self.data_dir();
        disk::ensure_dir(&dir, 0o755, self.owner())?;
        let place = dir.join("post");
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
        let place = self.data_dir().join("post");
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
