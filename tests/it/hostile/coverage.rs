//! Tests that the corpus has the required cases of every rule in every format.

use std::collections::BTreeSet;

use super::CASES;
use super::corpus::{RULES, Rule, Verdict, write_all};

/// Returns how many cases of a rule in a format must be refused and how many must be accepted.
fn count(rule: &Rule, format: &str) -> (usize, usize) {
    let of = CASES.iter().filter(|case| case.rule == rule.line && case.format == format);
    let (bad, good): (Vec<_>, Vec<_>) = of.partition(|case| matches!(case.verdict, Verdict::Reject(_)));
    (bad.len(), good.len())
}

#[test]
fn every_rule_has_cases_in_every_format() {
    for rule in RULES {
        for format in rule.formats {
            let (bad, good) = count(rule, format);
            assert!(!rule.rejects || bad >= 2, "{} [{format}]: {bad} to be refused", rule.line);
            assert!(!rule.accepts || good >= 1, "{} [{format}]: {good} to be accepted", rule.line);
        }
    }
}

#[test]
fn cases_have_rule_reason_and_unique_name() {
    let lines: BTreeSet<&str> = RULES.iter().map(|rule| rule.line).collect();
    assert_eq!(lines.len(), RULES.len());
    let mut names = BTreeSet::new();
    for case in CASES.iter() {
        assert!(lines.contains(case.rule), "{}: no rule {}", case.name, case.rule);
        assert!(
            !matches!(case.verdict, Verdict::Reject("")),
            "{} [{}] has no reason",
            case.name,
            case.format
        );
        assert!(
            names.insert((case.rule, &case.name, case.format, matches!(case.verdict, Verdict::Reject(_)))),
            "{} [{}] twice",
            case.name,
            case.format
        );
    }
}

#[test]
fn corpus_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), CASES.len());
}
