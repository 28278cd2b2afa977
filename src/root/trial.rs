//! A trial with a deadline: what is on trial, until when, and what ends it. True only as long as the links say so
//! as well, and never longer than this boot of the host.

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
    /// The release that is on trial.
    pub version: Version,
    /// What ends it.
    pub term: TrialEnd,
    /// The transaction that began it.
    pub transaction: String,
    /// The boot of the host that it belongs to: a restart ends every trial.
    boot: String,
    /// When it ends, in milliseconds since that boot: the time of day may jump.
    ends_ms: u64,
    /// When that is by the time of day, in RFC 3339, for people.
    pub ends: String,
}

impl Trial {
    /// A trial that begins now.
    ///
    /// # Errors
    /// Where the host does not tell its boots apart.
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

    /// Whether it began since the host was started.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        clock::boot().is_ok_and(|boot| boot == self.boot)
    }

    /// How much of it is left; nothing where it is over, or where the host was started anew since.
    #[must_use]
    pub fn left(&self) -> Duration {
        if self.is_of_this_boot() {
            Duration::from_millis(self.ends_ms).saturating_sub(clock::since_boot())
        } else {
            Duration::ZERO
        }
    }

    /// Whether its deadline has passed, or the host has booted since it began.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Why it is rolled back at its deadline, where nobody has judged it.
    #[must_use]
    pub fn why_overdue(&self) -> String {
        match self.term {
            TrialEnd::Confirmation(_) => format!("{} was not confirmed in time", self.version),
            TrialEnd::Watch(_) => format!("{} was not watched until its deadline", self.version),
        }
    }
}

impl Root {
    /// The trial that is under way and has a deadline; none where the links tell of no such trial, or where no file of
    /// Tenure's stands there.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn trial(&self, now: &Snapshot) -> Result<Option<Trial>> {
        let text = match disk::read_torn(&self.own().join("trial"), 1 << 16) {
            Err(error) if error.kind() == Kind::Refused => None,
            text => text?,
        };
        let trial: Option<Trial> = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(trial.filter(|trial| now.trial().is_some_and(|(version, _)| *version == trial.version)))
    }

    /// Writes down durably that a trial has begun.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn set_trial(&self, trial: &Trial) -> Result<()> {
        let text = serde_json::to_vec(trial).context(|| "cannot record the trial")?;
        disk::write_durable(&self.own().join("trial"), &self.staging(), &text, 0o644, self.owner()).map(drop)
    }

    /// Removes what is written of a trial that the links do not tell of. Under the lock, and not while a transaction
    /// is open.
    pub(super) fn forget_trial(&self) -> Result<()> {
        let file = self.own().join("trial");
        if disk::exists(&file) && self.trial(&self.observe()?)?.is_none() {
            disk::remove_file_durable(&file)?;
        }
        Ok(())
    }
}
