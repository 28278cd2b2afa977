//! Decides how to recover from a plan that was begun and not finished.

use serde::Serialize;

use crate::release::Snapshot;

use super::{JournalRecord, Step};

/// The direction of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toward {
    /// To the end of the plan: `permanent` points to its release.
    Forward,
    /// To the state before the plan.
    Back,
}

/// The recovery from an interrupted plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// The direction.
    pub toward: Toward,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// Returns the recovery from an interrupted plan. If all steps are done, it has no steps. Otherwise the commit point
/// alone decides: if `permanent` points to the release of the plan, the remaining steps are done. If not, the begun
/// steps are reversed, last first. (A `revert`, which goes to the permanent release, is therefore always finished.)
///
/// Every step can be repeated, so an interrupted recovery is decided again from the start.
#[must_use]
pub fn recover(record: &JournalRecord, now: &Snapshot) -> Recovery {
    let plan = &record.plan;
    if record.begun > plan.steps.len() {
        return Recovery { toward: Toward::Forward, steps: Vec::new() };
    }
    let begun = &plan.steps[..record.begun.max(shown(&plan.steps, now))];
    if plan.to.is_some() && plan.to.as_ref() == now.permanent.version() {
        let done = begun.len().saturating_sub(1);
        Recovery { toward: Toward::Forward, steps: plan.steps[done..].to_vec() }
    } else {
        Recovery { toward: Toward::Back, steps: undo(begun) }
    }
}

/// Returns how many steps the links show as begun. A journal that lost its end records fewer.
fn shown(steps: &[Step], now: &Snapshot) -> usize {
    let is_made = |step: &Step| match step {
        Step::SwitchLink { link, from, to } => {
            from != to && to.is_some() && now.link(*link).version() == to.as_ref()
        }
        _ => false,
    };
    steps.iter().rposition(is_made).map_or(0, |at| at + 1)
}

/// Returns the steps that reverse the begun steps, last first, with one exception: links come before the service, and
/// the service before its files. A service that restarts before its link is back would run the bad release again.
#[must_use]
pub fn undo(begun: &[Step]) -> Vec<Step> {
    let mut steps: Vec<Step> = begun.iter().rev().filter_map(Step::inverse).collect();
    steps.sort_by_key(|step| match step {
        Step::SwitchLink { .. } => 0,
        Step::ReturnService { .. } | Step::StopService { .. } => 1,
        _ => 2,
    });
    let proven = |step: Step| {
        let proof = match &step {
            Step::ReturnService { to, motion, .. } => {
                Some(Step::WaitHealthy { version: to.clone(), motion: motion.back() })
            }
            _ => None,
        };
        [Some(step), proof]
    };
    steps.into_iter().flat_map(proven).flatten().collect()
}
