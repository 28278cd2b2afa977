//! `history`: what was done, when, by whom, and how it ended.

use serde::Serialize;

use crate::error::Result;
use crate::root::{Entry, Root};

/// What was done to a root.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// The transactions, oldest first.
    pub entries: Vec<Entry>,
}

/// Reads the history; takes no lock and changes nothing.
///
/// # Errors
/// Where it cannot be read.
pub fn history(root: &Root) -> Result<History> {
    Ok(History { entries: root.history()? })
}
