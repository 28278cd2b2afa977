//! The journal of the one transaction that may be under way: its plan, and each step before it is begun.

use std::fs::File;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Kind, Result};
use crate::fs::{self as disk, DirPath, FileKind};
use crate::plan::{JournalRecord, Plan};
use crate::root::Root;

/// The largest journal that is read, in bytes.
const LIMIT: u64 = 1 << 26;

/// An open journal. It stays open, whatever happens to this value, until it is [closed](close).
#[derive(Debug)]
#[must_use = "what is not written into a journal cannot be recovered from"]
pub struct Journal<'a> {
    root: &'a Root,
    /// Written to as long as this process has it open, whatever its name leads to meanwhile.
    file: File,
}

#[derive(Serialize, Deserialize)]
struct Begun {
    begun: usize,
}

/// What was found of an earlier transaction.
#[derive(Debug)]
pub enum JournalState {
    /// None is open.
    Nothing,
    /// One was cut short.
    Open(Box<JournalRecord>),
    /// There is a journal that no Tenure wrote in full, or that the disk has lost.
    Damaged,
}

impl<'a> Journal<'a> {
    /// Writes down durably what is going to be done.
    ///
    /// # Errors
    /// Where it cannot be written; nothing is begun then.
    pub fn open(root: &'a Root, record: &JournalRecord) -> Result<Self> {
        let mut line = serde_json::to_vec(record).context(|| "cannot write the journal")?;
        line.push(b'\n');
        let file = disk::write_durable(&root.journal(), &root.staging(), &line, 0o644, root.owner())?;
        Ok(Self { root, file })
    }

    /// Writes down durably that `count` steps are begun; only then may the last of them be applied.
    ///
    /// # Errors
    /// Where it cannot be written; the step must not be applied then.
    pub fn begin(&self, count: usize) -> Result<()> {
        let line = serde_json::to_string(&Begun { begun: count }).context(|| "cannot write the journal")?;
        disk::append(&self.file, &line).context(|| format!("cannot write {}", self.root.journal().display()))
    }

    /// Writes down durably that all steps are done: what is acknowledged is not taken back after this, and
    /// what the history says is true.
    ///
    /// # Errors
    /// Where it cannot be written; a recovery then goes by the links.
    pub fn all_done(&self, plan: &Plan) -> Result<()> {
        self.begin(plan.steps.len() + 1)
    }
}

/// Ends the transaction that is under way, or the one that [`find`] found, durably.
///
/// # Errors
/// Where the journal cannot be removed; the next command then finds nothing left to do.
pub fn close(root: &Root) -> Result<()> {
    disk::remove_file_durable(&root.journal())
}

/// Whether a transaction is open, whoever is at it.
///
/// # Errors
/// Where that cannot be looked at.
pub fn is_open(root: &Root) -> Result<bool> {
    Ok(disk::standing(&root.journal())? != FileKind::Nothing)
}

/// Looks for a transaction that was cut short. A line that a power cut tore was never acted on.
///
/// # Errors
/// Where the journal is there and cannot be read.
pub fn find(root: &Root) -> Result<JournalState> {
    if let FileKind::Link(_) | FileKind::Directory = disk::standing(&root.journal())? {
        return Ok(JournalState::Damaged);
    }
    let text = match disk::read_torn(&root.journal(), LIMIT) {
        // No file, or one that is larger than any journal.
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

/// None where no Tenure can have written it.
fn record(line: &str) -> Option<JournalRecord> {
    serde_json::from_str(line).ok().filter(JournalRecord::stays_inside)
}

/// Puts a damaged journal out of the way, durably, and returns where it is: what it says can no longer be
/// acted on, and must not block every later command.
///
/// # Errors
/// Where it cannot be moved.
pub fn set_aside(root: &Root) -> Result<DirPath> {
    let mut aside = root.damaged_journal();
    // A directory that somebody made there stays as it is.
    if disk::is_dir(&aside) {
        aside = root.trash().join("journal.damaged");
    }
    disk::remove_file_durable(&aside)?;
    disk::move_durable(&root.journal(), &aside)?;
    Ok(aside)
}
