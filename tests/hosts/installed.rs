//! A product that is installed on a host, and what its clients and its operator see of it.

use std::ops::{Deref, DerefMut};

use crate::support::booted::Booted;

/// A product with its root at /srv/NAME, on a host that is on.
pub struct Installed {
    pub host: Booted,
    pub name: &'static str,
    /// Prints the version that answers.
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
    /// What a command prints that has to succeed.
    pub fn tenure(&self, words: &str) -> String {
        self.ok(&format!("tenure --root /srv/{} {words}", self.name))
    }

    /// The version that answers; empty where nobody does.
    pub fn answer(&self) -> String {
        self.sh(self.ask).stdout.trim().to_owned()
    }

    /// Waits until a version answers.
    pub fn answers(&self, version: &str) {
        self.until(&format!("{version} answers"), || self.answer() == version);
    }

    pub fn states(&self) -> Vec<String> {
        let state = |line: &str| line[2..].split(',').next().unwrap().replace('\t', " ");
        self.tenure("versions").lines().skip(1).map(state).collect()
    }

    /// Whether a file is there.
    pub fn has(&self, path: &str) -> bool {
        self.sh(&format!("test -e {path}")).code == Some(0)
    }

    /// Whether a transaction is under way, or was cut short.
    pub fn is_busy(&self) -> bool {
        self.has(&format!("/srv/{}/.tenure/journal", self.name))
    }

    /// The guards that are there.
    pub fn guards(&self) -> String {
        self.sh(&format!("pgrep -a -f '^/usr/bin/tenure --root /srv/{} guard'", self.name)).stdout
    }

    /// Waits until what was on trial is taken back, to the release that was permanent, by whatever ended it.
    pub fn is_back(&self, tried: &str, permanent: &str) {
        self.answers(permanent);
        let states = [format!("{tried} unpacked"), format!("{permanent} permanent")];
        self.until("it is taken back", || self.states() == states);
        // A guard that was killed while it did so is not there for a moment, and another one then goes on.
        self.until("it is over", || !self.is_busy());
        self.until("the guards have left", || self.guards().is_empty());
        self.tenure("status");
    }

    /// Does something a second after the trial that is to come has begun.
    pub fn once_on_trial(&self, act: &str) {
        let own = format!("/srv/{}/.tenure", self.name);
        let begun = format!("until [ -e {own}/trial ] && [ ! -e {own}/journal ]; do sleep 0.05; done");
        self.ok(&format!("{{ {begun}; sleep 1; {act}; }} >/dev/null 2>&1 &"));
    }

    /// Puts a release on trial, which may have failed before.
    pub fn try_out(&self, options: &str, version: &str, permanent: &str) {
        self.tenure(&format!("upgrade --retry {options} {version}"));
        assert_eq!(self.answer(), version);
        assert_eq!(self.states(), [format!("{version} current"), format!("{permanent} permanent")]);
    }
}
