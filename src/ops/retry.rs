//! Refuses a release that failed on this host before, unless it is to be retried.

use crate::error::Error;
use crate::plan::{Request, Restart, Retry};
use crate::policy::Direction;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;

use super::check::CheckOutcome;

/// Returns the earlier failure of the requested release; `None` if it did not fail, or is current or permanent.
/// `sha256` is that of the archive to unpack. `again` is the command that retries it.
pub(super) fn failed_before(
    root: &Root,
    now: &Snapshot,
    request: &Request,
    sha256: Option<&str>,
    again: &str,
) -> Option<CheckOutcome> {
    let target = &request.target;
    let state = now.state(target);
    if matches!(state, Some(ReleaseState::Current | ReleaseState::Permanent)) {
        return None;
    }
    let failure = root.failure(target)?;
    let installed = state.and_then(|_| root.receipt(target)?.sha256);
    let found = format!("failed here on {}: {}", failure.when, failure.why);
    let outcome = if !failure.is_about(sha256.or(installed.as_deref())) {
        Ok(format!("another archive of it {found}"))
    } else if request.retry == Retry::Yes {
        Ok(format!("it {found}; it is tried again"))
    } else {
        let verb = match verb(now, request) {
            "install" => "install".to_owned(),
            verb => format!("{verb} to"),
        };
        Err(Error::refused(format!("cannot {verb} {target}: it {found}"))
            .hint(format!("run `{again}` to try it again")))
    };
    Some(("failed-before", outcome))
}

/// Returns the command that retries the release, in either direction.
pub(super) fn command(now: &Snapshot, request: &Request) -> String {
    format!("tenure {} --retry{} {}", verb(now, request), restart(request), request.target)
}

/// Returns the command that retries several hops.
pub(super) fn command_of_walk(request: &Request) -> String {
    format!("tenure upgrade --multi-hop --retry{} {}", restart(request), request.target)
}

fn verb(now: &Snapshot, request: &Request) -> &'static str {
    match (request.direction, now.current.version()) {
        (Direction::Up, _) => "upgrade",
        (Direction::Down, _) => "downgrade",
        (Direction::Either, Some(current)) if *current < request.target => "upgrade",
        (Direction::Either, Some(_)) => "downgrade",
        (Direction::Either, None) => "install",
    }
}

fn restart(request: &Request) -> &'static str {
    match request.restart {
        Restart::Asked => " --restart",
        Restart::IfNeeded => " --restart-if-needed",
        Restart::Forbidden => "",
    }
}
