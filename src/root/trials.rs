//! The trials of releases: the trial under way, with its deadline, and all trials with their outcomes, which follow from
//! the history.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Context, Kind, Result};
use crate::fs as disk;
use crate::plan::TrialEnd;
use crate::release::Snapshot;
use crate::version::Version;

use super::Root;
use super::records::{HistoryEntry, Outcome};

/// A trial with a deadline. The record counts only while the links show the trial, and a trial never outlasts a boot of
/// the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The release on trial.
    pub version: Version,
    /// What ends the trial.
    pub term: TrialEnd,
    /// The transaction that began it.
    pub transaction: String,
    /// The boot of the host in which it began, because a reboot ends every trial.
    boot: String,
    /// The deadline in milliseconds since that boot, because the time of day may jump.
    ends_ms: u64,
    /// The deadline as a time of day, in RFC 3339, for display.
    pub ends: String,
}

impl Trial {
    /// Returns a trial that begins now.
    ///
    /// # Errors
    /// Returns an error if the host does not identify its boots.
    pub fn begin(version: &Version, term: TrialEnd, transaction: &str) -> Result<Self> {
        let ends = clock::since_boot() + term.within();
        Ok(Self {
            version: version.clone(),
            term,
            transaction: transaction.to_owned(),
            boot: clock::boot()?,
            ends_ms: clock::milliseconds(ends),
            ends: clock::in_time(term.within()),
        })
    }

    /// Returns whether the trial began during this boot of the host.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        clock::boot().is_ok_and(|boot| boot == self.boot)
    }

    /// Returns the remaining time; zero if the trial is over or the host has rebooted since.
    #[must_use]
    pub fn left(&self) -> Duration {
        if self.is_of_this_boot() {
            Duration::from_millis(self.ends_ms).saturating_sub(clock::since_boot())
        } else {
            Duration::ZERO
        }
    }

    /// Returns whether the deadline has passed, or the host has rebooted since the trial began.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Returns the reason for a rollback at the deadline, if no verdict came before it.
    #[must_use]
    pub fn why_overdue(&self) -> String {
        match self.term {
            TrialEnd::Confirmation(_) => format!("{} was not confirmed in time", self.version),
            TrialEnd::Watch(_) => format!("{} was not watched until its deadline", self.version),
        }
    }
}

impl Root {
    /// Returns the trial that is under way and has a deadline. Returns `None` if the links do not show this trial, or
    /// if Tenure did not write the file there.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read.
    pub fn trial(&self, now: &Snapshot) -> Result<Option<Trial>> {
        let text = match disk::read_torn(&self.own().join("trial"), 1 << 16) {
            Err(error) if error.kind() == Kind::Refused => None,
            text => text?,
        };
        let trial: Option<Trial> = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(trial.filter(|trial| now.trial().is_some_and(|(version, _)| *version == trial.version)))
    }

    /// Records durably that a trial has begun.
    ///
    /// # Errors
    /// Returns an error if the record cannot be written.
    pub fn set_trial(&self, trial: &Trial) -> Result<()> {
        let text = serde_json::to_vec(trial).context(|| "cannot record the trial")?;
        self.write_record(&self.own().join("trial"), &text)
    }

    /// Removes the record of a trial that the links do not show. The caller holds the lock; no transaction is open.
    pub(super) fn forget_trial(&self) -> Result<()> {
        let file = self.own().join("trial");
        if disk::exists(&file) && self.trial(&self.observe()?)?.is_none() {
            disk::remove_file_durable(&file)?;
        }
        Ok(())
    }
}

/// The outcome of a release's trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialOutcome {
    /// The release is on trial.
    OnTrial,
    /// The release became permanent.
    Permanent,
    /// The release failed, and was rolled back.
    Failed,
    /// A command or a restart of the service ended the trial.
    Reverted,
    /// Another release became current before this one was permanent.
    Replaced,
    /// The command was interrupted, and rolled back later.
    Interrupted,
}

/// One move to another release, and its outcome. A move that makes the release permanent at once is a trial that ends
/// with the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrialRecord {
    /// The release that was moved to.
    pub version: Version,
    /// The release that was current before.
    pub from: Version,
    /// The transaction that began the trial.
    pub transaction: String,
    /// The time when it began, in RFC 3339.
    pub started: String,
    /// The outcome.
    pub outcome: TrialOutcome,
    /// The time when it ended, in RFC 3339; `None` while it is under way.
    pub ended: Option<String>,
    /// The user who ended it; `None` while it is under way.
    pub ended_by: Option<String>,
    /// The command that ended it, without `tenure`; `None` while it is under way.
    pub ended_with: Option<String>,
    /// The release that was current afterwards; `None` while it is under way.
    pub then: Option<Version>,
    /// The reason for the failure; `None` if it did not fail.
    pub why: Option<String>,
    /// The release that a rollback returns to.
    #[serde(skip)]
    rightful: Version,
}

