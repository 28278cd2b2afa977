//! The terminal: results on stdout, all else on stderr, progress where somebody watches.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use tenure::error::{Error, Result};
use tenure::execute::{Observer, Recovered};
use tenure::plan::{Item, Leg, Step, Toward};
use tenure::process::Interrupt;
use tenure::release::ReleaseState;
use tenure::version::Version;
use tenure::watch::Watch;

use super::human::{self, Human};
use super::json;

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text.
    Human,
    /// One JSON document.
    Json,
}

/// A result as it is shown.
pub struct Shown {
    text: String,
    code: u8,
}

impl Shown {
    /// The result in the given style.
    ///
    /// # Errors
    /// Never, for the results that there are.
    pub fn of<T: Human + Serialize>(style: Style, result: &T) -> Result<Self> {
        let text = match style {
            Style::Human => result.human(),
            Style::Json => json::document(result)?,
        };
        Ok(Self { text, code: result.code() })
    }
}

/// Where everything that is said is said.
pub struct Console {
    style: Style,
    command: &'static str,
    interrupt: Interrupt,
    bar: ProgressBar,
    unwritten: Option<io::Error>,
    changing: bool,
    /// The last warning.
    warned: Option<String>,
    /// The step before threw away what the next one unpacks anew.
    replacing: bool,
}

impl Console {
    pub fn new(style: Style, command: &'static str) -> Self {
        let watched = style == Style::Human && io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_message("Checking");
        Self {
            style,
            command,
            interrupt: Interrupt::default(),
            bar,
            unwritten: None,
            changing: false,
            warned: None,
            replacing: false,
        }
    }

    /// The command is one that changes something: from now on a signal is heeded between steps.
    pub fn listen(&mut self, interrupt: Interrupt) {
        self.interrupt = interrupt;
        self.changing = true;
    }

    /// The command that is run.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// How results are shown here.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Shows a result and returns the exit code that it calls for.
    pub fn show(&mut self, shown: &Shown) -> u8 {
        self.bar.finish_and_clear();
        self.print(&shown.text);
        match self.unwritten.take() {
            // Who closed the pipe has read enough.
            Some(e) if e.kind() == io::ErrorKind::BrokenPipe => shown.code,
            // What was changed stays changed, whether or not it could be told.
            Some(e) if self.changing => {
                self.tell(&format!("warning: cannot write the result: {e}"));
                shown.code
            }
            Some(e) => {
                self.tell(&format!("error: cannot write the result: {e}"));
                shown.code.max(1)
            }
            None => shown.code,
        }
    }

    /// Shows an error and returns its exit code.
    pub fn fail(&mut self, error: &Error) -> u8 {
        self.bar.finish_and_clear();
        match self.style {
            Style::Json => self.print(&json::error(error).unwrap_or_default()),
            Style::Human => {
                self.tell(&format!("error: {error}"));
                error.causes().iter().for_each(|cause| self.tell(&format!("caused by: {cause}")));
                error.hints().iter().for_each(|hint| self.tell(&format!("hint: {hint}")));
            }
        }
        error.kind().code()
    }

    fn spin(&mut self, message: String) {
        if self.bar.is_finished() {
            self.bar.reset();
        }
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        self.bar.set_message(message);
        self.bar.tick();
    }

    fn print(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        let written = self.bar.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        self.unwritten = self.unwritten.take().or(written.err());
    }

    fn line(&mut self, line: &str) {
        if self.style == Style::Human {
            self.print(&format!("{line}\n"));
        }
    }

    /// Says something beside the result; where stderr is closed, nobody listens.
    fn tell(&self, text: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{text}");
        });
    }
}

impl Watch for Console {
    fn progress(&mut self, done: u64, total: u64) {
        if self.bar.length().is_none() {
            let style = "{msg} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            self.bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            );
        }
        if done < self.bar.position() {
            self.bar.reset();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn waiting(&mut self, for_what: &str, left: Duration) {
        self.spin(format!("{for_what}, {} s left", left.as_secs()));
    }

    fn working(&mut self, on_what: &str) {
        self.spin(on_what.to_owned());
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_set()
    }
}

impl Observer for Console {
    fn opening(&mut self, version: &Version, was: Option<ReleaseState>) {
        if let Some(line) = human::opening(self.command, version, was) {
            self.line(&line);
        }
    }

    fn staging(&mut self, step: &Step) {
        self.bar.set_message(human::verb(step));
    }

    fn begun(&mut self, step: &Step) {
        self.bar.finish_and_clear();
        if let Some(line) = human::begun(step, self.replacing) {
            self.line(&line);
        }
        self.replacing = matches!(step, Step::Discard { item: Item::Release(_) });
    }

    fn done(&mut self, step: &Step) {
        self.bar.finish_and_clear();
        if let Some(line) = human::done(step) {
            self.line(&line);
        }
    }

    fn hop(&mut self, leg: &Leg, at: usize, of: usize) {
        self.line(&human::hop(leg, at, of));
    }

    fn arrived(&mut self, leg: &Leg) {
        self.line(&human::arrived(&leg.to));
    }

    fn recovered(&mut self, recovered: &Recovered) {
        let how = match recovered.toward {
            Toward::Forward => "finished it",
            Toward::Back => "took it back",
        };
        self.tell(&format!("note: recovered an interrupted `{}`: {how}", recovered.command));
    }

    fn warn(&mut self, warning: &str) {
        // What is so at every hop of several is said once.
        if self.warned.as_deref() == Some(warning) {
            return;
        }
        self.warned = Some(warning.to_owned());
        self.tell(&format!("warning: {warning}"));
    }
}
