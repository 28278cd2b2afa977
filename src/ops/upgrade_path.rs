//! `plan`: finds the hops from one release to a higher one, over the available releases.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::data::{are, migrated, named};
use crate::error::{Error, Result};
use crate::execute::Reporter;
use crate::manifest::Manifest;
use crate::plan::{DeclaredPaths, Hop, Map, Missing};
use crate::policy::Paths;
use crate::progress::Progress;
use crate::release::Snapshot;
use crate::root::Root;
use crate::version::Version;

use super::source::manifest_of;

/// The location of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// Installed in releases/.
    Installed,
    /// As an archive in releases/.
    Archive,
    /// Named on the command line.
    Named,
}

/// The requested upgrade path.
#[derive(Clone, Debug)]
pub struct PathQuery {
    /// The last release of the path.
    pub to: Version,
    /// The first release of the path; by default the current release.
    pub from: Option<Version>,
    /// Additional releases that count as available.
    pub available: Option<Vec<Version>>,
    /// Whether to return all allowed hops: there can be half a million.
    pub graph: bool,
}

/// An upgrade path between two releases.
#[derive(Debug, Serialize)]
pub struct UpgradePath {
    /// The first release.
    pub from: Version,
    /// The last release.
    pub to: Version,
    /// The hops.
    pub hops: Vec<Hop>,
    /// The available releases from `from` to `to`, and their locations.
    pub releases: BTreeMap<Version, Location>,
    /// All allowed hops between them, if requested.
    #[serde(skip)]
    pub allowed: Vec<Hop>,
    /// Why there is no path, if all hops were requested.
    #[serde(skip)]
    pub none: Option<Error>,
}

/// Finds the hops. Changes nothing.
///
/// # Errors
/// Returns a `Refused` error that names releases that would open a path if there is none, unless all hops were
/// requested.
pub fn route(root: &Root, query: &PathQuery, reporter: &mut dyn Reporter) -> Result<UpgradePath> {
    root.ruled()?;
    let now = root.observe()?;
    let to = query.to.clone();
    let from = query.from.clone().or_else(|| now.current.version().cloned()).ok_or_else(|| {
        Error::refused("cannot plan an upgrade path: no release is current")
            .hint("use `--from VERSION` to name the starting release")
    })?;
    if to < from {
        return Err(Error::refused(format!(
            "cannot plan an upgrade path from {from} to {to}: {to} is lower"
        ))
        .hint(format!("a downgrade is one hop: `tenure downgrade --dry-run {to}` shows it")));
    }
    let mut releases = here(root, &now)?;
    for version in query.available.iter().flatten().chain([&from]) {
        releases.entry(version.clone()).or_insert(Location::Named);
    }
    if !releases.contains_key(&to) {
        return Err(nowhere(query));
    }
    let known = Known::of(root, &now, (&from, &to), &releases, reporter)?;
    let paths = root.paths()?;
    let map = Map::new(&paths, &known.declared);
    let way = map.route(&from, &to).ok_or_else(|| {
        let why = forbidden(&paths, &known.declared, &from, &to);
        known.unread.iter().fold(no_way(&map, &from, &to, why), Error::hint)
    });
    let (hops, none) = match way {
        Err(error) if query.graph => (Vec::new(), Some(error)),
        way => (way?, None),
    };
    if none.is_none() {
        known.unread.iter().for_each(|left_out| reporter.warn(left_out));
    }
    releases.retain(|version, _| (&from..=&to).contains(&version));
    let mut allowed = if query.graph { map.hops().collect() } else { Vec::new() };
    allowed.retain(|hop| hop.from >= from && hop.to <= to);
    Ok(UpgradePath { from, to, hops, releases, allowed, none })
}

fn nowhere(PathQuery { to, available, .. }: &PathQuery) -> Error {
    Error::refused(format!("release {to} is not installed, and releases/ has no archive of it")).hint(
        match available {
            Some(_) => "copy its archive into releases/, or name it with --available",
            None => "copy its archive into releases/",
        },
    )
}

/// The declarations of the available releases.
struct Known {
    /// The declared upgrade paths of each release; the default for a release that cannot be on the path.
    declared: BTreeMap<Version, DeclaredPaths>,
    /// The releases that are left out, and why.
    unread: Vec<String>,
}

