//! The records of a release beside its tree: its origin, the unpacked files, and whether it has been permanent. All
//! may be missing, as for a release that was put there by hand.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take, Write};

use serde::{Deserialize, Serialize};

use crate::archive::PackedSum;
use crate::error::{Context, Error, Result};
use crate::fs::{self as disk, DirPath, Owner};
use crate::tree::{self, Differences, Sum, TreeEntry};
use crate::version::Version;

use super::Root;

const RECEIPT: &str = "receipt.json";
const TREE: &str = "tree.jsonl";
/// Pairs of digests without separators: one of packed data, and one of the file unpacked from it.
const PACKED: &str = "packed";
const TENURED: &str = "tenured";
const PREPARED: &str = "prepared";

/// The maximum size of the list of files, in bytes: a million entries of ordinary length.
const TREE_LIMIT: u64 = 1 << 30;

/// The maximum length of a line: a path and a target of 4,096 bytes each, in which JSON may escape every byte.
const LINE_LIMIT: u64 = 1 << 16;

/// The maximum size of the pairs of digests, in bytes.
const PACKED_LIMIT: u64 = 16 << 20;

/// The length of a digest, in bytes.
const SUM: usize = 32;

/// The origin of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transaction that published it.
    pub transaction: String,
    /// The time of unpacking, in RFC 3339.
    pub unpacked_at: String,
    /// The file name of the archive; `None` for a copied directory.
    pub archive: Option<String>,
    /// The SHA-256 of the archive, in hex.
    pub sha256: Option<String>,
    /// The minisign public key that verified the archive; `None` if no key was trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Tenured {
    sequence: u64,
}