impl TrialRecord {
    fn begin(entry: &HistoryEntry, version: &Version, from: &Version, rightful: &Version) -> Self {
        Self {
            version: version.clone(),
            from: from.clone(),
            transaction: entry.transaction.clone(),
            started: entry.started.clone(),
            outcome: TrialOutcome::OnTrial,
            ended: None,
            ended_by: None,
            ended_with: None,
            then: None,
            why: None,
            rightful: rightful.clone(),
        }
    }

    fn end(&mut self, outcome: TrialOutcome, entry: &HistoryEntry, then: &Version) {
        self.outcome = outcome;
        self.ended = Some(entry.ended());
        self.ended_by = Some(entry.by.clone());
        self.ended_with = Some(entry.command.clone());
        self.then = Some(then.clone());
        self.why.clone_from(&entry.error);
    }

    fn ended_at_once(mut self, outcome: TrialOutcome, entry: &HistoryEntry, then: &Version) -> Self {
        self.end(outcome, entry, then);
        self
    }

    /// Returns whether the release before this one is current again.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        matches!(self.outcome, TrialOutcome::Failed | TrialOutcome::Reverted | TrialOutcome::Interrupted)
    }
}

impl fmt::Display for TrialRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (ended, by, with) = (text(&self.ended), text(&self.ended_by), text(&self.ended_with));
        let then = self.then.as_ref().unwrap_or(&self.from);
        write!(f, "{} ", self.version)?;
        match self.outcome {
            TrialOutcome::OnTrial => write!(f, "is on trial since {}", self.started)?,
            TrialOutcome::Permanent => write!(f, "became permanent on {ended} by {by}")?,
            TrialOutcome::Failed => write!(f, "failed and was rolled back to {then} on {ended} by {by}")?,
            TrialOutcome::Reverted => {
                write!(f, "was rolled back to {then} on {ended} by {by} with `{with}`")?;
            }
            TrialOutcome::Replaced => write!(f, "was replaced by {then} on {ended} by {by}")?,
            TrialOutcome::Interrupted => {
                write!(f, "was rolled back to {then}: `{with}`, begun on {ended} by {by}, was interrupted")?;
            }
        }
        self.why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

impl HistoryEntry {
    /// Returns when the transaction ended, in RFC 3339, or when it began if its duration is unknown.
    fn ended(&self) -> String {
        let began = humantime::parse_rfc3339(&self.started).ok();
        let ended = began.zip(self.took_ms).map(|(began, ms)| began + Duration::from_millis(ms));
        ended.map_or_else(
            || self.started.clone(),
            |ended| humantime::format_rfc3339_seconds(ended).to_string(),
        )
    }
}

/// Returns the trials in a history, oldest first, each with the index of the entry that began it.
#[must_use]
pub fn trials(entries: &[HistoryEntry]) -> Vec<(usize, TrialRecord)> {
    let mut trials = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        // Without a permanent release, there is no release to roll back to.
        let (Some(to), Some(permanent)) = (&entry.to, &entry.permanent) else { continue };
        let begun = match entry.outcome {
            Outcome::Done | Outcome::Finished => arrived(&mut trials, entry, to, permanent),
            Outcome::Failed | Outcome::TakenBack | Outcome::Unfinished => stayed(entry, to, permanent),
        };
        trials.extend(begun.map(|begun| (at, begun)));
    }
    trials
}

/// Applies a completed transaction to the trial under way. Returns the trial that the transaction began, if any.
fn arrived(
    trials: &mut [(usize, TrialRecord)],
    entry: &HistoryEntry,
    to: &Version,
    permanent: &Version,
) -> Option<TrialRecord> {
    let under_way = trials.iter_mut().rev().find(|(_, trial)| trial.outcome == TrialOutcome::OnTrial);
    // Only a rollback that no user asked for has a reason.
    let back = if entry.error.is_some() { TrialOutcome::Failed } else { TrialOutcome::Reverted };
    if let Some((_, trial)) = under_way {
        if *to == trial.version {
            if to == permanent {
                trial.end(TrialOutcome::Permanent, entry, to);
            }
            return None;
        }
        if *to == trial.rightful {
            trial.end(back, entry, to);
            return None;
        }
        trial.end(TrialOutcome::Replaced, entry, to);
    }
    let from = entry.from.as_ref().filter(|from| *from != to)?;
    Some(if back == TrialOutcome::Failed {
        TrialRecord::begin(entry, from, to, to).ended_at_once(back, entry, to)
    } else if to == permanent {
        TrialRecord::begin(entry, to, from, from).ended_at_once(TrialOutcome::Permanent, entry, to)
    } else {
        TrialRecord::begin(entry, to, from, permanent)
    })
}

/// Returns the move that was tried and rolled back, if the transaction was a move.
fn stayed(entry: &HistoryEntry, to: &Version, permanent: &Version) -> Option<TrialRecord> {
    let from = entry.from.as_ref().filter(|from| *from != to && to != permanent)?;
    let outcome = match entry.outcome {
        Outcome::TakenBack => TrialOutcome::Interrupted,
        _ => TrialOutcome::Failed,
    };
    Some(TrialRecord::begin(entry, to, from, from).ended_at_once(outcome, entry, from))
}

