//! What a vendor asks for: `lint`, `pack` and `manifest`. None of it needs a root.

use serde::Serialize;

use tenure::error::{Error, Result};
use tenure::lint::Finding;
use tenure::manifest::EXAMPLE;
use tenure::ops::{self, Linted};

use super::args::Command;
use super::console::{Console, Shown};
use super::human::Human;

/// Runs a command of a vendor.
///
/// # Errors
/// As the command.
pub fn run(command: Command, console: &mut Console) -> Result<Shown> {
    let style = console.style();
    match command {
        Command::Lint { what } => Shown::of(style, &ops::lint(&what, console)?),
        Command::Manifest { .. } => Shown::of(style, &Example { example: EXAMPLE }),
        _ => Err(Error::failed("this command needs a root")),
    }
}

/// The result of `manifest --example`.
#[derive(Serialize)]
struct Example {
    example: &'static str,
}

impl Human for Example {
    fn human(&self) -> String {
        self.example.to_owned()
    }
}

impl Human for Linted {
    fn human(&self) -> String {
        let line = |Finding { code, place, message, hint }: &Finding| {
            let place = if place.is_empty() { &self.subject } else { place };
            format!("{place}: {message} [{}]\n  hint: {hint}\n", code.word())
        };
        let lines: String = self.findings.iter().map(line).collect();
        match self.findings.len() {
            0 => format!("No fault was found in {}.\n", self.subject),
            1 => format!("{lines}One fault was found in {}.\n", self.subject),
            count => format!("{lines}{count} faults were found in {}.\n", self.subject),
        }
    }

    fn code(&self) -> u8 {
        if self.findings.is_empty() { 0 } else { 2 }
    }
}
