//! Hostile and damaged archives, and their valid counterparts, through the real binary.
//!
//! A refused archive leaves nothing. An accepted archive is on disk exactly as it was packed.

#[path = "../../../fixtures/hostile/mod.rs"]
pub mod corpus;
mod coverage;
mod judge;
mod limits;
mod place;
mod released;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::corpus::{Case, Verdict};

static CASES: LazyLock<Vec<Case>> = LazyLock::new(corpus::cases);

/// Calls `judge` with each wanted case and its number, on two threads. Panics with all messages if a case fails.
fn each(wanted: impl Fn(&Case) -> bool, judge: impl Fn(usize, &Case) -> Result<(), String> + Sync) {
    let cases: Vec<(usize, &Case)> = CASES.iter().enumerate().filter(|(_, case)| wanted(case)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::repeat_with(|| cases.get(next.fetch_add(1, Ordering::Relaxed)));
        let judged = mine.map_while(|case| case).map(|(number, case)| {
            judge(*number, case).map_err(|why| format!("{} [{}]: {why}", case.name, case.format))
        });
        judged.filter_map(Result::err).collect::<Vec<String>>()
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn refused_archive_leaves_nothing() {
    each(|case| matches!(case.verdict, Verdict::Reject(_)), judge::refused);
}

#[test]
fn accepted_archive_unpacks_exactly() {
    each(|case| matches!(case.verdict, Verdict::Accept(_)), judge::accepted);
}

#[test]
fn lint_predicts_refused_archives() {
    each(|_| true, judge::foretold);
}
