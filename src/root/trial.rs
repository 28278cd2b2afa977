//! A trial with a deadline: the release, the deadline, and what ends the trial. The record counts only while the
//! links show the trial, and a trial never outlasts a boot of the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Context, Kind, Result};
use crate::fs as disk;
use crate::plan::TrialEnd;
use crate::release::Snapshot;
use crate::version::Version;

use super::Root;

/// A trial that ends by itself.
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
            ends_ms: u64::try_from(ends.as_millis()).unwrap_or(u64::MAX),
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
        disk::write_durable(&self.own().join("trial"), &self.staging(), &text, 0o644, self.owner()).map(drop)
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
