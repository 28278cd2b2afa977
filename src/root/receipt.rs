//! What Tenure knows of a release beside its tree: where it came from, what was unpacked, and whether it has
//! been permanent. All of it may be missing; the release is then one that was put there by hand.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::fs as disk;
use crate::tree::Owner;
use crate::tree::TreeEntry;
use crate::version::Version;

use super::Root;

const RECEIPT: &str = "receipt.json";
const TREE: &str = "tree.jsonl";
const TENURED: &str = "tenured";

/// The largest list of files that is read: a million entries of ordinary length.
const TREE_LIMIT: u64 = 1 << 30;

/// Where a release came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transaction that published it.
    pub transaction: String,
    /// When, in RFC 3339.
    pub unpacked_at: String,
    /// The archive's file name; none for a copied directory.
    pub archive: Option<String>,
    /// The archive's SHA-256, in hex.
    pub sha256: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Tenured {
    sequence: u64,
}

impl Receipt {
    /// Writes the receipt and the list of files into a directory that is not yet published. Not durable:
    /// what publishes them is.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn stage(&self, dir: &Path, mut tree: impl Iterator<Item = TreeEntry>, owner: Owner) -> Result<()> {
        disk::write_staged(&dir.join(RECEIPT), owner, |out| {
            serde_json::to_writer(out, self).map_err(Into::into)
        })?;
        disk::write_staged(&dir.join(TREE), owner, |out| {
            tree.try_for_each(|entry| {
                serde_json::to_writer(&mut *out, &entry)?;
                out.write_all(b"\n")
            })
        })
    }
}

impl Root {
    /// The receipt of a release; none where it was put there by hand, or where the receipt is unreadable.
    #[must_use]
    pub fn receipt(&self, version: &Version) -> Option<Receipt> {
        let text = disk::read_text(&self.receipt_dir(version).join(RECEIPT), 1 << 16).ok().flatten()?;
        serde_json::from_str(&text).ok()
    }

    /// What was unpacked as a release; none where that is not known.
    ///
    /// # Errors
    /// Where the list is there and damaged.
    pub fn recorded_tree(&self, version: &Version) -> Result<Option<Vec<TreeEntry>>> {
        let file = self.receipt_dir(version).join(TREE);
        let Some(text) = disk::read_text(&file, TREE_LIMIT)? else { return Ok(None) };
        let tree: std::result::Result<_, _> = text.lines().map(serde_json::from_str).collect();
        tree.map(Some).doing(|| format!("cannot read {}", file.display()))
    }

    /// When a release was last displaced as the permanent one: the higher, the later. None where it has
    /// never been permanent. A mark that is damaged or cannot be read is still one.
    #[must_use]
    pub fn tenured(&self, version: &Version) -> Option<u64> {
        let mark = disk::read_torn(&self.receipt_dir(version).join(TENURED), 1 << 10);
        let text = mark.unwrap_or_else(|_| Some(String::new()))?;
        Some(serde_json::from_str(&text).map_or(0, |mark: Tenured| mark.sequence))
    }

    /// Records durably that a release has been permanent, as the one displaced last.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn set_tenured(&self, version: &Version, sequence: u64) -> Result<()> {
        let dir = self.receipt_dir(version);
        disk::ensure_dir(&dir, 0o755, self.owner())?;
        disk::sync_dir(&self.receipts())?;
        let mark = serde_json::to_vec(&Tenured { sequence })
            .map_err(|e| Error::failed("cannot write down that a release was permanent").because(e))?;
        disk::write_durable(&dir.join(TENURED), &self.staging(), &mark, 0o644, self.owner())
    }
}
