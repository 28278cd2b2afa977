//! The lock of the one writer, and who holds it.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Doing, Error, Kind, Result};
use crate::fs as disk;
use crate::process;
use crate::watch::Watch;

use super::Root;

/// How long to wait before the lock is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Held while this process changes the root; released with the process, however it ends. The file is never
/// removed, for a lock on a removed file would exclude nobody.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct RootLock {
    _file: File,
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
}

impl RootLock {
    /// Takes the lock, within `wait`.
    ///
    /// # Errors
    /// Busy, naming the holder; refused where this user may not change the root.
    pub fn take(root: &Root, command: &str, wait: Duration, watch: &dyn Watch) -> Result<Self> {
        root.may_change()?;
        root.prepare()?;
        let place = root.lock();
        // Nobody else may open it: a reader of the file could hold the lock as well.
        let mut file = disk::open_kept(&place, &root.staging(), 0o600, root.owner())?;
        let until = clock::since_boot() + wait;
        loop {
            watch.go_on()?;
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if clock::since_boot() < until => clock::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(busy(root)),
                Err(TryLockError::Error(e)) => {
                    return Err(e).doing(|| format!("cannot lock {}", place.display()));
                }
            }
        }
        let holder =
            Holder { pid: process::own_id(), command: command.into(), since: clock::since_boot().as_secs() };
        // Only told to those who find the root busy: never a reason to fail.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(serde_json::to_string(&holder).unwrap_or_default().as_bytes()));
        Ok(Self { _file: file })
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
}

fn busy(root: &Root) -> Error {
    let who = root.lock_holder().map_or_else(String::new, |holder| {
        let age = Duration::from_secs(clock::since_boot().as_secs().saturating_sub(holder.since));
        format!(": `{}`, pid {}, for {}", holder.command, holder.pid, humantime::format_duration(age))
    });
    Error::new(Kind::Busy, format!("another Tenure works on {}{who}", root.path().display()))
        .hint("`--wait 60` waits up to a minute for it to end")
}
