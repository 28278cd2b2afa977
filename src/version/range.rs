//! Ranges of versions, such as `~5.0` or `>=4.4.2, <5`.

use std::fmt;
use std::str::FromStr;

use semver::{Op, Prerelease};
use serde::{Deserialize, Serialize};

use super::{NUMBERS_MAX, Precedence, Suffix, Version, numbers, padded, parse_suffix, without_v};
use crate::error::{Error, Result};

/// A range such as `~5.0` or `>=4.4.2`, matched by precedence alone: 7.2.4-64 satisfies `>=7.2.3`.
///
/// A bound stands for all versions that begin with its numbers: 6.4.2-110 satisfies `=6.4.2` and `<=6.4.2`, but not
/// `>6.4.2`. `~`, `^`, `*` and a bare version limit the numbers before the hyphen, so 5.1.0-rc.1 is not in `~5.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range(Vec<Comparator>);

/// One bound of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Comparator {
    op: Op,
    /// The numbers as given, at most five.
    numbers: Vec<u64>,
    suffix: Suffix,
    /// The version as given.
    text: String,
}

/// The operators; of two that begin alike, the longer one comes first.
const OPERATORS: [(&str, Op); 7] = [
    (">=", Op::GreaterEq),
    ("<=", Op::LessEq),
    (">", Op::Greater),
    ("<", Op::Less),
    ("=", Op::Exact),
    ("~", Op::Tilde),
    ("^", Op::Caret),
];

impl Range {
    /// Returns whether the version is in the range.
    #[must_use]
    pub fn contains(&self, version: &Version) -> bool {
        self.0.iter().all(|comparator| comparator.allows(&version.0.precedence))
    }

    /// Returns one version for each bound, if it is in the range: the lowest for a lower bound; for an upper bound
    /// 0.0.0 if it has only a major number, else the bound or a version just below. Pre-releases only occur if a
    /// bound names one.
    pub fn lowest(&self) -> impl Iterator<Item = Version> {
        let lowest = self.0.iter().map(|comparator| Version::from(comparator.lowest()));
        lowest.filter(|version| self.contains(version))
    }

    /// Returns the lowest version in the range, including pre-releases; `None` if no version is in the range.
    #[must_use]
    pub fn least(&self) -> Option<Version> {
        let least = self.0.iter().map(Comparator::least).chain([first(&[0])]).map(Version::from);
        least.filter(|version| self.contains(version)).min()
    }
}

impl Comparator {
    fn allows(&self, version: &Precedence) -> bool {
        let order = version.cmp(&self.floor());
        let given = self.numbers.len();
        let begins_with = |count: usize| version.numbers[..count] == self.numbers[..count];
        // A pre-release of a whole version, such as 5.0.1-rc.1, is not meant by that version.
        let is_meant = match self.suffix {
            Suffix::None => begins_with(given) && (given < 3 || order.is_ge()),
            _ => order.is_eq(),
        };
        match self.op {
            Op::Exact => is_meant,
            Op::Wildcard => begins_with(given),
            Op::Greater => order.is_gt() && !is_meant,
            Op::GreaterEq => order.is_ge(),
            Op::Less => order.is_lt(),
            Op::LessEq => order.is_lt() || is_meant,
            Op::Tilde => order.is_ge() && begins_with(self.tilde_width()),
            Op::Caret => order.is_ge() && begins_with(self.caret_width()),
            _ => false,
        }
    }

    /// Returns the precedence of the bound itself.
    fn floor(&self) -> Precedence {
        Precedence { numbers: padded(&self.numbers), suffix: self.suffix.clone() }
    }

    /// Returns how many numbers `~` fixes: major and minor, or all but the last of four or five.
    fn tilde_width(&self) -> usize {
        match self.numbers.len() {
            given @ 0..=2 => given,
            3 => 2,
            given => given - 1,
        }
    }

    /// Returns how many numbers `^` fixes: up to the leftmost number that is not zero (semver's caret rule).
    fn caret_width(&self) -> usize {
        let leftmost = self.numbers.iter().position(|number| *number > 0);
        leftmost.map_or(self.numbers.len(), |at| at + 1)
    }

