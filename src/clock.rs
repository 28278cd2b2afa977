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

/// Returns a duration in whole milliseconds, as records store it.
#[must_use]
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the id of the current boot of the host.
///
/// # Errors
/// Returns an error if the kernel does not provide the id.
pub fn boot() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).context(|| "cannot determine the boot of this host")
}

/// Calls `poll`, and again after each `interval`, until it returns a value.
///
/// # Errors
/// Returns the first error of `poll`.
pub fn poll<T>(interval: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(value) = poll()? {
            return Ok(value);
        }
        sleep(interval);
    }
}

/// Like [`poll`], but for at most `time`. Calls `poll` with the time left. Returns `None` if it has not returned a value
/// when `time` has passed; the last call then has no time left.
///
/// # Errors
/// Returns the first error of `poll`.
pub fn poll_until<T>(
    time: Duration,
    interval: Duration,
    mut poll: impl FnMut(Duration) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let until = since_boot() + time;
    loop {
        let left = until.saturating_sub(since_boot());
        if let Some(value) = poll(left)? {
            return Ok(Some(value));
        }
        if left.is_zero() {
            return Ok(None);
        }
        sleep(interval.min(left));
    }
}

/// Blocks the current thread for `time`.
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn poll_ends_with_value_error_or_time() {
        let interval = Duration::from_millis(1);
        let mut calls = 0;
        let third = poll_until(Duration::from_secs(60), interval, |_| {
            calls += 1;
            Ok((calls == 3).then_some(calls))
        });
        assert_eq!(third.unwrap(), Some(3));
        let failed =
            poll_until(Duration::from_secs(60), interval, |_| Err::<Option<()>, _>(Error::failed("x")));
        assert!(failed.is_err());
        let mut last = Duration::MAX;
        let none = poll_until(Duration::from_millis(5), interval, |left| {
            last = left;
            Ok(None::<()>)
        });
        assert_eq!((none.unwrap(), last), (None, Duration::ZERO));
        assert_eq!(
            poll_until(Duration::ZERO, interval, |_| Ok(Some(1))).unwrap(),
            Some(1),
            "one call without time"
        );
    }
}
