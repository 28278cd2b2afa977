//! Upgrade paths: the tables of real vendors, the planner compared with an exhaustive search, and the commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::assert_run;
use crate::support::case::host;
use proptest::prelude::*;
use tenure::plan::{DeclaredPaths, Hop, Map};
use tenure::policy::{HopKind, PathRule, Paths, hot_rule};
use tenure::version::{Range, Version};

const REDIS: &str = include_str!("../../fixtures/paths/redis.toml");
const WEKA: &str = include_str!("../../fixtures/paths/weka.toml");

fn v(text: &str) -> Version {
    text.parse().unwrap()
}

fn hops(table: &str, here: &[&str], from: &str, to: &str) -> Option<Vec<String>> {
    let paths = Paths::parse("paths.toml", table).unwrap();
    let declared =
        here.iter().chain([&from, &to]).map(|version| (v(version), DeclaredPaths::default())).collect();
    let hops = Map::new(&paths, &declared).route(&v(from), &v(to))?;
    Some(hops.into_iter().map(|hop| hop.to.to_string()).collect())
}

/// Returns whether one hop is allowed. Asserts that the rule and the map agree.
fn is_allowed(table: &str, here: &[&str], from: &str, to: &str) -> bool {
    let paths = Paths::parse("paths.toml", table).unwrap();
    let releases: BTreeSet<Version> = here.iter().chain([&from, &to]).map(|version| v(version)).collect();
    let allowed = paths.allow(&v(from), &v(to), None, &releases).is_ok();
    let declared = releases.iter().map(|version| (version.clone(), DeclaredPaths::default())).collect();
    let on_the_map = Map::new(&paths, &declared).hops().any(|hop| hop.from == v(from) && hop.to == v(to));
    assert_eq!(allowed, on_the_map, "{from} to {to}");
    allowed
}

#[test]
fn redis_enterprise_table_is_followed() {
    for (from, to, allowed) in [
        ("4.4.0", "4.5.0", true),
        ("4.3.9", "4.5.0", false),
        ("4.5.0", "4.5.1", true),
        ("4.4.1", "5.0.0", false),
        ("4.4.2", "5.0.0", true),
        ("4.5.0", "5.0.2", true),
        ("4.4.9", "5.2.0", false),
        ("4.5.0", "5.2.0", true),
        ("5.0.0", "5.2.2", true),
        ("5.6.0", "6.0.8", true),
        ("5.4.14", "6.0.8", false),
        ("5.2.0", "6.0.8", false),
        ("6.0.8", "6.2.4", true),
        ("6.0.20", "6.2.18", true),
        ("5.6.0", "6.2.4", false),
        ("6.0.8", "6.4.2", true),
        ("6.2.18", "6.4.2", true),
        ("5.6.0", "6.4.2", false),
        ("6.2.18", "6.4.3", false),
        ("6.0.8-28", "6.2.4-55", true),
        ("4.4.2-49", "5.0.2-30", true),
        ("4.4.2-30", "4.5.0-47", true),
        ("4.3.0-230", "5.0.2-30", false),
        ("5.0.2-30", "5.2.2-24", true),
        ("5.6.0-40", "6.0.20-97", true),
        ("6.0.20-97", "6.2.18-65", true),
        ("6.2.18-65", "6.4.2-110", true),
        ("6.4.2-43", "6.4.2-110", false),
        ("5.6.0-40", "6.4.2-110", false),
    ] {
        assert_eq!(is_allowed(REDIS, &[], from, to), allowed, "{from} to {to}");
    }
    let here = ["4.4.2", "4.5.0", "5.0.0", "5.2.0", "6.0.8", "6.0.20", "6.2.4", "6.2.18"];
    assert_eq!(hops(REDIS, &here, "4.4.0", "5.2.0").unwrap(), ["4.5.0", "5.2.0"]);
    assert_eq!(hops(REDIS, &here, "5.6.0", "6.4.2").unwrap(), ["6.0.20", "6.4.2"]);
    assert_eq!(hops(REDIS, &here, "5.6.0", "6.2.18").unwrap(), ["6.0.20", "6.2.18"]);
    assert_eq!(hops(REDIS, &here, "5.2.0", "6.4.2"), None, "no rule is about 5.6");
}

