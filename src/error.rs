//! The one error type: what was tried, on what, why it failed, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What an error means for the host; decides the exit code (the contract's table of exit codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It failed; releases and service are as they were.
    Failed,
    /// A rule or a state forbids it; nothing was changed.
    Refused,
    /// It was begun, failed, and was taken back.
    Reverted,
    /// It was begun, failed, and could not be taken back.
    Stuck,
    /// The command line makes no sense.
    Usage,
    /// Another Tenure works on this root.
    Busy,
}

impl Kind {
    /// The exit code of the process.
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

    /// The word that `--json` uses.
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

/// An error: action and object in the message, causes behind it, hints beside it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
}

impl Error {
    /// An error of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None, hints: Vec::new() }
    }

    /// Something failed that no rule forbade.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// A rule or a state forbids it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Adds what caused it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds one actionable sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the state that resulted to the message.
    #[must_use]
    pub fn ending(mut self, state: &str) -> Self {
        self.message = format!("{}: {state}", self.message);
        self
    }

    /// The same error, seen as another kind.
    #[must_use]
    pub fn as_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same in one line, behind these words, as something that a rule forbids; with its hints.
    #[must_use]
    pub fn refused_in_one_line(&self, words: &str) -> Self {
        let refused = Self::refused(format!("{words}{}", self.in_one_line()));
        self.hints().into_iter().fold(refused, Self::hint)
    }

    /// What it means for the host.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What a person can do about it, the causes' hints included; each once.
    #[must_use]
    pub fn hints(&self) -> Vec<&str> {
        let mut hints: Vec<&str> = self.hints.iter().map(String::as_str).collect();
        if let Some(inner) = self.cause.as_ref().and_then(|c| c.downcast_ref::<Self>()) {
            let more = inner.hints();
            hints.extend(more.into_iter().filter(|hint| !self.hints.iter().any(|own| own == hint)));
        }
        hints
    }

    /// The message and its causes in one line, for a history or a warning; what a program said in several lines as well.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let all = std::iter::once(self.to_string()).chain(self.causes()).collect::<Vec<_>>().join(": ");
        all.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// The messages of the causes, outermost first.
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

/// Names the action and its object on a failed operation.
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
