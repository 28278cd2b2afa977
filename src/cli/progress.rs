//! What is shown of work that takes its time, in one line of a terminal that somebody watches.

use std::io;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use terminal_size::terminal_size_of;

/// How long before it is shown that something is still under way.
const TICK: Duration = Duration::from_millis(120);

/// The columns of a spinner with the blank after it, and of the time that something has taken by now.
const SPINNER: usize = 2;
const ELAPSED: usize = ", for 59m by now".len();

/// One line on standard error, which is drawn anew.
pub struct Progress {
    bar: ProgressBar,
    /// The bar as it has a place on the terminal; none where something else is shown.
    fits: Option<&'static str>,
}

impl Progress {
    /// A line that is seen, or one that is not.
    pub fn new(is_watched: bool) -> Self {
        let target = if is_watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bar: ProgressBar::with_draw_target(None, target).with_message("Checking"), fits: None }
    }

    /// Says what the bar is about from now on.
    pub fn about(&self, what: &'static str) {
        self.bar.set_message(what);
    }

    /// Shows how many bytes of how many are done.
    pub fn advance(&mut self, done: u64, total: u64) {
        let fits = bar_for(columns());
        if self.fits != Some(fits) {
            self.bar.disable_steady_tick();
            self.fits = Some(fits);
            let style = ProgressStyle::with_template(fits);
            self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        }
        // The rate is that of this work, and not of what came before it.
        if done < self.bar.position() || self.bar.position() == 0 {
            self.bar.reset();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Shows what is waited for, and for how long at most.
    pub fn wait(&mut self, for_what: &str, left: Duration) {
        let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
        let left = format!(", {left} left");
        self.spin("{spinner} {msg}", shortened(for_what, SPINNER + left.len()) + &left);
    }

    /// Shows what is under way that tells nothing of itself, and for how long by now.
    pub fn work(&mut self, on_what: &str) {
        self.spin("{spinner} {msg}, for {elapsed} by now", shortened(on_what, SPINNER + ELAPSED));
        // Whoever is at it says nothing meanwhile.
        self.bar.enable_steady_tick(TICK);
    }

    /// Takes the line off the terminal.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Has something else written, with the line out of its way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    fn spin(&mut self, template: &str, message: String) {
        self.fits = None;
        self.bar.disable_steady_tick();
        if self.bar.is_finished() {
            self.bar.reset();
        }
        let style = ProgressStyle::with_template(template);
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        self.bar.set_message(message);
        self.bar.tick();
    }
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
