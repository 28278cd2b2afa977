//! The contents of a release, as recorded when it was unpacked and as found on disk.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use blake3::Hasher;
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::fs::{WalkEntry, walk, walk_in};

/// How many bytes of a file are in memory at a time.
pub(crate) const CHUNK: usize = 128 * 1024;

/// A file, directory or symlink of a release. It serialises to one flat object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// The path relative to the top directory of the release, separated by slashes.
    pub path: String,
    /// The permission bits, including setuid, setgid and sticky; 0 for a symlink.
    pub mode: u32,
    /// The kind of entry.
    #[serde(flatten)]
    pub node: Node,
}

/// The kind of entry at a path.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// The length in bytes.
        size: u64,
        /// The digest of the contents.
        #[serde(rename = "blake3")]
        sum: Sum,
    },
    /// A symbolic link.
    Symlink {
        /// The target as written.
        target: String,
    },
    /// A device, pipe or socket. A release never contains one when it is unpacked.
    Other,
}

/// A BLAKE3 digest of the contents of a file. Its text form is lowercase hex.
#[derive(Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[serde(into = "String", try_from = "String")]
pub struct Sum([u8; 32]);

impl Sum {
    /// Returns the digest of the bytes hashed so far.
    #[must_use]
    pub(crate) fn of(hash: &Hasher) -> Self {
        Self(*hash.finalize().as_bytes())
    }

    /// Returns the bytes of the digest.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Sum {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> std::result::Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Sum> for String {
    fn from(sum: Sum) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let halves = sum.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        halves.map(|half| char::from(DIGITS[usize::from(half)])).collect()
    }
}

impl TryFrom<String> for Sum {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let digits = digits.filter(|d| d.len() == 64).ok_or("it is not a digest of 64 hexadecimal digits")?;
        let mut sum = [0; 32];
        sum.iter_mut().zip(digits.chunks(2)).for_each(|(byte, pair)| *byte = pair[0] << 4 | pair[1]);
        Ok(Self(sum))
    }
}

/// The paths at which a tree on disk differs from its record, each list sorted.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Paths in both, with a different kind, mode, length, contents or target.
    pub changed: Vec<String>,
    /// Paths only on disk.
    pub added: Vec<String>,
    /// Paths only in the record.
    pub removed: Vec<String>,
}

impl Differences {
    /// Returns whether there are no differences.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }
}

/// Reads the tree under `dir` and returns its entries, sorted by path, without `dir` itself.
///
/// Files are hashed, and symlinks are never followed. An entry that vanishes meanwhile is left out. A name that is
/// not UTF-8 is returned with replacement characters.
///
/// # Errors
/// Returns an error if a file or directory cannot be read.
pub fn scan(dir: &Path) -> Result<Vec<TreeEntry>> {
    let mut tree = Vec::new();
    walk(dir, &mut |found| {
        tree.extend(record(dir, found, &mut |_| Ok(()))?);
        Ok(())
    })?;
    Ok(tree)
}

