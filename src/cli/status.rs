//! Formats the status of a root as text.

use std::time::Duration;

use tenure::data::named;
use tenure::error::{Error, Kind, Result};
use tenure::ops::{self, Status, Unfinished};
use tenure::root::Root;
use tenure::version::Version;

use super::args::StatusFormat;
use super::console::{Console, Shown, Style};
use super::human::{Form, Human, listed};
use super::prometheus::Metrics;

/// Determines the status of a root and formats it.
pub fn show(root: &Root, format: StatusFormat, console: &Console) -> Result<Shown> {
    match (format, console.style()) {
        (StatusFormat::Text, style) => Shown::of(style, &ops::status(root, console)?),
        (StatusFormat::Prometheus, Style::Json) => {
            Err(Error::new(Kind::Usage, "cannot combine `--format prometheus` with `--json`"))
        }
        (StatusFormat::Prometheus, style) => Shown::of(style, &Metrics(ops::status(root, console)?)),
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
        self.releases.iter().for_each(|r| text += &listed(&r.version, r.state, r.failed));
        if let Some(trial) = &self.last_trial {
            text += &format!("Last: {trial}\n");
        }
        for failure in &self.failed {
            text += &format!("Failed: {} on {}: {}\n", failure.version, failure.when, failure.why);
        }
        if let Some(unfinished) = &self.unfinished {
            text += &begun(unfinished);
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

fn begun(unfinished: &Unfinished) -> String {
    let Unfinished { command, by, started, .. } = unfinished;
    match (unfinished.at_work, unfinished.pid) {
        (_, Some(pid)) => format!("Under way: {command}, pid {pid}\n"),
        (None, None) => format!("Under way or interrupted: {command}, begun {started} by {by}\n"),
        (Some(_), None) => format!(
            "Interrupted: {command}, begun {started} by {by}; the next command that changes something recovers\n"
        ),
    }
}
