//! Releases, the two links, and the state that follows from them. The state is derived each time and never stored.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::version::Version;

/// A hint for a command that a trial blocks.
pub const END_TRIAL: &str = "run `tenure confirm` to make it permanent, or `tenure revert` to end the trial";

/// The state of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// The next start of the service uses it.
    Permanent,
    /// It is on trial: it runs now, but is not permanent.
    Current,
    /// It was permanent and no longer is.
    Old,
    /// It is on disk and was never permanent.
    Unpacked,
}

impl fmt::Display for ReleaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent => "permanent",
            Self::Current => "current",
            Self::Old => "old",
            Self::Unpacked => "unpacked",
        })
    }
}

/// One of the two symlinks in the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkName {
    /// The link to the running release.
    Current,
    /// The link to the release that the next start uses.
    Permanent,
}

impl LinkName {
    /// Returns the name of the link in the root.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Permanent => "permanent",
        }
    }
}

/// The state of one of the symlinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The link does not exist.
    Missing,
    /// The link points to a release on disk.
    To(Version),
    /// The link is not usable, or something else is in its place.
    Broken(LinkFault),
}

impl Link {
    /// Returns the release that the link points to; `None` if it is missing or broken.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::To(version) => Some(version),
            Self::Missing | Self::Broken(_) => None,
        }
    }
}

/// The fault of a broken link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// A directory or a file is in the place of the link.
    NotASymlink(&'static str),
    /// The target is absolute, so the root cannot be moved or used from a container.
    Absolute(String),
    /// The target is not releases/VERSION.
    Elsewhere(String),
    /// The target is a release that does not exist.
    Dangling(String),
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASymlink(kind) => write!(f, "it is a {kind}, not a symlink"),
            Self::Absolute(target) => write!(f, "it is an absolute symlink to {target}"),
            Self::Elsewhere(target) => write!(f, "it points to {target}, which is not releases/VERSION"),
            Self::Dangling(target) => write!(f, "it points to {target}, which does not exist"),
        }
    }
}

/// The stored facts about a release on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Set once the release was displaced as the permanent one. A higher number means a later displacement.
    pub tenured: Option<u64>,
}

/// The state of a root at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The link to the running release.
    pub current: Link,
    /// The link to the release that the next start uses.
    pub permanent: Link,
    /// The releases on disk.
    pub releases: BTreeMap<Version, Installed>,
    /// The last target of a missing link `permanent`, if that release is on disk.
    pub lost: Option<Version>,
}

impl Snapshot {
    /// Returns the state of a release; `None` if the release is not on disk.
    #[must_use]
    pub fn state(&self, version: &Version) -> Option<ReleaseState> {
        let installed = self.releases.get(version)?;
        Some(if self.permanent.version() == Some(version) {
            ReleaseState::Permanent
        } else if self.current.version() == Some(version) {
            ReleaseState::Current
        } else if installed.tenured.is_some() {
            ReleaseState::Old
        } else {
            ReleaseState::Unpacked
        })
    }

    /// Returns the releases with their states, newest version first.
    pub fn states(&self) -> impl Iterator<Item = (&Version, ReleaseState)> {
        self.releases.keys().rev().filter_map(|v| Some((v, self.state(v)?)))
    }

    /// Returns the release on trial and the permanent release; `None` if there is no trial.
    #[must_use]
    pub fn trial(&self) -> Option<(&Version, &Version)> {
        let (current, permanent) = (self.current.version()?, self.permanent.version()?);
        (current != permanent).then_some((current, permanent))
    }

    /// Refuses an operation that is not allowed during a trial. `cannot` begins the message.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the release on trial.
    pub fn without_trial(&self, cannot: impl FnOnce() -> String) -> Result<()> {
        self.trial().map_or(Ok(()), |(current, _)| {
            Err(Error::refused(format!("{}: {current} is on trial", cannot())).hint(END_TRIAL))
        })
    }

    /// Returns the permanent release or, if the link `permanent` is missing, the release that it last pointed to.
    #[must_use]
    pub fn rightful(&self) -> Option<&Version> {
        self.permanent.version().or(self.lost.as_ref())
    }

    /// Returns the release that was permanent before the present one.
    #[must_use]
    pub fn last_known_good(&self) -> Option<&Version> {
        let old = self.releases.iter().filter(|(v, _)| self.state(v) == Some(ReleaseState::Old));
        old.max_by_key(|(_, installed)| installed.tenured).map(|(v, _)| v)
    }

    /// Returns the link of this name.
    #[must_use]
    pub fn link(&self, name: LinkName) -> &Link {
        match name {
            LinkName::Current => &self.current,
            LinkName::Permanent => &self.permanent,
        }
    }

    /// Returns the faults of the links, each as an error with a hint.
    #[must_use]
    pub fn faults(&self) -> Vec<Error> {
        let links = [LinkName::Permanent, LinkName::Current];
        links.into_iter().filter_map(|name| self.fault(name)).collect()
    }

