//! The way from one release to a higher one over several hops: the fewest, and of these the highest releases.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::data::DataFormat;
use crate::policy::{self, HopKind, PathRule, Paths};
use crate::version::{Range, Version};

/// What a release itself declares of the ways to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredPaths {
    /// From where it may be reached at all; by default by the vendor's rules.
    pub from: Option<Vec<Range>>,
    /// From where it may be reached hot; by default from the same major.minor.
    pub hot_from: Option<Vec<Range>>,
    /// The formats of data that it can start on; none where it does not say.
    pub reads: Option<Vec<DataFormat>>,
    /// The formats of the data that the next release finds, empty where nobody knows; none where it leaves them as it
    /// found them.
    pub leaves: Option<BTreeSet<DataFormat>>,
}

impl DeclaredPaths {
    /// Whether this release can start on data in these formats, as far as it says.
    #[must_use]
    pub fn starts_on(&self, formats: &BTreeSet<DataFormat>) -> bool {
        self.reads.as_ref().is_none_or(|reads| formats.iter().all(|format| reads.contains(format)))
    }
}

/// One hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The release that runs before.
    pub from: Version,
    /// The release that runs after.
    pub to: Version,
    /// How it may be made.
    pub way: HopKind,
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
    declared: &'a BTreeMap<Version, DeclaredPaths>,
    /// In ascending order, each with whether it is here.
    stops: Vec<(&'a Version, bool)>,
    /// For each of them those from which it may be reached by the rules, as bits.
    into: Vec<Set>,
    /// What the formats of the data may be on the way; first of all, that nobody knows.
    formats: Vec<&'a BTreeSet<DataFormat>>,
    /// For each stop which of these it leaves; none where those that it finds.
    leaves: Vec<Option<usize>>,
    /// For each stop on which of these it can start, as bits.
    starts_on: Vec<Set>,
}

/// Where a way may be: at a stop, with the data in these of the formats.
type At = (usize, usize);

/// Formats that nobody knows.
static UNKNOWN: BTreeSet<DataFormat> = BTreeSet::new();

/// A set of stops, or of what the data may be.
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

/// What the data may be, and what each stop leaves of that and can start on. What a release that is missing makes of it
/// nobody knows.
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
    /// A map of the releases that are here, with what each declares.
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

    /// Whether a hop may be made with the data as it is at the release before.
    fn leads(&self, (from, formats): At, to: usize) -> bool {
        self.into[to].has(from) && self.starts_on[to].has(formats)
    }

    /// Where one is who arrives with the data in these formats.
    fn at(&self, stop: usize, found: usize) -> At {
        (stop, self.leaves[stop].unwrap_or(found))
    }

    /// All hops that may be made, each with how.
    pub fn legs(&self) -> impl Iterator<Item = Hop> {
        let pairs = (0..self.stops.len()).flat_map(|to| (0..to).map(move |from| (from, to)));
        pairs.filter(|(from, to)| self.leads(self.at(*from, 0), *to)).map(|(from, to)| self.leg(from, to))
    }

    fn leg(&self, from: usize, to: usize) -> Hop {
        let (from, to) = (self.stops[from].0, self.stops[to].0);
        let hot_from = self.declared.get(to).and_then(|declared| declared.hot_from.as_deref());
        Hop { from: from.clone(), to: to.clone(), way: policy::hop(from, to, hot_from) }
    }

    fn stop(&self, version: &Version) -> Option<usize> {
        self.stops.binary_search_by(|(stop, _)| (*stop).cmp(version)).ok()
    }

    /// The hops from one release that is here to another, the fewest, and on a tie the highest release at each;
    /// none where there is no way.
    #[must_use]
    pub fn route(&self, from: &Version, to: &Version) -> Option<Vec<Hop>> {
        let (from, to) = (self.stop(from)?, self.stop(to)?);
        let distances = self.distances(from, to);
        let distance = |(stop, formats): At| distances[stop][formats];
        let mut at = self.at(from, 0);
        let mut legs = Vec::new();
        while at.0 != to {
            let wanted = distance(at)?;
            let closer = |next: &usize| {
                let behind = distance(self.at(*next, at.1)).map(|behind| self.before(*next, behind));
                self.leads(at, *next) && behind == Some(wanted)
            };
            let next = (at.0 + 1..=to).rev().find(closer)?;
            legs.push(self.leg(at.0, next));
            at = self.at(next, at.1);
        }
        Some(legs)
    }

    /// How far it is from before a stop, by how far it is from there.
    fn before(&self, stop: usize, (missing, hops): Distance) -> Distance {
        (missing + usize::from(!self.stops[stop].1), hops + 1)
    }

    /// How far it is to a stop from every one before it, down to `from`, with the data in each of the formats. All hops
    /// lead up, so that one look at each is enough.
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
