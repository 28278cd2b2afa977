//! How the running service goes along with the links: whether there is one, by what it moves, and how it is now.

use crate::error::Result;
use crate::execute::Reporter;
use crate::health::{Baseline, Judge, Sample, Verdict};
use crate::manifest::Manifest;
use crate::plan::{Method, Request, Restart, ServiceMove};
use crate::policy::{self, HopKind};
use crate::probe;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::service::Service;
use crate::version::Version;

use super::Mode;
use super::fetch::Fetch;

/// How the service gets to the release that is asked for; none where there is no service, or where it is down.
///
/// # Errors
/// Refused where the rule forbids the hop, or where there is no way to move it hot.
pub(super) fn choose_method(
    root: &Root,
    now: &Snapshot,
    request: &Request,
    fetched: &Fetch<'_>,
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
        Restart::IfNeeded | Restart::Forbidden => higher(root, current, target, fetched)?,
    };
    if request.restart == Restart::Forbidden {
        policy::hot_rule(current, target, hot_from(higher.as_ref()))?;
    }
    let Some(service) = up(root, request.start, reporter)? else { return Ok(None) };
    service.telling(target, fetched.manifest.as_ref(), reporter)?;
    let way = match request.restart {
        Restart::Asked => Method::Restart,
        Restart::IfNeeded => hot(&service, current, target, higher.as_ref()).unwrap_or(Method::Restart),
        Restart::Forbidden => service.hot_way(current, target, higher.as_ref())?,
    };
    let baseline = match mode {
        Mode::Act => baseline(&service, current, reporter)?,
        Mode::DryRun => Baseline::Sound,
    };
    Ok(Some(ServiceMove { way, baseline }))
}

/// How the service gets back to the permanent release: it is to run afterwards, unless it was down before the trial. A
/// manifest that cannot be read must not keep it: then it is restarted.
///
/// # Errors
/// Where it cannot be told whether the service is up.
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
        // After a restart of the host it is for the host to start the service.
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

/// How the service is moved without being stopped; none where the rule forbids it, or where there is no way.
fn hot(service: &Service<'_>, from: &Version, to: &Version, higher: Option<&Manifest>) -> Option<Method> {
    let is_allowed = policy::hop(from, to, hot_from(higher)) == HopKind::Hot;
    is_allowed.then(|| service.hot_way(from, to, higher).ok())?
}

/// What is said of a service that is not moved with the links.
const IS_DOWN: &str = "the service is down: only the links are switched, and its next start uses them";

/// The service; none where there is none, or where the settings that may name it cannot be read.
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

/// Whether there is a service, and it is down.
///
/// # Errors
/// Where it cannot be told whether the service is up.
pub(super) fn is_down(root: &Root, reporter: &mut dyn Reporter) -> Result<bool> {
    Service::of(root).map_or(Ok(false), |service| service.is_up(reporter).map(|up| !up))
}

/// The manifest of the higher of both releases, which is the one that can know of both.
fn higher(root: &Root, current: &Version, target: &Version, fetched: &Fetch<'_>) -> Result<Option<Manifest>> {
    match current > target {
        true => root.manifest(current),
        false => Ok(fetched.manifest.clone()),
    }
}

fn hot_from(manifest: Option<&Manifest>) -> Option<&[crate::version::Range]> {
    manifest.and_then(|manifest| manifest.upgrade.hot_from.as_deref())
}

/// What is wrong with the service on the release that runs; nothing where it is well, or where there is none.
///
/// # Errors
/// Where nobody can tell.
pub(super) fn ailment(root: &Root, current: &Version, reporter: &mut dyn Reporter) -> Result<Option<String>> {
    let Some(service) = Service::of(root) else { return Ok(None) };
    if !service.is_up(reporter)? {
        return Ok(Some("it is down".to_owned()));
    }
    Ok(failing(&service, current, reporter)?.map(|sample| sample.to_string()))
}

/// How the service is before it is moved.
fn baseline(service: &Service<'_>, current: &Version, reporter: &mut dyn Reporter) -> Result<Baseline> {
    let Some(sample) = failing(service, current, reporter)? else { return Ok(Baseline::Sound) };
    reporter.warn(&format!(
        "the service is failing on {current} already ({sample}): the new release is not blamed for that"
    ));
    Ok(Baseline::Failing)
}

/// The last of several samples, where the service is failing time and again.
fn failing(service: &Service<'_>, current: &Version, reporter: &mut dyn Reporter) -> Result<Option<Sample>> {
    let health = service.root().health(current)?;
    let mut judge = Judge::new(&health);
    for look in 1..=health.unhealthy_after {
        let sample = probe::sample(service, current, &health, reporter)?;
        if sample == Sample::Healthy {
            return Ok(None);
        }
        if judge.take(&sample, false) == Verdict::Unhealthy {
            return Ok(Some(sample));
        }
        if look < health.unhealthy_after {
            crate::clock::sleep(health.interval);
        }
    }
    Ok(None)
}
