//! How long work reports its progress and learns that it should end.

use std::time::Duration;

use crate::error::{Error, Result};

/// Watches work that may take a while.
pub trait Progress {
    /// `done` of `total` bytes are through.
    fn advance(&mut self, done: u64, total: u64);

    /// Something is waited for, for so much longer at most.
    fn waiting(&mut self, _for_what: &str, _left: Duration) {}

    /// Something is under way, and nobody knows for how long.
    fn working(&mut self, _on_what: &str) {}

    /// Whether the work should end early, because of a signal for instance.
    fn interrupted(&self) -> bool;

    /// Fails once the work should end early.
    ///
    /// # Errors
    /// When interrupted.
    fn go_on(&self) -> Result<()> {
        if self.interrupted() { Err(Error::failed("interrupted by a signal")) } else { Ok(()) }
    }
}

/// Watches nothing.
pub struct NoProgress;

impl Progress for NoProgress {
    fn advance(&mut self, _done: u64, _total: u64) {}

    fn interrupted(&self) -> bool {
        false
    }
}

/// Counts what is through, in bytes.
pub struct Count<'a> {
    progress: &'a mut dyn Progress,
    done: u64,
    total: u64,
}

impl<'a> Count<'a> {
    /// Of work on so many bytes nothing is through yet.
    pub fn new(progress: &'a mut dyn Progress, total: u64) -> Self {
        Self { progress, done: 0, total }
    }

    /// So many bytes more are through.
    ///
    /// # Errors
    /// When interrupted.
    pub fn pass(&mut self, bytes: u64) -> Result<()> {
        if bytes > 0 {
            self.done = self.total.min(self.done + bytes);
            self.progress.advance(self.done, self.total);
        }
        self.progress.go_on()
    }
}
