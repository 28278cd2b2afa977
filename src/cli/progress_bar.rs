//! What is shown of work that takes its time, in one line of a terminal that somebody watches.

use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use terminal_size::terminal_size_of;

/// How long before it is shown anew that something is still under way.
const TICK: Duration = Duration::from_millis(120);

/// What takes no longer than this is not worth a line that comes and goes.
const MOMENT: Duration = Duration::from_millis(200);

/// The columns of a spinner with the blank after it, and of the time that something has taken by now.
const SPINNER: usize = 2;
const ELAPSED: usize = ", for 59m by now".len();

/// One line on standard error, which is drawn anew.
pub struct ProgressLine {
    is_watched: bool,
    /// What is done, where bytes are counted.
    about: &'static str,
    shown: Option<Line>,
}

/// What the line shows.
struct Line {
    what: What,
    bar: ProgressBar,
}

#[derive(PartialEq, Eq)]
enum What {
    /// Bytes that are counted; the bar, as it has a place on the terminal, once it is worth one.
    Bytes(Option<&'static str>),
    /// Something that is waited for.
    Wait,
    /// Something under way that tells nothing of itself.
    Work(String),
}

impl ProgressLine {
    /// A line that is seen, or one that is not.
    pub fn new(is_watched: bool) -> Self {
        Self { is_watched, about: "Checking", shown: None }
    }

    /// Says what the bytes are about that are counted from now on.
    pub fn about(&mut self, what: &'static str) {
        self.about = what;
        if let Some(Line { what: What::Bytes(_), bar }) = &self.shown {
            bar.set_message(what);
        }
    }

    /// Shows how many bytes of how many are done.
    pub fn advance(&mut self, done: u64, total: u64) {
        let goes_on = |line: &mut Line| matches!(line.what, What::Bytes(_)) && done >= line.bar.position();
        let (mut fits, bar) = match self.shown.take_if(goes_on) {
            Some(Line { what: What::Bytes(fits), bar }) => (fits, bar),
            // The rate is that of this work, and not of what came before it.
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

    /// Shows what is waited for, and for how long at most.
    pub fn wait(&mut self, for_what: &str, left: Duration) {
        let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
        let left = format!(", {left} left");
        let bar = self.spin(What::Wait, "{spinner} {msg}");
        bar.set_message(shortened(for_what, SPINNER + left.len()) + &left);
        bar.tick();
    }

    /// Shows what is under way that tells nothing of itself, and for how long by now.
    pub fn work(&mut self, on_what: &str) {
        let bar = self.spin(What::Work(on_what.to_owned()), "{spinner} {msg}, for {elapsed} by now");
        bar.set_message(shortened(on_what, SPINNER + ELAPSED));
        // Whoever is at it says nothing meanwhile.
        bar.enable_steady_tick(TICK);
    }

    /// Takes the line off the terminal.
    pub fn clear(&mut self) {
        if let Some(Line { bar, .. }) = self.shown.take() {
            bar.finish_and_clear();
        }
    }

    /// Has something else written, with the line out of its way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.shown {
            Some(Line { bar, .. }) => bar.suspend(write),
            None => write(),
        }
    }

    /// The line that shows this, from now on where it did not.
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

/// What of a progress has a place in one line of so many columns.
fn bar_for(columns: u16) -> &'static str {
    match columns {
        0..40 => "{msg} {percent}%, {eta} left",
        40..55 => "{msg} {percent}%, {bytes_per_sec}, {eta} left",
        55..75 => "{msg} [{wide_bar}] {percent}%, {bytes_per_sec}, {eta} left",
        75.. => "{msg} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    }
}

/// Of a text what has a place in one line beside so many columns: the time is seen, however narrow a terminal is.
fn shortened(text: &str, beside: usize) -> String {
    let place = usize::from(columns()).saturating_sub(beside);
    if text.chars().count() <= place {
        return text.to_owned();
    }
    text.chars().take(place.saturating_sub(1)).chain(['…']).collect()
}

/// How wide the terminal is by now; 80 where nobody can tell.
fn columns() -> u16 {
    terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0)
}
