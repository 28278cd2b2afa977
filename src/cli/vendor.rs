//! What a vendor asks for. None of it needs a root.

use serde::Serialize;

use tenure::error::{Error, Result};
use tenure::manifest::EXAMPLE;

use super::args::Command;
use super::console::{Console, Shown};
use super::human::Human;

/// Runs a command of a vendor.
///
/// # Errors
/// As the command.
pub fn run(command: &Command, console: &Console) -> Result<Shown> {
    match command {
        Command::Manifest { .. } => Shown::of(console.style(), &Example { example: EXAMPLE }),
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
