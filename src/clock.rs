//! Clocks: the time of day for display, and the time since boot for durations and deadlines.

use std::fs;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::error::{Context, Result};

/// Returns the time of day in RFC 3339, UTC, to the second.
#[must_use]
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Returns the time of day in seconds since the epoch; 0 if the clock is before the epoch.
#[must_use]
pub fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Returns the time since the host booted, including suspended time; zero if the clock cannot be read.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Returns the time of day after `time` has passed, in RFC 3339, UTC, to the second.
#[must_use]
pub fn in_time(time: Duration) -> String {
    humantime::format_rfc3339_seconds(SystemTime::now() + time).to_string()
}

/// Returns the id of the current boot of the host.
///
/// # Errors
/// Returns an error if the kernel does not provide the id.
pub fn boot() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).context(|| "cannot determine the boot of this host")
}

/// Blocks the current thread for `time`.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}
