//! The lock of the one writer, and who holds it.

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

/// How long to wait before the lock is tried again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Held while this process changes the root; released with the process, however it ends. The file is never
/// removed, for a lock on a removed file would exclude nobody.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct RootLock {
    file: File,
    holder: RefCell<Holder>,
}

/// Who holds the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its command, without `tenure`.
    pub command: String,
    /// When it took the lock, in seconds since boot.
    pub since: u64,
    /// Whether it has ordered a start of the service, which is to find `current` where it is.
    #[serde(default)]
    pub restarting: bool,
}

impl RootLock {
    /// Takes the lock, within `wait`.
    ///
    /// # Errors
    /// Busy, naming the holder; refused where this is no root, or where this user may not change it.
    pub fn take(root: &Root, command: &str, wait: Duration, progress: &dyn Progress) -> Result<Self> {
        root.adopted()?;
        root.may_change()?;
        root.prepare()?;
        let place = root.lock();
        // Nobody else may open it: a reader of the file could hold the lock as well.
        let file = disk::open_kept(&place, &root.staging(), 0o600, root.owner())?;
        let until = clock::since_boot() + wait;
        loop {
            progress.go_on()?;
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if clock::since_boot() < until => clock::sleep(POLL_INTERVAL),
                Err(TryLockError::WouldBlock) => return Err(busy(root)),
                Err(TryLockError::Error(e)) => {
                    return Err(e).context(|| format!("cannot lock {}", place.display()));
                }
            }
        }
        let (pid, since) = (process::own_id(), clock::since_boot().as_secs());
        let holder = Holder { pid, command: command.into(), since, restarting: false };
        let lock = Self { file, holder: RefCell::new(holder) };
        lock.tell();
        Ok(lock)
    }

    /// Tells `boot` whether a start of the service is ordered by whoever holds the lock.
    pub fn restarting(&self, restarting: bool) {
        self.holder.borrow_mut().restarting = restarting;
        self.tell();
    }

    /// Only told to those who find the root busy: never a reason to fail.
    fn tell(&self) {
        let text = serde_json::to_string(&*self.holder.borrow()).unwrap_or_default();
        let _ = self.file.set_len(0).and_then(|()| (&self.file).write_all(text.as_bytes()));
    }
}

impl Drop for RootLock {
    /// Who lives on, as a guard does, holds nothing any more.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

impl Root {
    /// Who holds the lock, as far as its file tells and the process is still there.
    #[must_use]
    pub fn lock_holder(&self) -> Option<Holder> {
        let text = disk::read_text(&self.lock(), 4096).ok().flatten()?;
        let holder: Holder = serde_json::from_str(&text).ok()?;
        process::is_alive(holder.pid).then_some(holder)
    }

    /// Whether this user may know who is at work on the root: nobody else than its owner may open the lock.
    ///
    /// # Errors
    /// Where the user may not, naming who may.
    pub fn may_tell(&self) -> Result<()> {
        let told = format!("cannot determine whether a command is running on {}", self.path().display());
        self.may_change().map_err(|_| Error::failed(told).hint(self.as_whom()))
    }

    /// Who is at work on the root and would have to be waited for, as an error; so is that this user may not know it.
    #[must_use]
    pub fn at_work(&self) -> Option<Error> {
        if let Err(hidden) = self.may_tell() {
            return Some(hidden);
        }
        let file = disk::open_file(&self.lock()).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then(|| busy(self))
    }

    /// Whether somebody who holds the lock has ordered a start of the service. Whoever was killed meanwhile holds
    /// nothing any more.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        let told = self.lock_holder().is_some_and(|holder| holder.restarting);
        let held = || disk::open_file(&self.lock()).is_ok_and(|file| file.try_lock_shared().is_err());
        told && held()
    }
}

fn busy(root: &Root) -> Error {
    let who = root.lock_holder().map_or_else(String::new, |holder| {
        let age = Duration::from_secs(clock::since_boot().as_secs().saturating_sub(holder.since));
        format!(": `{}`, pid {}, for {}", holder.command, holder.pid, humantime::format_duration(age))
    });
    Error::new(Kind::Busy, format!("another Tenure command is running on {}{who}", root.path().display()))
        .hint("`--wait 60` waits up to a minute for it to end")
}
