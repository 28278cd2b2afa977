//! Decides how the running service follows the links: whether there is a service, how it moves, and its health.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::Result;
use crate::execute::Reporter;
use crate::health::{Baseline, Sample};
use crate::manifest::Manifest;
use crate::plan::{Method, Request, Restart, ServiceMove};
use crate::policy::{self, HopKind};
use crate::progress::Progress;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::service::{HealthWatch, Service, Verdict};
use crate::version::Version;

use super::session::Mode;

/// Returns how the service moves to the requested release; `None` if there is no service, or if it is down.
///
/// # Errors
/// Returns a `Refused` error if the rules forbid the hop, or if the service cannot move hot.
pub(super) fn choose_method(
    root: &Root,
    now: &Snapshot,
    request: &Request,
    manifest: Option<&Manifest>,
    mode: Mode,
    reporter: &mut dyn Reporter,
) -> Result<Option<ServiceMove>> {
    let target = &request.target;
    let Some(current) = now.current.version().filter(|current| *current != target) else { return Ok(None) };
    if now.state(target) == Some(ReleaseState::Permanent) {
        return back(root, Some(current), target, request.restart, reporter);
    }
    let higher = match request.restart {
        Restart::Asked => None,
        Restart::IfNeeded | Restart::Forbidden => higher(root, current, target, manifest)?,
    };
    if request.restart == Restart::Forbidden {
        policy::hot_rule(current, target, hot_from(higher.as_ref()))?;
    }
    let Some(service) = up(root, request.start, reporter)? else { return Ok(None) };
    service.check_identifiable(target, manifest, reporter)?;
    let way = match request.restart {
        Restart::Asked => Method::Restart,
        Restart::IfNeeded => hot(&service, current, target, higher.as_ref()).unwrap_or(Method::Restart),
        Restart::Forbidden => service.hot_method(current, target, higher.as_ref())?,
    };
    let baseline = match mode {
        Mode::Act => baseline(&service, current, reporter)?,
        Mode::DryRun => Baseline::Sound,
    };
    Ok(Some(ServiceMove { way, baseline }))
}

/// Returns how the service moves back to the permanent release. It runs afterwards, unless it was down before the
/// trial. An unreadable manifest must not prevent this: then the service is restarted.
///
/// # Errors
/// Returns an error if the state of the service is unknown.
pub(super) fn back(
    root: &Root,
    from: Option<&Version>,
    to: &Version,
    restart: Restart,
    reporter: &mut dyn Reporter,
) -> Result<Option<ServiceMove>> {
    let Some(service) = named(root, reporter) else { return Ok(None) };
    let by = |way| Ok(Some(ServiceMove { way, baseline: Baseline::Sound }));
    if service.has_ended(reporter)? {
        // After a reboot, the host starts the service.
        let is_earlier = root.trial(&root.observe()?)?.is_some_and(|trial| !trial.is_of_this_boot());
        if !is_earlier && from.is_some_and(|from| root.has_moved_service_to(from)) {
            return by(Method::Restart);
        }
        reporter.warn(IS_DOWN);
        return Ok(None);
    }
    let hot = |from: &Version| hot(&service, from, to, root.manifest(from.max(to)).ok()?.as_ref());
    by(from.filter(|_| restart != Restart::Asked).and_then(hot).unwrap_or(Method::Restart))
}

/// Returns how the service moves without a stop; `None` if the rules forbid it, or if there is no hot method.
fn hot(service: &Service<'_>, from: &Version, to: &Version, higher: Option<&Manifest>) -> Option<Method> {
    let is_allowed = policy::hop(from, to, hot_from(higher)) == HopKind::Hot;
    is_allowed.then(|| service.hot_method(from, to, higher).ok())?
}

const IS_DOWN: &str = "the service is down: only the links are switched, and its next start uses them";

/// Returns the service; `None` if there is none, or if the settings that may name it cannot be read.
fn named<'a>(root: &'a Root, reporter: &mut dyn Reporter) -> Option<Service<'a>> {
    let service = Service::of(root);
    if service.is_none() && root.may_have_service() {
        reporter.warn("the service is not moved: the table [service] of tenure.toml cannot be read");
        reporter.warn(
            "restart the service after the links are switched, for example with `systemctl restart UNIT`",
        );
    }
    service
}

fn up<'a>(root: &'a Root, starts: bool, reporter: &mut dyn Reporter) -> Result<Option<Service<'a>>> {
    let Some(service) = named(root, reporter) else { return Ok(None) };
    if service.is_up(reporter)? {
        return Ok(Some(service));
    }
    if !starts {
        reporter.warn(IS_DOWN);
    }
    Ok(None)
}

/// Returns whether there is a service and it is down.
///
/// # Errors
/// Returns an error if the state of the service is unknown.
pub(super) fn is_down(root: &Root, reporter: &mut dyn Reporter) -> Result<bool> {
    Service::of(root).map_or(Ok(false), |service| service.is_up(reporter).map(|up| !up))
}

/// Returns the manifest of the higher release, the only one that can know both.
fn higher(
    root: &Root,
    current: &Version,
    target: &Version,
    manifest: Option<&Manifest>,
) -> Result<Option<Manifest>> {
    match current > target {
        true => root.manifest(current),
        false => Ok(manifest.cloned()),
    }
}

fn hot_from(manifest: Option<&Manifest>) -> Option<&[crate::version::Range]> {
    manifest.and_then(|manifest| manifest.upgrade.hot_from.as_deref())
}

/// Returns the problem of the service on the current release; `None` if it is healthy, or if there is none.
///
/// # Errors
/// Returns an error if the state of the service is unknown.
pub(super) fn ailment(root: &Root, current: &Version, reporter: &mut dyn Reporter) -> Result<Option<String>> {
    let Some(service) = Service::of(root) else { return Ok(None) };
    if !service.is_up(reporter)? {
        return Ok(Some("it is down".to_owned()));
    }
    Ok(failing(&service, current, reporter)?.map(|sample| sample.to_string()))
}

fn baseline(service: &Service<'_>, current: &Version, reporter: &mut dyn Reporter) -> Result<Baseline> {
    let Some(sample) = failing(service, current, reporter)? else { return Ok(Baseline::Sound) };
    reporter.warn(&format!(
        "the service is already failing on {current} ({sample}); the new release need not be healthy"
    ));
    Ok(Baseline::Failing)
}

/// Returns the last of several samples if the service fails repeatedly.
fn failing(service: &Service<'_>, current: &Version, reporter: &mut dyn Reporter) -> Result<Option<Sample>> {
    let health = service.root().health(current)?;
    let check = |progress: &dyn Progress| service.sample_health(current, &health, progress);
    let mut looks = 0;
    HealthWatch::new(&health, Duration::ZERO).run(health.interval, reporter, check, |watch, _| {
        looks += 1;
        Ok(match (&watch.sample, watch.verdict) {
            (Sample::Healthy, _) => ControlFlow::Break(None),
            (sample, Verdict::Unhealthy) => ControlFlow::Break(Some(sample.clone())),
            _ if looks == health.unhealthy_after => ControlFlow::Break(None),
            _ => ControlFlow::Continue(health.interval),
        })
    })
}
