//! What is said beside the result of a command, whatever the command is.

use tenure::execute::Reporter;
use tenure::ops;
use tenure::root::Root;

use super::args::Command;
use super::console::Console;

/// Says what is wrong with the root, as far as the command works all the same; a look at a trial sees to its deadline.
pub fn show(command: &Command, root: &Root, console: &mut Console) {
    if matches!(command, Command::Versions | Command::Status { .. } | Command::History) {
        guard_trial(root, console);
    }
    if works_damaged(command) {
        root.damage().iter().for_each(|wrong| console.report(wrong));
    }
    warn_of_modes(command, root, console);
}

/// Starts the guards of a trial again, where all of them were killed. A look at the root does not fail for that.
fn guard_trial(root: &Root, console: &mut Console) {
    if let Err(error) = ops::guard_trial(root) {
        console.warn(&format!("the deadline of the trial is not guarded: {}", error.in_one_line()));
    }
}

/// Whether a command does its work, and reports it, where what people wrote is wrong. `status` shows it by itself.
fn works_damaged(command: &Command) -> bool {
    matches!(
        command,
        Command::Versions
            | Command::RootDir
            | Command::History
            | Command::Verify { .. }
            | Command::Check { version: None, .. }
            | Command::Confirm { .. }
            | Command::Revert { .. }
            | Command::Boot { .. }
    )
}

/// What these commands list may have been written by another user.
fn warn_of_modes(command: &Command, root: &Root, console: &mut Console) {
    let lists = matches!(command, Command::Versions | Command::History | Command::Verify { .. });
    if let Some(error) = root.check_modes().err().filter(|_| lists) {
        console.warn(&error.in_one_line());
        error.hints().into_iter().for_each(|hint| console.warn(hint));
    }
}
