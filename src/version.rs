//! Semantic versions, compared by precedence and safe as directory names, and ranges of versions.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use semver::{Comparator, Op, Prerelease};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The maximum length of a file name on Linux file systems, in bytes.
const NAME_MAX: usize = 255;

/// A semantic version. Its text is exactly the name of the directory of its release.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

impl Version {
    /// Compares by precedence alone, without build metadata (semver.org, rule 10).
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.0.cmp_precedence(&other.0)
    }

    /// Returns whether both versions have the same major.minor.
    #[must_use]
    pub fn same_minor(&self, other: &Self) -> bool {
        (self.0.major, self.0.minor) == (other.0.major, other.0.minor)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| {
            Error::refused(format!("{text:?} is not a version: {why}"))
                .hint("a version reads like 5.0.1, 5.1.0-rc.1 or 7.2.4-52")
        };
        let version = semver::Version::parse(text).map_err(|e| refuse(e.to_string()))?;
        if text.len() > NAME_MAX {
            return Err(refuse(format!("it is longer than {NAME_MAX} bytes")));
        }
        Ok(Self(version))
    }
}

impl TryFrom<String> for Version {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range such as `~5.0` or `>=4.4.2`, matched by precedence alone: 7.2.4-64 satisfies `>=7.2.3`.
///
/// `~`, `^`, `*` and a bare version limit the numbers before the hyphen, so 5.1.0-rc.1 is not in `~5.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Range(semver::VersionReq);

impl Range {
    /// Returns whether the version is in the range.
    #[must_use]
    pub fn contains(&self, version: &Version) -> bool {
        self.0.comparators.iter().all(|c| matches(c, &version.0))
    }

    /// Returns one version for each bound, if it is in the range: the lowest for a lower bound; for an upper bound
    /// 0.0.0 if it has only a major number, else the bound or a version just below. Pre-releases only occur if a
    /// bound names one.
    pub fn lowest(&self) -> impl Iterator<Item = Version> {
        let floor = |c: &Comparator| {
            let (major, minor, patch) = (c.major, c.minor.unwrap_or(0), c.patch.unwrap_or(0));
            match (c.op, c.minor, c.patch) {
                (Op::Greater, None, _) => semver::Version::new(major + 1, 0, 0),
                (Op::Greater, _, None) => semver::Version::new(major, minor + 1, 0),
                (Op::Greater, ..) if c.pre.is_empty() => semver::Version::new(major, minor, patch + 1),
                (Op::Less | Op::LessEq, None, _) => semver::Version::new(0, 0, 0),
                (Op::Less, _, None) => semver::Version::new(major, minor.saturating_sub(1), 0),
                (Op::Less, ..) => semver::Version::new(major, minor, patch.saturating_sub(1)),
                _ => semver::Version { pre: c.pre.clone(), ..semver::Version::new(major, minor, patch) },
            }
        };
        let floors = self.0.comparators.iter().map(floor).map(Version);
        floors.filter(|version| self.contains(version))
    }

