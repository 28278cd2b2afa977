//! Versions: their text, which is the name of the directory of a release, and their order.

mod range;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use semver::{BuildMetadata, Prerelease};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use range::Range;

/// The maximum length of a file name on Linux file systems, in bytes.
const NAME_MAX: usize = 255;

/// The maximum number of numbers in a version, as in 26.2.5.2 and in 4.2.0.142.1.
const NUMBERS_MAX: usize = 5;

/// A version: one to five numbers, then optionally a pre-release or a build number, and build metadata.
///
/// Its text is exactly the name of the directory of its release. Missing numbers count as 0, and leading zeros do not
/// count, so 24.04 is 24.4.0. Versions of the same precedence are ordered by their metadata and by their text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(Arc<Parts>);

/// The text of a version, and what it means.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    text: String,
    precedence: Precedence,
    metadata: BuildMetadata,
}

/// The part of a version that determines its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Precedence {
    numbers: [u64; NUMBERS_MAX],
    suffix: Suffix,
}

/// The part after the numbers and a hyphen, in the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Suffix {
    /// As semver.org defines it (rule 9): it precedes the version without it.
    PreRelease(Prerelease),
    None,
    /// Only digits, as in 7.2.4-52: it follows the version without it.
    BuildNumber(u64),
}

impl Version {
    /// Returns the version whose release has a directory of this name; `None` if no version has.
    #[must_use]
    pub fn of_directory(name: &str) -> Option<Self> {
        name.parse().ok().filter(|version: &Self| version.0.text == name)
    }

    /// Compares by precedence alone, without build metadata (semver.org, rule 10).
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.0.precedence.cmp(&other.0.precedence)
    }

    /// Returns whether both versions have the same major.minor.
    #[must_use]
    pub fn same_minor(&self, other: &Self) -> bool {
        self.0.precedence.numbers[..2] == other.0.precedence.numbers[..2]
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, other) = (&self.0, &other.0);
        one.precedence
            .cmp(&other.precedence)
            .then_with(|| one.metadata.cmp(&other.metadata))
            .then_with(|| one.text.cmp(&other.text))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Parses a version. A leading `v` is accepted, and is not part of the version.
    fn from_str(given: &str) -> Result<Self> {
        let parsed = match without_v(given) {
            text if text.len() > NAME_MAX => Err(format!("it is longer than {NAME_MAX} bytes")),
            text => parse(text),
        };
        parsed.map_err(|why| {
            Error::refused(format!("{given:?} is not a version: {why}"))
                .hint("a version reads like 5.0.1, 24.04, 5.1.0-rc.1 or 7.2.4-52")
        })
    }
}

fn parse(text: &str) -> std::result::Result<Version, String> {
    let (rest, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, suffix) = rest.split_once('-').map_or((rest, None), |(core, suffix)| (core, Some(suffix)));
    if text.ends_with('+') {
        return Err("nothing follows the plus sign".to_owned());
    }
    let numbers = padded(&self::numbers(numbers)?);
    let suffix = suffix.map_or(Ok(Suffix::None), parse_suffix)?;
    let metadata = BuildMetadata::new(metadata).map_err(|error| error.to_string())?;
    let precedence = Precedence { numbers, suffix };
    Ok(Version(Arc::new(Parts { text: text.to_owned(), precedence, metadata })))
}

/// Parses one to five numbers that are separated by dots.
fn numbers(text: &str) -> std::result::Result<Vec<u64>, String> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("it does not begin with a number".to_owned());
    }
    let numbers: Vec<u64> = text.split('.').map(number).collect::<std::result::Result<_, _>>()?;
    if numbers.len() > NUMBERS_MAX {
        return Err(format!("it has more than {NUMBERS_MAX} numbers"));
    }
    Ok(numbers)
}

fn number(text: &str) -> std::result::Result<u64, String> {
    match text.parse() {
        _ if text.is_empty() => Err("a number is missing beside a dot".to_owned()),
        _ if !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(format!("{text:?} is not a number")),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("the number {text} is too large")),
    }
}

fn parse_suffix(text: &str) -> std::result::Result<Suffix, String> {
    if text.is_empty() {
        return Err("nothing follows the hyphen".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(Suffix::BuildNumber);
    }
    Prerelease::new(text).map(Suffix::PreRelease).map_err(|error| error.to_string())
}

fn padded(numbers: &[u64]) -> [u64; NUMBERS_MAX] {
    let mut padded = [0; NUMBERS_MAX];
    padded.iter_mut().zip(numbers).for_each(|(to, from)| *to = *from);
    padded
}

/// Returns the text without a leading `v` that a number follows.
fn without_v(text: &str) -> &str {
    text.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(text)
}

impl TryFrom<String> for Version {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0.text.clone()
    }
}

