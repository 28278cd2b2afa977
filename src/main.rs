//! The `tenure` command.

#![expect(
    clippy::disallowed_methods,
    reason = "the binary reads the environment that the library never sees"
)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // This must come before anything else is opened or started.
    tenure::process::keep_descriptors();
    ExitCode::from(cli::run(&std::env::args_os().collect::<Vec<_>>()))
}
