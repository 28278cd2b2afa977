//! The lock of a root, which one writer holds at a time, its holder, and the lock of the guard.

use std::cell::RefCell;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Context, Error, Kind, Result};
use crate::fs as disk;
use crate::process;
use crate::progress::Progress;

use super::Root;

/// The time between two attempts to take the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The lock, held while this process changes the root. The kernel releases it however the process ends. The lock file
/// is never removed, because a lock on a removed file excludes no other process.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct RootLock {
    file: File,
    holder: RefCell<Holder>,
}

/// The process that holds the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The process ID.
    pub pid: u32,
    /// The command, without `tenure`.
    pub command: String,
    /// The time at which it took the lock, in seconds since boot.
    pub since: u64,
    /// Whether the holder has ordered a start of the service, for which `current` must stay as it is.
    #[serde(default)]
    pub restarting: bool,
}

impl RootLock {
    /// Takes the lock. Waits for it for at most `wait`.
    ///
    /// # Errors
    /// Returns a `Busy` error that names the holder if another process keeps the lock. Returns a `Refused` error if
    /// the directory is not a root, or if this user may not change it.
    pub fn take(root: &Root, command: &str, wait: Duration, progress: &dyn Progress) -> Result<Self> {
        root.adopted()?;
        root.may_change()?;
        root.prepare()?;
        let place = root.lock();
        // Only the owner may open the file, because a reader of the file could lock it as well.
        let file = disk::open_kept(&place, &root.staging(), 0o600, root.owner())?;
        let locked = clock::poll_until(wait, POLL_INTERVAL, |_| {
            progress.go_on()?;
            match file.try_lock() {
                Ok(()) => Ok(Some(())),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(e)) => Err(e).context(|| format!("cannot lock {}", place.display())),
            }
        })?;
        locked.ok_or_else(|| busy(root))?;
        let (pid, since) = (process::own_id(), clock::since_boot().as_secs());
        let holder = Holder { pid, command: command.into(), since, restarting: false };
        let lock = Self { file, holder: RefCell::new(holder) };
        lock.tell();
        Ok(lock)
    }

    /// Calls `start`, which orders a start of the service, and records this meanwhile for `tenure boot`.
    pub fn while_restarting<T>(&self, start: impl FnOnce() -> T) -> T {
        self.set_restarting(true);
        let started = start();
        self.set_restarting(false);
        started
    }

    fn set_restarting(&self, restarting: bool) {
        self.holder.borrow_mut().restarting = restarting;
        self.tell();
    }

    /// Ignores errors: a command must not fail because it cannot describe itself to other commands.
    fn tell(&self) {
        let text = serde_json::to_string(&*self.holder.borrow()).unwrap_or_default();
        let _ = self.file.set_len(0).and_then(|()| (&self.file).write_all(text.as_bytes()));
    }
}

impl Drop for RootLock {
    /// Clears the file, because a process that lives on, such as a guard, no longer holds the lock.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

impl Root {
    /// Returns the recorded holder of the lock, if the record can be read and the process is alive.
    #[must_use]
    pub fn lock_holder(&self) -> Option<Holder> {
        let text = disk::read_text(&self.lock(), 4096).ok().flatten()?;
        let holder: Holder = serde_json::from_str(&text).ok()?;
        process::is_alive(holder.pid).then_some(holder)
    }

    /// Checks whether this user may know which command runs on the root: only root and the owner can open the lock.
    ///
    /// # Errors
    /// Returns an error if this user may not, with a hint that names the users who may.
    pub fn may_tell(&self) -> Result<()> {
        let told = format!("cannot determine whether a command is running on {}", self.path().display());
        self.may_change().map_err(|_| Error::failed(told).hint(self.as_whom()))
    }

    /// Returns a `Busy` error if another command holds the lock, or an error if this user may not know that.
    #[must_use]
    pub fn at_work(&self) -> Option<Error> {
        if let Err(hidden) = self.may_tell() {
            return Some(hidden);
        }
        let file = disk::open_file(&self.lock()).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| busy(self))
    }

    /// Returns whether the holder of the lock has ordered a start of the service. A process that was killed after the
    /// order does not hold the lock any more.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        let told = self.lock_holder().is_some_and(|holder| holder.restarting);
        let held = || disk::open_file(&self.lock()).is_ok_and(|file| file.try_lock_shared().is_err());
        told && held()
    }

    /// Opens the file that the active guard locks.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn guard_lock(&self) -> Result<File> {
        // The file does not go through staging, because a guard does not hold the root's lock.
        disk::open_kept(&self.own().join("guard"), &self.own(), 0o600, self.owner)
    }

    /// Returns whether a guard is active.
    ///
    /// # Errors
    /// Returns an error if the lock file cannot be opened.
    pub fn is_guarded(&self) -> Result<bool> {
        Ok(self.guard_lock()?.try_lock().is_err())
    }
}

fn busy(root: &Root) -> Error {
    let who = root.lock_holder().map_or_else(String::new, |holder| {
        let age = Duration::from_secs(clock::since_boot().as_secs().saturating_sub(holder.since));
        format!(": `{}`, pid {}, for {}", holder.command, holder.pid, humantime::format_duration(age))
    });
    Error::new(Kind::Busy, format!("another Tenure command is running on {}{who}", root.path().display()))
        .hint("use `--wait 60` to wait up to a minute for it to end")
}
