//! Determines which release a service really runs, independent of its manager and the links: from its processes and the
//! addresses on which they listen, or from the output of a hook.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path};

use serde::Serialize;

use super::manager::Condition;
use crate::process::{self, Address, Listeners};
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
pub fn parse_hook_output(said: &str) -> Running {
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

/// A process of a service.
#[derive(Clone, Debug)]
struct Member {
    pid: u32,
    /// The release that the process shows; `None` if it shows none.
    release: Option<Version>,
    /// The addresses on which it listens.
    addresses: BTreeSet<Address>,
    is_main: bool,
    /// Whether the manager stops it: it is the main process, a descendant of it, or in the service's control group.
    is_managed: bool,
}

/// A snapshot of the processes of a service.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    members: Vec<Member>,
}

impl Evidence {
    /// Finds the processes that the manager knows. Adds each other process from a release that listens on one of
    /// their addresses, such as an old master beside a new one. If the manager knows none, all processes from
    /// releases count.
    pub fn look(releases: &Path, condition: &Condition) -> Self {
        let mut evidence = Self::look_at_managed(releases, condition);
        let known: BTreeSet<u32> = evidence.members.iter().map(|member| member.pid).collect();
        let shared: BTreeSet<Address> =
            evidence.members.iter().flat_map(|member| member.addresses.clone()).collect();
        let (alone, mut listeners) = (known.is_empty(), Listeners::default());
        let others = process::ids().filter(|pid| !known.contains(pid));
        let others = others.filter_map(|pid| other(releases, pid, alone, &mut listeners));
        evidence.members.extend(others.filter(|other| alone || !other.addresses.is_disjoint(&shared)));
        evidence
    }

    /// Finds only the processes that the manager knows, which is much faster: the main process, its descendants, and
    /// the processes in the service's control group.
    pub fn look_at_managed(releases: &Path, condition: &Condition) -> Self {
        let mut managed = condition.main.map(process::family_of).unwrap_or_default();
        managed.extend(condition.group.iter().flat_map(|group| process::in_control_group(group)));
        let mut listeners = Listeners::default();
        let members = managed.into_iter().filter(|pid| process::is_alive(*pid)).map(|pid| Member {
            pid,
            release: process::places_of(pid).find_map(|place| release_in(releases, &place)),
            addresses: listeners.of(pid),
            is_main: condition.main == Some(pid),
            is_managed: true,
        });
        Self { members: members.collect() }
    }

    /// Returns the release of the processes that listen and of the main process. If no process listens, or those show
    /// no release, all processes count.
    pub fn running(&self) -> Running {
        let listens = self.listens();
        let counts = |member: &&Member| match listens {
            true => member.is_main || !member.addresses.is_empty(),
            false => true,
        };
        let told = |members: &mut dyn Iterator<Item = &Member>| -> BTreeSet<Version> {
            members.filter_map(|member| member.release.clone()).collect()
        };
        let mut versions = told(&mut self.members.iter().filter(counts));
        if versions.is_empty() {
            versions = told(&mut self.members.iter());
        }
        let mut versions: Vec<Version> = versions.into_iter().collect();
        match (versions.len(), self.members.first()) {
            (0, None) => Running::Nothing,
            (0, Some(first)) => {
                Running::Unknown(silent(self.members.iter().find(|m| m.is_main).unwrap_or(first).pid))
            }
            (1, _) => Running::Release(versions.remove(0)),
            _ => Running::Several(versions),
        }
    }

    /// Returns whether a process of the release has begun to work: it listens, if any process of the service does.
    pub fn shows(&self, version: &Version) -> bool {
        let listens = self.listens();
        let mut of = self.members.iter().filter(|member| member.release.as_ref() == Some(version));
        of.any(|member| !listens || !member.addresses.is_empty())
    }

    /// Returns whether any process of the release is left.
    pub fn has(&self, version: &Version) -> bool {
        self.members.iter().any(|member| member.release.as_ref() == Some(version))
    }

    /// Returns whether processes of both releases are left.
    pub fn has_both(&self, one: &Version, other: &Version) -> bool {
        self.has(one) && self.has(other)
    }

    /// Returns in words what a process of the release still does; `None` if none is left.
    pub fn remnant(&self, version: &Version) -> Option<String> {
        let of = self.members.iter().filter(|member| member.release.as_ref() == Some(version));
        let member = of.max_by_key(|member| (!member.addresses.is_empty(), member.is_main))?;
        let process = format!("process {} ({}) of {version}", member.pid, process::name_of(member.pid));
        Some(match member.addresses.first() {
            Some(address) => format!("{process} listens on {address}"),
            None => format!("{process} runs"),
        })
    }

