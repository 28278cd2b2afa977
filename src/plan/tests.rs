//! Tests the guarantees of plans over many roots and requests: a plan reaches its end, and from every interruption it
//! either reaches its end or is rolled back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::health::Baseline;
use crate::policy::Direction;
use crate::release::ReleaseState;

fn v(text: &str) -> Version {
    text.parse().unwrap()
}

const VERSIONS: [&str; 5] = ["5.0.0", "5.0.1", "5.0.2", "5.1.0", "6.0.0-rc.1"];

/// Generates a sound root: some releases, some of them once permanent, and both links or neither.
fn root() -> impl Strategy<Value = Snapshot> {
    let installed = prop::collection::vec(prop::option::of(prop::option::of(1..9_u64)), VERSIONS.len());
    (installed, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(installed, current, permanent, linked)| {
            let releases: BTreeMap<Version, Installed> = VERSIONS
                .iter()
                .zip(installed)
                .filter_map(|(text, installed)| Some((v(text), Installed { tenured: installed? })))
                .collect();
            let names: Vec<Version> = releases.keys().cloned().collect();
            let link = |at: prop::sample::Index| match linked && !names.is_empty() {
                true => Link::To(at.get(&names).clone()),
                false => Link::Missing,
            };
            Snapshot { current: link(current), permanent: link(permanent), releases, lost: None }
        },
    )
}

/// Generates a service move, or `None`.
fn motion() -> impl Strategy<Value = Option<ServiceMove>> {
    let ways = prop::sample::select(vec![
        Method::Hook,
        Method::Reload,
        Method::Signal("USR2".into()),
        Method::Restart,
    ]);
    prop::option::of(ways.prop_map(|way| ServiceMove { way, baseline: Baseline::Sound }))
}

fn request() -> impl Strategy<Value = Request> {
    let ways = prop::sample::select(vec![Direction::Either, Direction::Up, Direction::Down]);
    (prop::sample::select(VERSIONS.to_vec()), ways, any::<bool>(), any::<bool>()).prop_map(
        |(target, direction, trial, restart)| Request {
            target: v(target),
            direction,
            permanence: if trial { Permanence::Trial } else { Permanence::Permanent },
            restart: if restart { Restart::Asked } else { Restart::Forbidden },
            start: false,
            retry: Retry::No,
        },
    )
}

fn fetch(now: &Snapshot, target: &Version) -> Vec<Step> {
    match now.state(target) {
        Some(_) => Vec::new(),
        None => vec![Step::Unpack { version: target.clone(), archive: format!("releases/x-{target}.zip") }],
    }
}

fn along(now: &Snapshot, target: &Version, motion: Option<ServiceMove>) -> PlanFacts {
    let version = target.clone();
    let mut fetch = fetch(now, target);
    fetch.push(Step::Prepare { version: version.clone() });
    let backup = Some(Step::Backup { version: version.clone(), command: None });
    let data = Some(Step::Migrate { version, old: None, from: [1].into(), to: Some(2) });
    PlanFacts { fetch, backup, motion, start: false, data }
}

fn walk(from: &Snapshot, steps: &[Step]) -> Snapshot {
    steps.iter().fold(from.clone(), Snapshot::after)
}

fn interrupted(plan: &Plan, begun: usize) -> JournalRecord {
    JournalRecord {
        transaction: "t".into(),
        command: "c".into(),
        by: "b".into(),
        started: "s".into(),
        why: None,
        plan: plan.clone(),
        begun,
    }
}

/// Returns the links and releases without the order of displacement: a record that a release was permanent stays
/// true.
fn seen(s: &Snapshot) -> (Link, Link, BTreeSet<Version>) {
    (s.current.clone(), s.permanent.clone(), s.releases.keys().cloned().collect())
}

