//! Reports problems of the root beside the result of a command.

use tenure::execute::Reporter;
use tenure::ops;
use tenure::root::Root;

use super::args::Command;
use super::console::Console;

/// Reports damage of the root that does not stop the command. Commands that show a trial also restart its guards.
pub fn show(command: &Command, root: &Root, console: &mut Console) {
    if matches!(command, Command::Versions | Command::Status { .. } | Command::History) {
        guard_trial(root, console);
    }
    if works_damaged(command) {
        root.damage().iter().for_each(|wrong| console.report(wrong));
    }
    warn_of_modes(command, root, console);
}

/// Restarts the guards of a trial if all of them were killed. A failure does not stop a command that only reads.
fn guard_trial(root: &Root, console: &mut Console) {
    if let Err(error) = ops::guard_trial(root) {
        console.warn(&format!("the deadline of the trial is not guarded: {}", error.in_one_line()));
    }
}

/// Returns whether a command works despite damage, and reports the damage. `status` reports it by itself.
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

/// Warns that another user may have written what these commands list.
fn warn_of_modes(command: &Command, root: &Root, console: &mut Console) {
    let lists = matches!(command, Command::Versions | Command::History | Command::Verify { .. });
    if let Some(error) = root.check_modes().err().filter(|_| lists) {
        console.warn(&error.in_one_line());
        error.hints().into_iter().for_each(|hint| console.warn(hint));
    }
}
