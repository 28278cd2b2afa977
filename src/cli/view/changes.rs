//! Formats the results of commands that change something, and the messages on their way.

use bytesize::ByteSize;

use tenure::data::{Migration, Stage, named};
use tenure::ops::{
    Adopted, Booted, DryRun, Guarded, Initialised, InstallResult, Migrated, Migrator, Prepared, Pruned,
    Report, Reverted, Uninstalled, Unpacked, Walked,
};
use tenure::plan::{Hop, Item, Step, Toward};
use tenure::release::ReleaseState;
use tenure::version::Version;

use super::{Human, counted};

/// Returns the message before a command acts on a release that is already on disk.
pub fn opening(command: &str, version: &Version, was: Option<ReleaseState>) -> Option<String> {
    use ReleaseState::{Current, Old, Permanent, Unpacked};
    Some(match (command, was?) {
        ("uninstall", was) => format!("Release {version} is marked {was}, uninstalling it."),
        ("revert", _) => format!("Release {version} is permanent, going back to it."),
        (_, Old) => format!("Release {version} is marked old, switching to it."),
        (_, Unpacked) => format!("Release {version} is already unpacked, switching to it."),
        (_, Current | Permanent) => return None,
    })
}

/// Returns the message at the start of a step.
pub fn begun(step: &Step, replacing: bool) -> Option<String> {
    match step {
        Step::Unpack { version, archive } if replacing => {
            Some(format!("Release {version} is replaced, attempting to unpack {archive}"))
        }
        Step::Unpack { version, archive } => {
            Some(format!("Release {version} not found, attempting to unpack {archive}"))
        }
        _ => None,
    }
}

/// Returns the message at the end of a step.
pub fn done(step: &Step) -> Option<String> {
    match step {
        Step::Unpack { version, .. } => Some(format!("Unpacked successfully: \"{version}\"")),
        Step::Prepare { version } => Some(format!("Prepared successfully: \"{version}\"")),
        Step::Backup { .. } => Some("Made a backup.".to_owned()),
        _ => None,
    }
}

/// Returns the message at the start of one of several hops.
pub fn hop(hop: &Hop, at: usize, of: usize) -> String {
    format!("Hop {at} of {of}: {} to {}", hop.from, hop.to)
}

/// Returns the message when a release has become permanent.
pub fn arrived(version: &Version) -> String {
    format!("Installed Release: {version}\nMade release permanent: \"{version}\"")
}

/// Returns the word for a step beside its progress.
pub fn verb(step: &Step) -> &'static str {
    match step {
        Step::Unpack { .. } => "Unpacking",
        Step::Copy { .. } => "Copying",
        _ => "Working",
    }
}

impl Human for Initialised {
    fn human(&self) -> String {
        match (self.made, self.dry_run) {
            (true, false) => format!("Made a root: {}\n", self.root),
            (true, true) => format!("Would make a root: {}\nNothing was changed.\n", self.root),
            (false, _) => format!("Already a root: {}\n", self.root),
        }
    }
}

impl<T: Human> Human for Report<T> {
    fn human(&self) -> String {
        match self {
            Self::Done { result, .. } => result.human(),
            Self::Dry(dry) => dry.human(),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Done { result, .. } => result.code(),
            Self::Dry(_) => 0,
        }
    }
}

impl Human for DryRun {
    fn human(&self) -> String {
        let mut text = String::new();
        if let Some(recovery) = &self.recovery {
            let how = match recovery.toward {
                Toward::Forward => "finish",
                Toward::Back => "roll back",
            };
            text +=
                &format!("Would first {how} an interrupted command:\n{}", numbered_steps(&recovery.steps));
        }
        if let Some(overdue) = &self.overdue {
            let steps = numbered_steps(&overdue.steps);
            text += &format!("Would first roll back a trial whose deadline has passed:\n{steps}");
        }
        if self.plan.steps.is_empty() {
            text += "Nothing to do.\n";
        } else {
            text += &format!("Would do:\n{}", numbered_steps(&self.plan.steps));
        }
        text + "Nothing was changed.\n"
    }
}

fn numbered_steps(steps: &[Step]) -> String {
    steps.iter().enumerate().map(|(at, step)| format!("  {}. {step}\n", at + 1)).collect()
}

impl Human for Adopted {
    fn human(&self) -> String {
        let mut text = format!("Adopted {} as release {}\n", self.from, self.version);
        if self.state == ReleaseState::Permanent {
            text += &format!("{}\n", arrived(&self.version));
        }
        text
    }
}

impl Human for Unpacked {
    fn human(&self) -> String {
        match (self.changed, self.state) {
            // The step has already printed its message.
            (true, _) => String::new(),
            (false, ReleaseState::Unpacked) => format!("Release {} is already unpacked.\n", self.version),
            (false, state) => format!("Release {} is already unpacked and marked {state}.\n", self.version),
        }
    }
}

