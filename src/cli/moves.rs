//! install, upgrade and downgrade: their many options, taken apart.

use tenure::error::Result;
use tenure::execute::Invocation;
use tenure::health::Span;
use tenure::manifest::Timeouts;
use tenure::ops::{self, Extent};
use tenure::plan::{Permanence, Request, Restart, Retry, TrialEnd};
use tenure::policy::Direction;
use tenure::root::Root;

use super::args::{self, Backup, InstallArgs};
use super::console::{Console, Shown};
use super::{common, parse, replaced};

/// Goes to the release, or as far as nothing is switched.
pub fn go(
    root: &Root,
    order: Invocation,
    install: InstallArgs,
    direction: Direction,
    console: &mut Console,
) -> Result<Shown> {
    // Taken apart in full, so that a new option cannot be forgotten here.
    let InstallArgs {
        version,
        no_permanent,
        confirm_within,
        watch,
        restarting,
        start,
        retry,
        multi_hop,
        prepare_only,
        backup: Backup { backup_command },
        timeouts,
        replace,
        change,
    } = install;
    let request = Request {
        target: parse(&version)?,
        direction,
        permanence: match (no_permanent, confirm_within, watch) {
            (_, Some(Span(within)), _) => Permanence::Ends(TrialEnd::Confirmation(within)),
            (_, _, Some(Span(within))) => Permanence::Ends(TrialEnd::Watch(within)),
            (true, ..) => Permanence::Trial,
            _ => Permanence::Permanent,
        },
        restart: restart(restarting),
        start,
        // What is only prepared is not tried yet.
        retry: if prepare_only { Retry::Yes } else { self::retry(retry) },
    };
    let common = common(order, change, console)?;
    let options = ops::Install { common, request, replace: replaced(replace), backup_command };
    let root = root.clone().within(limits(timeouts));
    let style = console.style();
    match (multi_hop, prepare_only) {
        (true, true) => Shown::of(style, &ops::walk(&root, &options, Extent::Ahead, console)?),
        (true, false) => Shown::of(style, &ops::walk(&root, &options, Extent::Whole, console)?),
        (false, true) => Shown::of(style, &ops::prepare(&root, &options, console)?),
        (false, false) => Shown::of(style, &ops::install(&root, &options, console)?),
    }
}

/// Whether the service may be stopped.
pub(super) fn restart(args::Restarting { restart, restart_if_needed }: args::Restarting) -> Restart {
    match (restart, restart_if_needed) {
        (true, _) => Restart::Asked,
        (_, true) => Restart::IfNeeded,
        _ => Restart::Forbidden,
    }
}

/// Whether the release may have failed before.
pub(super) fn retry(args::RetryArgs { retry }: args::RetryArgs) -> Retry {
    if retry { Retry::Yes } else { Retry::No }
}

fn limits(args::TimeoutArgs { health_timeout, stop_timeout, hook_timeout }: args::TimeoutArgs) -> Timeouts {
    let (health, stop, hook) = (health_timeout, stop_timeout, hook_timeout);
    Timeouts { health, stop, hook, ..Timeouts::default() }
}
