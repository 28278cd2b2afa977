//! The way from one release to a higher one over several hops: the fewest, and of these the highest releases.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::data::Format;
use crate::policy::{self, Hop, PathRule, Paths};
use crate::version::{Range, Version};

/// What a release itself declares of the ways to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// From where it may be reached at all; by default by the vendor's rules.
    pub from: Option<Vec<Range>>,
    /// From where it may be reached hot; by default from the same major.minor.
    pub hot_from: Option<Vec<Range>>,
    /// The formats of data that it can start on; none where it does not say.
    pub reads: Option<Vec<Format>>,
    /// The formats of the data that the next release finds; none where it does not say.
    pub leaves: BTreeSet<Format>,
}

impl Declared {
    /// Whether this release can start on the data of the one before, as far as both say.
    #[must_use]
    pub fn follows(&self, before: &Self) -> bool {
        self.reads.as_ref().is_none_or(|reads| before.leaves.iter().all(|format| reads.contains(format)))
    }
}

/// One hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// The release that runs before.
    pub from: Version,
    /// The release that runs after.
    pub to: Version,
    /// How it may be made.
    pub way: Hop,
}

/// A release that is not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// One that would do.
    pub version: Version,
    /// The ranges in which another one would do as well.
    pub ranges: Vec<String>,
}

/// The releases that could be gone to, and what may be reached from what.
#[derive(Debug)]
pub struct Map<'a> {
    rules: &'a [PathRule],
    declared: &'a BTreeMap<Version, Declared>,
    /// In ascending order, each with whether it is here.
    stops: Vec<(&'a Version, bool)>,
    /// For each of them those from which it may be reached, as bits.
    into: Vec<Set>,
}

/// A set of stops.
#[derive(Clone, Debug)]
struct Set(Vec<u64>);

impl Set {
    fn of(count: usize, holds: impl Fn(usize) -> bool) -> Self {
        let word = |at: usize| {
            (0..64).filter(|bit| at + bit < count && holds(at + bit)).fold(0, |w, bit| w | 1 << bit)
        };
        Self((0..count).step_by(64).map(word).collect())
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & 1 << (at % 64) != 0
    }
}

/// How far it is from a stop to the target: by how many releases that are missing, and by how many hops.
type Distance = (usize, usize);

impl<'a> Map<'a> {
    /// A map of the releases that are here, with what each declares.
    #[must_use]
    pub fn new(paths: &'a Paths, declared: &'a BTreeMap<Version, Declared>) -> Self {
        Self::with(&paths.rules, declared, &[])
    }

    fn with(
        rules: &'a [PathRule],
        declared: &'a BTreeMap<Version, Declared>,
        missing: &'a [Version],
    ) -> Self {
        let here = declared.keys().map(|version| (version, true));
        let mut stops: Vec<(&Version, bool)> = here.chain(missing.iter().map(|v| (v, false))).collect();
        stops.sort();
        let count = stops.len();
        let among =
            |ranges: &[Range]| Set::of(count, |at| ranges.iter().any(|range| range.contains(stops[at].0)));
        let froms: Vec<Set> = rules.iter().map(|rule| among(&rule.from)).collect();
        let highest: Vec<Option<&Version>> = rules
            .iter()
            .map(|rule| stops.iter().filter(|(v, here)| *here && rule.to.contains(v)).map(|(v, _)| *v).max())
            .collect();
        let into = |version: &Version| match declared.get(version).and_then(|declared| declared.from.as_ref())
        {
            Some(ranges) => among(ranges),
            None if rules.is_empty() => Set::of(count, |_| true),
            None => {
                let mut open = Set::of(count, |_| false);
                let about = rules.iter().enumerate().filter(|(_, rule)| rule.to.contains(version));
                about
                    .filter(|(at, rule)| {
                        !rule.latest || highest[*at].is_none_or(|highest| highest <= version)
                    })
                    .for_each(|(at, _)| open.add(&froms[at]));
                open
            }
        };
        let readable = |open: Set, version: &Version| match declared.get(version) {
            Some(this) if this.reads.is_some() => Set::of(count, |at| {
                open.has(at) && declared.get(stops[at].0).is_none_or(|before| this.follows(before))
            }),
            _ => open,
        };
        let into = stops.iter().map(|(version, _)| readable(into(version), version)).collect();
        Self { rules, declared, stops, into }
    }