/// Compares a record, which is sorted by path, with the tree in the open directory `top`. `dir` is only used in
/// messages. Neither tree is ever in memory as a whole. `passed` receives the number of bytes as they are read.
///
/// # Errors
/// Returns an error if the record, a file or a directory cannot be read, and the errors of `passed`.
pub fn compare(
    recorded: impl Iterator<Item = Result<TreeEntry>>,
    top: OwnedFd,
    dir: &Path,
    passed: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Differences> {
    let mut comparison = Comparison { recorded, next: None, differences: Differences::default() };
    comparison.advance()?;
    walk_in(top, dir, &mut |found| {
        passed(0)?;
        let now = record(dir, found, passed)?;
        comparison.meet(found.path.as_os_str().as_bytes(), now)
    })?;
    comparison.finish()
}

/// Returns the record of a tree that was changed on purpose. It has the entries now on disk, but keeps the recorded
/// entries at the paths that already differed `before` the change.
///
/// # Errors
/// Returns an error if the record, a file or a directory cannot be read.
pub fn renewed(
    recorded: impl Iterator<Item = Result<TreeEntry>>,
    top: OwnedFd,
    dir: &Path,
    before: &Differences,
) -> Result<Vec<TreeEntry>> {
    let lists = [&before.changed, &before.added, &before.removed];
    let differed: BTreeSet<&String> = lists.into_iter().flatten().collect();
    let kept = recorded.filter(|entry| entry.as_ref().map_or(true, |entry| differed.contains(&entry.path)));
    let mut tree = kept.collect::<Result<Vec<_>>>()?;
    walk_in(top, dir, &mut |found| {
        let now = record(dir, found, &mut |_| Ok(()))?;
        tree.extend(now.filter(|now| !differed.contains(&now.path)));
        Ok(())
    })?;
    tree.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

struct Comparison<I> {
    recorded: I,
    next: Option<TreeEntry>,
    differences: Differences,
}

impl<I: Iterator<Item = Result<TreeEntry>>> Comparison<I> {
    /// Compares the path on disk with the record; `now` is `None` if the entry vanished.
    fn meet(&mut self, path: &[u8], now: Option<TreeEntry>) -> Result<()> {
        self.pass(|then| then.path.as_bytes() < path)?;
        let Some(now) = now else { return Ok(()) };
        match &self.next {
            Some(then) if then.path.as_bytes() == path => {
                if *then != now {
                    self.differences.changed.push(now.path);
                }
                self.advance()?;
            }
            _ => self.differences.added.push(now.path),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Differences> {
        self.pass(|_| true)?;
        Ok(self.differences)
    }

    /// Skips recorded entries that are not on disk.
    fn pass(&mut self, is_passed: impl Fn(&TreeEntry) -> bool) -> Result<()> {
        while self.next.as_ref().is_some_and(&is_passed) {
            let passed = self.advance()?;
            self.differences.removed.extend(passed.map(|then| then.path));
        }
        Ok(())
    }

    /// Advances to the next recorded entry and returns the previous one.
    fn advance(&mut self) -> Result<Option<TreeEntry>> {
        let last = std::mem::replace(&mut self.next, self.recorded.next().transpose()?);
        match (&last, &self.next) {
            (Some(last), Some(next)) if next.path <= last.path => {
                Err(Error::failed(format!("the record is damaged: {:?} follows {:?}", next.path, last.path)))
            }
            _ => Ok(last),
        }
    }
}

/// Returns `None` for an entry that vanished after it was listed, because the tree may belong to a running service.
fn record(
    base: &Path,
    found: &WalkEntry<'_>,
    passed: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Option<TreeEntry>> {
    let path = found.path.to_string_lossy().into_owned();
    let cannot_read = || format!("cannot read {}", base.join(found.path).display());
    let mode = found.stat.st_mode & 0o7777;
    let (mode, node) = match found.kind() {
        SFlag::S_IFDIR => (mode, Node::Directory),
        SFlag::S_IFREG => match found.open() {
            Err(Errno::ENOENT) => return Ok(None),
            file => {
                let (size, sum) =
                    hash(&mut file.context(cannot_read)?, CHUNK, passed).context(cannot_read)?;
                (mode, Node::File { size, sum })
            }
        },
        SFlag::S_IFLNK => match found.target() {
            Err(Errno::ENOENT) => return Ok(None),
            target => {
                let target = target.context(cannot_read)?.to_string_lossy().into_owned();
                (0, Node::Symlink { target })
            }
        },
        _ => (mode, Node::Other),
    };
    Ok(Some(TreeEntry { path, mode, node }))
}

/// Reads an open file to its end, in pieces of at most `piece` bytes, and returns its length and digest.
///
/// # Errors
/// Returns an error if the file cannot be read, and the errors of `passed`.
pub(crate) fn hash(
    file: &mut File,
    piece: usize,
    passed: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<(u64, Sum)> {
    let (mut hash, mut size, mut buffer) = (Hasher::new(), 0, vec![0; piece]);
    loop {
        match file.read(&mut buffer).context(|| "cannot read it")? {
            0 => return Ok((size, Sum::of(&hash))),
            n => {
                hash.update(&buffer[..n]);
                size += n as u64;
                passed(n as u64)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, mode: u32, digit: &str) -> TreeEntry {
        let sum = digit.repeat(64).try_into().unwrap();
        TreeEntry { path: path.into(), mode, node: Node::File { size: 1, sum } }
    }

    fn compared(recorded: &[TreeEntry], found: &[TreeEntry]) -> Result<Differences> {
        let recorded = recorded.iter().cloned().map(Ok);
        let mut comparison = Comparison { recorded, next: None, differences: Differences::default() };
        comparison.advance()?;
        found.iter().try_for_each(|now| comparison.meet(now.path.as_bytes(), Some(now.clone())))?;
        comparison.finish()
    }

    #[test]
    fn differences_are_listed_in_order() {
        let same = |path| file(path, 0o644, "0");
        let recorded =
            [file("a", 0o644, "a"), file("b", 0o644, "a"), same("gone"), same("gone-2"), same("same")];
        let found = [file("a", 0o644, "b"), file("b", 0o600, "a"), same("new/x"), same("same"), same("z")];
        let expected = Differences {
            changed: vec!["a".into(), "b".into()],
            added: vec!["new/x".into(), "z".into()],
            removed: vec!["gone".into(), "gone-2".into()],
        };
        assert_eq!(compared(&recorded, &found).unwrap(), expected);
        assert_eq!(compared(&recorded, &[]).unwrap().removed.len(), 5);
        assert_eq!(compared(&[], &found).unwrap().added.len(), 5);
        assert!(compared(&found, &found).unwrap().is_empty() && !expected.is_empty());
    }

    #[test]
    fn unsorted_record_is_damaged() {
        let [a, b] = [file("a", 0, "0"), file("b", 0, "0")];
        for record in [[b.clone(), a.clone()], [a.clone(), a.clone()]] {
            let error = compared(&record, &[a.clone(), b.clone()]).unwrap_err().to_string();
            assert!(error.contains("the record is damaged"), "{error}");
        }
    }

    #[test]
    fn scan_is_sorted_by_whole_paths() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "a-", "a--b", "a-/x", "a-b", "a/b", "a/b/c", "a/b0", "a0", "b"];
        for path in paths.iter().rev() {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let found: Vec<String> = scan(dir.path()).unwrap().into_iter().map(|entry| entry.path).collect();
        assert_eq!(found, paths);
    }

    #[test]
    fn entries_round_trip_as_flat_json() {
        let link = TreeEntry { path: "a \"b".into(), mode: 0, node: Node::Symlink { target: "c".into() } };
        for (entry, text) in [
            (
                file("x", 0o644, "a"),
                format!(r#"{{"path":"x","mode":420,"kind":"file","size":1,"blake3":"{}"}}"#, "a".repeat(64)),
            ),
            (link, r#"{"path":"a \"b","mode":0,"kind":"symlink","target":"c"}"#.into()),
            (
                TreeEntry { path: "d".into(), mode: 0o755, node: Node::Directory },
                r#"{"path":"d","mode":493,"kind":"directory"}"#.into(),
            ),
        ] {
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
            assert_eq!(serde_json::from_str::<TreeEntry>(&text).unwrap(), entry);
        }
    }
}
