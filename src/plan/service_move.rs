//! Describes how a running service moves from one release to another.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::Baseline;

/// The method that moves a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Hot, by a hook of the higher release.
    Hook,
    /// Hot, by the reload command of the service manager.
    Reload,
    /// Hot, by a signal to the main process; the name is without SIG.
    Signal(String),
    /// By a stop and a start.
    Restart,
}

/// The condition that ends a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "within")]
pub enum TrialEnd {
    /// The trial is reverted unless a person confirms it within this time.
    Confirmation(Duration),
    /// The release becomes permanent after this time unless the service becomes unhealthy.
    Watch(Duration),
}

impl TrialEnd {
    /// Returns the length of the trial.
    #[must_use]
    pub fn within(self) -> Duration {
        match self {
            Self::Confirmation(within) | Self::Watch(within) => within,
        }
    }
}

impl fmt::Display for TrialEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = humantime::format_duration(self.within());
        match self {
            Self::Confirmation(_) => write!(f, "to be confirmed within {within}"),
            Self::Watch(_) => write!(f, "with its health watched for {within}"),
        }
    }
}

/// The method of a move, and the health of the service just before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMove {
    /// The method.
    pub way: Method,
    /// The health before the move.
    pub baseline: Baseline,
}

impl ServiceMove {
    /// Returns the move with which to check the health after a rollback. The check may take as long as after a
    /// restart, and inconclusive samples do not fail it.
    #[must_use]
    pub fn back(&self) -> Self {
        let baseline = if self.baseline == Baseline::Sound { Baseline::Known } else { self.baseline };
        Self { way: Method::Restart, baseline }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook => f.write_str("hot, by its hook"),
            Self::Reload => f.write_str("hot, by a reload"),
            Self::Signal(name) => write!(f, "hot, by SIG{}", name.trim_start_matches("SIG")),
            Self::Restart => f.write_str("by a restart"),
        }
    }
}