impl Known {
    /// Reads the declarations of the releases from `from` to `to`. Other releases only count as available. An
    /// unreadable release between both is not an error, but no path leads over it.
    fn of(
        root: &Root,
        now: &Snapshot,
        (from, to): (&Version, &Version),
        releases: &BTreeMap<Version, Location>,
        progress: &mut dyn Progress,
    ) -> Result<Self> {
        let mut known = Self { declared: BTreeMap::new(), unread: Vec::new() };
        for (version, whereabouts) in releases {
            let manifest = match whereabouts {
                _ if version < from || version > to => Ok(None),
                Location::Installed => root.manifest(version),
                Location::Archive => manifest_of(root, version, progress),
                Location::Named => Ok(None),
            };
            let declared = match manifest {
                // The formats that it writes are unknown.
                Ok(_) if *whereabouts == Location::Named => {
                    DeclaredPaths { leaves: Some(BTreeSet::new()), ..DeclaredPaths::default() }
                }
                Ok(manifest) => declared(manifest.as_ref()),
                Err(error) if version == from || version == to => return Err(error),
                Err(error) => {
                    progress.go_on()?;
                    known
                        .unread
                        .push(format!("{version} is left out of every path: {}", error.in_one_line()));
                    DeclaredPaths { from: Some(Vec::new()), ..DeclaredPaths::default() }
                }
            };
            known.declared.insert(version.clone(), declared);
        }
        if now.current.version() == Some(from) {
            // The data on disk can have other formats than the current release writes. An unfinished migration counts
            // as done, because no hop starts before its end.
            let data = root.data(now)?;
            let made = data.unfinished().map(|migration| migrated(migration.to));
            known.declared.entry(from.clone()).or_default().leaves = Some(made.unwrap_or(data.formats));
        }
        Ok(known)
    }
}

fn forbidden(
    paths: &Paths,
    declared: &BTreeMap<Version, DeclaredPaths>,
    from: &Version,
    to: &Version,
) -> Option<Error> {
    let (before, after) = (declared.get(from)?, declared.get(to)?);
    let here = declared.keys().cloned().collect();
    let allowed = paths.allow(from, to, after.from.as_deref(), &here);
    let read = || {
        match before.leaves.as_ref().filter(|formats| !after.starts_on(formats)) {
        None => Ok(()),
        Some(formats) => Err(Error::refused(format!(
            "{to} cannot start on the data: {} on disk at that point",
            are(formats)
        ))
        .hint(format!(
            "a release between {from} and {to} that reads {} and writes a format that {to} reads would complete a path",
            named(formats)
        ))),
    }
    };
    allowed.and_then(|()| read()).err()
}

fn no_way(map: &Map<'_>, from: &Version, to: &Version, why: Option<Error>) -> Error {
    let error = Error::refused(format!("no upgrade path from {from} to {to} with the available releases"));
    let knows_better = why.as_ref().is_some_and(|why| !why.hints().is_empty());
    let error = why.into_iter().fold(error, Error::because);
    let missing = map.missing(from, to);
    if missing.is_empty() && knows_better {
        return error;
    }
    if missing.is_empty() {
        return error.hint(format!(
            "ask the vendor how to upgrade from {from}; by the known rules, no other release completes a path"
        ));
    }
    let known_by = |Missing { version, ranges }: &Missing| match ranges.as_slice() {
        [] => version.to_string(),
        ranges => format!("{version}, or another one in {}", ranges.join(" and ")),
    };
    let missing: Vec<String> = missing.iter().map(known_by).collect();
    error.hint(format!("add the missing releases to complete a path: {}", missing.join("; ")))
}

fn declared(manifest: Option<&Manifest>) -> DeclaredPaths {
    let upgrade = manifest.map(|manifest| manifest.upgrade.clone()).unwrap_or_default();
    let data = manifest.and_then(|manifest| manifest.data.clone());
    let migrates = manifest.is_some_and(|manifest| manifest.hooks.migrate.is_some());
    let writes = data.as_ref().map(|formats| formats.writes);
    DeclaredPaths {
        from: upgrade.from,
        hot_from: upgrade.hot_from,
        leaves: (migrates || writes.is_some()).then(|| migrated(writes)),
        reads: data.map(|formats| formats.reads),
    }
}

/// Returns the installed releases and those in archives.
fn here(root: &Root, now: &Snapshot) -> Result<BTreeMap<Version, Location>> {
    let archives = root.archived()?.into_iter().map(|version| (version, Location::Archive));
    let installed = now.releases.keys().map(|version| (version.clone(), Location::Installed));
    Ok(archives.chain(installed).collect())
}

/// Refuses an upgrade hop that the vendor's rules do not allow, with a hint about an allowed path.
///
/// # Errors
/// Returns a `Refused` error that names the rule.
pub(super) fn allowed(
    root: &Root,
    now: &Snapshot,
    target: &Version,
    manifest: Option<&Manifest>,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let Some(current) = now.current.version().filter(|current| *current < target) else { return Ok(()) };
    let here = here(root, now)?.into_keys().collect();
    let own = declared(manifest);
    root.paths()?
        .allow(current, target, own.from.as_deref(), &here)
        .map_err(|error| with_way(error, root, current, target, reporter))
}

/// Adds a hint about an allowed path, as `plan` shows it.
fn with_way(error: Error, root: &Root, from: &Version, to: &Version, reporter: &mut dyn Reporter) -> Error {
    let query = PathQuery { to: to.clone(), from: Some(from.clone()), available: None, graph: false };
    match route(root, &query, reporter) {
        Ok(UpgradePath { hops, .. }) => {
            let hops: Vec<String> = hops.iter().map(|hop| hop.to.to_string()).collect();
            error.hint(format!("use this path: {}; `tenure plan {to}` shows each hop", hops.join(", then ")))
        }
        Err(_) => error.hint(format!("run `tenure plan {to}` to see which releases would complete a path")),
    }
}
