//! The error type of the crate: the failed action and its object, the causes, and hints for the user.

use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible function in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The effect of an error on the host. It decides the exit code (the table of exit codes in the contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command failed. Releases and service are as they were.
    Failed,
    /// A rule or a state forbids the command. Nothing was changed.
    Refused,
    /// The command failed after it began, and was rolled back.
    Reverted,
    /// The command failed after it began, and could not be rolled back.
    Stuck,
    /// The command line is not valid.
    Usage,
    /// Another Tenure process works on this root.
    Busy,
}

impl Kind {
    /// Returns the exit code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Refused => 2,
            Self::Reverted => 3,
            Self::Stuck => 4,
            Self::Usage => 64,
            Self::Busy => 75,
        }
    }

    /// Returns the name of the kind in `--json` output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Reverted => "reverted",
            Self::Stuck => "stuck",
            Self::Usage => "usage",
            Self::Busy => "busy",
        }
    }
}

/// An error with a message that names action and object, an optional cause, and hints.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
}

impl Error {
    /// Creates an error of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None, hints: Vec::new() }
    }

    /// Creates a `Failed` error: an operation failed that no rule forbids.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Creates a `Refused` error: a rule or a state forbids the operation.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds causes, each of which is shown as the cause of the one before it.
    #[must_use]
    pub fn because_all(self, causes: impl IntoIterator<Item = Self>) -> Self {
        let causes: Vec<Self> = causes.into_iter().collect();
        let chained = causes.into_iter().rev().reduce(|later, error| error.because(later));
        chained.into_iter().fold(self, Self::because)
    }

    /// Adds a hint of one actionable sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Appends the resulting state to the message.
    #[must_use]
    pub fn ending(mut self, state: &str) -> Self {
        self.message = format!("{}: {state}", self.message);
        self
    }

    /// Replaces the kind of the error.
    #[must_use]
    pub fn as_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Returns a `Refused` error with `words`, the message and its causes in one line, and with all hints.
    #[must_use]
    pub fn refused_in_one_line(&self, words: &str) -> Self {
        let refused = Self::refused(format!("{words}{}", self.in_one_line()));
        self.hints().into_iter().fold(refused, Self::hint)
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the hints of this error and of its causes, without duplicates.
    #[must_use]
    pub fn hints(&self) -> Vec<&str> {
        let mut hints: Vec<&str> = self.hints.iter().map(String::as_str).collect();
        if let Some(inner) = self.cause.as_ref().and_then(|c| c.downcast_ref::<Self>()) {
            let more = inner.hints();
            hints.extend(more.into_iter().filter(|hint| !self.hints.iter().any(|own| own == hint)));
        }
        hints
    }

    /// Returns the message and its causes in one line, for a history or a warning. Line breaks become `; `.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let all = std::iter::once(self.to_string()).chain(self.causes()).collect::<Vec<_>>().join(": ");
        all.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Returns the messages of the causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        std::iter::successors(self.source(), |e| (*e).source()).map(ToString::to_string).collect()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|c| c as _)
    }
}

/// Adds the action and its object to a failed operation.
pub trait Context<T> {
    /// Turns a failure into an [`Error`] whose message is `action`, e.g. "cannot read /x".
    fn context<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| {
            let cause = e.into();
            let kind = cause.downcast_ref::<Error>().map_or(Kind::Failed, Error::kind);
            Error { kind, message: action().into(), cause: Some(cause), hints: Vec::new() }
        })
    }
}