/// Checks that recovery ends at the start or the end of the plan from every interruption, whether or not the last
/// begun step was applied.
fn recovers_everywhere(start: &Snapshot, plan: &Plan) {
    let end = walk(start, &plan.steps);
    for begun in 0..=plan.steps.len() {
        for applied in [begun.saturating_sub(1), begun] {
            let found = walk(start, &plan.steps[..applied]);
            let recovery = recover(&interrupted(plan, begun), &found);
            let after = walk(&found, &recovery.steps);
            let committed = plan.to.is_some() && found.permanent.version() == plan.to.as_ref();
            let expected = if committed { &end } else { start };
            assert_eq!(seen(&after), seen(expected), "begun {begun}, applied {applied}, {recovery:?}");
            // A journal that lost its end still restores the links.
            for known in 0..begun {
                let recovery = recover(&interrupted(plan, known), &found);
                let after = walk(&found, &recovery.steps);
                assert_eq!(
                    [&after.current, &after.permanent],
                    [&expected.current, &expected.permanent],
                    "{known}"
                );
            }
            // A recovery that is interrupted anywhere and started again ends in the same state.
            for done in 0..=recovery.steps.len() {
                let halfway = walk(&found, &recovery.steps[..done]);
                let again = recover(&interrupted(plan, begun), &halfway);
                assert_eq!(seen(&walk(&halfway, &again.steps)), seen(expected), "again after {done}");
            }
        }
    }
}

proptest! {
    #[test]
    fn install_finishes_or_rolls_back(now in root(), request in request(), motion in motion()) {
        let target = request.target.clone();
        if let Ok(plan) = install(&now, &request, along(&now, &target, motion)) {
            let end = walk(&now, &plan.steps);
            prop_assert_eq!(end.current.version(), Some(&target));
            if request.permanence == Permanence::Permanent {
                prop_assert_eq!(end.permanent.version(), Some(&target));
            } else {
                prop_assert_eq!(&end.permanent, &now.permanent);
            }
            if let (Link::To(was), Permanence::Permanent) = (&now.permanent, request.permanence) && *was != target {
                prop_assert_eq!(end.state(was), Some(ReleaseState::Old));
            }
            recovers_everywhere(&now, &plan);
        }
    }

    #[test]
    fn other_commands_finish_or_roll_back(now in root(), motion in motion(), version in prop::sample::select(VERSIONS.to_vec()), keep in 0..4_usize) {
        let (version, nothing) = (v(version), BTreeSet::new());
        let plans = [
            confirm(&now, PlanFacts::default()),
            revert(&now, motion),
            boot(&now),
            uninstall(&now, &version),
            prune(&now, keep, &nothing, &BTreeMap::new()),
        ];
        for plan in plans.iter().flatten() {
            let end = walk(&now, &plan.steps);
            for link in [&now.current, &now.permanent].into_iter().filter_map(Link::version) {
                prop_assert!(end.releases.contains_key(link), "a linked release was removed");
            }
            recovers_everywhere(&now, plan);
        }
    }

    #[test]
    fn prune_keeps_number_and_last_known_good(now in root(), keep in 0..4_usize) {
        if let Ok(plan) = prune(&now, keep, &BTreeSet::new(), &BTreeMap::new()) {
            let spare = |s: &Snapshot| {
                s.states().filter(|(_, state)| matches!(state, ReleaseState::Old | ReleaseState::Unpacked)).count()
            };
            let end = walk(&now, &plan.steps);
            prop_assert!(spare(&end) <= keep + 1);
            prop_assert!(spare(&end) >= keep.min(spare(&now)));
            prop_assert_eq!(end.last_known_good(), now.last_known_good());
        }
    }
}

#[test]
fn service_moves_between_link_switches() {
    let now = Snapshot {
        current: Link::To(v("5.0.0")),
        permanent: Link::To(v("5.0.0")),
        releases: [(v("5.0.0"), Installed::default()), (v("5.1.0"), Installed::default())].into(),
        lost: None,
    };
    let request = Request {
        target: v("5.1.0"),
        direction: Direction::Up,
        permanence: Permanence::Permanent,
        restart: Restart::Asked,
        start: false,
        retry: Retry::No,
    };
    let motion = ServiceMove { way: Method::Hook, baseline: Baseline::Sound };
    let plan = install(&now, &request, PlanFacts { motion: Some(motion), ..PlanFacts::default() }).unwrap();
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "record that 5.0.0 has been permanent",
            "point current at releases/5.1.0, now releases/5.0.0",
            "move the running service to 5.1.0, hot, by its hook",
            "wait until the service is healthy on 5.1.0",
            "point permanent at releases/5.1.0, now releases/5.0.0",
        ]
    );
    // A rollback switches the link before the service; otherwise the service would start the bad release again.
    let back = recover(&interrupted(&plan, 3), &walk(&now, &plan.steps[..3]));
    let steps: Vec<String> = back.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "point current at releases/5.0.0, now releases/5.1.0",
            "move the service back to 5.0.0",
            "wait until the service is healthy on 5.0.0",
        ]
    );
}
