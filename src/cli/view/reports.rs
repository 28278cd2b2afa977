//! Formats the results of commands that report something.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use tenure::data::named;
use tenure::lint::Finding;
use tenure::ops::{
    CheckReport, CheckRow, History, Judged, Linted, Location, Packed, ReleaseVerdict, Remembered, Status,
    Support, Supported, Unfinished, UpgradePath, Verified, Versions,
};
use tenure::plan::Hop;
use tenure::policy::HopKind;
use tenure::release::ReleaseState;
use tenure::root::{HistoryEntry, Outcome, TrialOutcome};
use tenure::version::Version;

use super::{Form, Human, counted};

impl Human for Versions {
    fn human(&self) -> String {
        let lines = self.releases.iter().map(|r| release_line(&r.version, r.state, r.failed.is_some()));
        std::iter::once("Installed versions:\n".to_owned()).chain(lines).collect()
    }
}

/// Formats a release in a list. A failed release that is in use again is being retried, so `failed` is not shown.
fn release_line(version: &Version, state: ReleaseState, failed: bool) -> String {
    let in_use = matches!(state, ReleaseState::Current | ReleaseState::Permanent);
    let failed = if failed && !in_use { ", failed its trial" } else { "" };
    format!("* {version}\t{state}{failed}\n")
}

impl Human for CheckReport {
    const FORM: Form = Form::Prose;

    fn human(&self) -> String {
        let line = |row: &CheckRow| {
            let verdict = if row.ok { "ok    " } else { "FAILED" };
            let hints: String = row.hints.iter().map(|hint| format!("        hint: {hint}\n")).collect();
            format!("{verdict}  {}: {}\n{hints}", row.check, row.found)
        };
        let lines: String = self.checks.iter().map(line).collect();
        let failed = self.checks.iter().filter(|row| !row.ok).count();
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
            let row = match runs {
                Some(true) => format!("runs on {}", self.os),
                Some(false) => format!("does not run on {}", self.os),
                None => "does not say".to_owned(),
            };
            format!("* {version}\t{state}\t{row}\n")
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
        if hops.is_empty() {
            return format!("Release {to} is the starting point.\n");
        }
        let count = counted(hops.len(), "hop", "hops");
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

/// All releases and allowed hops, with the chosen ones marked.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Graph(pub UpgradePath);

impl Human for Graph {
    fn human(&self) -> String {
        let UpgradePath { from, hops, releases, allowed, .. } = &self.0;
        let is_chosen = |version: &Version| version == from || hops.iter().any(|hop| hop.to == *version);
        let stops = releases.iter().map(|(version, whereabouts)| {
            let style = if *whereabouts == Location::Named { "dashed" } else { "solid" };
            let width = if is_chosen(version) { ", penwidth=3" } else { "" };
            format!("  \"{version}\" [style={style}{width}];\n")
        });
        let edges = allowed.iter().map(|hop| {
            let style = if hop.way == HopKind::Hot { "solid" } else { "dashed" };
            let width = if hops.contains(hop) { ", penwidth=3" } else { "" };
            format!("  \"{}\" -> \"{}\" [style={style}{width}];\n", hop.from, hop.to)
        });
        let lines: String = stops.chain(edges).collect();
        format!(
            "// Releases: dashed where they are only named. Hops: solid where they are hot, dashed by restart.\n\
             digraph releases {{\n  rankdir=LR;\n  node [shape=box];\n{lines}}}\n"
        )
    }
}
impl Human for Status {
    const FORM: Form = Form::Prose;

    fn human(&self) -> String {
        let shown = |v: &Option<Version>| v.as_ref().map_or_else(|| "none".into(), ToString::to_string);
        let mut text = format!("Root: {}\n", self.root);
        if let Some(name) = &self.name {
            text += &format!("Name: {name}\n");
        }
        text += &format!("Current: {}\nPermanent: {}\n", shown(&self.current), shown(&self.permanent));
        if self.on_trial {
            text += "On trial: yes, a restart of the service ends it\n";
        }
        if let Some(trial) = &self.trial {
            let left = humantime::format_duration(Duration::from_secs(trial.left_seconds));
            text += &format!("Trial: {}, {left} left, until {}\n", trial.term, trial.ends);
        }
        if let Some(service) = &self.service {
            text += &format!("Service: {}", service.runs);
            text += &service.health.as_ref().map_or_else(String::new, |health| format!(", {health}"));
            text += "\n";
        }
        if !self.data_formats.is_empty() {
            text += &format!("Data: {}\n", named(&self.data_formats));
        }
        if let Some(migration) = &self.migration {
            text += &format!("Data migration: {migration}\n");
        }
        text += "Releases:\n";
        self.releases.iter().for_each(|r| text += &release_line(&r.version, r.state, r.failed));
        if let Some(trial) = &self.last_trial {
            text += &format!("Last: {trial}\n");
        }
        for failure in &self.failed {
            text += &format!("Failed: {} on {}: {}\n", failure.version, failure.when, failure.why);
        }
        if let Some(unfinished) = &self.unfinished {
            text += &unfinished_line(unfinished);
        }
        for problem in &self.problems {
            text += &format!("Problem: {}\n", problem.message);
            problem.hints.iter().for_each(|hint| text += &format!("  hint: {hint}\n"));
        }
        text
    }

    fn code(&self) -> u8 {
        u8::from(!self.problems.is_empty())
    }
}

fn unfinished_line(unfinished: &Unfinished) -> String {
    let Unfinished { command, by, started, .. } = unfinished;
    match (unfinished.at_work, unfinished.pid) {
        (_, Some(pid)) => format!("Under way: {command}, pid {pid}\n"),
        (None, None) => format!("Under way or interrupted: {command}, begun {started} by {by}\n"),
        (Some(_), None) => format!(
            "Interrupted: {command}, begun {started} by {by}; the next command that changes something recovers\n"
        ),
    }
}
impl Human for History {
    const FORM: Form = Form::Prose;

    fn human(&self) -> String {
        self.entries.iter().map(history_line).collect()
    }
}

fn history_line(Remembered { entry, trial }: &Remembered) -> String {
    let HistoryEntry { from, to, permanent, .. } = entry;
    let is_rollback = entry.outcome == Outcome::Done && entry.error.is_some();
    let how = match (entry.outcome, from, to) {
        // A move back with an error is an automatic rollback, not one that a user requested.
        (_, Some(from), Some(to)) if is_rollback => {
            format!("{from} failed, rolled back to {to}")
        }
        (Outcome::Done, ..) if trial.is_some() && permanent != to => "on trial".to_owned(),
        (Outcome::Done, ..) => "done".to_owned(),
        (Outcome::Failed, ..) => "failed, rolled back".to_owned(),
        (Outcome::Unfinished, ..) => "failed".to_owned(),
        (Outcome::Finished, ..) => "interrupted, finished later".to_owned(),
        (Outcome::TakenBack, ..) => "interrupted, rolled back later".to_owned(),
    };
    let way = match (from, to) {
        (Some(from), Some(to)) if from != to && !is_rollback => format!("from {from} to {to}, "),
        _ => String::new(),
    };
    let since = trial.filter(|_| permanent != to && entry.outcome == Outcome::Done).map_or("", trial_outcome);
    let took = entry.took_ms.map_or_else(String::new, |ms| {
        let took = Duration::from_millis(ms.max(1));
        format!(" in {}{}", if ms == 0 { "less than " } else { "" }, humantime::format_duration(took))
    });
    let why = entry.error.as_ref().map_or_else(String::new, |e| format!(": {e}"));
    format!("{}  {}  by {}: {way}{how}{took}{since}{why}\n", entry.started, entry.command, entry.by)
}

/// Returns how a trial ended after the command that began it.
fn trial_outcome(trial: TrialOutcome) -> &'static str {
    match trial {
        TrialOutcome::OnTrial => "",
        TrialOutcome::Permanent => ", then permanent",
        TrialOutcome::Failed => ", then failed",
        TrialOutcome::Reverted | TrialOutcome::Interrupted => ", then rolled back",
        TrialOutcome::Replaced => ", then replaced",
    }
}
impl Human for Verified {
    fn human(&self) -> String {
        self.releases.iter().map(verdict_lines).collect()
    }

