//! Decides in which direction a command may move between two releases, and whether a hop needs a restart.

mod paths;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::version::{Range, Version};

pub use paths::{PATHS, PathRule, Paths};

/// The direction in which a command may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `install`.
    Either,
    /// `upgrade`.
    Up,
    /// `downgrade`.
    Down,
}

/// How a service moves from one release to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HopKind {
    /// Without a stop.
    Hot,
    /// By a stop and a start.
    Restart,
}

/// Refuses a move against the direction of the command. Releases of the same precedence may follow each other in both
/// directions.
///
/// # Errors
/// Returns a `Refused` error that names both versions and the command for that direction.
pub fn direction(direction: Direction, running: &Version, target: &Version) -> Result<()> {
    let refuse = |relation: &str, other: &str| {
        Err(Error::refused(format!("release {target} is {relation} than {running}, which is current")).hint(
            format!("run `tenure {other} {target}`, or `tenure install {target}` for either direction"),
        ))
    };
    match (direction, target.precedence(running)) {
        (Direction::Up, Ordering::Less) => refuse("lower", "downgrade"),
        (Direction::Down, Ordering::Greater) => refuse("higher", "upgrade"),
        _ => Ok(()),
    }
}

/// Returns how the hop between two releases may be made.
///
/// Hops within one major.minor are hot, unless the higher release declares otherwise in `hot-from`. It decides in
/// both directions, because only it can know both releases.
#[must_use]
pub fn hop(one: &Version, other: &Version, hot_from: Option<&[Range]>) -> HopKind {
    let lower = one.min(other);
    let hot = match hot_from {
        Some(ranges) => ranges.iter().any(|range| range.contains(lower)),
        None => one.same_minor(other),
    };
    if hot { HopKind::Hot } else { HopKind::Restart }
}

/// Refuses a hop that needs a restart.
///
/// # Errors
/// Returns a `Refused` error that names both versions and `--restart`.
pub fn hot_rule(running: &Version, target: &Version, hot_from: Option<&[Range]>) -> Result<()> {
    if hop(running, target, hot_from) == HopKind::Hot {
        return Ok(());
    }
    let why = match hot_from {
        Some(ranges) => {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            format!("release {} is hot from {} only", running.max(target), ranges.join(" or "))
        }
        None => "only a patch of the same major and minor version is a hot upgrade".to_owned(),
    };
    Err(Error::refused(format!("cannot move hot from {running} to {target}: {why}"))
        .hint(format!("use `--restart` to stop the service and start it in {target}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn only_patch_hops_are_hot() {
        for (a, b, hot) in [
            ("5.0.0", "5.0.1", true),
            ("5.0.9", "5.0.1", true),
            ("5.0.0", "5.1.0", false),
            ("4.4.0", "5.4.0", false),
            ("7.2.4-52", "7.2.4-64", true),
        ] {
            assert_eq!(hot_rule(&v(a), &v(b), None).is_ok(), hot, "{a} {b}");
        }
        let error = hot_rule(&v("5.0.0"), &v("5.1.0"), None).unwrap_err();
        assert!(error.hints()[0].contains("--restart"));
    }

    #[test]
    fn higher_release_overrides_the_hot_rule() {
        let ranges = [">=4.9.0, <5".parse().unwrap()];
        assert_eq!(hop(&v("4.9.1"), &v("5.0.0"), Some(&ranges)), HopKind::Hot);
        assert_eq!(hop(&v("5.0.0"), &v("4.9.1"), Some(&ranges)), HopKind::Hot);
        assert_eq!(hop(&v("5.0.0"), &v("5.0.1"), Some(&ranges)), HopKind::Restart);
    }

    #[test]
    fn upgrade_goes_up_and_downgrade_down() {
        let (low, high) = (v("5.0.0"), v("5.0.1"));
        assert!(direction(Direction::Up, &low, &high).is_ok());
        assert!(direction(Direction::Up, &high, &low).is_err());
        assert!(direction(Direction::Down, &high, &low).is_ok());
        assert!(direction(Direction::Down, &low, &high).is_err());
        assert!(direction(Direction::Either, &high, &low).is_ok());
        assert!(direction(Direction::Up, &low, &low).is_ok());
    }
}
