//! Defines plans: the steps of a command as data, each with its inverse. Pure: `--dry-run` prints the plan that runs.

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

/// An item that can be moved into the trash and restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// The directory releases/VERSION, with its receipt.
    Release(Version),
    /// The file releases/FILE, with its digest file and its signature file.
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

/// One change to the root or the service. It takes effect completely or not at all, and can safely be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Unpacks an archive into staging and publishes it as releases/VERSION.
    Unpack {
        /// The release to publish.
        version: Version,
        /// The archive, as shown to the user.
        archive: String,
    },
    /// Copies a directory into staging and publishes it as releases/VERSION.
    Copy {
        /// The release to publish.
        version: Version,
        /// The directory to copy.
        from: String,
    },
    /// Runs the prepare hook of a release.
    Prepare {
        /// The release.
        version: Version,
    },
    /// Makes a backup of the data.
    Backup {
        /// The release whose hook makes the backup if there is no command.
        version: Version,
        /// The operator's own command, for the shell.
        command: Option<String>,
    },
    /// Records the formats of the data.
    Data {
        /// The formats.
        formats: BTreeSet<DataFormat>,
    },
    /// Starts the data migration by the hook of a release, without waiting for its end.
    Migrate {
        /// The release, which is permanent already.
        version: Version,
        /// The release that was permanent before.
        old: Option<Version>,
        /// The formats of the data; empty if unknown.
        from: BTreeSet<DataFormat>,
        /// The format that the migration writes; `None` if the release does not declare it.
        to: Option<DataFormat>,
    },
    /// Takes back the release that this transaction published.
    #[serde(rename = "withdraw")]
    Unpublish {
        /// The release to take back.
        version: Version,
    },
    /// Moves an item into the trash. It can be restored until the transaction ends.
    #[serde(rename = "discard")]
    Trash {
        /// The item to remove.
        item: Item,
    },
    /// Moves an item back out of the trash.
    Restore {
        /// The item to restore.
        item: Item,
    },
    /// Records that a release has been permanent. This stays true, whatever follows.
    #[serde(rename = "tenure")]
    RecordPermanent {
        /// The release that is permanent now.
        version: Version,
    },
    /// Switches one of the links.
    #[serde(rename = "point")]
    SwitchLink {
        /// The link.
        link: LinkName,
        /// The release that the link pointed to before.
        from: Option<Version>,
        /// The release that the link points to afterwards; `None` removes the link.
        to: Option<Version>,
    },
    /// Starts a trial that ends by itself, before the release becomes current; or changes the end of a running trial.
    #[serde(rename = "arm")]
    StartTrial {
        /// The release.
        version: Version,
        /// The condition that ends the trial.
        term: TrialEnd,
    },
    /// Moves the running service to the release that `current` points to already.
    MoveService {
        /// The release that runs.
        from: Version,
        /// The release to run.
        to: Version,
        /// The method of the move.
        motion: ServiceMove,
    },
    /// Moves the service back by any method that works. The service may run either release by now, or may be down.
    ReturnService {
        /// The release that the service was moved to.
        from: Version,
        /// The release to return to.
        to: Version,
        /// The method of the original move.
        motion: ServiceMove,
    },
    /// Starts the service, which is down, in the release that `current` points to already.
    StartService {
        /// The release to run.
        version: Version,
    },
    /// Stops the service, which was down before it was started.
    StopService {
        /// The release that was started.
        version: Version,
    },
    /// Waits until the service is healthy. A service that was failing before need not be healthy.
    #[serde(rename = "prove")]
    WaitHealthy {
        /// The release that runs.
        version: Version,
        /// The move that led to it.
        motion: ServiceMove,
    },
}

impl Step {
    /// Returns the step that reverses this one; `None` if there is nothing to reverse.
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
            // Prepared files are removed with the release. A migration starts only after the commit point.
            Self::Prepare { .. }
            | Self::Backup { .. }
            | Self::Data { .. }
            | Self::Migrate { .. }
            | Self::Unpublish { .. }
            | Self::Restore { .. }
            | Self::RecordPermanent { .. }
            // A trial is over once the links no longer show it.
            | Self::StartTrial { .. }
            | Self::ReturnService { .. }
            | Self::StopService { .. }
            | Self::WaitHealthy { .. } => None,
        }
    }

    /// Returns whether the step acts on the running service, and not on the disk.
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

    /// Returns whether the step can run ahead of a switch.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        matches!(self, Self::Unpack { .. } | Self::Trash { .. } | Self::Prepare { .. })
    }

    /// Returns whether the step acts on the data of a release that is permanent by then.
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
            Self::Unpublish { version } => write!(f, "remove releases/{version} again"),
            Self::Trash { item } => write!(f, "remove {item}"),
            Self::Restore { item } => write!(f, "restore {item}"),
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

/// The steps that a command takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The release that ran before.
    pub from: Option<Version>,
    /// The release that the links point to afterwards; `None` if they do not move.
    pub to: Option<Version>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Returns whether the plan moves the service along with `current`; `None` if it does not switch `current`.
    #[must_use]
    pub fn moves_service(&self) -> Option<bool> {
        let switches = |step: &Step| matches!(step, Step::SwitchLink { link: LinkName::Current, .. });
        let moves = |step: &Step| matches!(step, Step::MoveService { .. } | Step::StartService { .. });
        self.steps.iter().any(switches).then(|| self.steps.iter().any(moves))
    }
}

/// A plan that was begun. It is the whole content of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// The name of the transaction in the journal, the trash and the history.
    pub transaction: String,
    /// The command as the user would type it, without `tenure`.
    pub command: String,
    /// The user, or the part of Tenure, that gave the command.
    pub by: String,
    /// The time of the command, in RFC 3339.
    pub started: String,
    /// The reason, if no person gave the command.
    #[serde(default)]
    pub why: Option<String>,
    /// The plan.
    pub plan: Plan,
    /// The number of steps that were begun; the last of them may be incomplete. It is one more than the number of
    /// steps once all steps are done.
    #[serde(skip)]
    pub begun: usize,
}

impl JournalRecord {
    /// Returns whether no name in the record leads out of its directory. Other users may be able to write the
    /// journal.
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
    /// Returns the snapshot after a step.
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

    /// Makes a release current and permanent in this snapshot, by whatever plan it gets there.
    pub fn arrive(&mut self, version: &Version) {
        self.releases.entry(version.clone()).or_default();
        (self.current, self.permanent) = (Link::To(version.clone()), Link::To(version.clone()));
    }

    /// Returns the number for the next release that is displaced from `permanent`.
    #[must_use]
    pub fn next_tenure(&self) -> u64 {
        self.releases.values().filter_map(|r| r.tenured).max().map_or(1, |n| n + 1)
    }
}
