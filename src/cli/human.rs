//! Formats results as text.

use std::fmt::Write;

use bytesize::ByteSize;
use serde::Serialize;

use tenure::ops::{
    Adopted, Booted, CheckReport, CheckRow, DryRun, Guarded, Initialised, InstallResult, Judged, Location,
    Pruned, ReleaseVerdict, Report, Reverted, Support, Supported, Uninstalled, Unpacked, UpgradePath,
    Verified, Versions,
};
use tenure::plan::{Hop, Item, Step, Toward};
use tenure::policy::HopKind;
use tenure::release::ReleaseState;
use tenure::version::Version;

use super::data::goes_on;

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A program for a shell, which is printed without escapes.
    Script,
    /// Lines that are printed as they are, for programs too.
    Lines,
    /// Text for a person. A terminal breaks its lines between words.
    Prose,
}

/// A result that can be formatted as text.
pub trait Human {
    /// The form of the text.
    const FORM: Form = Form::Lines;

    /// Returns the text for stdout, which ends with a newline or is empty.
    fn human(&self) -> String;

    /// Returns the exit code for the result.
    fn code(&self) -> u8 {
        0
    }
}

/// The result of `root-dir`.
#[derive(Serialize)]
pub struct RootDir {
    pub root: String,
}

/// The result of `completions`.
#[derive(Serialize)]
pub struct CompletionScript {
    pub script: String,
}

impl Human for CompletionScript {
    const FORM: Form = Form::Script;

    fn human(&self) -> String {
        self.script.clone()
    }
}

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
pub fn hop(leg: &Hop, at: usize, of: usize) -> String {
    format!("Hop {at} of {of}: {} to {}", leg.from, leg.to)
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

impl Human for RootDir {
    fn human(&self) -> String {
        format!("{}\n", self.root)
    }
}

impl Human for Versions {
    fn human(&self) -> String {
        let lines = self.releases.iter().map(|r| listed(&r.version, r.state, r.failed.is_some()));
        std::iter::once("Installed versions:\n".to_owned()).chain(lines).collect()
    }
}

/// Formats a release in a list. A failed release that is in use again is being retried, so `failed` is not shown.
pub fn listed(version: &Version, state: ReleaseState, failed: bool) -> String {
    let in_use = matches!(state, ReleaseState::Current | ReleaseState::Permanent);
    let failed = if failed && !in_use { ", failed its trial" } else { "" };
    format!("* {version}\t{state}{failed}\n")
}

impl Human for CheckReport {
    const FORM: Form = Form::Prose;

    fn human(&self) -> String {
        let line = |told: &CheckRow| {
            let verdict = if told.ok { "ok    " } else { "FAILED" };
            let hints: String = told.hints.iter().map(|hint| format!("        hint: {hint}\n")).collect();
            format!("{verdict}  {}: {}\n{hints}", told.check, told.found)
        };
        let lines: String = self.checks.iter().map(line).collect();
        let failed = self.checks.iter().filter(|told| !told.ok).count();
        match failed {
            0 => format!("{lines}All checks passed for {}.\n", self.version),
            1 => format!("{lines}One check failed for {}.\n", self.version),
            _ => format!("{lines}{failed} checks failed for {}.\n", self.version),
        }
    }

    fn code(&self) -> u8 {
        if self.ok { 0 } else { 2 }
    }
}

impl Human for Supported {
    fn human(&self) -> String {
        let line = |Support { version, state, runs }: &Support| {
            let told = match runs {
                Some(true) => format!("runs on {}", self.os),
                Some(false) => format!("does not run on {}", self.os),
                None => "does not say".to_owned(),
            };
            format!("* {version}\t{state}\t{told}\n")
        };
        self.releases.iter().map(line).collect()
    }

    /// Only the releases in use must run on the other system.
    fn code(&self) -> u8 {
        let needed = |state: &ReleaseState| matches!(state, ReleaseState::Permanent | ReleaseState::Current);
        let fails = self.releases.iter().any(|of| needed(&of.state) && of.runs == Some(false));
        if fails { 2 } else { 0 }
    }
}

impl Human for UpgradePath {
    fn human(&self) -> String {
        let Self { from, to, hops, releases, .. } = self;
        let count = match hops.len() {
            0 => return format!("Release {to} is the starting point.\n"),
            1 => "1 hop".to_owned(),
            count => format!("{count} hops"),
        };
        let line = |(at, hop): (usize, &Hop)| {
            let way = match hop.way {
                HopKind::Hot => "hot",
                HopKind::Restart => "by a restart",
            };
            let whereabouts = match releases.get(&hop.to) {
                Some(Location::Installed) => ", installed",
                Some(Location::Archive) => ", an archive in releases/",
                Some(Location::Named) | None => "",
            };
            format!("  {}. {}, {way}{whereabouts}\n", at + 1, hop.to)
        };
        let lines: String = hops.iter().enumerate().map(line).collect();
        format!("From {from} to {to} in {count}:\n{lines}")
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
            text += &format!("Would first {how} an interrupted command:\n{}", numbered(&recovery.steps));
        }
        if let Some(overdue) = &self.overdue {
            let steps = numbered(&overdue.steps);
            text += &format!("Would first roll back a trial whose deadline has passed:\n{steps}");
        }
        if self.plan.steps.is_empty() {
            text += "Nothing to do.\n";
        } else {
            text += &format!("Would do:\n{}", numbered(&self.plan.steps));
        }
        text + "Nothing was changed.\n"
    }
}

fn numbered(steps: &[Step]) -> String {
    steps.iter().enumerate().fold(String::new(), |mut text, (at, step)| {
        // Writing to a string never fails.
        let _ = writeln!(text, "  {}. {step}", at + 1);
        text
    })
}

impl Human for Adopted {
    fn human(&self) -> String {
        let mut text = format!("Adopted {} as release {}\n", self.from, self.version);
        if self.state == ReleaseState::Permanent {
            text += &format!("Installed Release: {0}\nMade release permanent: \"{0}\"\n", self.version);
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
        text + &until + &self.migration.as_ref().map_or_else(String::new, goes_on)
    }
}

impl Human for Reverted {
    fn human(&self) -> String {
        let version = &self.version;
        if self.changed {
            format!("Installed Release: {version}\n")
        } else {
            format!("Release {version} is current and permanent; there is no trial to end.\n")
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

impl Human for Verified {
    fn human(&self) -> String {
        self.releases.iter().map(judged).collect()
    }

    fn code(&self) -> u8 {
        u8::from(!self.is_intact())
    }
}

fn judged(Judged { version, verdict }: &Judged) -> String {
    let differences = match verdict {
        ReleaseVerdict::Intact => return format!("Release {version} is unchanged since it was unpacked.\n"),
        ReleaseVerdict::Unknown => {
            return format!("Release {version} was not unpacked by Tenure and cannot be verified.\n");
        }
        ReleaseVerdict::Differs(differences) => differences,
    };
    let kinds =
        [("changed", &differences.changed), ("added", &differences.added), ("removed", &differences.removed)];
    let lines = kinds.into_iter().flat_map(|(kind, paths)| {
        paths.iter().map(move |path| format!("  {kind}: {}\n", path.escape_debug()))
    });
    std::iter::once(format!("Release {version} has changed since it was unpacked:\n")).chain(lines).collect()
}
