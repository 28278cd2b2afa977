//! Time: of day for people, since boot for everything that must not jump.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// The time of day, in RFC 3339, UTC, to the second.
#[must_use]
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The time since the host booted, suspended time included; zero where the clock cannot be read.
#[must_use]
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Lets some time pass.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}