#[test]
fn weka_table_is_followed() {
    for (from, to, allowed) in [
        ("3.14.1", "4.0.2", true),
        ("3.14.0", "4.0.2", false),
        ("3.13.5", "4.0.2", false),
        ("3.13.1", "3.14.2", true),
        ("3.13.0", "3.14.2", false),
        ("3.12.1", "3.13.6", true),
        ("3.12.0", "3.13.6", false),
        ("3.11.0", "3.12.2", true),
        ("3.10.9", "3.12.2", false),
        ("3.10.0", "3.11.3", true),
        ("3.9.9", "3.11.3", false),
        ("3.14.1", "3.14.2", true),
        ("4.0.2", "4.0.5", true),
    ] {
        assert_eq!(is_allowed(WEKA, &[], from, to), allowed, "{from} to {to}");
    }
    let here = ["4.0.1", "4.0.5", "3.14.1", "3.14.3", "3.13.6", "3.12.4", "3.11.2"];
    assert!(!is_allowed(WEKA, &here, "3.14.3", "4.0.1"), "the latest of 4.0 is at hand");
    assert!(is_allowed(WEKA, &here, "3.14.3", "4.0.5"));
    assert!(is_allowed(WEKA, &here, "3.14.1", "3.14.2"), "the major version is the same");
    let expected = ["3.11.2", "3.12.4", "3.13.6", "3.14.3", "4.0.5"];
    assert_eq!(hops(WEKA, &here, "3.10.0", "4.0.5").unwrap(), expected);
}

#[test]
fn emqx_moves_hot_between_patches() {
    for (from, to, hot) in [
        ("5.0.0", "5.0.1", true),
        ("5.0.9", "5.0.25", true),
        ("5.0.0", "5.1.0", false),
        ("4.4.19", "5.0.0", false),
        ("7.2.4-52", "7.2.4-64", true),
        ("7.2.4", "7.2.4-64", true),
        ("26.2.5.2", "26.2.5.10", true),
        ("4.2.0.142", "4.3.0.7", false),
        ("2024.04", "2024.10", false),
        ("7.2.4-52", "7.4.0-1", false),
    ] {
        assert_eq!(hot_rule(&v(from), &v(to), None).is_ok(), hot, "{from} to {to}");
        assert_eq!(
            hops("", &[], from, to).unwrap(),
            [to],
            "without rules every higher release is one hop away"
        );
    }
    assert!(v("7.2.4-9") < v("7.2.4-52") && v("7.2.4") < v("7.2.4-64"));
    assert!(">=7.2.3".parse::<Range>().unwrap().contains(&v("7.2.4-64")));
}

#[test]
fn missing_releases_are_named() {
    let missing = |table: &str, here: &[&str], from: &str, to: &str| {
        let paths = Paths::parse("paths.toml", table).unwrap();
        let declared =
            here.iter().chain([&from, &to]).map(|version| (v(version), DeclaredPaths::default())).collect();
        let missing = Map::new(&paths, &declared).missing(&v(from), &v(to));
        missing.into_iter().map(|m| (m.version.to_string(), m.ranges)).collect::<Vec<_>>()
    };
    let named = |version: &str, ranges: &[&str]| {
        (version.to_owned(), ranges.iter().map(|r| (*r).to_owned()).collect())
    };
    let of_weka = missing(WEKA, &["3.13.0", "3.12.5"], "3.12.5", "4.0.5");
    let expected =
        [named("3.13.1", &["~3.13", ">=3.13.1, <3.14"]), named("3.14.1", &["~3.14", ">=3.14.1, <4.0"])];
    assert_eq!(of_weka, expected);
    assert_eq!(missing(REDIS, &["6.0.8"], "5.6.0", "6.4.2"), []);
    assert_eq!(missing(REDIS, &[], "5.6.0", "6.4.2"), [named("6.0.0", &["~6.0"])]);
    assert_eq!(missing(REDIS, &[], "5.2.0", "6.4.2"), [], "no rule is about 5.6: nothing opens it");
}

