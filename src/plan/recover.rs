//! What is to be done about a plan that was begun and not finished.

use serde::Serialize;

use crate::release::Snapshot;

use super::{JournalRecord, Step};

/// Where recovery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Toward {
    /// To where the plan was going: `permanent` names that release.
    Forward,
    /// To where it began.
    Back,
}

/// The way out of an interrupted plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Where it goes.
    pub toward: Toward,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

/// Where all steps are done nothing is left. Else the commit point alone decides: where `permanent` names the
/// release that the plan was going to, the rest is done, if not, what was begun is taken back, last first. (So
/// a `revert`, which goes to the permanent release, is always finished.)
///
/// Every step may be made again, so a recovery that was itself cut short is simply decided anew.
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

/// How many steps were begun by what the links show: a journal that lost its end tells of fewer.
fn shown(steps: &[Step], now: &Snapshot) -> usize {
    let is_made = |step: &Step| match step {
        Step::SwitchLink { link, from, to } => {
            from != to && to.is_some() && now.link(*link).version() == to.as_ref()
        }
        _ => false,
    };
    steps.iter().rposition(is_made).map_or(0, |at| at + 1)
}

/// What takes begun steps back, last first, but for one thing: links come before the service, and the
/// service before its files. A service that is restarted before its link is back runs the bad release again.
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
