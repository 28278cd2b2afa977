//! How a running service gets from one release to another.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::health::Baseline;

/// By what a service is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Hot, by a program of the higher release.
    Hook,
    /// Hot, by the reload of its manager.
    Reload,
    /// Hot, by a signal to its main process, named without SIG.
    Signal(String),
    /// By a stop and a start.
    Restart,
}

/// What ends a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", content = "within")]
pub enum TrialEnd {
    /// It is reverted, unless somebody confirms it in this time.
    Confirmation(Duration),
    /// It is permanent after this time, unless the service is unwell meanwhile.
    Watch(Duration),
}

impl TrialEnd {
    /// How long it lasts.
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

/// How a service is moved, and how it was just before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMove {
    /// By what.
    pub way: Method,
    /// How it was.
    pub baseline: Baseline,
}

impl ServiceMove {
    /// The surest way, which is what is left where another one failed.
    #[must_use]
    pub fn by_restart(&self) -> Self {
        Self { way: Method::Restart, baseline: self.baseline }
    }

    /// As a release is proved that was gone back to. It may take as long as after a restart, and it is not given up for
    /// what nobody can tell.
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