    fn lowest(&self) -> Precedence {
        let numbers = match (self.op, self.numbers.len()) {
            (Op::Greater, _) if self.suffix == Suffix::None => after(&self.numbers),
            (Op::Less | Op::LessEq, ..=1) => Vec::new(),
            (Op::Less, given) => {
                let mut numbers = self.numbers.clone();
                numbers[given - 1] = numbers[given - 1].saturating_sub(1);
                numbers
            }
            _ => return self.floor(),
        };
        Precedence { numbers: padded(&numbers), suffix: Suffix::None }
    }

    /// Returns the lowest version that the bound allows.
    fn least(&self) -> Precedence {
        match (self.op, &self.suffix) {
            (Op::Greater, Suffix::None) => first(&after(&self.numbers)),
            (Op::Greater, Suffix::PreRelease(suffix)) => {
                let next = Prerelease::new(&format!("{suffix}.0")).unwrap_or(Prerelease::EMPTY);
                Precedence { suffix: Suffix::PreRelease(next), ..self.floor() }
            }
            (Op::Greater, Suffix::BuildNumber(number)) => match number.checked_add(1) {
                Some(next) => Precedence { suffix: Suffix::BuildNumber(next), ..self.floor() },
                None => first(&after(&padded(&self.numbers))),
            },
            (Op::Less | Op::LessEq, _) => first(&[0]),
            (Op::Wildcard, _) => first(&self.numbers),
            (Op::Exact, Suffix::None) if self.numbers.len() < 3 => first(&self.numbers),
            _ => self.floor(),
        }
    }
}

/// Returns the lowest numbers after all versions that begin with these numbers; all zero if there are none.
fn after(numbers: &[u64]) -> Vec<u64> {
    let raised = numbers.iter().rposition(|number| *number < u64::MAX);
    let mut numbers = raised.map_or_else(Vec::new, |at| numbers[..=at].to_vec());
    numbers.last_mut().into_iter().for_each(|last| *last += 1);
    numbers
}

/// Returns the lowest precedence with these numbers. The pre-release `0` would be a build number.
fn first(numbers: &[u64]) -> Precedence {
    let suffix = Prerelease::new("0.0").map_or(Suffix::None, Suffix::PreRelease);
    Precedence { numbers: padded(numbers), suffix }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.split(',').map(comparator).collect::<std::result::Result<_, _>>().map(Self).map_err(|why| {
            Error::refused(format!("{text:?} is not a range of versions: {why}"))
                .hint("a range reads like ~5.0, >=4.4.2 or >=4.4.2, <5")
        })
    }
}