impl From<Precedence> for Version {
    /// Returns the version of this precedence with at least three numbers and without metadata.
    fn from(precedence: Precedence) -> Self {
        let last = precedence.numbers.iter().rposition(|number| *number > 0).unwrap_or_default();
        let numbers: Vec<String> =
            precedence.numbers[..=last.max(2)].iter().map(ToString::to_string).collect();
        let numbers = numbers.join(".");
        let text = match &precedence.suffix {
            Suffix::None => numbers,
            Suffix::PreRelease(suffix) => format!("{numbers}-{suffix}"),
            Suffix::BuildNumber(suffix) => format!("{numbers}-{suffix}"),
        };
        Self(Arc::new(Parts { text, precedence, metadata: BuildMetadata::EMPTY }))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.text)
    }
}

/// Returns the version that is most similar to `asked`, as a suggestion; `None` if none is similar enough. One of the
/// same precedence, such as 24.4.0 for 24.04, is the most similar.
#[must_use]
pub fn nearest<'a>(asked: &Version, among: impl IntoIterator<Item = &'a Version>) -> Option<&'a Version> {
    let likeness = |version: &Version| match asked.precedence(version) {
        Ordering::Equal => 1.0,
        _ => strsim::jaro_winkler(&asked.0.text, &version.0.text),
    };
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
        for text in
            ["5.0.1", "7.2.4-52", "1.0.0-rc.1+build.5", "0.0.0", "24", "24.04", "26.2.5.2", "1.2.3.4.5-rc.1"]
        {
            assert_eq!(v(text).to_string(), text);
            assert_eq!(v(&format!("v{text}")), v(text));
            assert_eq!(Version::of_directory(text), Some(v(text)));
            assert_eq!(Version::of_directory(&format!("v{text}")), None);
        }
    }

    #[test]
    fn invalid_versions_are_refused() {
        let table = [
            ("", "it does not begin with a number"),
            ("banana", "it does not begin with a number"),
            ("vv1", "it does not begin with a number"),
            ("../x", "it does not begin with a number"),
            (".", "it does not begin with a number"),
            ("5.0.1/", "\"1/\" is not a number"),
            ("5.0.1 ", "\"1 \" is not a number"),
            ("1.1.1k", "\"1k\" is not a number"),
            ("5.0.", "a number is missing beside a dot"),
            ("5..1", "a number is missing beside a dot"),
            ("1.2.3.4.5.6", "it has more than 5 numbers"),
            ("5.0.1-", "nothing follows the hyphen"),
            ("5.0.1+", "nothing follows the plus sign"),
            ("99999999999999999999.0", "the number 99999999999999999999 is too large"),
            ("1.0-99999999999999999999", "the number 99999999999999999999 is too large"),
        ];
        for (text, why) in table {
            let error = text.parse::<Version>().unwrap_err();
            assert_eq!(error.to_string(), format!("{text:?} is not a version: {why}"));
        }
        for text in ["1.0.0-a_b", "1.0.0-rc.01", "1.0.0+a+b", "1.0.0-rc..1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!(format!("1.0.0-{}", "a".repeat(250)).parse::<Version>().is_err());
    }

    #[test]
    fn versions_of_real_products_are_ordered() {
        let ascending = [
            &["5.0.2-rc.1", "5.0.2", "5.0.2-9", "5.0.2-30", "5.0.2.1", "5.0.3"][..],
            &["6.2.18-65", "6.4.2-rc.1", "6.4.2", "6.4.2-52", "6.4.2-110"],
            &["26.2.5", "26.2.5.2", "26.2.5.10", "26.2.6", "27"],
            &["2024.04", "2024.10", "2025.01.07", "2025.1.8"],
            &["4.2.0.9", "4.2.0.142", "4.2.1"],
            &[
                "1.0.0-alpha",
                "1.0.0-alpha.1",
                "1.0.0-alpha.beta",
                "1.0.0-rc.1",
                "1.0.0",
                "1.0.0+a",
                "1.0.0+b",
            ],
        ];
        for versions in ascending {
            for pair in versions.windows(2) {
                assert!(v(pair[0]) < v(pair[1]), "{} {}", pair[0], pair[1]);
            }
        }
        for (one, other) in
            [("24.4", "24.04"), ("5.0", "5.0.0"), ("5.0.1-7", "5.0.1-07"), ("1.0.0+a", "1.0.0+b")]
        {
            assert_eq!(v(one).precedence(&v(other)), Ordering::Equal);
            assert_ne!(v(one), v(other), "they are different directories");
            assert_ne!(v(one).cmp(&v(other)), Ordering::Equal);
        }
    }
}
