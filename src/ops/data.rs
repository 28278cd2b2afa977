//! Plans what happens to the data when a release becomes permanent: a backup, and a migration or a new format.

use std::collections::BTreeSet;

use crate::data::{Becoming, DataFormat, Formats, OnDisk, are, migrated, named};
use crate::error::{Error, Result};
use crate::execute::Reporter;
use crate::manifest::Manifest;
use crate::plan::{Permanence, PlanFacts, Request, Restart, Retry, Step};
use crate::policy::Direction;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::version::Version;

/// Returns the steps that back up the data and bring it into the format of a release that becomes permanent.
pub(super) fn along(
    on_disk: &OnDisk,
    now: &Snapshot,
    request: &Request,
    manifest: Option<&Manifest>,
    backup_command: Option<&str>,
) -> PlanFacts {
    let target = &request.target;
    // A trial must remain reversible, so it does not change the data.
    let is_permanent = request.permanence == Permanence::Permanent;
    let data = becoming(now, on_disk, target, manifest).filter(|_| is_permanent);
    let by_hook = data.as_ref().is_some_and(|step| converts(step, on_disk, now, target))
        && manifest.is_some_and(|manifest| manifest.hooks.backup.is_some());
    let backup = (by_hook || backup_command.is_some())
        .then(|| Step::Backup { version: target.clone(), command: backup_command.map(str::to_owned) });
    PlanFacts { backup, data, ..PlanFacts::default() }
}

/// Returns the steps of [`along`] for the current release when it becomes permanent. An unusable manifest must not
/// prevent that: it causes a warning, and the data stays as it is.
///
/// # Errors
/// Returns an error if the record of the data cannot be read.
pub(super) fn confirmed(
    root: &Root,
    now: &Snapshot,
    backup_command: Option<&str>,
    reporter: &mut dyn Reporter,
) -> Result<PlanFacts> {
    let Some(current) = now.current.version() else { return Ok(PlanFacts::default()) };
    let request = Request {
        target: current.clone(),
        direction: Direction::Either,
        permanence: Permanence::Permanent,
        restart: Restart::Forbidden,
        start: false,
        retry: Retry::No,
    };
    let told = root.manifest(current).and_then(|manifest| Ok((manifest, root.data(now)?)));
    match told {
        Ok((manifest, data)) => Ok(along(&data, now, &request, manifest.as_ref(), backup_command)),
        Err(error) => {
            // The record itself must be readable in any case.
            root.data_as_told(now)?;
            reporter.warn(&format!("the data of {current} is not migrated: {}", error.in_one_line()));
            reporter.warn("correct the file, then run `tenure migrate`");
            Ok(PlanFacts {
                backup: backup_command.map(|command| Step::Backup {
                    version: current.clone(),
                    command: Some(command.to_owned()),
                }),
                ..PlanFacts::default()
            })
        }
    }
}

/// Returns the data formats that a release declares, and whether it has a migrate hook.
fn said(manifest: Option<&Manifest>) -> (Option<&Formats>, bool) {
    let migrates = manifest.is_some_and(|manifest| manifest.hooks.migrate.is_some());
    (manifest.and_then(|manifest| manifest.data.as_ref()), migrates)
}

fn becoming(now: &Snapshot, data: &OnDisk, target: &Version, manifest: Option<&Manifest>) -> Option<Step> {
    // This finds the permanent release even if the link `permanent` was removed.
    let old = now.rightful();
    let (declared, migrates) = said(manifest);
    match data.becomes(old, target, declared, migrates) {
        Becoming::Same => None,
        Becoming::Formats(formats) => Some(Step::Data { formats }),
        Becoming::Migrated(to) => {
            Some(Step::Migrate { version: target.clone(), old: old.cloned(), from: data.to_migrate(), to })
        }
    }
}

/// Returns whether the step means a change of the data that cannot be rolled back: a migration, or a conversion that
/// a higher release does by itself.
fn converts(step: &Step, on_disk: &OnDisk, now: &Snapshot, target: &Version) -> bool {
    match step {
        Step::Migrate { .. } => true,
        Step::Data { formats } => {
            *formats != on_disk.formats && now.rightful().is_some_and(|old| old < target)
        }
        _ => false,
    }
}

/// Returns the final state of the data after a release becomes permanent and its migration is done.
pub(super) fn after(
    formats: BTreeSet<DataFormat>,
    now: &Snapshot,
    target: &Version,
    manifest: Option<&Manifest>,
) -> OnDisk {
    let data = OnDisk { formats, migration: None };
    let (declared, migrates) = said(manifest);
    match data.becomes(now.rightful(), target, declared, migrates) {
        Becoming::Same => data,
        Becoming::Formats(formats) => OnDisk { formats, ..data },
        Becoming::Migrated(to) => OnDisk { formats: migrated(to), ..data },
    }
}

/// Checks that a release can start on the data and that no unfinished migration forbids it. Returns a description of
/// what happens to the data.
///
/// # Errors
/// Returns a `Refused` error that names the formats or the migration.
pub(super) fn admitted(
    data: &OnDisk,
    now: &Snapshot,
    target: &Version,
    manifest: Option<&Manifest>,
) -> Result<String> {
    // A release on trial has not changed the data yet, so compare with the permanent release.
    let from = now.rightful().or(now.current.version());
    if let Some(from) = from.filter(|_| now.state(target) != Some(ReleaseState::Permanent)) {
        let (declared, migrates) = said(manifest);
        data.admits(from, target, declared, migrates)?;
    }
    let is = match data.formats.is_empty() {
        true => "no release declares its format".to_owned(),
        false => format!("{} on disk", are(&data.formats)),
    };
    let has_backup = manifest.is_some_and(|manifest| manifest.hooks.backup.is_some());
    let saved = if has_backup { "after a backup by its own hook" } else { "and has no hook for a backup" };
    Ok(match becoming(now, data, target, manifest) {
        Some(Step::Migrate { to: Some(to), .. }) => {
            format!("{is}; {target} migrates it to format {to} once it is permanent, {saved}")
        }
        Some(Step::Migrate { to: None, .. }) => {
            format!("{is}; {target} migrates it once it is permanent, {saved}")
        }
        Some(ref step @ Step::Data { ref formats }) if converts(step, data, now, target) => {
            format!("{is}; {target} writes {} once it is permanent, {saved}", named(formats))
        }
        _ => is,
    })
}

/// Returns the error for an unfinished migration that refuses a release whatever its manifest declares, or `None`.
pub(super) fn held_up(data: &OnDisk, now: &Snapshot, target: &Version) -> Option<Error> {
    let from = now.rightful().or(now.current.version())?;
    data.is_at_rest(from, target).err()
}

/// Returns the step that prepares a release. Returns `None` if the release has no prepare hook or is prepared
/// already. A release that has run here counts as prepared.
pub(super) fn preparing(
    root: &Root,
    now: &Snapshot,
    target: &Version,
    manifest: Option<&Manifest>,
    is_fetched: bool,
) -> Option<Step> {
    manifest?.hooks.prepare.as_ref()?;
    let is_new = matches!(now.state(target), None | Some(ReleaseState::Unpacked));
    let is_done = !is_fetched && root.is_prepared(target);
    (is_fetched || is_new && !is_done).then(|| Step::Prepare { version: target.clone() })
}
