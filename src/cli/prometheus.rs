//! Formats the status of a root in the text format of Prometheus (version 0.0.4).

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use serde::Serialize;

use tenure::health::Sample;
use tenure::ops::{DiskSpace, RootState, Status};
use tenure::root::HistoryEntry;

use super::args::Operate;
use super::view::{Human, Style, escape_controls};

/// A status as metrics. The exit code is always 0: the metrics report problems, and a script that keeps the old file
/// after a failure would hide them.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Metrics(pub Status);

impl Human for Metrics {
    fn human(&self) -> String {
        let Self(status) = self;
        let mut page = Page::of(status);
        page.releases(status);
        page.trial(status);
        page.service(status);
        page.order(status);
        page.last(status.last.as_ref().map(|last| &last.entry));
        page.space(status.space.as_ref());
        page.data(status);
        page.text
    }
}

/// A sequence of metrics, all with the labels of the root.
struct Page {
    text: String,
    labels: String,
}

impl Page {
    fn of(status: &Status) -> Self {
        let mut labels = label("root", &status.root);
        labels.extend(status.name.iter().map(|name| format!(",{}", label("name", name))));
        Self { text: String::new(), labels }
    }

    fn releases(&mut self, status: &Status) {
        let states =
            RootState::ALL.map(|state| (label("state", &word(&state)), u8::from(state == status.state)));
        self.gauge("tenure_state", "The state of the root: 1 for the present state, else 0.", states);
        let releases = status.releases.iter().map(|release| {
            let (version, state) = (label("version", &release.version), label("state", &release.state));
            (format!("{version},{state}"), 1)
        });
        self.gauge("tenure_release_info", "A release that is on disk, and its state; always 1.", releases);
        let failed = status.failed.iter().map(|failure| (label("version", &failure.version), 1));
        let help = "A release that failed on this host and was rolled back; always 1.";
        self.gauge("tenure_release_failed", help, failed);
    }

    fn trial(&mut self, status: &Status) {
        let help = "Whether the current release is on trial.";
        self.one("tenure_on_trial", help, Some(u8::from(status.on_trial)));
        let left = status.trial.as_ref().map(|trial| trial.left_seconds);
        let help = "The time left of the trial; absent if it has no deadline.";
        self.one("tenure_trial_left_seconds", help, left);
    }

    fn service(&mut self, status: &Status) {
        let help = "Whether the service runs another release than current; absent if unknown, and while it is \
                    moved.";
        self.one("tenure_drift", help, status.drift.map(u8::from));
        let service = status.service.as_ref();
        let up = service.and_then(|service| service.up).map(u8::from);
        self.one("tenure_service_up", "Whether the service is up; absent if unknown.", up);
        let healthy = service.and_then(|service| match service.health {
            Some(Sample::Healthy) => Some(1),
            Some(Sample::Unhealthy(_) | Sample::NotReady(_)) => Some(0),
            Some(Sample::CannotTell(_) | Sample::Throttled(_)) | None => None,
        });
        let help = "Whether the service is healthy; absent if unknown, and while it is down.";
        self.one("tenure_service_healthy", help, healthy);
    }

    fn order(&mut self, status: &Status) {
        let help = "The number of problems; `tenure status` shows them.";
        self.one("tenure_problems", help, Some(status.problems.len()));
        let help = "Whether tenure.toml has no errors.";
        self.one("tenure_settings_valid", help, Some(u8::from(status.settings_valid)));
        let at_work = status.unfinished.as_ref().map_or(Some(true), |unfinished| unfinished.at_work);
        let help =
            "Whether a command was interrupted and nothing recovers it; absent if this user may not see it.";
        self.one("tenure_interrupted", help, at_work.map(|at_work| u8::from(!at_work)));
    }

    fn last(&mut self, last: Option<&HistoryEntry>) {
        let outcome = last.map(|last| {
            let (command, outcome) = (command_in(&last.command), word(&last.outcome));
            (format!("{},{}", label("command", &command), label("outcome", &outcome)), 1)
        });
        let help = "The outcome of the last transaction in the history; always 1.";
        self.gauge("tenure_last_outcome", help, outcome);
        let began = last.and_then(|last| humantime::parse_rfc3339(&last.started).ok());
        let began = began.and_then(|began| began.duration_since(SystemTime::UNIX_EPOCH).ok());
        let help = "When the last transaction began, in seconds since 1970.";
        self.one("tenure_last_timestamp_seconds", help, began.map(|began| began.as_secs()));
        let took = last.and_then(|last| last.took_ms).map(|ms| Duration::from_millis(ms).as_secs_f64());
        let help = "The duration of the last transaction; absent if it was interrupted.";
        self.one("tenure_last_duration_seconds", help, took);
    }

    fn space(&mut self, space: Option<&DiskSpace>) {
        let Some(DiskSpace { free_bytes, size_bytes, reserve_bytes, free_inodes }) = space else { return };
        let help = "Bytes that are free on the file system of the releases.";
        self.one("tenure_free_bytes", help, Some(free_bytes));
        let help = "The size of the file system of the releases in bytes.";
        self.one("tenure_size_bytes", help, Some(size_bytes));
        self.one("tenure_reserve_bytes", "Bytes that no release may take.", Some(reserve_bytes));
        let help = "Files that can still be created; absent if the file system has no limit.";
        self.one("tenure_free_inodes", help, free_inodes.as_ref());
    }

    fn data(&mut self, status: &Status) {
        let help = "The highest format of the data on disk; absent if unknown.";
        self.one("tenure_data_format", help, status.data_formats.last());
        let stage = status.migration.iter().map(|migration| {
            (
                format!(
                    "{},{}",
                    label("stage", &word(&migration.stage)),
                    label("version", &migration.version)
                ),
                1,
            )
        });
        let help = "The last data migration and its state; always 1.";
        self.gauge("tenure_migration", help, stage);
    }

    /// Adds a metric without labels of its own, if its value is known.
    fn one(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        self.gauge(name, help, value.map(|value| (String::new(), value)));
    }

    /// Adds a metric with its series of labels and values. Without any series, the metric is left out.
    fn gauge<V: Display>(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (String, V)>) {
        let lines: String = series
            .into_iter()
            .map(|(own, value)| {
                let comma = if own.is_empty() { "" } else { "," };
                format!("{name}{{{}{comma}{own}}} {value}\n", self.labels)
            })
            .collect();
        if !lines.is_empty() {
            self.text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{lines}");
        }
    }
}

fn label(name: &str, value: &impl Display) -> String {
    let value = escape_controls(&value.to_string(), Style::Human).replace('\t', r"\t");
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{name}=\"{value}\"")
}

/// Returns the word for a value in `--json`.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Returns the command that a line of the history is about.
fn command_in(line: &str) -> &str {
    line.split_whitespace().find(|word| Operate::has_subcommand(word)).unwrap_or("unknown")
}
