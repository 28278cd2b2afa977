//! Plans: the steps of a command as data, each with its inverse. Pure; what `--dry-run` prints is what runs.

mod make;
mod service_move;
mod recover;
mod upgrade_path;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use make::{
    Permanence, PlanFacts, Request, Restart, Retry, boot, confirm, install, prune, revert, uninstall, unpack,
};
pub use recover::{Recovery, Toward, recover, undo};
pub use service_move::{Method, ServiceMove, TrialEnd};
pub use upgrade_path::{DeclaredPaths, Hop, Map, Missing};

use crate::data::{DataFormat, named};
use crate::release::{Installed, Link, LinkName, Snapshot};
use crate::version::Version;

/// What can be thrown away and brought back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// releases/VERSION, with what Tenure knows of it.
    Release(Version),
    /// releases/FILE, with the digest and the signature beside it.
    Archive(String),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(version) => write!(f, "releases/{version}"),
            Self::Archive(file) => write!(f, "releases/{file}"),
        }
    }
}

/// One change, whole or not at all, which may be made again without harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Unpacks an archive into staging and publishes it as releases/VERSION.
    Unpack {
        /// The release that appears.
        version: Version,
        /// The archive, as shown to the user.
        archive: String,
    },
    /// Copies a directory into staging and publishes it as releases/VERSION.
    Copy {
        /// The release that appears.
        version: Version,
        /// The directory that is copied.
        from: String,
    },
    /// Has a release prepare itself, by its own program.
    Prepare {
        /// The release.
        version: Version,
    },
    /// Makes a backup of the data.
    Backup {
        /// The release whose program makes it, unless there is a command.
        version: Version,
        /// The operator's own command, for the shell.
        command: Option<String>,
    },
    /// Records which formats the data is in from now on.
    Data {
        /// The formats.
        formats: BTreeSet<DataFormat>,
    },
    /// Has a release migrate the data, by its own program, which nobody waits for.
    Migrate {
        /// The release, which is permanent by now.
        version: Version,
        /// The release that was permanent before.
        old: Option<Version>,
        /// The formats that the data is in, where that is known.
        from: BTreeSet<DataFormat>,
        /// The format that it makes, where it says so.
        to: Option<DataFormat>,
    },
    /// Takes back what this transaction published.
    #[serde(rename = "withdraw")]
    Unpublish {
        /// The release that disappears.
        version: Version,
    },
    /// Moves something into the trash, from which it can come back until the transaction ends.
    #[serde(rename = "discard")]
    Trash {
        /// What goes.
        item: Item,
    },
    /// Moves something back out of the trash.
    Restore {
        /// What comes back.
        item: Item,
    },
    /// Records that a release has been permanent: true from now on, whatever follows.
    #[serde(rename = "tenure")]
    RecordPermanent {
        /// The release that is permanent now.
        version: Version,
    },
    /// Switches one of the links.
    #[serde(rename = "point")]
    SwitchLink {
        /// Which one.
        link: LinkName,
        /// Where it led before.
        from: Option<Version>,
        /// Where it leads after; none removes it.
        to: Option<Version>,
    },
    /// Puts a release on trial that ends by itself, before it is current.
    #[serde(rename = "arm")]
    StartTrial {
        /// The release.
        version: Version,
        /// What ends the trial.
        term: TrialEnd,
    },
    /// Moves the running service, to where `current` leads already.
    MoveService {
        /// The release that runs.
        from: Version,
        /// The release that is to run.
        to: Version,
        /// How.
        motion: ServiceMove,
    },
    /// Moves the service back, by whatever works: it may run either release by now, or nothing at all.
    ReturnService {
        /// The release that was to run.
        from: Version,
        /// The release that is to run again.
        to: Version,
        /// How it was moved.
        motion: ServiceMove,
    },
    /// Starts the service, which is down, into the release that `current` leads to already.
    StartService {
        /// The release that is to run.
        version: Version,
    },
    /// Stops the service, which was down before it was started.
    StopService {
        /// The release that was started.
        version: Version,
    },
    /// Waits until the service is well, as far as it was before.
    #[serde(rename = "prove")]
    WaitHealthy {
        /// The release that runs.
        version: Version,
        /// How it came to run it.
        motion: ServiceMove,
    },
}

