//! Writes results to stdout, messages to stderr, and progress to a terminal.

use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use terminal_size::terminal_size_of;

use tenure::clock;
use tenure::error::{Error, Result};
use tenure::execute::{Recovered, Reporter};
use tenure::plan::{Hop, Item, Step, Toward};
use tenure::process::Interrupt;
use tenure::progress::Progress;
use tenure::release::ReleaseState;
use tenure::root::Root;
use tenure::version::Version;

use super::progress_bar::ProgressLine;
use super::view::{Form, Shown, Style, changes, error_document, escape_controls, wrap};

/// The amount of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    /// For a change, only warnings and errors.
    Quiet,
    /// What was done.
    Normal,
    /// Each step as well.
    Verbose,
}

/// The severity of a message beside the result, numbered as in syslog(3).
#[derive(Clone, Copy)]
enum Level {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// The output of one command.
pub struct Console {
    style: Style,
    loudness: Loudness,
    /// Whether standard error leads to the journal, which reads the severity of each line.
    journal: bool,
    /// When the current step began.
    step_began: Duration,
    command: String,
    /// A product's own command, which messages name instead of `tenure`.
    known_as: Option<String>,
    interrupt: Interrupt,
    bar: ProgressLine,
    unwritten: Option<io::Error>,
    changing: bool,
    /// The last warning.
    warned: Option<String>,
    /// Whether the previous step removed a release that the next step unpacks again.
    replacing: bool,
}

/// Returns the product's own command, if users run it instead of `tenure`.
pub fn known_as() -> Option<String> {
    std::env::var("TENURE_COMMAND").ok().filter(|name| !name.is_empty())
}

impl Console {
    pub fn new(style: Style, loudness: Loudness, command: String) -> Self {
        let is_watched = style == Style::Human && loudness != Loudness::Quiet && io::stderr().is_terminal();
        Self {
            style,
            loudness,
            journal: is_journal(),
            step_began: Duration::ZERO,
            command,
            known_as: known_as(),
            interrupt: Interrupt::default(),
            bar: ProgressLine::new(is_watched),
            unwritten: None,
            changing: false,
            warned: None,
            replacing: false,
        }
    }

    /// Notes that the command changes something. From now on, a signal interrupts it at a safe point.
    ///
    /// # Errors
    /// Returns an error if a signal handler cannot be installed.
    pub fn listen(&mut self) -> Result<()> {
        self.interrupt = Interrupt::listen()?;
        self.changing = true;
        Ok(())
    }

    /// Prints a result and returns its exit code.
    pub fn show(&mut self, shown: &Shown) -> u8 {
        self.bar.clear();
        // `--quiet` hides the report of a change, but not a result that the caller asked for.
        if self.loudness != Loudness::Quiet || !self.changing || self.style == Style::Json {
            match shown.form {
                Form::Script => self.write(&shown.text),
                Form::Lines => self.print(&shown.text),
                Form::Prose => self.print(&match terminal_size_of(io::stdout()) {
                    Some((width, _)) => wrap(&shown.text, width.0.into()),
                    None => shown.text.clone(),
                }),
            }
        }
        match self.unwritten.take() {
            // The reader that closed the pipe has read enough.
            Some(e) if e.kind() == io::ErrorKind::BrokenPipe => shown.code,
            // The change remains, even if its result cannot be written.
            Some(e) if self.changing => {
                self.tell(Level::Warning, &format!("warning: cannot write the result: {e}"));
                shown.code
            }
            Some(e) => {
                self.tell(Level::Error, &format!("error: cannot write the result: {e}"));
                shown.code.max(1)
            }
            None => shown.code,
        }
    }

    /// Prints an error and returns its exit code.
    pub fn fail(&mut self, error: &Error) -> u8 {
        self.bar.clear();
        match self.style {
            Style::Json => self.print(&error_document(error).unwrap_or_default()),
            Style::Human => {
                self.tell(Level::Error, &format!("error: {error}"));
                error
                    .causes()
                    .iter()
                    .for_each(|cause| self.tell(Level::Error, &format!("caused by: {cause}")));
                self.tell_hints(error);
            }
        }
        error.kind().code()
    }

    /// Prints damage of the root that does not stop the command as warnings, with their hints.
    pub fn report_damage(&mut self, root: &Root) {
        for error in root.damage() {
            self.warn(&error.in_one_line());
            self.tell_hints(&error);
        }
    }

    /// Returns the text with the product's own command in place of `tenure`.
    fn as_given_here(&self, text: &str) -> String {
        match &self.known_as {
            Some(name) if self.style == Style::Human => text.replace("`tenure ", &format!("`{name} ")),
            _ => text.to_owned(),
        }
    }

