//! Hostile and damaged archives, and their good twins, through the real binary.
//!
//! What is refused leaves nothing; what is accepted is on disk exactly as it was packed.

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

/// Calls `judge` with each case that is wanted and its number, on two threads, and fails with all it says.
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
fn what_is_refused_leaves_nothing() {
    each(|case| matches!(case.verdict, Verdict::Reject(_)), judge::refused);
}

#[test]
fn what_is_accepted_is_whole() {
    each(|case| matches!(case.verdict, Verdict::Accept(_)), judge::accepted);
}

#[test]
fn vendors_are_told_of_what_would_be_refused() {
    each(|_| true, judge::foretold);
}
