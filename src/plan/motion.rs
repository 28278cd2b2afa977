//! How a running service gets from one release to another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::health::Baseline;

/// By what a service is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Hot, by a program of the higher release.
    Hook,
    /// Hot, by the reload of its manager.
    Reload,
    /// Hot, by a signal to its main process, named without SIG.
    Signal(String),
    /// By a stop and a start.
    Restart,
}

/// How a service is moved, and how it was just before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Motion {
    /// By what.
    pub way: Way,
    /// How it was.
    pub baseline: Baseline,
}

impl Motion {
    /// The surest way, which is what is left where another one failed.
    #[must_use]
    pub fn by_restart(&self) -> Self {
        Self { way: Way::Restart, baseline: self.baseline }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook => f.write_str("hot, by its hook"),
            Self::Reload => f.write_str("hot, by a reload"),
            Self::Signal(name) => write!(f, "hot, by SIG{}", name.trim_start_matches("SIG")),
            Self::Restart => f.write_str("by a restart"),
        }
    }
}
