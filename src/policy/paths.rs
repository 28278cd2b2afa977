//! Upgrade paths: the vendor's rules about the releases from which another one can be reached.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::manifest;
use crate::version::{Range, Version};

/// The file name of the rules, in releases/.
pub const PATHS: &str = "paths.toml";

/// A vendor's rules. Without rules, every higher release can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// The rules. A release can be reached if any rule for it allows it. If there are rules but none for it, it
    /// cannot be reached.
    #[serde(default, rename = "path")]
    pub rules: Vec<PathRule>,
}

/// To reach a release in `to`, the current one must be in `from`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// The releases that the rule is about.
    pub to: Range,
    /// The ranges from which they can be reached; one must match.
    pub from: Vec<Range>,
    /// Whether only the highest available release in `to` can be reached.
    #[serde(default)]
    pub latest: bool,
}

impl Paths {
    /// Parses rules. `file` names them in errors.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the file, the line and the nearest known key.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        manifest::parse(file, text)
    }

    /// Refuses an upgrade hop that no rule allows. `declared`, the ranges that the release itself declares, replaces
    /// the rules. `here` are the available releases.
    ///
    /// # Errors
    /// Returns a `Refused` error that names what the rules require.
    pub fn allow(
        &self,
        from: &Version,
        to: &Version,
        declared: Option<&[Range]>,
        here: &BTreeSet<Version>,
    ) -> Result<()> {
        let refuse = |why: String| Err(Error::refused(format!("cannot go from {from} to {to}: {why}")));
        if let Some(ranges) = declared {
            return match ranges.iter().any(|range| range.contains(from)) {
                true => Ok(()),
                false => {
                    refuse(format!("it can be reached from {}, as its manifest declares", any_of(ranges)))
                }
            };
        }
        if self.rules.is_empty() {
            return Ok(());
        }
        let about: Vec<&PathRule> = self.rules.iter().filter(|rule| rule.to.contains(to)).collect();
        if about.is_empty() {
            return refuse(format!("no rule in releases/{PATHS} covers {to}"));
        }
        let fitting = |rule: &&&PathRule| rule.from.iter().any(|range| range.contains(from));
        let Some(rule) = about.iter().find(fitting) else {
            let ranges: Vec<Range> = about.iter().flat_map(|rule| rule.from.clone()).collect();
            return refuse(format!("by releases/{PATHS} it can be reached from {}", any_of(&ranges)));
        };
        let open = |rule: &&&PathRule| fitting(rule) && rule.is_open_to(to, here);
        match about.iter().any(|rule| open(&rule)) {
            true => Ok(()),
            false => {
                refuse(format!("releases/{PATHS} allows only the highest available release in {}", rule.to))
            }
        }
    }
}

impl PathRule {
    fn is_open_to(&self, to: &Version, here: &BTreeSet<Version>) -> bool {
        !self.latest || here.iter().filter(|v| self.to.contains(v)).max().is_none_or(|highest| highest <= to)
    }
}

fn any_of(ranges: &[Range]) -> String {
    let ranges: Vec<String> = ranges.iter().map(|range| format!("`{range}`")).collect();
    if ranges.is_empty() { "no release".to_owned() } else { format!("{} only", ranges.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_the_allowed_ranges() {
        let range = |text: &str| text.parse::<Range>().unwrap();
        let told = |ranges: &[Range]| {
            let (from, to) = ("1.0.0".parse().unwrap(), "2.0.0".parse().unwrap());
            Paths::default().allow(&from, &to, Some(ranges), &BTreeSet::new()).unwrap_err().to_string()
        };
        let words = "cannot go from 1.0.0 to 2.0.0: it can be reached from";
        assert_eq!(told(&[]), format!("{words} no release, as its manifest declares"));
        let two = [range("~1.4"), range("~1.5")];
        assert_eq!(told(&two), format!("{words} `~1.4` or `~1.5` only, as its manifest declares"));
    }
}