    /// Checks that no link is broken, and that neither link is missing alone.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the link and a remedy.
    pub fn sound(&self) -> Result<()> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// Checks that no link is broken. A missing link is accepted: a link is briefly missing whenever the first
    /// release is installed.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the link and a remedy.
    pub fn readable(&self) -> Result<()> {
        let broken = |name: &LinkName| matches!(self.link(*name), Link::Broken(_));
        let links = [LinkName::Permanent, LinkName::Current];
        links.into_iter().find(broken).and_then(|name| self.fault(name)).map_or(Ok(()), Err)
    }

    /// Checks that the link can be switched: no directory or file may be in its place.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the link and a remedy.
    pub fn switchable(&self, name: LinkName) -> Result<()> {
        match self.link(name) {
            Link::Broken(LinkFault::NotASymlink(_)) => self.fault(name).map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Adds hints about how to restore a removed link `permanent`.
    fn restorable(&self, error: Error, current: Option<&Version>) -> Error {
        let Some(lost) = &self.lost else { return error };
        match current {
            Some(current) if current != lost => error
                .hint(format!("run `tenure revert` to go back to {lost}, the last permanent release"))
                .hint(format!("run `tenure confirm` to make the current release, {current}, permanent")),
            _ => error.hint(format!(
                "run `tenure boot` to restore the link to {lost}, the last permanent release, without touching the \
                 service"
            )),
        }
    }

    fn fault(&self, name: LinkName) -> Option<Error> {
        let other = match name {
            LinkName::Current => &self.permanent,
            LinkName::Permanent => &self.current,
        };
        let file = name.file_name();
        let why = match self.link(name) {
            Link::To(_) => return None,
            Link::Missing if *other == Link::Missing && self.lost.is_none() => return None,
            Link::Missing => "it is missing".to_owned(),
            Link::Broken(fault) => fault.to_string(),
        };
        let error = Error::refused(format!("the link `{file}` is unusable: {why}"));
        Some(match (self.link(name), name, other.version()) {
            (Link::Broken(LinkFault::NotASymlink(_)), ..) => error.hint(format!(
                "move it out of the root; if it is an installation, `tenure adopt {file} VERSION` copies it first"
            )),
            (Link::Missing, LinkName::Permanent, current) if self.lost.is_some() => self.restorable(error, current),
            (_, LinkName::Current, Some(permanent)) => {
                error.hint(format!("run `tenure revert` to point it to the permanent release, {permanent}"))
            }
            (_, LinkName::Permanent, Some(current)) => {
                error.hint(format!("run `tenure confirm` to make the current release, {current}, permanent"))
            }
            (_, _, None) => error.hint(format!("point it to a release: ln -sfn releases/VERSION {file}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(current: &str, permanent: &str, releases: &[(&str, Option<u64>)]) -> Snapshot {
        Snapshot {
            current: Link::To(current.parse().unwrap()),
            permanent: Link::To(permanent.parse().unwrap()),
            releases: releases
                .iter()
                .map(|(v, tenured)| (v.parse().unwrap(), Installed { tenured: *tenured }))
                .collect(),
            lost: None,
        }
    }

    #[test]
    fn states_follow_from_the_links() {
        let s = snapshot(
            "5.0.2",
            "5.0.1",
            &[("5.0.0", Some(1)), ("5.0.1", None), ("5.0.2", None), ("5.0.10", None)],
        );
        let states: Vec<String> = s.states().map(|(v, state)| format!("{v} {state}")).collect();
        assert_eq!(states, ["5.0.10 unpacked", "5.0.2 current", "5.0.1 permanent", "5.0.0 old"]);
        assert_eq!(s.trial().map(|(c, _)| c.to_string()).as_deref(), Some("5.0.2"));
        let s = snapshot("5.0.1", "5.0.1", &[("5.0.1", Some(3))]);
        assert_eq!(s.state(&"5.0.1".parse().unwrap()), Some(ReleaseState::Permanent));
        assert_eq!(s.trial(), None);
    }

    #[test]
    fn last_known_good_was_displaced_last() {
        let s = snapshot("5.0.3", "5.0.3", &[("5.0.0", Some(7)), ("5.0.1", Some(2)), ("5.0.3", Some(9))]);
        assert_eq!(s.last_known_good().map(ToString::to_string).as_deref(), Some("5.0.0"));
    }

    #[test]
    fn broken_link_is_named_with_a_hint() {
        let mut s = snapshot("5.0.0", "5.0.0", &[("5.0.0", None)]);
        assert!(s.sound().is_ok());
        s.current = Link::Broken(LinkFault::Absolute("/x".into()));
        let error = s.sound().unwrap_err();
        assert!(error.to_string().contains("`current`"), "{error}");
        assert!(error.hints()[0].contains("tenure revert"));
        s.current = Link::Missing;
        assert!(s.sound().is_err());
        s.permanent = Link::Missing;
        assert!(s.sound().is_ok(), "a new root has neither link");
    }
}
