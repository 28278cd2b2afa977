//! Determines which release a service really runs, independent of its manager and the links.

use std::fmt;
use std::path::{Component, Path};

use serde::Serialize;

use super::Condition;
use super::evidence::Evidence;
use crate::error::Result;
use crate::outside;
use crate::privilege;
use crate::process;
use crate::version::Version;

/// The release that a service runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Running {
    /// The service does not run.
    Nothing,
    /// One release.
    Release(Version),
    /// Parts of several releases, as in the middle of a move.
    Several(Vec<Version>),
    /// The release is unknown, for this reason.
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
            Self::Unknown(why) => write!(f, "cannot determine which release the service runs: {why}"),
        }
    }
}

/// Parses the output of a running-version hook: the version is the last word of the last line.
pub fn parsed(said: &str) -> Running {
    let word = said.lines().last().and_then(|line| line.split_whitespace().last()).unwrap_or_default();
    let version = word.trim_matches('"').parse();
    version.map_or_else(
        |_| {
            Running::Unknown(format!(
                "the running-version hook printed {said:?}, which does not end in a version"
            ))
        },
        Running::Release,
    )
}

/// Returns the live process whose id is in a pid file; `None` if there is none. A service in its own pid namespace
/// writes the id that it has in that namespace.
///
/// # Errors
/// Returns a `Refused` error if other users can write the file. Also if the owner of the file could not signal that
/// process, unless its executable is in `releases`.
pub fn by_file(file: Option<&Path>, releases: &Path) -> Result<Option<u32>> {
    let Some(file) = file else { return Ok(None) };
    let text = outside::read_text(file, 64).ok().flatten().unwrap_or_default();
    let Ok(pid) = text.trim().parse() else { return Ok(None) };
    let shows = |pid| process::signs_of(pid).any(|place| release_in(releases, &place).is_some());
    let is_here = process::is_alive(pid);
    let elsewhere = || process::in_other_namespace(pid, shows);
    let found = if is_here && shows(pid) { Some(pid) } else { elsewhere().or(is_here.then_some(pid)) };
    found.map(|pid| privilege::check_process(file, pid, releases).map(|()| pid)).transpose()
}

/// Returns how a service with a pid file ended; `None` if the process in the file runs. While the file is missing or
/// empty, for example during a rewrite, any process from a release counts as the service.
///
/// # Errors
/// Returns the errors of [`by_file`].
pub fn ended_by_file(file: &Path, releases: &Path) -> Result<Option<String>> {
    if by_file(Some(file), releases)?.is_some() {
        return Ok(None);
    }
    let text = outside::read_text(file, 64).ok().flatten().unwrap_or_default();
    if !text.trim().is_empty() {
        return Ok(Some(format!("the process that {} names does not run", file.display())));
    }
    let is_left = Evidence::look(releases, &Condition::default()).running() != Running::Nothing;
    let why = || format!("{} is missing, and no process runs from a release", file.display());
    Ok((!is_left).then(why))
}

/// Returns the release that a path leads into. The kernel appends ` (deleted)` to the path of a file that was removed
/// while in use.
pub fn release_in(releases: &Path, place: &Path) -> Option<Version> {
    match place.strip_prefix(releases).ok()?.components().next()? {
        Component::Normal(name) => Version::of_directory(name.to_str()?.trim_end_matches(" (deleted)")),
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
    fn release_is_found_by_path() {
        let releases = Path::new("/srv/releases");
        let of = |place: &str| release_in(releases, Path::new(place));
        assert_eq!(of("/srv/releases/5.0.0/bin/emqx"), Some(v("5.0.0")));
        assert_eq!(of("/srv/releases/5.0.0 (deleted)"), Some(v("5.0.0")));
        for other in ["/srv/releases", "/srv/releases-2/5.0.0/x", "/srv/releases/none/x", "/bin/sh"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn hook_output_may_precede_the_version() {
        assert_eq!(parsed("5.0.1\n"), Running::Release(v("5.0.1")));
        assert_eq!(parsed("node is up\nrelease \"5.0.1\""), Running::Release(v("5.0.1")));
        assert!(
            matches!(parsed(""), Running::Unknown(_)) && matches!(parsed("no idea"), Running::Unknown(_))
        );
    }
}
