//! Properties of versions and ranges: one total order, texts that parse back, and ranges that agree with the order.

use std::cmp::Ordering;

use proptest::prelude::*;
use tenure::version::{Range, Version};

fn numbers() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        4 => (0..4_u64).prop_map(|n| n.to_string()),
        1 => (0..30_u64).prop_map(|n| format!("0{n}")),
        1 => Just(u64::MAX.to_string()),
    ];
    proptest::collection::vec(number, 1..=5).prop_map(|numbers| numbers.join("."))
}

fn suffix() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        2 => (0..12_u64).prop_map(|n| format!("-{n}")),
        3 => "-(alpha|beta|rc)(\\.[0-3])?(\\.x-y)?",
        1 => "-[0-2]\\.[0-2]",
    ]
}

fn version() -> impl Strategy<Value = Version> {
    (numbers(), suffix(), "(\\+[0-2a-c]{1,2})?")
        .prop_map(|(numbers, suffix, metadata)| format!("{numbers}{suffix}{metadata}").parse().unwrap())
}

fn range() -> impl Strategy<Value = Range> {
    let sign =
        prop_oneof![Just(""), Just("="), Just(">"), Just(">="), Just("<"), Just("<="), Just("~"), Just("^")];
    let bound =
        (sign, numbers(), suffix()).prop_map(|(sign, numbers, suffix)| format!("{sign}{numbers}{suffix}"));
    let bound = prop_oneof![6 => bound, 1 => "[0-3](\\.[0-3]){0,3}\\.\\*", 1 => Just("*".to_owned())];
    proptest::collection::vec(bound, 1..3).prop_map(|bounds| bounds.join(", ").parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_parses_back(version in version()) {
        let text = version.to_string();
        prop_assert_eq!(&text.parse::<Version>().unwrap(), &version);
        prop_assert_eq!(&format!("v{text}").parse::<Version>().unwrap(), &version);
        prop_assert_eq!(Version::of_directory(&text), Some(version));
    }

    #[test]
    fn order_is_total(a in version(), b in version(), c in version()) {
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
        prop_assert_eq!(a == b, a.to_string() == b.to_string());
        if a <= b && b <= c {
            prop_assert!(a <= c, "{a} {b} {c}");
        }
        if a.precedence(&b) != Ordering::Equal {
            prop_assert_eq!(a.precedence(&b), a.cmp(&b));
        }
    }

    /// Whatever is valid semver is ordered as semver says, except a suffix of digits only.
    #[test]
    fn order_agrees_with_semver(a in version(), b in version()) {
        let semver = |version: &Version| {
            let parsed: semver::Version = version.to_string().parse().ok()?;
            (parsed.pre.is_empty() || parsed.pre.parse::<u64>().is_err()).then_some(parsed)
        };
        if let (Some(one), Some(other)) = (semver(&a), semver(&b)) {
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }
    }

    #[test]
    fn one_sided_ranges_agree_with_the_order(bound in version(), low in version(), high in version()) {
        let contains = |sign: &str, version: &Version| {
            format!("{sign}{bound}").parse::<Range>().unwrap().contains(version)
        };
        for version in [&low, &high] {
            prop_assert_eq!(contains(">=", version), version.precedence(&bound) != Ordering::Less);
            prop_assert_eq!(contains("<", version), version.precedence(&bound) == Ordering::Less);
            prop_assert_eq!(contains("<=", version), !contains(">", version));
            prop_assert!(!contains("=", version) || contains("<=", version));
            prop_assert!(!contains("^", version) || contains(">=", version));
            prop_assert!(!contains("~", version) || contains("^", version) || bound.to_string().starts_with('0'));
        }
        if low.precedence(&high) == Ordering::Less {
            for up in [">=", ">"] {
                prop_assert!(!contains(up, &low) || contains(up, &high), "{up}{bound}: {low} {high}");
            }
            for down in ["<=", "<"] {
                prop_assert!(!contains(down, &high) || contains(down, &low), "{down}{bound}: {low} {high}");
            }
        }
        prop_assert!(contains("=", &bound) && contains("~", &bound) && contains("^", &bound));
    }

    #[test]
    fn range_prints_back_and_knows_its_least_version(range in range(), version in version()) {
        prop_assert_eq!(&range.to_string().parse::<Range>().unwrap(), &range);
        if range.contains(&version) {
            let least = range.least();
            let is_lower = least.as_ref().is_some_and(|l| l.precedence(&version) != Ordering::Greater);
            prop_assert!(is_lower, "{range}: {version}, {least:?}");
        }
        for lowest in range.lowest().chain(range.least()) {
            prop_assert!(range.contains(&lowest), "{range}: {lowest}");
        }
    }
}