fn comparator(text: &str) -> std::result::Result<Comparator, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a bound is empty".to_owned());
    }
    let operator = OPERATORS.iter().find_map(|(sign, op)| Some((*op, text.strip_prefix(sign)?)));
    let (op, version) = operator.unwrap_or((Op::Caret, text));
    let version = without_v(version.trim_start());
    let open = version.strip_suffix(['*', 'x', 'X']).filter(|rest| rest.is_empty() || rest.ends_with('.'));
    let Some(begin) = open else {
        let (rest, _metadata) = version.split_once('+').unwrap_or((version, ""));
        let (core, suffix) = rest.split_once('-').map_or((rest, None), |(core, suffix)| (core, Some(suffix)));
        let suffix = suffix.map_or(Ok(Suffix::None), parse_suffix)?;
        return Ok(Comparator { op, numbers: numbers(core)?, suffix, text: rest.to_owned() });
    };
    let numbers = match begin.trim_end_matches('.') {
        "" if operator.is_some() => return Err(format!("{version:?} needs a number after the operator")),
        "" => Vec::new(),
        begin => numbers(begin)?,
    };
    if numbers.len() == NUMBERS_MAX {
        return Err(format!("it has more than {NUMBERS_MAX} numbers"));
    }
    let op = if operator.is_some() { op } else { Op::Wildcard };
    let text = if op == Op::Wildcard { format!("{begin}*") } else { begin.trim_end_matches('.').to_owned() };
    Ok(Comparator { op, numbers, suffix: Suffix::None, text })
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Comparator { op, text, .. }) in self.0.iter().enumerate() {
            let sign = OPERATORS.iter().find(|(_, operator)| operator == op).map_or("", |(sign, _)| sign);
            write!(f, "{}{sign}{text}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Range {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_compare_by_precedence() {
        let table = [
            (">=7.2.3", "7.2.4-64", true),
            (">=7.2.4", "7.2.4-64", true),
            (">=7.2.4", "7.2.4-rc.1", false),
            (">7.2", "7.2.9", false),
            (">7.2", "7.3.0-1", true),
            ("<7.2.4", "7.2.4-64", false),
            ("<7.2.4", "7.2.4-rc.1", true),
            ("<=5.0", "5.0.9", true),
            ("<=5.0", "5.1.0", false),
            ("~5.0", "5.0.7", true),
            ("~5.0", "5.1.0-rc.1", false),
            ("~5.0", "5.0.1-rc.1", true),
            ("^5.0", "5.9.0", true),
            ("5.0.1", "5.0.1", true),
            ("=5.0", "5.0.9-3", true),
            ("5.0.*", "5.0.3", true),
            ("*", "0.0.1-a", true),
            (">=4.4.2, <5", "4.9.0", true),
            (">=4.4.2, <5", "5.0.0", false),
            ("^0.0.3", "0.0.4", false),
            ("^0.2.3", "0.2.9", true),
            ("^0", "0.9.9", true),
        ];
        for (text, version, expected) in table {
            assert_eq!(range(text).contains(&version.parse().unwrap()), expected, "{text} {version}");
        }
    }

    #[test]
    fn bound_stands_for_all_versions_that_begin_with_it() {
        for version in ["6.4.2", "6.4.2-110", "6.4.2.7"] {
            for (text, expected) in
                [("=6.4.2", true), ("<=6.4.2", true), (">=6.4.2", true), ("~6.4", true), (">6.4.2", false)]
            {
                assert_eq!(range(text).contains(&version.parse().unwrap()), expected, "{text} {version}");
            }
        }
        let table = [
            ("=6.4.2", "6.4.2-rc.1", false),
            ("=6.4.2-110", "6.4.2-110", true),
            ("=6.4.2-110", "6.4.2-52", false),
            (">6.4.2-52", "6.4.2-110", true),
            (">=4.2.0.100", "4.2.0.142", true),
            ("~26.2.5", "26.2.9.1", true),
            ("~26.2.5.1", "26.2.5.3", true),
            ("~26.2.5.1", "26.2.6", false),
            ("~2024.04", "2024.4.9", true),
            (">=2024.10", "2025.01.07", true),
            ("^24", "24.04", true),
            ("v5.0.*", "5.0.3", true),
        ];
        for (text, version, expected) in table {
            assert_eq!(range(text).contains(&version.parse().unwrap()), expected, "{text} {version}");
        }
    }

    #[test]
    fn range_is_printed_as_it_is_parsed() {
        for (text, printed) in [
            ("~5.0", "~5.0"),
            ("5.0.1", "^5.0.1"),
            (">= 4.4.2,<5", ">=4.4.2, <5"),
            ("5.0.x", "5.0.*"),
            ("*", "*"),
            (">=2024.04", ">=2024.04"),
            ("=6.4.2-110", "=6.4.2-110"),
        ] {
            assert_eq!(range(text).to_string(), printed);
            assert_eq!(range(printed), range(text));
        }
    }

    #[test]
    fn invalid_ranges_are_refused() {
        for text in [
            "",
            ",",
            "~5,",
            ">=",
            ">=*",
            "banana",
            "5.0.1.2.3.4",
            "1.2.3.4.5.*",
            "5.0-",
            "=>5",
            "5 6",
            "5.*.1",
        ] {
            let error = text.parse::<Range>().unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{text:?} is not a range of versions: ")),
                "{error}"
            );
            assert!(error.hints()[0].contains("reads like"), "{error}");
        }
    }
}