impl Step {
    /// The step that takes this one back; none where there is nothing to take back.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        match self.clone() {
            Self::Unpack { version, .. } | Self::Copy { version, .. } => Some(Self::Unpublish { version }),
            Self::Trash { item } => Some(Self::Restore { item }),
            Self::SwitchLink { link, from, to } => Some(Self::SwitchLink { link, from: to, to: from }),
            Self::MoveService { from, to, motion } => {
                Some(Self::ReturnService { from: to, to: from, motion })
            }
            Self::StartService { version } => Some(Self::StopService { version }),
            // What was prepared goes with the release, and nothing is migrated before there is no way back.
            Self::Prepare { .. }
            | Self::Backup { .. }
            | Self::Data { .. }
            | Self::Migrate { .. }
            | Self::Unpublish { .. }
            | Self::Restore { .. }
            | Self::RecordPermanent { .. }
            // It is over once the links do not tell of it any more.
            | Self::StartTrial { .. }
            | Self::ReturnService { .. }
            | Self::StopService { .. }
            | Self::WaitHealthy { .. } => None,
        }
    }

    /// Whether it is about the running service, and not about what is on disk.
    #[must_use]
    pub fn concerns_service(&self) -> bool {
        matches!(
            self,
            Self::MoveService { .. }
                | Self::ReturnService { .. }
                | Self::StartService { .. }
                | Self::StopService { .. }
                | Self::WaitHealthy { .. }
        )
    }

    /// Whether it can be done ahead of a switch.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        matches!(self, Self::Unpack { .. } | Self::Trash { .. } | Self::Prepare { .. })
    }

    /// Whether it is about the data of a release that is permanent by then.
    #[must_use]
    pub fn concerns_data(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::Migrate { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let release =
            |v: &Option<Version>| v.as_ref().map_or_else(|| "nothing".into(), |v| format!("releases/{v}"));
        match self {
            Self::Unpack { version, archive } => write!(f, "unpack {archive} into releases/{version}"),
            Self::Copy { version, from } => write!(f, "copy {from} into releases/{version}"),
            Self::Prepare { version } => write!(f, "prepare {version} by its hook"),
            Self::Backup { command: Some(command), .. } => write!(f, "make a backup by `{command}`"),
            Self::Backup { version, command: None } => write!(f, "make a backup by the hook of {version}"),
            Self::Data { formats } => write!(f, "record that the data is in {}", named(formats)),
            Self::Migrate { version, to: Some(format), .. } => {
                write!(f, "migrate the data to format {format} by the hook of {version}, in the background")
            }
            Self::Migrate { version, to: None, .. } => {
                write!(f, "migrate the data by the hook of {version}, in the background")
            }
            Self::Unpublish { version } => write!(f, "take back releases/{version}"),
            Self::Trash { item } => write!(f, "remove {item}"),
            Self::Restore { item } => write!(f, "bring back {item}"),
            Self::RecordPermanent { version } => write!(f, "record that {version} has been permanent"),
            Self::SwitchLink { link, from, to } => {
                write!(f, "point {} at {}, now {}", link.file_name(), release(to), release(from))
            }
            Self::StartTrial { version, term } => write!(f, "put {version} on trial, {term}"),
            Self::MoveService { to, motion, .. } => {
                write!(f, "move the running service to {to}, {}", motion.way)
            }
            Self::ReturnService { to, .. } => write!(f, "move the service back to {to}"),
            Self::StartService { version } => write!(f, "start the service in {version}"),
            Self::StopService { version } => {
                write!(f, "stop the service again, which was down before {version}")
            }
            Self::WaitHealthy { version, .. } => write!(f, "wait until the service is healthy on {version}"),
        }
    }
}

/// What a command is going to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The release that ran before.
    pub from: Option<Version>,
    /// The release that the links are to lead to; none where they do not move.
    pub to: Option<Version>,
    /// The steps, in their order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether it gets the service to go along with `current`; none where it does not switch `current`.
    #[must_use]
    pub fn moves_service(&self) -> Option<bool> {
        let switches = |step: &Step| matches!(step, Step::SwitchLink { link: LinkName::Current, .. });
        let moves = |step: &Step| matches!(step, Step::MoveService { .. } | Step::StartService { .. });
        self.steps.iter().any(switches).then(|| self.steps.iter().any(moves))
    }
}

/// A plan that was begun: the whole content of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// Names the transaction, in the journal, the trash and the history.
    pub transaction: String,
    /// The command as the user would type it, without `tenure`.
    pub command: String,
    /// Who gave it.
    pub by: String,
    /// When, in RFC 3339.
    pub started: String,
    /// Why, where it was nobody's wish.
    #[serde(default)]
    pub why: Option<String>,
    /// What it was going to do.
    pub plan: Plan,
    /// How many of the steps were begun, the last of them perhaps not done; one more than there are, once
    /// all are done.
    #[serde(skip)]
    pub begun: usize,
}

impl JournalRecord {
    /// Whether nothing in it leads out of the directories that it is about: others may be able to write it.
    #[must_use]
    pub fn stays_inside(&self) -> bool {
        let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']);
        let stays = |step: &Step| match step {
            Step::Trash { item: Item::Archive(file) } | Step::Restore { item: Item::Archive(file) } => {
                is_name(file)
            }
            _ => true,
        };
        is_name(&self.transaction) && self.plan.steps.iter().all(stays)
    }
}

impl Snapshot {
    /// The snapshot as it will be after a step.
    #[must_use]
    pub fn after(mut self, step: &Step) -> Self {
        match step {
            Step::Unpack { version, .. } | Step::Copy { version, .. } => {
                self.releases.insert(version.clone(), Installed::default());
            }
            Step::Restore { item: Item::Release(version) } => {
                self.releases.entry(version.clone()).or_default();
            }
            Step::Unpublish { version } | Step::Trash { item: Item::Release(version) } => {
                self.releases.remove(version);
            }
            Step::RecordPermanent { version } => {
                let next = self.next_tenure();
                self.releases.entry(version.clone()).or_default().tenured = Some(next);
            }
            Step::SwitchLink { link, to, .. } => {
                let led = to.clone().map_or(Link::Missing, Link::To);
                match link {
                    LinkName::Current => self.current = led,
                    LinkName::Permanent => self.permanent = led,
                }
            }
            Step::Prepare { .. }
            | Step::Backup { .. }
            | Step::Data { .. }
            | Step::Migrate { .. }
            | Step::Trash { .. }
            | Step::Restore { .. }
            | Step::StartTrial { .. }
            | Step::MoveService { .. }
            | Step::ReturnService { .. }
            | Step::StartService { .. }
            | Step::StopService { .. }
            | Step::WaitHealthy { .. } => {}
        }
        self
    }

    /// The snapshot as it will be once a release is permanent, however it came there.
    pub fn arrive(&mut self, version: &Version) {
        self.releases.entry(version.clone()).or_default();
        (self.current, self.permanent) = (Link::To(version.clone()), Link::To(version.clone()));
    }

    /// The number that the next release to be displaced gets.
    #[must_use]
    pub fn next_tenure(&self) -> u64 {
        self.releases.values().filter_map(|r| r.tenured).max().map_or(1, |n| n + 1)
    }
}
