//! What a release consists of: as recorded when it was unpacked, and as found on disk now.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use blake3::Hasher;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};
use crate::watch::Watch;

/// How much of a file is held in memory at a time.
pub(crate) const CHUNK: usize = 128 * 1024;

/// One file, directory or link of a release. It serialises to one flat object.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Where it is, relative to the top of the release and separated by slashes.
    pub path: String,
    /// Its permission bits, setuid, setgid and sticky included; 0 for a symlink.
    pub mode: u32,
    /// What it is.
    #[serde(flatten)]
    pub node: Node,
}

/// What stands at a path.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Node {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// The digest of its contents.
        #[serde(rename = "blake3")]
        sum: Sum,
    },
    /// A symbolic link.
    Symlink {
        /// Its text, as it stands in the link.
        target: String,
    },
    /// A device, pipe or socket, which no release holds when it is unpacked.
    Other,
}

/// A BLAKE3 digest of a file's contents; as text, in lowercase hex.
#[derive(Serialize, Deserialize, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[serde(into = "String", try_from = "String")]
pub struct Sum([u8; 32]);

impl Sum {
    /// What was hashed so far.
    #[must_use]
    pub(crate) fn of(hash: &Hasher) -> Self {
        Self(*hash.finalize().as_bytes())
    }

    /// The digest itself.
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
        let digits = digits.filter(|d| d.len() == 64).ok_or("it is no SHA-256 of 64 hexadecimal digits")?;
        let mut sum = [0; 32];
        sum.iter_mut().zip(digits.chunks(2)).for_each(|(byte, pair)| *byte = pair[0] << 4 | pair[1]);
        Ok(Self(sum))
    }
}

/// The user and group that own what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
}

/// How a tree on disk differs from its record: paths, each list sorted.
#[derive(Serialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// In both, with another kind, mode, length, contents or target.
    pub changed: Vec<String>,
    /// On disk only.
    pub added: Vec<String>,
    /// In the record only.
    pub removed: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }
}

/// Reads the tree under `dir` and returns what it consists of, sorted by path, without `dir` itself.
///
/// Files are hashed; links are never followed. What vanishes meanwhile counts as absent. A name that is not
/// UTF-8 is reported with replacement characters.
///
/// # Errors
/// When a file or directory cannot be read, or on interruption.
pub fn scan(dir: &Path, watch: &mut dyn Watch) -> Result<Vec<TreeEntry>> {
    scan_in(open(dir)?, dir, watch)
}

/// As [`scan`], of a directory that is open; its path is for messages alone.
///
/// # Errors
/// When a file or directory cannot be read, or on interruption.
pub fn scan_in(top: OwnedFd, dir: &Path, watch: &mut dyn Watch) -> Result<Vec<TreeEntry>> {
    let mut tree = Vec::new();
    walk_in(top, dir, &mut |found| {
        watch.go_on()?;
        tree.extend(record(dir, found, watch)?);
        Ok(())
    })?;
    tree.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// Compares a record with what was found; the order of neither matters.
#[must_use]
pub fn compare(recorded: &[TreeEntry], found: &[TreeEntry]) -> Differences {
    let mut before: BTreeMap<&str, &TreeEntry> = recorded.iter().map(|e| (e.path.as_str(), e)).collect();
    let mut differences = Differences::default();
    for (path, now) in found.iter().map(|e| (&e.path, e)).collect::<BTreeMap<_, _>>() {
        match before.remove(path.as_str()) {
            None => differences.added.push(path.clone()),
            Some(then) if then != now => differences.changed.push(path.clone()),
            Some(_) => {}
        }
    }
    differences.removed = before.into_keys().map(String::from).collect();
    differences
}

/// What a walk came upon.
pub(crate) struct Found<'a> {
    /// Relative to where the walk began.
    pub path: &'a Path,
    pub parent: BorrowedFd<'a>,
    pub name: &'a OsStr,
    pub stat: FileStat,
}