/// Returns the best path by exhaustive search: the fewest hops, then the highest releases.
fn by_trying(
    declared: &BTreeMap<Version, DeclaredPaths>,
    paths: &Paths,
    from: &Version,
    to: &Version,
) -> Option<Vec<Version>> {
    let here: BTreeSet<Version> = declared.keys().cloned().collect();
    let mut best: Option<Vec<Version>> = None;
    let left = |version: &Version, found: BTreeSet<u32>| declared[version].leaves.clone().unwrap_or(found);
    let mut ways = vec![(vec![from.clone()], left(from, BTreeSet::new()))];
    while let Some((way, formats)) = ways.pop() {
        let last = way.last().unwrap();
        if last == to {
            let better = |best: &Vec<Version>| {
                (way.len(), std::cmp::Reverse(&way)) < (best.len(), std::cmp::Reverse(best))
            };
            if best.as_ref().is_none_or(better) {
                best = Some(way);
            }
            continue;
        }
        for next in here.range(last.clone()..=to.clone()).filter(|next| *next != last) {
            let own = declared[next].from.as_deref();
            let is_read = match &declared[next].reads {
                Some(reads) => formats.iter().all(|format| reads.iter().any(|one| one == format)),
                None => true,
            };
            if is_read && paths.allow(last, next, own, &here).is_ok() {
                ways.push((way.iter().chain([next]).cloned().collect(), left(next, formats.clone())));
            }
        }
    }
    best.map(|way| way[1..].to_vec())
}

fn version() -> impl Strategy<Value = Version> {
    (1..3u64, 0..3u64, 0..3u64, 0..4u64).prop_map(|(major, minor, patch, build)| match build {
        0 => v(&format!("{major}.{minor}.{patch}-{}", major + patch)),
        _ => v(&format!("{major}.{minor}.{patch}")),
    })
}

fn range() -> impl Strategy<Value = Range> {
    (0..6usize, 1..3u64, 0..3u64, 0..3u64).prop_map(|(kind, major, minor, patch)| {
        let text = match kind {
            0 => format!("~{major}.{minor}"),
            1 => format!(">={major}.{minor}.{patch}"),
            2 => format!("={major}.{minor}.{patch}"),
            3 => format!("^{major}"),
            4 => format!("<{major}.{minor}.{patch}"),
            _ => format!(">={major}.{minor}, <{}", major + 1),
        };
        text.parse().unwrap()
    })
}

fn rule() -> impl Strategy<Value = PathRule> {
    (range(), prop::collection::vec(range(), 1..3), any::<bool>()).prop_map(|(to, from, latest)| PathRule {
        to,
        from,
        latest,
    })
}

