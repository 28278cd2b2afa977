//! Reports the progress of reading an archive, and checks for interruption.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::progress::Progress;

/// The number of bytes between two progress reports.
const REPORT_EVERY: u64 = 1 << 20;

/// A progress meter for one reading of an archive.
pub struct ProgressMeter<'a> {
    progress: &'a mut dyn Progress,
    read: &'a AtomicU64,
    total: u64,
    reported: u64,
}

impl<'a> ProgressMeter<'a> {
    /// Returns a meter for a reading of `total` bytes; `read` counts the bytes read so far.
    pub fn new(progress: &'a mut dyn Progress, read: &'a AtomicU64, total: u64) -> Self {
        Self { progress, read, total, reported: 0 }
    }

    /// Reports progress if enough bytes were read since the last report.
    ///
    /// # Errors
    /// Returns an error on interruption.
    pub fn tick(&mut self) -> Result<()> {
        let read = self.read.load(Ordering::Relaxed).min(self.total);
        if read >= self.reported + REPORT_EVERY || read == self.total && self.reported < read {
            self.progress.advance(read, self.total);
            self.reported = read;
        }
        self.progress.go_on()
    }
}