    /// Returns the lowest version in the range, including pre-releases; `None` if no version is in the range.
    #[must_use]
    pub fn least(&self) -> Option<Version> {
        let zero = semver::Version { pre: first_of_all(), ..semver::Version::new(0, 0, 0) };
        let least = self.0.comparators.iter().map(least).chain([zero]).map(Version);
        least.filter(|version| self.contains(version)).min()
    }
}

/// Returns the pre-release with the lowest precedence.
fn first_of_all() -> Prerelease {
    Prerelease::new("0").unwrap_or(Prerelease::EMPTY)
}

/// Returns the lowest version that a comparator allows.
fn least(c: &Comparator) -> semver::Version {
    let (major, minor, patch) = (c.major, c.minor.unwrap_or(0), c.patch.unwrap_or(0));
    let first = |major, minor, patch| semver::Version {
        pre: first_of_all(),
        ..semver::Version::new(major, minor, patch)
    };
    match (c.op, c.minor, c.patch) {
        (Op::Greater, None, _) => first(major.saturating_add(1), 0, 0),
        (Op::Greater, _, None) => first(major, minor.saturating_add(1), 0),
        (Op::Greater, ..) if c.pre.is_empty() => first(major, minor, patch.saturating_add(1)),
        (Op::Greater, ..) => {
            let next = Prerelease::new(&format!("{}.0", c.pre)).unwrap_or(Prerelease::EMPTY);
            semver::Version { pre: next, ..semver::Version::new(major, minor, patch) }
        }
        (Op::Less | Op::LessEq, ..) => first(0, 0, 0),
        (Op::Exact | Op::Wildcard, _, None) => first(major, minor, 0),
        _ => semver::Version { pre: c.pre.clone(), ..semver::Version::new(major, minor, patch) },
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        semver::VersionReq::parse(text)
            .map(Self)
            .map_err(|e| Error::refused(format!("{text:?} is not a range of versions: {e}")))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn matches(c: &Comparator, v: &semver::Version) -> bool {
    let floor = semver::Version {
        pre: c.pre.clone(),
        ..semver::Version::new(c.major, c.minor.unwrap_or(0), c.patch.unwrap_or(0))
    };
    let order = v.cmp_precedence(&floor);
    // Whether the first `numbers` numbers of the version equal those that the comparator gives.
    let pinned = |numbers: usize| {
        [(v.major, Some(c.major)), (v.minor, c.minor), (v.patch, c.patch)]
            .iter()
            .take(numbers)
            .all(|(have, want)| want.is_none_or(|w| w == *have))
    };
    match c.op {
        Op::Exact if c.patch.is_some() => order.is_eq(),
        Op::Exact | Op::Wildcard => pinned(3),
        Op::Greater if c.patch.is_some() => order.is_gt(),
        Op::Greater => order.is_gt() && !pinned(3),
        Op::GreaterEq => order.is_ge(),
        Op::Less => order.is_lt(),
        Op::LessEq if c.patch.is_some() => order.is_le(),
        Op::LessEq => order.is_lt() || pinned(3),
        Op::Tilde => order.is_ge() && pinned(2),
        Op::Caret => order.is_ge() && pinned(caret_width(c)),
        _ => false,
    }
}

/// Returns how many numbers `^` fixes: up to the leftmost number that is not zero (semver's caret rule).
fn caret_width(c: &Comparator) -> usize {
    match (c.major, c.minor) {
        (1.., _) | (0, None) => 1,
        (0, Some(1..)) => 2,
        (0, Some(0)) => 3,
    }
}

/// Returns the version that is most similar to `asked`, as a suggestion; `None` if none is similar enough.
#[must_use]
pub fn nearest<'a>(asked: &Version, among: impl IntoIterator<Item = &'a Version>) -> Option<&'a Version> {
    let asked = asked.to_string();
    let likeness = |version: &Version| strsim::jaro_winkler(&asked, &version.to_string());
    let alike = among
        .into_iter()
        .map(|version| (likeness(version), version))
        .filter(|(likeness, _)| *likeness > 0.85);
    alike.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1))).map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn version_text_round_trips() {
        for text in ["5.0.1", "7.2.4-52", "1.0.0-rc.1+build.5", "0.0.0"] {
            assert_eq!(v(text).to_string(), text);
        }
    }

    #[test]
    fn invalid_versions_are_refused() {
        for text in ["", "../x", "5.0", "v5.0.1", "5.0.1/", "banana", "5.0.1 ", "05.0.1", "5.0.1-", "."] {
            let error = text.parse::<Version>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        assert!(format!("1.0.0-{}", "a".repeat(250)).parse::<Version>().is_err());
    }

    #[test]
    fn numeric_prereleases_are_ordered_as_numbers() {
        assert!(v("7.2.4-52") < v("7.2.4-64"));
        assert!(v("7.2.4-9") < v("7.2.4-52"));
        assert!(v("7.2.4-64") < v("7.2.4"));
        assert_eq!(v("1.0.0+a").precedence(&v("1.0.0+b")), Ordering::Equal);
        assert_ne!(v("1.0.0+a"), v("1.0.0+b"));
    }

    #[test]
    fn ranges_compare_by_precedence() {
        let table = [
            (">=7.2.3", "7.2.4-64", true),
            (">=7.2.4", "7.2.4-64", false),
            (">7.2", "7.2.9", false),
            (">7.2", "7.3.0-1", true),
            ("<7.2.4", "7.2.4-64", true),
            ("<=5.0", "5.0.9", true),
            ("<=5.0", "5.1.0", false),
            ("~5.0", "5.0.7", true),
            ("~5.0", "5.1.0-rc.1", false),
            ("~5.0", "5.0.1-rc.1", true),
            ("^5.0", "5.9.0", true),
            ("5.0.1", "5.0.1", true),
            ("=5.0.1", "5.0.1-1", false),
            ("=5.0", "5.0.9-3", true),
            ("5.0.*", "5.0.3", true),
            ("*", "0.0.1-a", true),
            (">=4.4.2, <5", "4.9.0", true),
            (">=4.4.2, <5", "5.0.0", false),
            ("^0.0.3", "0.0.4", false),
            ("^0.2.3", "0.2.9", true),
            ("^0", "0.9.9", true),
        ];
        for (range, version, expected) in table {
            let range: Range = range.parse().unwrap();
            assert_eq!(range.contains(&v(version)), expected, "{range} {version}");
        }
    }
}