impl Human for InstallResult {
    fn human(&self) -> String {
        let version = &self.version;
        let permanent = format!("Made release permanent: \"{version}\"\n");
        let text = match (self.was, self.changed, self.state) {
            (Some(ReleaseState::Current), true, _) => {
                format!("Release {version} is already installed and current, making permanent.\n{permanent}")
            }
            (Some(ReleaseState::Current), false, _) => {
                format!("Release {version} is already installed and current, leaving it on trial.\n")
            }
            (Some(ReleaseState::Permanent), true, _) => {
                format!("Release {version} is permanent, going back to it.\nInstalled Release: {version}\n")
            }
            (Some(ReleaseState::Permanent), false, _) => {
                format!("Release {version} is already installed and permanent.\n")
            }
            (_, _, ReleaseState::Permanent) => format!("{}\n", arrived(version)),
            _ => format!("Installed Release: {version}\n"),
        };
        let until = self.until.as_ref().map_or_else(String::new, |until| {
            format!("On trial until {until}; run `tenure confirm` to make it permanent\n")
        });
        text + &until + &self.migration.as_ref().map_or_else(String::new, pending_migration_line)
    }
}

impl Human for Reverted {
    fn human(&self) -> String {
        let version = &self.version;
        if self.changed {
            format!("Installed Release: {version}\n")
        } else {
            format!("Release {version} is current and permanent; no release is on trial.\n")
        }
    }
}

impl Human for Booted {
    fn human(&self) -> String {
        match &self.ended_trial_of {
            Some(trial) => format!("Ended the trial of {trial}; the service starts with {}\n", self.version),
            None => String::new(),
        }
    }
}

impl Human for Guarded {
    fn human(&self) -> String {
        self.did.iter().map(|did| format!("{did}\n")).collect()
    }
}

impl Human for Uninstalled {
    fn human(&self) -> String {
        format!("Uninstalled Release: {}\n", self.version)
    }
}

impl Human for Pruned {
    fn human(&self) -> String {
        let removed = self.removed.iter().map(|r| {
            let size = ByteSize(r.bytes).display().iec();
            match (&r.item, r.was) {
                (Item::Release(version), Some(was)) => {
                    format!("Removed release: {version} ({was}), {size}\n")
                }
                (item, _) => format!("Removed archive: {item}, {size}\n"),
            }
        });
        let spared =
            self.in_use.iter().map(|v| format!("Kept release: {v}, it is in use or is a mount point\n"));
        let text: String = removed.chain(spared).collect();
        if text.is_empty() { "Nothing to remove.\n".into() } else { text }
    }
}

impl Human for Prepared {
    fn human(&self) -> String {
        let version = &self.version;
        match self.changed {
            true => format!("Release {version} is prepared; nothing was switched.\n"),
            false => format!("Release {version} was prepared already; nothing was switched.\n"),
        }
    }
}

impl Human for Walked {
    fn human(&self) -> String {
        let Self { from, version, hops, switched, migration } = self;
        let count = counted(hops.len(), "hop", "hops");
        let text = match switched {
            _ if hops.is_empty() => format!("Release {version} is already installed and permanent.\n"),
            true => format!("Reached {version} from {from} in {count}.\n"),
            false => {
                format!(
                    "The upgrade path from {from} to {version} is prepared, {count}; nothing was switched.\n"
                )
            }
        };
        text + &migration.as_ref().map_or_else(String::new, pending_migration_line)
    }
}

impl Human for Migrated {
    fn human(&self) -> String {
        let format = match self.formats.is_empty() {
            true => "No release declares the format of the data.\n".to_owned(),
            false => format!("The data is in {}.\n", named(&self.formats)),
        };
        match (&self.migration, self.changed, self.dry_run) {
            (_, true, true) => format!(
                "Would migrate the data with the migrate hook of {}.\nNothing was changed.\n",
                self.version
            ),
            (Some(migration), true, _) => migration_line(migration),
            (Some(migration @ Migration { stage: Stage::Due | Stage::Running, .. }), ..) => {
                migration_line(migration)
            }
            (_, false, _) => format!("{format}There is nothing to migrate.\n"),
            (None, true, false) => format,
        }
    }
}

/// Returns the line for a migration that runs in the background.
fn pending_migration_line(migration: &Migration) -> String {
    format!("Data migration {migration}; run `tenure status` to see its state\n")
}

fn migration_line(migration: &Migration) -> String {
    format!("Data migration {migration}\n")
}

impl Human for Migrator {
    fn human(&self) -> String {
        self.migration.as_ref().map_or_else(String::new, migration_line)
    }
}
