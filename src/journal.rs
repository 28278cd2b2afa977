//! The journal of the one transaction that may be open: its plan, and a note of each step before the step begins.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Context, Kind, Result};
use crate::fs::{self as disk, DirPath, FileKind};
use crate::plan::{JournalRecord, Plan};
use crate::process;
use crate::root::Root;

/// The largest journal that is read, in bytes.
const LIMIT: u64 = 1 << 26;

/// An open journal. Dropping this value does not close the journal; only [`close`] does.
#[derive(Debug)]
#[must_use = "steps that are not in the journal cannot be recovered"]
pub struct Journal<'a> {
    root: &'a Root,
    /// The file written to, even if the name of the journal leads to another file meanwhile.
    file: File,
}

#[derive(Serialize, Deserialize)]
struct Begun {
    begun: usize,
}

/// The journal of an earlier transaction, as found on disk.
#[derive(Debug)]
pub enum JournalState {
    /// No transaction is open.
    Nothing,
    /// A transaction was interrupted.
    Open(Box<JournalRecord>),
    /// The journal is incomplete, was not written by Tenure, or was lost by the disk.
    Damaged,
}

impl<'a> Journal<'a> {
    /// Opens a journal and durably writes the plan.
    ///
    /// # Errors
    /// Returns an error if the journal cannot be written. No step may begin then.
    pub fn open(root: &'a Root, record: &JournalRecord) -> Result<Self> {
        let mut line = serde_json::to_vec(record).context(|| "cannot write the journal")?;
        line.push(b'\n');
        let file = disk::write_durable(&root.journal(), &root.staging(), &line, 0o644, root.owner())?;
        Ok(Self { root, file })
    }

    /// Durably notes that `count` steps are begun. Only then may the last of them be applied.
    ///
    /// # Errors
    /// Returns an error if the note cannot be written. The step must not be applied then.
    pub fn begin(&self, count: usize) -> Result<()> {
        let line = serde_json::to_string(&Begun { begun: count }).context(|| "cannot write the journal")?;
        disk::append(&self.file, &line).context(|| format!("cannot write {}", self.root.journal().display()))
    }

    /// Durably notes that all steps are done. After this, a recovery undoes nothing: an acknowledged command stays
    /// done, and its history entry stays true.
    ///
    /// # Errors
    /// Returns an error if the note cannot be written. A recovery then decides by the links.
    pub fn all_done(&self, plan: &Plan) -> Result<()> {
        self.begin(plan.steps.len() + 1)
    }
}

/// Returns a transaction name that is unique on this host. One process may begin several transactions in one second.
#[must_use]
pub fn new_transaction() -> String {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let first = format!("{}-{}", clock::now().replace(':', ""), process::own_id());
    match BEGUN.fetch_add(1, Ordering::Relaxed) {
        0 => first,
        more => format!("{first}-{more}"),
    }
}

/// Durably ends the open transaction, or the transaction that [`find`] found.
///
/// # Errors
/// Returns an error if the journal cannot be removed. The next command then finds nothing left to do.
pub fn close(root: &Root) -> Result<()> {
    disk::remove_file_durable(&root.journal())
}

/// Returns whether a transaction is open, in this process or in another one.
///
/// # Errors
/// Returns an error if the journal cannot be examined.
pub fn is_open(root: &Root) -> Result<bool> {
    Ok(disk::standing(&root.journal())? != FileKind::Nothing)
}

/// Looks for an interrupted transaction. Skips a line that a power failure tore: its step was never begun.
///
/// # Errors
/// Returns an error if the journal exists and cannot be read.
pub fn find(root: &Root) -> Result<JournalState> {
    if let FileKind::Link(_) | FileKind::Directory = disk::standing(&root.journal())? {
        return Ok(JournalState::Damaged);
    }
    let text = match disk::read_torn(&root.journal(), LIMIT) {
        // The journal is not a regular file, or is larger than any journal.
        Err(error) if error.kind() == Kind::Refused => return Ok(JournalState::Damaged),
        text => text?,
    };
    let Some(text) = text else { return Ok(JournalState::Nothing) };
    let mut lines = text.lines();
    let Some(mut record) = lines.next().and_then(record) else {
        return Ok(JournalState::Damaged);
    };
    let begun =
        lines.filter_map(|line| serde_json::from_str::<Begun>(line).ok()).map(|line| line.begun).max();
    record.begun = begun.unwrap_or(0);
    Ok(JournalState::Open(Box::new(record)))
}

/// Returns `None` if Tenure cannot have written the line.
fn record(line: &str) -> Option<JournalRecord> {
    serde_json::from_str(line).ok().filter(JournalRecord::stays_inside)
}

/// Durably moves a damaged journal away and returns its new path. Its contents can no longer be acted on, and must
/// not block later commands.
///
/// # Errors
/// Returns an error if the journal cannot be moved.
pub fn set_aside(root: &Root) -> Result<DirPath> {
    let mut aside = root.damaged_journal();
    // A directory that a user created there is left in place.
    if disk::is_dir(&aside) {
        aside = root.trash().join("journal.damaged");
    }
    disk::remove_file_durable(&aside)?;
    disk::move_durable(&root.journal(), &aside)?;
    Ok(aside)
}
