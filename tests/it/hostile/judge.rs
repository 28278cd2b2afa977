//! Runs one case and checks the output of the command and the files that it leaves.

use super::corpus::{Case, Verdict, bombs};
use super::place::{Place, VERSION};
use super::released;
use crate::support::Run;

/// Returns whether even a refused command creates this path: Tenure's directory, the lock or one of three empty
/// directories. The modification time of the root changes with them.
fn own(path: &str) -> bool {
    let empty = [".tenure/receipts", ".tenure/staging", ".tenure/trash"];
    matches!(path, "" | ".tenure" | ".tenure/lock") || empty.contains(&path)
}

/// Alternates between two commands, because both unpack.
fn command(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "unpack" } else { "install" }
}

pub fn refused(number: usize, case: &Case) -> Result<(), String> {
    let Verdict::Reject(why) = case.verdict else { return Ok(()) };
    let place = Place::new(case.format, &case.bytes);
    is_refused(&place, &[command(number), VERSION], why)?;
    // A dry run must predict the same result.
    if number.is_multiple_of(3) { is_refused(&place, &["unpack", "--dry-run", VERSION], why) } else { Ok(()) }
}

/// Checks that the command is refused with these words and changes nothing.
pub fn is_refused(place: &Place, args: &[&str], why: &str) -> Result<(), String> {
    let before = place.marks();
    let run = place.run(args);
    let after = place.marks();
    said(&run, 2)?;
    for text in [why, &place.archive] {
        if !run.stderr.contains(text) {
            return Err(format!("{text:?} is not in {:?}", run.stderr));
        }
    }
    if place.release().symlink_metadata().is_ok() {
        return Err(format!("a release is there after {:?}", run.stderr));
    }
    let differing = place.differing(&before, &after, &own);
    if differing.is_empty() { Ok(()) } else { Err(format!("changed: {differing:#?}")) }
}

/// Checks that the command exited with this code and printed no control characters.
fn said(run: &Run, code: i32) -> Result<(), String> {
    if run.code != Some(code) {
        return Err(format!("ended with {:?}, not {code}: {}{}", run.code, run.stdout, run.stderr));
    }
    let lines = run.stdout.lines().chain(run.stderr.lines());
    match lines.into_iter().find(|line| line.replace('\t', "").contains(char::is_control)) {
        Some(line) => Err(format!("control characters in {line:?}")),
        None => Ok(()),
    }
}

pub fn accepted(number: usize, case: &Case) -> Result<(), String> {
    let Verdict::Accept(tree) = &case.verdict else { return Ok(()) };
    let place = Place::new(case.format, &case.bytes);
    if number.is_multiple_of(3) {
        said(&place.run(&["unpack", "--dry-run", VERSION]), 0)?;
    }
    let before = place.marks();
    said(&place.run(&[command(number), VERSION]), 0)?;
    let after = place.marks();
    let differing = place.differing(&before, &after, &|path| {
        let links = command(number) == "install" && matches!(path, "current" | "permanent");
        let state = path.starts_with(".tenure/") && !path.starts_with(".tenure/staging/");
        own(path) || links || state || path == "releases"
    });
    if !differing.is_empty() {
        return Err(format!("changed: {differing:#?}"));
    }
    released::is(&place.release(), tree)?;
    let verified = place.run(&["verify", VERSION]);
    said(&verified, 0).map_err(|why| format!("verify: {why}"))?;
    Ok(())
}

/// The codes of faults that do not prevent unpacking.
const ADVICE: [&str; 4] = ["mode-lost", "name-clash", "interpreter-missing", "file-written"];

/// Checks that `lint` reports a fault exactly if unpacking is refused, except for the limits of a host, and that it
/// writes nothing.
pub fn foretold(_: usize, case: &Case) -> Result<(), String> {
    let place = Place::new(case.format, &case.bytes);
    let before = place.marks();
    let run = place.run(&["lint", "--json", &format!("releases/{}", place.archive)]);
    let told = run.json();
    let findings = told["findings"].as_array().ok_or_else(|| format!("{told}"))?;
    said(&run, if findings.is_empty() { 0 } else { 2 })?;
    let fatal = findings.iter().any(|finding| ADVICE.iter().all(|code| finding["code"] != *code));
    let refused = matches!(case.verdict, Verdict::Reject(_));
    if fatal != refused && !(refused && case.rule == bombs::LINE) {
        return Err(format!("unpacking is refused: {refused}, and this is told: {told}"));
    }
    let differing = place.differing(&before, &place.marks(), &|_| false);
    if differing.is_empty() { Ok(()) } else { Err(format!("changed: {differing:#?}")) }
}
