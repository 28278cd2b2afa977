//! Formats the history as text.

use std::time::Duration;

use tenure::ops::{History, Remembered};
use tenure::root::{HistoryEntry, Outcome, TrialOutcome};

use super::human::{Form, Human};

impl Human for History {
    const FORM: Form = Form::Prose;

    fn human(&self) -> String {
        self.entries.iter().map(remembered).collect()
    }
}

fn remembered(Remembered { entry, trial }: &Remembered) -> String {
    let HistoryEntry { from, to, permanent, .. } = entry;
    let is_rollback = entry.outcome == Outcome::Done && entry.error.is_some();
    let how = match (entry.outcome, from, to) {
        // A move back with an error is an automatic rollback, not one that a user requested.
        (_, Some(from), Some(to)) if is_rollback => {
            format!("{from} failed, rolled back to {to}")
        }
        (Outcome::Done, ..) if trial.is_some() && permanent != to => "on trial".to_owned(),
        (Outcome::Done, ..) => "done".to_owned(),
        (Outcome::Failed, ..) => "failed, rolled back".to_owned(),
        (Outcome::Unfinished, ..) => "failed".to_owned(),
        (Outcome::Finished, ..) => "interrupted, finished later".to_owned(),
        (Outcome::TakenBack, ..) => "interrupted, rolled back later".to_owned(),
    };
    let way = match (from, to) {
        (Some(from), Some(to)) if from != to && !is_rollback => format!("from {from} to {to}, "),
        _ => String::new(),
    };
    let since = trial.filter(|_| permanent != to && entry.outcome == Outcome::Done).map_or("", since);
    let took = entry.took_ms.map_or_else(String::new, |ms| {
        let took = Duration::from_millis(ms.max(1));
        format!(" in {}{}", if ms == 0 { "less than " } else { "" }, humantime::format_duration(took))
    });
    let why = entry.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
    format!("{}  {}  by {}: {way}{how}{took}{since}{why}\n", entry.started, entry.command, entry.by)
}

/// Returns how a trial ended after the command that began it.
fn since(trial: TrialOutcome) -> &'static str {
    match trial {
        TrialOutcome::OnTrial => "",
        TrialOutcome::Permanent => ", then permanent",
        TrialOutcome::Failed => ", then failed",
        TrialOutcome::Reverted | TrialOutcome::Interrupted => ", then rolled back",
        TrialOutcome::Replaced => ", then replaced",
    }
}