    fn code(&self) -> u8 {
        u8::from(!self.is_intact())
    }
}

fn verdict_lines(Judged { version, verdict }: &Judged) -> String {
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
impl Human for Linted {
    const FORM: Form = Form::Prose;

    fn human(&self) -> String {
        let line = |Finding { code, place, message, hint }: &Finding| {
            let place = if place.is_empty() { &self.subject } else { place };
            format!("{place}: {message} [{}]\n  hint: {hint}\n", code.word())
        };
        let lines: String = self.findings.iter().map(line).collect();
        let subject = if self.subject == "." { "the working directory" } else { &self.subject };
        match self.findings.len() {
            0 => format!("No fault was found in {subject}.\n"),
            1 => format!("{lines}One fault was found in {subject}.\n"),
            count => format!("{lines}{count} faults were found in {subject}.\n"),
        }
    }

    fn code(&self) -> u8 {
        if self.findings.is_empty() { 0 } else { 2 }
    }
}

impl Human for Packed {
    fn human(&self) -> String {
        let Self { name, version, archive, entries, .. } = self;
        let whole = ByteSize(self.unpacked_bytes).display().iec();
        let archive = archive.escape_debug();
        let (Some(sha256), Some(bytes)) = (&self.sha256, self.bytes) else {
            let done = if self.changed { "Would pack" } else { "Already packed" };
            return format!(
                "{done} {name} {version}: {archive}, {entries} entries, {whole}\nNothing was changed.\n"
            );
        };
        let done = if self.changed { "Packed" } else { "Already packed" };
        let size = ByteSize(bytes).display().iec();
        let mut text = format!("{done} {name} {version}: {archive}, {entries} entries, {whole} in {size}\n");
        text += &format!("SHA-256: {sha256}\n");
        if let Some(signature) = &self.signature {
            text += &format!("Signed: {}\n", signature.escape_debug());
        }
        text
    }
}