    /// Returns the processes of the release that the manager does not stop: those that listen, or all of them in a
    /// service that listens nowhere.
    pub fn strays(&self, version: &Version) -> Vec<u32> {
        let listens = self.listens();
        let is_stray = |member: &&Member| {
            let counts = !listens || !member.addresses.is_empty();
            counts && member.release.as_ref() == Some(version) && !member.is_managed
        };
        self.members.iter().filter(is_stray).map(|member| member.pid).collect()
    }

    /// Returns whether the manager stops this process.
    pub fn manages(&self, pid: u32) -> bool {
        self.members.iter().any(|member| member.pid == pid && member.is_managed)
    }

    fn listens(&self) -> bool {
        self.members.iter().any(|member| !member.addresses.is_empty())
    }
}

/// Returns a process that the manager does not know, if its executable is in a release, or if it listens and its
/// working directory is. If the manager knows no process (`alone`), the arguments count like the working directory.
fn other(releases: &Path, pid: u32, alone: bool, listeners: &mut Listeners) -> Option<Member> {
    if pid == process::own_id() {
        return None;
    }
    let mut signs = process::signs_of(pid);
    let executed = signs.next().and_then(|exe| release_in(releases, &exe));
    let runs = executed.is_some();
    let more = if alone { usize::MAX } else { 1 };
    let release = executed.or_else(|| signs.take(more).find_map(|place| release_in(releases, &place)))?;
    let addresses = listeners.of(pid);
    (runs || !addresses.is_empty()).then_some(Member {
        pid,
        release: Some(release),
        addresses,
        is_main: false,
        is_managed: false,
    })
}

/// Returns why a service whose processes show no release cannot be identified.
fn silent(pid: u32) -> String {
    match process::executable_of(pid) {
        None => format!("this user cannot see what process {pid} runs"),
        Some(program) => format!("process {pid} ({}) cannot be matched to a release", program.display()),
    }
}

/// Returns the release that a path leads into. The kernel appends ` (deleted)` to the path of a file that was removed
/// while in use.
pub(super) fn release_in(releases: &Path, place: &Path) -> Option<Version> {
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
        assert_eq!(parse_hook_output("5.0.1\n"), Running::Release(v("5.0.1")));
        assert_eq!(parse_hook_output("node is up\nrelease \"5.0.1\""), Running::Release(v("5.0.1")));
        assert!(
            matches!(parse_hook_output(""), Running::Unknown(_))
                && matches!(parse_hook_output("no idea"), Running::Unknown(_))
        );
    }

    /// Builds processes from tuples: release, whether it listens, whether it is the main process.
    fn evidence(members: &[(&str, bool, bool)]) -> Evidence {
        let address = || {
            let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            Listeners::default().of(std::process::id())
        };
        let member = |(release, listens, is_main): &(&str, bool, bool)| Member {
            pid: u32::MAX,
            release: release.parse().ok(),
            addresses: if *listens { address() } else { BTreeSet::new() },
            is_main: *is_main,
            is_managed: true,
        };
        Evidence { members: members.iter().map(member).collect() }
    }

    #[test]
    fn listeners_determine_the_running_release() {
        let (old, new) = (v("5.0.0"), v("5.0.1"));
        let release = |version: &Version| Running::Release(version.clone());
        let both = Running::Several(vec![old.clone(), new.clone()]);
        for (members, expected) in [
            (&[][..], Running::Nothing),
            (&[("5.0.1", true, true)], release(&new)),
            // A main process that takes over, and an old worker that still answers.
            (&[("5.0.1", false, true), ("5.0.0", true, false)], both.clone()),
            // The same, while the old worker finishes its last requests.
            (&[("5.0.1", false, true), ("5.0.0", false, false), ("5.0.1", true, false)], release(&new)),
            // An old master beside the new one.
            (&[("5.0.1", true, true), ("5.0.0", true, false)], both.clone()),
            // A wrapper that shows no release, and the process that it started.
            (&[("", false, true), ("5.0.0", true, false)], release(&old)),
            // A listener that shows no release: all processes count.
            (&[("", true, false), ("5.0.0", false, false)], release(&old)),
            // No socket at all: all processes count.
            (&[("5.0.1", false, true), ("5.0.0", false, false)], both),
            (&[("5.0.1", false, true), ("", false, false)], release(&new)),
        ] {
            assert_eq!(evidence(members).running(), expected, "{members:?}");
        }
        assert!(matches!(evidence(&[("", true, true)]).running(), Running::Unknown(_)));
    }

    #[test]
    fn release_shows_once_it_listens() {
        let new = v("5.0.1");
        for (members, shows) in [
            (&[("5.0.1", false, true), ("5.0.0", true, false)][..], false),
            (&[("5.0.1", true, true), ("5.0.0", true, false)], true),
            (&[("5.0.1", false, true), ("5.0.0", false, false)], true),
            (&[("5.0.0", false, true)], false),
        ] {
            assert_eq!(evidence(members).shows(&new), shows, "{members:?}");
        }
    }
}