    /// All hops that may be made, each with how.
    pub fn legs(&self) -> impl Iterator<Item = Leg> {
        let pairs = (0..self.stops.len()).flat_map(|to| (0..to).map(move |from| (from, to)));
        pairs.filter(|(from, to)| self.into[*to].has(*from)).map(|(from, to)| self.leg(from, to))
    }

    fn leg(&self, from: usize, to: usize) -> Leg {
        let (from, to) = (self.stops[from].0, self.stops[to].0);
        let hot_from = self.declared.get(to).and_then(|declared| declared.hot_from.as_deref());
        Leg { from: from.clone(), to: to.clone(), way: policy::hop(from, to, hot_from) }
    }

    fn stop(&self, version: &Version) -> Option<usize> {
        self.stops.binary_search_by(|(stop, _)| (*stop).cmp(version)).ok()
    }

    /// The hops from one release that is here to another, the fewest, and on a tie the highest release at each;
    /// none where there is no way.
    #[must_use]
    pub fn route(&self, from: &Version, to: &Version) -> Option<Vec<Leg>> {
        let (from, to) = (self.stop(from)?, self.stop(to)?);
        let distances = self.distances(from, to);
        let mut at = from;
        let mut legs = Vec::new();
        while at != to {
            let (missing, hops) = distances[at]?;
            let closer = |next: &usize| {
                let wanted = (missing - usize::from(!self.stops[*next].1), hops - 1);
                distances[*next] == Some(wanted) && self.into[*next].has(at)
            };
            let next = (at + 1..=to)
                .rev()
                .find(|next| missing >= usize::from(!self.stops[*next].1) && closer(next))?;
            legs.push(self.leg(at, next));
            at = next;
        }
        Some(legs)
    }

    /// How far it is to a stop from every one before it, down to `from`: Dijkstra's algorithm, backward.
    fn distances(&self, from: usize, to: usize) -> Vec<Option<Distance>> {
        let mut known: Vec<Option<Distance>> = vec![None; self.stops.len()];
        let mut done = vec![false; self.stops.len()];
        known[to] = Some((0, 0));
        while let Some(next) =
            (from..=to).filter(|at| !done[*at] && known[*at].is_some()).min_by_key(|at| known[*at])
        {
            done[next] = true;
            let Some((missing, hops)) = known[next] else { break };
            let through = (missing + usize::from(!self.stops[next].1), hops + 1);
            for before in (from..next).filter(|before| !done[*before] && self.into[next].has(*before)) {
                known[before] = Some(known[before].map_or(through, |known| known.min(through)));
            }
        }
        known
    }

    /// The fewest releases that would open a way where there is none: found among the lowest releases of every range
    /// in the rules.
    #[must_use]
    pub fn missing(&self, from: &Version, to: &Version) -> Vec<Missing> {
        let declared = self.declared.values().flat_map(|declared| declared.from.iter().flatten());
        let ranges = self.rules.iter().flat_map(|rule| rule.from.iter().chain([&rule.to])).chain(declared);
        let between = |v: &Version| v > from && v < to && !self.declared.contains_key(v);
        let mut lowest: Vec<Version> = ranges.flat_map(Range::lowest).filter(between).collect();
        lowest.sort();
        lowest.dedup();
        let map = Map::with(self.rules, self.declared, &lowest);
        let legs = map.route(from, to).unwrap_or_default();
        let pairs = legs.windows(2).filter(|pair| !self.declared.contains_key(&pair[0].to));
        pairs.map(|pair| self.described(&pair[0], &pair[1])).collect()
    }

    /// In which ranges a release between two hops has to be.
    fn described(&self, to: &Leg, on: &Leg) -> Missing {
        let entered = self
            .rules
            .iter()
            .find(|rule| rule.to.contains(&to.to) && rule.from.iter().any(|range| range.contains(&to.from)));
        let declared = self.declared.get(&on.to).and_then(|declared| declared.from.as_ref());
        let left = match declared {
            Some(ranges) => ranges.iter().find(|range| range.contains(&on.from)),
            None => self
                .rules
                .iter()
                .filter(|rule| rule.to.contains(&on.to))
                .flat_map(|rule| &rule.from)
                .find(|range| range.contains(&on.from)),
        };
        let mut ranges: Vec<String> =
            entered.map(|rule| &rule.to).into_iter().chain(left).map(ToString::to_string).collect();
        ranges.dedup();
        Missing { version: to.to.clone(), ranges }
    }
}