impl Root {
    /// Returns the trials in the history, oldest first.
    ///
    /// # Errors
    /// Returns an error if the history cannot be read.
    pub fn trials(&self) -> Result<Vec<TrialRecord>> {
        Ok(trials(&self.history()?).into_iter().map(|(_, trial)| trial).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an entry from `COMMAND FROM TO PERMANENT OUTCOME`, with a reason if another word follows.
    fn entry(line: &str) -> HistoryEntry {
        let words: Vec<&str> = line.split(' ').collect();
        let version = |at: usize| words[at].parse().ok();
        HistoryEntry {
            transaction: line.into(),
            command: words[0].into(),
            by: "root".into(),
            started: "2026-01-01T00:00:00Z".into(),
            took_ms: Some(2000),
            outcome: serde_json::from_value(words[4].into()).unwrap(),
            from: version(1),
            to: version(2),
            error: words.get(5).map(|why| (*why).into()),
            permanent: version(3),
            moved_service: None,
        }
    }

    fn told(lines: &[&str]) -> Vec<String> {
        let entries: Vec<HistoryEntry> = lines.iter().map(|line| entry(line)).collect();
        let short = |(at, trial): (usize, TrialRecord)| {
            let then = trial.then.map_or_else(|| "-".into(), |then| then.to_string());
            let why = trial.why.unwrap_or_else(|| "-".into());
            format!("{at} {} {:?} {then} {why}", trial.version, trial.outcome)
        };
        trials(&entries).into_iter().map(short).collect()
    }

    #[test]
    fn trial_outcomes_follow_from_history() {
        let first = "install - 1.0.0 1.0.0 done";
        let trial = "upgrade 1.0.0 1.0.1 1.0.0 done";
        let cases: &[(&[&str], &[&str])] = &[
            (&[first], &[]),
            (&[first, "upgrade 1.0.0 1.0.1 1.0.1 done"], &["1 1.0.1 Permanent 1.0.1 -"]),
            (&[first, "upgrade 1.0.0 1.0.1 1.0.0 failed ill"], &["1 1.0.1 Failed 1.0.0 ill"]),
            (&[first, "upgrade 1.0.0 1.0.1 1.0.0 taken-back"], &["1 1.0.1 Interrupted 1.0.0 -"]),
            (&[trial], &["0 1.0.1 OnTrial - -"]),
            (&[trial, "extend 1.0.1 1.0.1 1.0.0 done"], &["0 1.0.1 OnTrial - -"]),
            (&[trial, "confirm 1.0.1 1.0.1 1.0.1 done"], &["0 1.0.1 Permanent 1.0.1 -"]),
            (&[trial, "confirm 1.0.1 1.0.1 1.0.0 failed full"], &["0 1.0.1 OnTrial - -"]),
            (&[trial, "revert 1.0.1 1.0.0 1.0.0 done"], &["0 1.0.1 Reverted 1.0.0 -"]),
            (&[trial, "revert - 1.0.0 1.0.0 done"], &["0 1.0.1 Reverted 1.0.0 -"]),
            (&[trial, "revert 1.0.1 1.0.0 1.0.0 done ill"], &["0 1.0.1 Failed 1.0.0 ill"]),
            (&[trial, "revert 1.0.1 1.0.0 1.0.0 finished ill"], &["0 1.0.1 Failed 1.0.0 ill"]),
            // The entry that began the trial is lost.
            (&["revert 1.0.1 1.0.0 1.0.0 done ill"], &["0 1.0.1 Failed 1.0.0 ill"]),
            (
                &[trial, "upgrade 1.0.1 1.0.2 1.0.0 done", "revert 1.0.2 1.0.0 1.0.0 done"],
                &["0 1.0.1 Replaced 1.0.2 -", "1 1.0.2 Reverted 1.0.0 -"],
            ),
            (
                &[trial, "upgrade 1.0.1 1.0.2 1.0.0 failed ill", "confirm 1.0.1 1.0.1 1.0.1 done"],
                &["0 1.0.1 Permanent 1.0.1 -", "1 1.0.2 Failed 1.0.1 ill"],
            ),
            // A migration is not a move, and neither is a release that is only unpacked.
            (&[trial, "migrate - 1.0.1 - unfinished ill", "unpack - - 1.0.0 done"], &["0 1.0.1 OnTrial - -"]),
        ];
        for (lines, expected) in cases {
            assert_eq!(told(lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn trial_is_displayed_with_its_outcome() {
        let entries = ["upgrade 1.0.0 1.0.1 1.0.0 done", "revert 1.0.1 1.0.0 1.0.0 done ill"].map(entry);
        assert_eq!(
            trials(&entries)[0].1.to_string(),
            "1.0.1 failed and was rolled back to 1.0.0 on 2026-01-01T00:00:02Z by root: ill"
        );
    }
}
