//! Shows the progress of long work in one line of a terminal.

use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use terminal_size::terminal_size_of;

/// The interval at which the line is redrawn while the work reports nothing.
const TICK: Duration = Duration::from_millis(120);

/// Work that takes less time than this shows no bar, which would only flicker.
const MOMENT: Duration = Duration::from_millis(200);

/// The columns of the spinner and the blank after it, and of the elapsed time.
const SPINNER: usize = 2;
const ELAPSED: usize = ", 59m elapsed".len();

/// One line on standard error that is redrawn.
pub struct ProgressLine {
    is_watched: bool,
    /// The verb for the work whose bytes are counted.
    about: &'static str,
    shown: Option<Line>,
}

struct Line {
    what: What,
    bar: ProgressBar,
}

#[derive(PartialEq, Eq)]
enum What {
    /// Counted bytes, with the template of the bar once it is drawn.
    Bytes(Option<&'static str>),
    /// Waiting for something.
    Wait,
    /// Work that does not report its progress.
    Work(String),
}

impl ProgressLine {
    /// Creates a line, which is only drawn if `is_watched`.
    pub fn new(is_watched: bool) -> Self {
        Self { is_watched, about: "Checking", shown: None }
    }

    /// Sets the verb for the bytes that are counted from now on.
    pub fn about(&mut self, what: &'static str) {
        self.about = what;
        if let Some(Line { what: What::Bytes(_), bar }) = &self.shown {
            bar.set_message(what);
        }
    }

    /// Shows that `done` of `total` bytes are done.
    pub fn advance(&mut self, done: u64, total: u64) {
        let goes_on = |line: &mut Line| matches!(line.what, What::Bytes(_)) && done >= line.bar.position();
        let (mut fits, bar) = match self.shown.take_if(goes_on) {
            Some(Line { what: What::Bytes(fits), bar }) => (fits, bar),
            // A new bar, so that its rate does not include earlier work.
            _ => {
                self.clear();
                let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
                (None, bar.with_message(self.about))
            }
        };
        if self.is_watched && bar.elapsed() > MOMENT {
            let now = Some(bar_for(columns()));
            if let Some(template) = now.filter(|_| fits != now) {
                bar.set_style(style(template).progress_chars("=> "));
            }
            if fits.is_none() {
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            fits = now;
        }
        bar.set_length(total);
        bar.set_position(done);
        self.shown = Some(Line { what: What::Bytes(fits), bar });
    }

    /// Shows what the command waits for, and the time that is left.
    pub fn wait(&mut self, for_what: &str, left: Duration) {
        let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
        let left = format!(", {left} left");
        let bar = self.spin(What::Wait, "{spinner} {msg}");
        bar.set_message(shortened(for_what, SPINNER + left.len()) + &left);
        bar.tick();
    }

    /// Shows work that does not report its progress, with the elapsed time.
    pub fn work(&mut self, on_what: &str) {
        let bar = self.spin(What::Work(on_what.to_owned()), "{spinner} {msg}, {elapsed} elapsed");
        bar.set_message(shortened(on_what, SPINNER + ELAPSED));
        // The work makes no calls meanwhile, so a timer moves the spinner.
        bar.enable_steady_tick(TICK);
    }

    /// Removes the line from the terminal.
    pub fn clear(&mut self) {
        if let Some(Line { bar, .. }) = self.shown.take() {
            bar.finish_and_clear();
        }
    }

    /// Runs `write` while the line is hidden.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.shown {
            Some(Line { bar, .. }) => bar.suspend(write),
            None => write(),
        }
    }

    /// Returns the bar of a line that shows `what`, and replaces a line that shows something else.
    fn spin(&mut self, what: What, template: &str) -> &ProgressBar {
        let bar = match self.shown.take_if(|line| line.what == what) {
            Some(line) => line.bar,
            None => {
                self.clear();
                let target = match self.is_watched {
                    true => ProgressDrawTarget::stderr(),
                    false => ProgressDrawTarget::hidden(),
                };
                ProgressBar::with_draw_target(None, target).with_style(style(template))
            }
        };
        &self.shown.insert(Line { what, bar }).bar
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Returns the template of the bar for a terminal of this width.
fn bar_for(columns: u16) -> &'static str {
    match columns {
        0..40 => "{msg} {percent}%, {eta} left",
        40..55 => "{msg} {percent}%, {bytes_per_sec}, {eta} left",
        55..75 => "{msg} [{wide_bar}] {percent}%, {bytes_per_sec}, {eta} left",
        75.. => "{msg} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    }
}

/// Shortens a text and leaves `beside` columns free, so that the time is visible on a narrow terminal.
fn shortened(text: &str, beside: usize) -> String {
    let place = usize::from(columns()).saturating_sub(beside);
    if text.chars().count() <= place {
        return text.to_owned();
    }
    text.chars().take(place.saturating_sub(1)).chain(['…']).collect()
}

/// Returns the present width of the terminal, or 80 if it is not known.
fn columns() -> u16 {
    terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0)
}
