//! What a service really runs, whatever its manager and the links say.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path};

use serde::Serialize;

use crate::outside;
use crate::process;
use crate::version::Version;

/// What a service runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Running {
    /// It does not run.
    Nothing,
    /// A release.
    Release(Version),
    /// Parts of several releases, as in the middle of a move.
    Several(Vec<Version>),
    /// Nobody can tell, and why.
    Unknown(String),
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("the service does not run"),
            Self::Release(version) => write!(f, "the service runs {version}"),
            Self::Several(versions) => {
                let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
                write!(f, "parts of the service run {}", versions.join(" and "))
            }
            Self::Unknown(why) => write!(f, "nobody can tell what the service runs: {why}"),
        }
    }
}

/// What a running-version hook said: the version is the last word of the last line.
pub fn parsed(said: &str) -> Running {
    let word = said.lines().last().and_then(|line| line.split_whitespace().last()).unwrap_or_default();
    let version = word.trim_matches('"').parse();
    version.map_or_else(|_| Running::Unknown(format!("running-version said {said:?}")), Running::Release)
}

/// The process whose id is in this file, where it lives.
pub fn by_file(file: Option<&Path>) -> Option<u32> {
    let text = outside::read_text(file?, 64).ok().flatten()?;
    text.trim().parse().ok().filter(|pid| process::is_alive(*pid))
}

/// What the main process runs, or else what those that it started do; without a main process, all that run from
/// a release under `releases`.
pub fn by_processes(releases: &Path, main: Option<u32>) -> Running {
    let of = |pid: u32| process::places_of(pid).find_map(|place| release_in(releases, &place));
    let Some(main) = main else { return told(executed(releases), None) };
    let parents = process::parents();
    if let Some(version) = of(main) {
        return Running::Release(version);
    }
    if !process::is_alive(main) {
        return Running::Nothing;
    }
    let mut family = BTreeSet::from([main]);
    loop {
        let children =
            parents.iter().filter(|(pid, parent)| family.contains(parent) && !family.contains(pid));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        if children.is_empty() {
            break;
        }
        family.extend(children);
    }
    told(family.into_iter().filter_map(of), Some(main))
}

/// The releases whose programs are being executed, by anybody but this process.
pub fn executed(releases: &Path) -> impl Iterator<Item = Version> {
    let others = process::parents().into_iter().map(|(pid, _)| pid).filter(|pid| *pid != process::own_id());
    others.filter_map(|pid| process::places_of(pid).next().and_then(|exe| release_in(releases, &exe)))
}

fn told(versions: impl Iterator<Item = Version>, main: Option<u32>) -> Running {
    let versions: BTreeSet<Version> = versions.collect();
    let mut versions: Vec<Version> = versions.into_iter().collect();
    match (versions.len(), main) {
        (0, None) => Running::Nothing,
        (0, Some(main)) if process::places_of(main).next().is_none() => {
            Running::Unknown(format!("process {main} does not show to this user what it runs"))
        }
        (0, Some(main)) => Running::Unknown(format!(
            "process {main} and those that it started run from no release; a running-version hook could tell"
        )),
        (1, _) => Running::Release(versions.remove(0)),
        _ => Running::Several(versions),
    }
}

/// The release that a path leads into. A file that was removed while it is in use says so behind its name.
fn release_in(releases: &Path, place: &Path) -> Option<Version> {
    match place.strip_prefix(releases).ok()?.components().next()? {
        Component::Normal(name) => name.to_str()?.trim_end_matches(" (deleted)").parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_release_is_known_by_its_path() {
        let releases = Path::new("/srv/releases");
        let of = |place: &str| release_in(releases, Path::new(place));
        assert_eq!(of("/srv/releases/5.0.0/bin/emqx"), Some(v("5.0.0")));
        assert_eq!(of("/srv/releases/5.0.0 (deleted)"), Some(v("5.0.0")));
        for other in ["/srv/releases", "/srv/releases-2/5.0.0/x", "/srv/releases/none/x", "/bin/sh"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_hook_may_say_more_than_the_version() {
        assert_eq!(parsed("5.0.1\n"), Running::Release(v("5.0.1")));
        assert_eq!(parsed("node is up\nrelease \"5.0.1\""), Running::Release(v("5.0.1")));
        assert!(
            matches!(parsed(""), Running::Unknown(_)) && matches!(parsed("no idea"), Running::Unknown(_))
        );
    }

    #[test]
    fn what_runs_is_read_off_the_processes() {
        let exe = std::env::current_exe().unwrap();
        let elsewhere = Path::new("/nowhere/releases");
        assert_eq!(by_processes(elsewhere, None), Running::Nothing);
        assert!(matches!(by_processes(elsewhere, Some(process::own_id())), Running::Unknown(_)), "{exe:?}");
        assert_eq!(by_processes(elsewhere, Some(u32::MAX)), Running::Nothing);
    }
}
