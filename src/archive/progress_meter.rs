//! Tells how far the reading of an archive is, and learns whether to go on.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::progress::Progress;

/// How many bytes of an archive lie between two reports of progress.
const REPORT_EVERY: u64 = 1 << 20;

/// Measures one reading of an archive.
pub struct ProgressMeter<'a> {
    progress: &'a mut dyn Progress,
    read: &'a AtomicU64,
    total: u64,
    reported: u64,
}

impl<'a> ProgressMeter<'a> {
    /// Measures a reading of `total` bytes, of which so many were `read`.
    pub fn new(progress: &'a mut dyn Progress, read: &'a AtomicU64, total: u64) -> Self {
        Self { progress, read, total, reported: 0 }
    }

    /// Reports progress where there is enough of it.
    ///
    /// # Errors
    /// On interruption.
    pub fn tick(&mut self) -> Result<()> {
        let read = self.read.load(Ordering::Relaxed).min(self.total);
        if read >= self.reported + REPORT_EVERY || read == self.total && self.reported < read {
            self.progress.advance(read, self.total);
            self.reported = read;
        }
        self.progress.go_on()
    }
}
