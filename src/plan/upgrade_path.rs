//! Finds the upgrade path to a higher release: the fewest hops, and among those the highest releases.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::data::DataFormat;
use crate::policy::{self, HopKind, PathRule, Paths};
use crate::version::{Range, Version};

/// The upgrade paths that a release itself declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredPaths {
    /// The releases from which it can be reached at all; by default the vendor's rules decide.
    pub from: Option<Vec<Range>>,
    /// The releases from which it can be reached hot; by default those of the same major.minor.
    pub hot_from: Option<Vec<Range>>,
    /// The data formats that it can start on; `None` if it does not declare them.
    pub reads: Option<Vec<DataFormat>>,
    /// The data formats that the next release finds, empty if unknown; `None` if the release leaves the formats
    /// unchanged.
    pub leaves: Option<BTreeSet<DataFormat>>,
}

impl DeclaredPaths {
    /// Returns whether this release can start on data in these formats, according to its declaration.
    #[must_use]
    pub fn starts_on(&self, formats: &BTreeSet<DataFormat>) -> bool {
        self.reads.as_ref().is_none_or(|reads| formats.iter().all(|format| reads.contains(format)))
    }
}

/// One hop of an upgrade path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The release that runs before.
    pub from: Version,
    /// The release that runs after.
    pub to: Version,
    /// The kind of hop that is allowed.
    pub way: HopKind,
}

/// A release that is not available but would open an upgrade path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// An example version.
    pub version: Version,
    /// The ranges of other versions that would do as well.
    pub ranges: Vec<String>,
}

/// The available releases, and the hops allowed between them.
#[derive(Debug)]
pub struct Map<'a> {
    rules: &'a [PathRule],
    declared: &'a BTreeMap<Version, DeclaredPaths>,
    /// The releases in ascending order, each with whether it is available.
    stops: Vec<(&'a Version, bool)>,
    /// For each stop, the stops from which the rules allow a hop to it, as bits.
    into: Vec<Set>,
    /// The possible data formats on the path. The first entry stands for unknown formats.
    formats: Vec<&'a BTreeSet<DataFormat>>,
    /// For each stop, the index in `formats` that it leaves; `None` if it leaves the formats unchanged.
    leaves: Vec<Option<usize>>,
    /// For each stop, the entries of `formats` that it can start on, as bits.
    starts_on: Vec<Set>,
}

/// A position on a path: the index of the stop, and the index of the data formats.
type At = (usize, usize);

/// The value for unknown formats.
static UNKNOWN: BTreeSet<DataFormat> = BTreeSet::new();

/// A set of indices of stops or of data formats, as bits.
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

/// The distance from a stop to the target: the number of missing releases, then the number of hops.
type Distance = (usize, usize);