    fn print(&mut self, text: &str) {
        let text = self.as_given_here(text);
        self.write(&escape_controls(&text, self.style));
    }

    fn write(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        let written = self.bar.aside(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        self.unwritten = self.unwritten.take().or(written.err());
    }

    fn line(&mut self, line: &str) {
        if self.style == Style::Human && self.loudness != Loudness::Quiet {
            self.print(&format!("{line}\n"));
        }
    }

    /// Prints a message beside the result. A write error is ignored, because it cannot be reported anywhere.
    fn tell(&self, level: Level, text: &str) {
        let text = escape_controls(&self.as_given_here(text), Style::Human);
        let text = match self.journal {
            true => text.lines().map(|line| format!("<{}>{line}\n", level as u8)).collect(),
            false => format!("{text}\n"),
        };
        self.bar.aside(|| {
            let _ = io::stderr().write_all(text.as_bytes());
        });
    }

    fn tell_hints(&self, error: &Error) {
        error.hints().iter().for_each(|hint| self.tell(Level::Notice, &format!("hint: {hint}")));
    }

    fn detail(&self, text: impl FnOnce() -> String) {
        if self.loudness == Loudness::Verbose {
            self.tell(Level::Info, &text());
        }
    }
}

/// Returns whether standard error leads to the journal, by the method of systemd.exec(5).
fn is_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|meta| told == format!("{}:{}", meta.dev(), meta.ino()))
}

impl Progress for Console {
    fn advance(&mut self, done: u64, total: u64) {
        self.bar.advance(done, total);
    }

    fn waiting(&mut self, for_what: &str, left: Duration) {
        self.bar.wait(&escape_controls(for_what, Style::Human), left);
    }

    fn working(&mut self, on_what: &str) {
        self.bar.work(&escape_controls(on_what, Style::Human));
    }

    fn interrupted(&self) -> bool {
        self.interrupt.is_set()
    }
}

impl Reporter for Console {
    fn opening(&mut self, version: &Version, was: Option<ReleaseState>) {
        if let Some(line) = changes::opening(&self.command, version, was) {
            self.line(&line);
        }
    }

    fn staging(&mut self, step: &Step) {
        self.bar.about(changes::verb(step));
        self.detail(|| format!("step: staging, to {step}"));
    }

    fn deleting(&mut self) {
        self.bar.about("Deleting");
    }

    fn packing(&mut self, archive: &str) {
        self.bar.about("Packing");
        self.detail(|| format!("step: pack into a temporary file; {archive} is created after verification"));
    }

    fn reading_back(&mut self, archive: &str) {
        self.bar.clear();
        self.bar.about("Checking");
        self.detail(|| format!("step: read {archive} back and check it by the rules of unpacking"));
    }

    fn checked(&mut self, what: &str, found: &str) {
        self.detail(|| format!("check: {what}: {found}"));
    }

    fn begun(&mut self, step: &Step) {
        self.bar.clear();
        self.step_began = clock::since_boot();
        self.detail(|| format!("step: {step}"));
        if let Some(line) = changes::begun(step, self.replacing) {
            self.line(&line);
        }
        self.replacing = matches!(step, Step::Trash { item: Item::Release(_) });
    }

    fn done(&mut self, step: &Step) {
        self.bar.clear();
        let took = clock::since_boot().saturating_sub(self.step_began);
        self.detail(|| format!("done: {step}, in {} ms", took.as_millis()));
        if let Some(line) = changes::done(step) {
            self.line(&line);
        }
    }

    fn hop(&mut self, hop: &Hop, at: usize, of: usize) {
        self.line(&changes::hop(hop, at, of));
    }

    fn arrived(&mut self, hop: &Hop) {
        self.line(&changes::arrived(&hop.to));
    }

    fn recovered(&mut self, recovered: &Recovered) {
        let how = match (recovered.toward, self.command.as_str()) {
            (Toward::Forward, _) => "finished",
            (Toward::Back, "boot") => "rolled back; boot does not start the service",
            (Toward::Back, _) => "rolled back",
        };
        self.tell(Level::Notice, &format!("note: recovered an interrupted `{}`: {how}", recovered.command));
        recovered.steps.iter().for_each(|step| self.detail(|| format!("recovered: {step}")));
    }

    fn warn(&mut self, warning: &str) {
        // A warning that every hop of several repeats is printed once.
        if self.warned.as_deref() == Some(warning) {
            return;
        }
        self.warned = Some(warning.to_owned());
        self.tell(Level::Warning, &format!("warning: {warning}"));
    }
}