impl Receipt {
    /// Writes the receipt and the list of files into a directory that is not published yet. Not durable: publishing
    /// the directory makes it durable.
    ///
    /// # Errors
    /// Returns an error if the files cannot be written.
    pub fn stage(
        &self,
        dir: &DirPath,
        mut tree: impl Iterator<Item = TreeEntry>,
        packed: &[PackedSum],
        owner: Owner,
    ) -> Result<()> {
        if !packed.is_empty() {
            disk::write_staged(&dir.join(PACKED), owner, |out| {
                packed.iter().try_for_each(|(packed, sum)| {
                    out.write_all(packed.as_bytes()).and_then(|()| out.write_all(sum.as_bytes()))
                })
            })?;
        }
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

/// The recorded list of a release's files, read line by line.
#[derive(Debug)]
pub struct RecordedTree {
    lines: Take<BufReader<File>>,
    place: DirPath,
}

impl RecordedTree {
    fn line(&mut self) -> io::Result<Option<TreeEntry>> {
        let mut line = Vec::new();
        if self.lines.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

impl Iterator for RecordedTree {
    type Item = Result<TreeEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().context(|| format!("cannot read {}", self.place.display())).transpose()
    }
}

impl Root {
    /// Returns the receipt of a release, or `None` if the release was put there by hand or the receipt is unreadable.
    #[must_use]
    pub fn receipt(&self, version: &Version) -> Option<Receipt> {
        let text = disk::read_text(&self.receipt_dir(version).join(RECEIPT), 1 << 16).ok().flatten()?;
        serde_json::from_str(&text).ok()
    }

    /// Returns the list of files that were unpacked as a release, sorted by path, or `None` if there is no list.
    ///
    /// # Errors
    /// Returns an error if the list exists and cannot be opened.
    pub fn recorded_tree(&self, version: &Version) -> Result<Option<RecordedTree>> {
        let place = self.receipt_dir(version).join(TREE);
        if !disk::exists(&place) {
            return Ok(None);
        }
        let lines = BufReader::new(disk::open_file(&place)?).take(TREE_LIMIT);
        Ok(Some(RecordedTree { lines, place }))
    }

    /// Returns the digests of a release's packed data, each with that of the unpacked file. Returns no digests if
    /// none are known.
    #[must_use]
    pub fn recorded_packed(&self, version: &Version) -> Vec<PackedSum> {
        let bytes = disk::read_bytes(&self.receipt_dir(version).join(PACKED), PACKED_LIMIT).ok().flatten();
        let sum = |bytes: &[u8]| Sum::try_from(bytes).ok();
        let pair = |pair: &[u8]| Some((sum(&pair[..SUM])?, sum(&pair[SUM..])?));
        bytes.unwrap_or_default().chunks_exact(2 * SUM).filter_map(pair).collect()
    }

    /// Opens the list of a release's files for reading. Returns `None` if it cannot be opened.
    #[must_use]
    pub fn tree_file(&self, version: &Version) -> Option<File> {
        disk::open_file(&self.receipt_dir(version).join(TREE)).ok()
    }

    /// Returns the differences between a release and what was unpacked, or `None` if that is unknown.
    ///
    /// # Errors
    /// Returns an error if the release or its list cannot be read.
    pub fn differences(
        &self,
        version: &Version,
        passed: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<Differences>> {
        let Some(recorded) = self.recorded_tree(version)? else { return Ok(None) };
        let release = self.release(version);
        let differences = tree::compare(recorded, disk::open_dir(&release)?, release.path(), passed);
        differences.map(Some).context(|| format!("cannot compare {version} with the record of its files"))
    }

    /// Returns whether a release was prepared by its own program.
    #[must_use]
    pub fn is_prepared(&self, version: &Version) -> bool {
        disk::exists(&self.receipt_dir(version).join(PREPARED))
    }

    /// Records durably that a release was prepared. Its list then includes what the preparation changed, but not the
    /// differences that existed `before`.
    ///
    /// # Errors
    /// Returns an error if the release cannot be read or the record cannot be written.
    pub fn set_prepared(
        &self,
        version: &Version,
        before: Option<&Differences>,
        transaction: &str,
    ) -> Result<()> {
        let dir = self.receipt_dir(version);
        if let (Some(recorded), Some(before)) = (self.recorded_tree(version)?, before) {
            let release = self.release(version);
            let renewed = tree::renewed(recorded, disk::open_dir(&release)?, release.path(), before)?;
            let lines = renewed.iter().map(|entry| serde_json::to_string(entry).map(|line| line + "\n"));
            let text: String =
                lines.collect::<std::result::Result<_, _>>().context(|| "cannot record a release")?;
            self.write_record(&dir.join(TREE), text.as_bytes())?;
        }
        disk::ensure_dir(&dir, 0o755, self.owner())?;
        disk::sync_dir(&self.receipts())?;
        self.write_record(&dir.join(PREPARED), transaction.as_bytes())
    }

    /// Returns when a release was last displaced as the permanent release: a higher number is later. Returns `None`
    /// if it has never been permanent. A damaged or unreadable mark counts as 0.
    #[must_use]
    pub fn tenured(&self, version: &Version) -> Option<u64> {
        tenured(&self.receipt_dir(version))
    }

    /// Records durably that a release has been permanent and was displaced with this sequence number.
    ///
    /// # Errors
    /// Returns an error if the mark cannot be written.
    pub fn set_tenured(&self, version: &Version, sequence: u64) -> Result<()> {
        let dir = self.receipt_dir(version);
        disk::ensure_dir(&dir, 0o755, self.owner())?;
        disk::sync_dir(&self.receipts())?;
        let mark = serde_json::to_vec(&Tenured { sequence })
            .map_err(|e| Error::failed("cannot record that a release was permanent").because(e))?;
        self.write_record(&dir.join(TENURED), &mark)
    }
}

/// Like [`Root::tenured`], for a release's directory of records.
pub(super) fn tenured(receipt: &DirPath) -> Option<u64> {
    let mark = disk::read_torn(&receipt.join(TENURED), 1 << 10);
    let text = mark.unwrap_or_else(|_| Some(String::new()))?;
    Some(serde_json::from_str(&text).map_or(0, |mark: Tenured| mark.sequence))
}