/// Returns the possible data formats, and for each stop the formats that it leaves and can start on. The formats
/// after a missing release are unknown.
fn data<'a>(
    stops: &[(&'a Version, bool)],
    declared: &'a BTreeMap<Version, DeclaredPaths>,
) -> (Vec<&'a BTreeSet<DataFormat>>, Vec<Option<usize>>, Vec<Set>) {
    let declared: Vec<Option<&DeclaredPaths>> =
        stops.iter().map(|(version, _)| declared.get(*version)).collect();
    let left = declared.iter().flatten().filter_map(|declared| declared.leaves.as_ref());
    let known: BTreeSet<&BTreeSet<DataFormat>> = left.filter(|formats| !formats.is_empty()).collect();
    let formats: Vec<&BTreeSet<DataFormat>> = std::iter::once(&UNKNOWN).chain(known).collect();
    let named = |left: &BTreeSet<DataFormat>| formats.iter().position(|known| *known == left);
    let leaves = |declared: &Option<&DeclaredPaths>| match declared {
        Some(declared) => declared.leaves.as_ref().and_then(named),
        None => Some(0),
    };
    let starts_on = |declared: &Option<&DeclaredPaths>| {
        Set::of(formats.len(), |at| declared.is_none_or(|declared| declared.starts_on(formats[at])))
    };
    let (leaves, starts_on) =
        (declared.iter().map(leaves).collect(), declared.iter().map(starts_on).collect());
    (formats, leaves, starts_on)
}

impl<'a> Map<'a> {
    /// Returns a map of the available releases and their declarations.
    #[must_use]
    pub fn new(paths: &'a Paths, declared: &'a BTreeMap<Version, DeclaredPaths>) -> Self {
        Self::with(&paths.rules, declared, &[])
    }

    fn with(
        rules: &'a [PathRule],
        declared: &'a BTreeMap<Version, DeclaredPaths>,
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
        let into = stops.iter().map(|(version, _)| into(version)).collect();
        let (formats, leaves, starts_on) = data(&stops, declared);
        Self { rules, declared, stops, into, formats, leaves, starts_on }
    }

    /// Returns whether a hop is allowed with the data formats at the previous stop.
    fn leads(&self, (from, formats): At, to: usize) -> bool {
        self.into[to].has(from) && self.starts_on[to].has(formats)
    }

    /// Returns the position after an arrival at `stop` with the data in the formats `found`.
    fn at(&self, stop: usize, found: usize) -> At {
        (stop, self.leaves[stop].unwrap_or(found))
    }

    /// Returns all allowed hops.
    pub fn hops(&self) -> impl Iterator<Item = Hop> {
        let pairs = (0..self.stops.len()).flat_map(|to| (0..to).map(move |from| (from, to)));
        pairs.filter(|(from, to)| self.leads(self.at(*from, 0), *to)).map(|(from, to)| self.hop(from, to))
    }

    fn hop(&self, from: usize, to: usize) -> Hop {
        let (from, to) = (self.stops[from].0, self.stops[to].0);
        let hot_from = self.declared.get(to).and_then(|declared| declared.hot_from.as_deref());
        Hop { from: from.clone(), to: to.clone(), way: policy::hop(from, to, hot_from) }
    }

    fn stop(&self, version: &Version) -> Option<usize> {
        self.stops.binary_search_by(|(stop, _)| (*stop).cmp(version)).ok()
    }

    /// Returns the shortest path between two available releases, with the highest release at each hop on a tie;
    /// `None` if there is no path.
    #[must_use]
    pub fn route(&self, from: &Version, to: &Version) -> Option<Vec<Hop>> {
        let (from, to) = (self.stop(from)?, self.stop(to)?);
        let distances = self.distances(from, to);
        let distance = |(stop, formats): At| distances[stop][formats];
        let mut at = self.at(from, 0);
        let mut hops = Vec::new();
        while at.0 != to {
            let wanted = distance(at)?;
            let closer = |next: &usize| {
                let behind = distance(self.at(*next, at.1)).map(|behind| self.before(*next, behind));
                self.leads(at, *next) && behind == Some(wanted)
            };
            let next = (at.0 + 1..=to).rev().find(closer)?;
            hops.push(self.hop(at.0, next));
            at = self.at(next, at.1);
        }
        Some(hops)
    }

    /// Returns the distance from before a stop, given the distance from the stop itself.
    fn before(&self, stop: usize, (missing, hops): Distance) -> Distance {
        (missing + usize::from(!self.stops[stop].1), hops + 1)
    }

    /// Returns the distance to `to` from every stop down to `from`, for each entry of `formats`. All hops lead up, so
    /// one pass is enough.
    fn distances(&self, from: usize, to: usize) -> Vec<Vec<Option<Distance>>> {
        let nowhere = vec![None; self.formats.len()];
        let mut known = vec![nowhere; self.stops.len()];
        known[to].fill(Some((0, 0)));
        for at in (from..to).rev() {
            let all = 0..self.formats.len();
            for formats in all.filter(|formats| self.leaves[at].is_none_or(|left| left == *formats)) {
                let further = (at + 1..=to).filter(|next| self.leads((at, formats), *next));
                let behind = further.filter_map(|next| {
                    let (stop, formats) = self.at(next, formats);
                    known[stop][formats].map(|behind| self.before(stop, behind))
                });
                known[at][formats] = behind.min();
            }
        }
        known
    }

    /// Returns the fewest missing releases that would open a path. The candidates are the lowest releases of every
    /// range in the rules and declarations.
    #[must_use]
    pub fn missing(&self, from: &Version, to: &Version) -> Vec<Missing> {
        let declared = self.declared.values().flat_map(|declared| declared.from.iter().flatten());
        let ranges = self.rules.iter().flat_map(|rule| rule.from.iter().chain([&rule.to])).chain(declared);
        let between = |v: &Version| v > from && v < to && !self.declared.contains_key(v);
        let mut lowest: Vec<Version> = ranges.flat_map(Range::lowest).filter(between).collect();
        lowest.sort();
        lowest.dedup();
        let map = Map::with(self.rules, self.declared, &lowest);
        let hops = map.route(from, to).unwrap_or_default();
        let pairs = hops.windows(2).filter(|pair| !self.declared.contains_key(&pair[0].to));
        pairs.map(|pair| self.described(&pair[0], &pair[1])).collect()
    }

    /// Returns the ranges that a missing release between two hops has to be in.
    fn described(&self, to: &Hop, on: &Hop) -> Missing {
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
