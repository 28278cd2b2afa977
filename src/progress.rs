//! The interface by which long work reports its progress and learns of an interruption.

use std::time::Duration;

use crate::error::{Error, Result};

/// An observer of long work.
pub trait Progress {
    /// Reports that `done` of `total` bytes are processed.
    fn advance(&mut self, done: u64, total: u64);

    /// Reports a wait for an event, which takes at most this much longer.
    fn waiting(&mut self, _for_what: &str, _left: Duration) {}

    /// Reports work of unknown duration.
    fn working(&mut self, _on_what: &str) {}

    /// Returns whether the work should stop early, for instance because of a signal.
    fn interrupted(&self) -> bool;

    /// Returns `Ok` if the work may continue.
    ///
    /// # Errors
    /// Returns an error on interruption.
    fn go_on(&self) -> Result<()> {
        if self.interrupted() { Err(Error::failed("interrupted by a signal")) } else { Ok(()) }
    }
}

/// An observer that ignores all reports.
pub struct NoProgress;

impl Progress for NoProgress {
    fn advance(&mut self, _done: u64, _total: u64) {}

    fn interrupted(&self) -> bool {
        false
    }
}

/// A counter of processed bytes.
pub struct Count<'a> {
    progress: &'a mut dyn Progress,
    done: u64,
    total: u64,
}

impl<'a> Count<'a> {
    /// Creates a counter for work on `total` bytes.
    pub fn new(progress: &'a mut dyn Progress, total: u64) -> Self {
        Self { progress, done: 0, total }
    }

    /// Adds processed bytes.
    ///
    /// # Errors
    /// Returns an error on interruption.
    pub fn pass(&mut self, bytes: u64) -> Result<()> {
        if bytes > 0 {
            self.done = self.total.min(self.done + bytes);
            self.progress.advance(self.done, self.total);
        }
        self.progress.go_on()
    }
}
