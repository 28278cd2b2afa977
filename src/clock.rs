//! Time: of day for people, since boot for everything that must not jump.

use std::fs;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::error::{Context, Result};

/// The time of day, in RFC 3339, UTC, to the second.
#[must_use]
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The time of day, in seconds since the epoch; 0 where the clock is before it.
#[must_use]
pub fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The time since the host booted, suspended time included; zero where the clock cannot be read.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The time of day that it will be after a while, in RFC 3339, UTC, to the second.
#[must_use]
pub fn in_time(time: Duration) -> String {
    humantime::format_rfc3339_seconds(SystemTime::now() + time).to_string()
}

/// Names this boot of the host.
///
/// # Errors
/// Where the kernel does not tell.
pub fn boot() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).context(|| "cannot determine the boot of this host")
}

/// Lets some time pass.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}
