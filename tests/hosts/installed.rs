//! A product that is installed on a host, as its clients and its operator see it.

use std::ops::{Deref, DerefMut};

use crate::support::booted::Booted;
use crate::support::states;

/// A product with its root at /srv/NAME, on a running host.
pub struct Installed {
    pub host: Booted,
    pub name: &'static str,
    /// A shell command that prints the version that answers.
    pub ask: &'static str,
}

impl Deref for Installed {
    type Target = Booted;

    fn deref(&self) -> &Booted {
        &self.host
    }
}

impl DerefMut for Installed {
    fn deref_mut(&mut self) -> &mut Booted {
        &mut self.host
    }
}

impl Installed {
    /// Runs a tenure command, which must succeed, and returns its output.
    pub fn tenure(&self, words: &str) -> String {
        self.ok(&format!("tenure --root /srv/{} {words}", self.name))
    }

    /// Returns the version that answers, or an empty string if the service does not answer.
    pub fn answer(&self) -> String {
        self.sh(self.ask).stdout.trim().to_owned()
    }

    /// Waits until a version answers.
    pub fn answers(&self, version: &str) {
        self.until(&format!("{version} answers"), || self.answer() == version);
    }

    /// Returns each release with its state, without the mark of a failed trial.
    pub fn states(&self) -> Vec<String> {
        let plain = |state: String| state.split(',').next().unwrap().to_owned();
        states(&self.tenure("versions")).into_iter().map(plain).collect()
    }

    /// Returns whether a file exists.
    pub fn has(&self, path: &str) -> bool {
        self.sh(&format!("test -e {path}")).code == Some(0)
    }

    /// Returns whether a transaction is in progress or was interrupted.
    pub fn is_busy(&self) -> bool {
        self.has(&format!("/srv/{}/.tenure/journal", self.name))
    }

    /// Returns the running guards.
    pub fn guards(&self) -> String {
        self.sh(&format!("pgrep -a -f '^/usr/bin/tenure --root /srv/{} guard'", self.name)).stdout
    }

    /// Waits until the trial has ended and the permanent release runs again.
    pub fn is_back(&self, tried: &str, permanent: &str) {
        self.answers(permanent);
        let states = [format!("{tried} unpacked"), format!("{permanent} permanent")];
        self.until("it is taken back", || self.states() == states);
        // The rollback continues after a killed guard, because another guard takes over. In between, no guard may
        // exist for a moment.
        self.until("it is over", || !self.is_busy());
        self.until("the guards have left", || self.guards().is_empty());
        self.tenure("status");
    }

    /// Runs a command in the background, one second after the next trial begins.
    pub fn once_on_trial(&self, act: &str) {
        let own = format!("/srv/{}/.tenure", self.name);
        let begun = format!("until [ -e {own}/trial ] && [ ! -e {own}/journal ]; do sleep 0.05; done");
        self.ok(&format!("{{ {begun}; sleep 1; {act}; }} >/dev/null 2>&1 &"));
    }

    /// Puts a release on trial, even if its last trial failed.
    pub fn try_out(&self, options: &str, version: &str, permanent: &str) {
        self.tenure(&format!("upgrade --retry {options} {version}"));
        assert_eq!(self.answer(), version);
        assert_eq!(self.states(), [format!("{version} current"), format!("{permanent} permanent")]);
    }
}