impl Found<'_> {
    /// The kind of node, as in `st_mode`.
    pub fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode & SFlag::S_IFMT.bits())
    }

    /// Opens the regular file; fails if it has become a link, and never waits on what has become a pipe.
    pub fn open(&self) -> nix::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(self.parent, self.name, flags, Mode::empty()).map(File::from)
    }

    /// The text of the symlink.
    pub fn target(&self) -> nix::Result<OsString> {
        readlinkat(self.parent, self.name)
    }
}

/// Visits everything under `dir`, each directory before what is in it, names in order, never through a link.
pub(crate) fn walk(dir: &Path, visit: &mut dyn FnMut(&Found<'_>) -> Result<()>) -> Result<()> {
    walk_in(open(dir)?, dir, visit)
}

/// As [`walk`], in a directory that is open.
pub(crate) fn walk_in(
    top: OwnedFd,
    dir: &Path,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<()>,
) -> Result<()> {
    let top = Dir::from_fd(top).doing(|| format!("cannot read {}", dir.display()))?;
    walk_on(top, dir, Path::new(""), visit)
}

fn open(dir: &Path) -> Result<OwnedFd> {
    openat(AT_FDCWD, dir, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .doing(|| format!("cannot read {}", dir.display()))
}

fn walk_on(
    mut dir: Dir,
    base: &Path,
    at: &Path,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<()>,
) -> Result<()> {
    for name in names(&mut dir).doing(|| format!("cannot read {}", base.join(at).display()))? {
        let path = at.join(&name);
        let cannot_read = || format!("cannot read {}", base.join(&path).display());
        let stat = match fstatat(&dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            stat => stat.doing(cannot_read)?,
        };
        let found = Found { path: &path, parent: dir.as_fd(), name: &name, stat };
        visit(&found)?;
        if found.kind() == SFlag::S_IFDIR {
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let inner = Dir::openat(&dir, name.as_os_str(), flags, Mode::empty()).doing(cannot_read)?;
            walk_on(inner, base, &path, visit)?;
        }
    }
    Ok(())
}

fn names(dir: &mut Dir) -> nix::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Nothing for a file that vanished after it was seen: the tree may belong to a running service.
fn record(base: &Path, found: &Found<'_>, watch: &mut dyn Watch) -> Result<Option<TreeEntry>> {
    let path = found.path.to_string_lossy().into_owned();
    let cannot_read = || format!("cannot read {}", base.join(found.path).display());
    let mode = found.stat.st_mode & 0o7777;
    let (mode, node) = match found.kind() {
        SFlag::S_IFDIR => (mode, Node::Directory),
        SFlag::S_IFREG => match found.open() {
            Err(Errno::ENOENT) => return Ok(None),
            file => (mode, hash(file.doing(cannot_read)?, watch).doing(cannot_read)?),
        },
        SFlag::S_IFLNK => match found.target() {
            Err(Errno::ENOENT) => return Ok(None),
            target => {
                let target = target.doing(cannot_read)?.to_string_lossy().into_owned();
                (0, Node::Symlink { target })
            }
        },
        _ => (mode, Node::Other),
    };
    Ok(Some(TreeEntry { path, mode, node }))
}

fn hash(mut file: File, watch: &mut dyn Watch) -> Result<Node> {
    let mut hash = Hasher::new();
    let mut size = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        watch.go_on()?;
        match file.read(&mut buffer).doing(|| "cannot read it")? {
            0 => return Ok(Node::File { size, sum: Sum::of(&hash) }),
            n => {
                hash.update(&buffer[..n]);
                size += n as u64;
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

    #[test]
    fn differences_are_told_in_order_whatever_the_order_of_the_entries() {
        let recorded =
            [file("gone", 0o644, "a"), file("b", 0o644, "a"), file("a", 0o644, "a"), file("same", 0, "0")];
        let found =
            [file("new/x", 0o644, "a"), file("same", 0, "0"), file("b", 0o600, "a"), file("a", 0o644, "b")];
        let expected = Differences {
            changed: vec!["a".into(), "b".into()],
            added: vec!["new/x".into()],
            removed: vec!["gone".into()],
        };
        assert_eq!(compare(&recorded, &found), expected);
        assert!(compare(&found, &found).is_empty() && !expected.is_empty());
    }

    #[test]
    fn an_entry_is_one_flat_line_that_reads_back() {
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