fn declared() -> impl Strategy<Value = DeclaredPaths> {
    let from = prop::option::weighted(0.2, prop::collection::vec(range(), 1..3));
    let formats = (prop::collection::btree_set(0..4_u32, 1..3), prop::collection::vec(0..4_u32, 0..3));
    (from, prop::option::weighted(0.5, formats)).prop_map(|(from, data)| {
        let reads = data.clone().map(|(leaves, more)| leaves.into_iter().chain(more).collect());
        DeclaredPaths { from, hot_from: None, reads, leaves: data.map(|(leaves, _)| leaves) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn planner_finds_best_path(
        here in prop::collection::btree_map(version(), declared(), 2..9),
        rules in prop::collection::vec(rule(), 0..6),
    ) {
        let declared: BTreeMap<Version, DeclaredPaths> = here;
        let paths = Paths { rules };
        let (from, to) = (declared.keys().next().unwrap().clone(), declared.keys().last().unwrap().clone());
        let map = Map::new(&paths, &declared);
        let found = map.route(&from, &to);
        let chained = |legs: &Vec<Hop>| legs.windows(2).all(|pair| pair[0].to == pair[1].from);
        prop_assert!(found.as_ref().is_none_or(chained));
        let found = found.map(|legs| legs.into_iter().map(|leg| leg.to).collect::<Vec<_>>());
        prop_assert_eq!(&found, &by_trying(&declared, &paths, &from, &to));
        if found.is_none() {
            // The release reported as missing makes a path possible.
            let missing = map.missing(&from, &to);
            if !missing.is_empty() && paths.rules.iter().all(|rule| !rule.latest) {
                let mut more = declared.clone();
                let unknown = DeclaredPaths { leaves: Some(BTreeSet::new()), ..DeclaredPaths::default() };
                more.extend(missing.iter().map(|missing| (missing.version.clone(), unknown.clone())));
                prop_assert!(Map::new(&paths, &more).route(&from, &to).is_some(), "{:?} opens nothing", missing);
            }
        }
    }
}

#[test]
fn forbidden_hop_is_refused_with_path() {
    let host = host(&["3.13.6", "3.14.3", "4.0.1", "4.0.5"]);
    fs::write(host.root().join("releases/paths.toml"), WEKA).unwrap();
    host.run(["install", "3.13.6"]).ok();
    let before = host.tree();
    for command in ["upgrade", "install"] {
        host.run([command, "--restart", "4.0.5"]).code(2).stderr(
            "error: cannot go from 3.13.6 to 4.0.5: by releases/paths.toml it can be reached from `>=3.14.1, <4.0` or \
             `~4.0` only\n\
             hint: use this path: 3.14.3, then 4.0.5; `tenure plan 4.0.5` shows each hop\n",
        );
    }
    host.run(["upgrade", "--restart", "--dry-run", "4.0.5"]).code(2);
    assert_eq!(host.tree(), before);
    assert_run!(host, "plan 4.0.5", @"
    exit 0
    --- stdout
    From 3.13.6 to 4.0.5 in 2 hops:
      1. 3.14.3, by a restart, an archive in releases/
      2. 4.0.5, by a restart, an archive in releases/
    ");
    host.run(["upgrade", "--restart", "3.14.3"]).ok();
    assert_run!(host, "upgrade --restart 4.0.1", @"
    exit 2
    --- stderr
    error: cannot go from 3.14.3 to 4.0.1: releases/paths.toml allows only the highest available release in ~4.0
    hint: run `tenure plan 4.0.1` to see which releases would complete a path
    ");
    host.run(["upgrade", "--restart", "4.0.5"]).ok();
    // A downgrade does not follow the upgrade rules.
    host.run(["downgrade", "--restart", "3.13.6"]).ok();
}

#[test]
fn manifest_declares_upgrade_paths() {
    let host = host(&["5.0.0", "5.0.1"]);
    let manifest =
        "name = \"emqx\"\nversion = \"5.1.0\"\n[upgrade]\nfrom = [\">=5.0.1\"]\nhot-from = [\"~5.0\"]\n";
    host.build("5.1.0").file("release.toml", manifest).write();
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "upgrade 5.1.0", @"
    exit 2
    --- stderr
    error: cannot go from 5.0.0 to 5.1.0: it can be reached from `>=5.0.1` only, as its manifest declares
    hint: use this path: 5.0.1, then 5.1.0; `tenure plan 5.1.0` shows each hop
    ");
    assert_run!(host, "plan 5.1.0", @"
    exit 0
    --- stdout
    From 5.0.0 to 5.1.0 in 2 hops:
      1. 5.0.1, hot, an archive in releases/
      2. 5.1.0, hot, an archive in releases/
    ");
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["upgrade", "5.1.0"]).ok();
}

#[test]
fn plan_uses_named_releases() {
    let host = host(&["3.12.5"]);
    fs::write(host.root().join("releases/paths.toml"), WEKA).unwrap();
    host.run(["install", "3.12.5"]).ok();
    let before = host.tree();
    let available = "3.13.0,3.13.6,3.14.3,4.0.5";
    let run = host.run(["plan", "4.0.5", "--available", available, "--json"]).ok().json();
    let hops: Vec<&str> =
        run["hops"].as_array().unwrap().iter().map(|hop| hop["to"].as_str().unwrap()).collect();
    assert_eq!(hops, ["3.13.6", "3.14.3", "4.0.5"]);
    assert_eq!((&run["schema"], &run["hops"][0]["way"]), (&1.into(), &"restart".into()));
    assert_eq!(
        (&run["releases"]["3.12.5"], &run["releases"]["4.0.5"]),
        (&"installed".into(), &"named".into())
    );
    host.run(["plan", "4.0.5", "--available", "3.13.6,4.0.5"]).code(2).stderr(
        "error: no upgrade path from 3.12.5 to 4.0.5 with the available releases\n\
         caused by: cannot go from 3.12.5 to 4.0.5: by releases/paths.toml it can be reached from `>=3.14.1, <4.0` or `~4.0` only\n\
         hint: add the missing releases to complete a path: 3.14.1, or another one in ~3.14 and >=3.14.1, <4.0\n",
    );
    assert_run!(host, "plan 4.0.5 --from 3.9.0 --available 4.0.5", @"
    exit 2
    --- stderr
    error: no upgrade path from 3.9.0 to 4.0.5 with the available releases
    caused by: cannot go from 3.9.0 to 4.0.5: by releases/paths.toml it can be reached from `>=3.14.1, <4.0` or `~4.0` only
    hint: ask the vendor how to upgrade from 3.9.0; by the known rules, no other release completes a path
    ");
    assert_run!(host, "plan 4.0.5", @"
    exit 2
    --- stderr
    error: release 4.0.5 is not installed, and releases/ has no archive of it
    hint: copy its archive into releases/, or name it with --available
    ");
    assert_run!(host, "plan 3.12.5", @"
    exit 0
    --- stdout
    Release 3.12.5 is the starting point.
    ");
    assert_run!(host, "plan 3.11.0", @"
    exit 2
    --- stderr
    error: cannot plan an upgrade path from 3.12.5 to 3.11.0: 3.11.0 is lower
    hint: a downgrade is one hop: `tenure downgrade --dry-run 3.11.0` shows it
    ");
    assert_run!(host, "plan 4.0.5 --from 3.14.2 --available 4.0.5", @"
    exit 0
    --- stdout
    From 3.14.2 to 4.0.5 in 1 hop:
      1. 4.0.5, by a restart
    ");
    host.run(["plan", "four"]).code(64);
    assert_eq!(host.tree(), before);
    assert_eq!(HopKind::Hot, tenure::policy::hop(&v("3.13.0"), &v("3.13.6"), None));
}

#[test]
fn plan_and_upgrade_agree_on_highest_release() {
    let host = host(&["3.14.3", "4.0.1", "4.0.5"]);
    fs::write(host.root().join("releases/paths.toml"), WEKA).unwrap();
    host.run(["install", "3.14.3"]).ok();
    let why = "allows only the highest available release in ~4.0\n";
    for args in [&["upgrade"][..], &["upgrade", "--multi-hop"], &["plan"]] {
        host.run([args, &["--restart", "4.0.1"][usize::from(args[0] == "plan")..]].concat())
            .code(2)
            .stderr_has(why);
    }
    let run = host.run(["plan", "4.0.1", "--format", "dot"]).code(2);
    assert!(!run.stdout.contains("4.0.5"), "{}", run.stdout);
    // The highest release also counts if its archive is unreadable.
    fs::write(host.root().join("releases/emqx-4.0.5.zip"), "PK").unwrap();
    assert_run!(host, "upgrade --restart 4.0.1", @"
    exit 2
    --- stderr
    error: cannot go from 3.14.3 to 4.0.1: releases/paths.toml allows only the highest available release in ~4.0
    hint: run `tenure plan 4.0.1` to see which releases would complete a path
    ");
    assert_run!(host, "plan 4.0.1", @"
    exit 2
    --- stderr
    error: no upgrade path from 3.14.3 to 4.0.1 with the available releases
    caused by: cannot go from 3.14.3 to 4.0.1: releases/paths.toml allows only the highest available release in ~4.0
    hint: ask the vendor how to upgrade from 3.14.3; by the known rules, no other release completes a path
    ");
    assert_run!(host, "upgrade --multi-hop --restart 4.0.6", @"
    exit 2
    --- stderr
    error: release 4.0.6 is not installed, and releases/ has no archive of it
    hint: copy its archive into releases/
    ");
}

#[test]
fn plan_skips_unreadable_archives() {
    let host = host(&["5.0.0", "5.0.1", "5.0.2", "5.0.3", "5.0.4"]);
    fs::write(
        host.root().join("releases/paths.toml"),
        "[[path]]\nto = '*'\nfrom = ['<5.0.3']\n[[path]]\nto = '>=5.0.4'\nfrom = ['>=5.0.3']\n",
    )
    .unwrap();
    host.run(["install", "5.0.0"]).ok();
    let archive = |version: &str| host.root().join(format!("releases/emqx-{version}.zip"));
    fs::write(archive("5.0.1"), "half").unwrap();
    assert_run!(host, "plan 5.0.3", @"
    exit 0
    --- stdout
    From 5.0.0 to 5.0.3 in 1 hop:
      1. 5.0.3, hot, an archive in releases/
    --- stderr
    warning: 5.0.1 is left out of every path: cannot unpack emqx-5.0.1.zip: the archive is damaged: it has no end record
    ");
    assert_run!(host, "upgrade --multi-hop 5.0.3", @r#"
    exit 0
    --- stdout
    Release 5.0.3 not found, attempting to unpack releases/emqx-5.0.3.zip
    Unpacked successfully: "5.0.3"
    Hop 1 of 1: 5.0.0 to 5.0.3
    Release 5.0.3 is already unpacked, switching to it.
    Installed Release: 5.0.3
    Made release permanent: "5.0.3"
    Reached 5.0.3 from 5.0.0 in 1 hop.
    --- stderr
    warning: 5.0.1 is left out of every path: cannot unpack emqx-5.0.1.zip: the archive is damaged: it has no end record
    "#);
    // Now the unreadable release is needed.
    host.run(["downgrade", "5.0.0"]).ok();
    host.run(["uninstall", "5.0.3"]).ok();
    fs::write(archive("5.0.3"), "half").unwrap();
    let rules = "[[path]]\nto = '=5.0.3'\nfrom = ['<5.0.3']\n[[path]]\nto = '>=5.0.4'\nfrom = ['=5.0.3']\n";
    fs::write(host.root().join("releases/paths.toml"), rules).unwrap();
    for args in [&["plan", "5.0.4"][..], &["upgrade", "--multi-hop", "5.0.4"]] {
        let run = host.run(args).code(2);
        run.stderr_has("error: no upgrade path from 5.0.0 to 5.0.4")
            .stderr_has("hint: 5.0.3 is left out of every path: ");
    }
    assert_run!(host, "plan 5.0.3", @"
    exit 2
    --- stderr
    error: cannot unpack emqx-5.0.3.zip: the archive is damaged: it has no end record
    hint: get the archive again from its vendor; nothing was unpacked
    ");
}

#[test]
fn plan_skips_ambiguous_archives() {
    let host = host(&["5.0.0", "5.0.1", "5.0.2", "5.0.3"]);
    let rules =
        "[[path]]\nto = '=5.0.3'\nfrom = ['=5.0.1', '=5.0.2']\n[[path]]\nto = '<5.0.3'\nfrom = ['*']\n";
    fs::write(host.root().join("releases/paths.toml"), rules).unwrap();
    host.run(["install", "5.0.0"]).ok();
    let archive = |name: &str| host.root().join(format!("releases/emqx-{name}.zip"));
    fs::copy(archive("5.0.2"), archive("5.0.2-musl")).unwrap();
    assert_run!(host, "plan 5.0.3", @"
    exit 0
    --- stdout
    From 5.0.0 to 5.0.3 in 2 hops:
      1. 5.0.1, hot, an archive in releases/
      2. 5.0.3, hot, an archive in releases/
    --- stderr
    warning: 5.0.2 is left out of every path: more than one archive contains 5.0.2: releases/emqx-5.0.2-musl.zip, releases/emqx-5.0.2.zip
    ");
    assert_run!(host, "plan 5.0.2", @"
    exit 2
    --- stderr
    error: more than one archive contains 5.0.2: releases/emqx-5.0.2-musl.zip, releases/emqx-5.0.2.zip
    hint: keep one of them, or name it: `tenure unpack FILE`
    ");
    assert_run!(host, "upgrade --multi-hop 5.0.3", @r#"
    exit 0
    --- stdout
    Release 5.0.1 not found, attempting to unpack releases/emqx-5.0.1.zip
    Unpacked successfully: "5.0.1"
    Release 5.0.3 not found, attempting to unpack releases/emqx-5.0.3.zip
    Unpacked successfully: "5.0.3"
    Hop 1 of 2: 5.0.0 to 5.0.1
    Release 5.0.1 is already unpacked, switching to it.
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    Hop 2 of 2: 5.0.1 to 5.0.3
    Release 5.0.3 is already unpacked, switching to it.
    Installed Release: 5.0.3
    Made release permanent: "5.0.3"
    Reached 5.0.3 from 5.0.0 in 2 hops.
    --- stderr
    warning: 5.0.2 is left out of every path: more than one archive contains 5.0.2: releases/emqx-5.0.2-musl.zip, releases/emqx-5.0.2.zip
    "#);
}

#[test]
fn graph_shows_all_hops_and_the_path() {
    let host = host(&["3.12.5"]);
    fs::write(host.root().join("releases/paths.toml"), WEKA).unwrap();
    host.run(["install", "3.12.5"]).ok();
    let dot = host
        .run(["plan", "4.0.5", "--available", "3.13.0,3.13.6,3.14.3,4.0.5", "--format", "dot"])
        .ok()
        .stdout;
    for line in [
        "digraph releases {\n",
        "  \"3.13.6\" [style=dashed, penwidth=3];\n",
        "  \"3.13.0\" [style=dashed];\n",
        "  \"3.12.5\" -> \"3.13.6\" [style=dashed, penwidth=3];\n",
        "  \"3.13.0\" -> \"3.13.6\" [style=solid];\n",
    ] {
        assert!(dot.contains(line), "{line} is not in:\n{dot}");
    }
    let run = host.run(["plan", "4.0.5", "--available", "3.13.6,4.0.5", "--format", "dot"]).code(2);
    run.stdout_has("  \"3.12.5\" -> \"3.13.6\" [style=dashed];\n")
        .stderr_has("error: no upgrade path from 3.12.5 to 4.0.5");
    assert_run!(host, "plan 4.0.5 --available 4.0.5 --format dot --json", @r#"
    exit 2
    --- stdout
    {
      "schema": 1,
      "error": {
        "kind": "refused",
        "code": 2,
        "message": "no upgrade path from 3.12.5 to 4.0.5 with the available releases",
        "causes": [
          "cannot go from 3.12.5 to 4.0.5: by releases/paths.toml it can be reached from `>=3.14.1, <4.0` or `~4.0` only"
        ],
        "hints": [
          "add the missing releases to complete a path: 3.13.1, or another one in ~3.13 and >=3.13.1, <3.14; 3.14.1, or another one in ~3.14 and >=3.14.1, <4.0"
        ]
      }
    }
    "#);
}

#[test]
fn invalid_path_rules_are_refused() {
    let host = host(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    for (text, why) in [
        ("[[path]]\nto = '~5.0'\n", "missing field `from`"),
        ("[[path]]\nto = '~5.0'\nform = ['5']\n", "the nearest known key is `from`"),
        ("[[path]]\nto = 'five'\nfrom = []\n", "releases/paths.toml, line 2"),
    ] {
        fs::write(host.root().join("releases/paths.toml"), text).unwrap();
        for command in ["upgrade", "plan"] {
            host.run([command, "5.0.1"]).code(2).stderr_has(why);
        }
    }
}
