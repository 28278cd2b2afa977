//! Validates one entry of an archive of any format: its type, name and link target. Limits how much an archive may
//! unpack to.

use super::layout::PathUse;
use super::source::{EntryType, RawEntry};
use crate::error::{Error, Result};
use crate::tree::Sum;

/// The permission bits that are kept: no setuid, setgid and sticky, no write permission for group and others.
pub const MODE_MASK: u32 = 0o755;

/// The default maximum number of entries. Real releases have about ten thousand.
pub const ENTRIES_MAX: u64 = 1_000_000;

/// The maximum length of a file name on Linux file systems, in bytes.
const COMPONENT_MAX: usize = 255;
/// The maximum length of a path that the kernel accepts (PATH_MAX), in bytes.
pub const PATH_MAX: usize = 4096;
/// Deeper trees cannot be removed with a bounded number of open directories.
const DEPTH_MAX: usize = 200;
/// The maximum length of a name in a message, in characters.
const SHOWN_MAX: usize = 200;

/// A valid entry. The inspector checks it against the other entries.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: String,
    pub mtime: Option<u64>,
    /// What the entry becomes.
    pub node: PathUse,
}

impl Entry {
    /// Parses and validates a raw entry.
    ///
    /// # Errors
    /// Returns a `Refused` error if the type, name or target is not allowed, the name contradicts the type, or an
    /// entry other than a file has data.
    pub fn parse(raw: &RawEntry<'_>) -> Result<Self> {
        if let EntryType::Unfit(why) = raw.kind {
            return Err(violation(raw.name, why));
        }
        let Name { path, slash } = Name::parse(raw.name)?;
        if slash && raw.kind != EntryType::Directory {
            return Err(violation(raw.name, "has the name of a directory but is not one"));
        }
        if raw.size > 0 && raw.kind != EntryType::File {
            return Err(violation(raw.name, "contains data but is not a file"));
        }
        let mode = raw.mode & MODE_MASK;
        let node = match raw.kind {
            EntryType::File => PathUse::File { mode, size: raw.size, sum: Sum::default() },
            EntryType::Symlink => PathUse::Symlink { target: link_target(raw.name, raw.target)?.into() },
            EntryType::Hardlink => PathUse::Hardlink { first: hardlinked(raw)?.into() },
            EntryType::Directory | EntryType::Unfit(_) => PathUse::Directory { mode, made: false },
        };
        Ok(Self { path, mtime: raw.mtime, node })
    }
}

fn hardlinked(raw: &RawEntry<'_>) -> Result<String> {
    match Name::parse(raw.target) {
        Ok(Name { path, slash: false }) => Ok(path),
        _ => Err(violation(
            raw.name,
            format!("is a hard link to {}, which is not a file in the archive", shown(raw.target)),
        )),
    }
}

/// A result whose error text follows the name of an entry.
pub type EntryResult<T> = std::result::Result<T, &'static str>;

/// The validated name of an entry.
#[derive(Debug)]
pub struct Name {
    /// The relative path, without `.`, `..` and empty components; empty for the archive's own top.
    pub path: String,
    /// Whether the name ends in a slash or is the archive's own top, as only a directory's name may.
    pub slash: bool,
}

impl Name {
    /// Parses the name of an entry.
    ///
    /// # Errors
    /// Returns a `Refused` error if the name could lead outside the release, or if programs could read it
    /// differently.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        let text = printable(raw).map_err(|why| violation(raw, why))?;
        let text = if matches!(text, "." | "./") { "" } else { text.strip_prefix("./").unwrap_or(text) };
        let (path, slash) = text.strip_suffix('/').map_or((text, false), |path| (path, true));
        if !text.is_empty() {
            relative(text, path).map_err(|why| violation(raw, why))?;
        }
        Ok(Self { path: path.to_owned(), slash: slash || path.is_empty() })
    }
}

/// Parses the target of the symlink `name`, without the checks that depend on the link's location.
///
/// # Errors
/// Returns a `Refused` error if the target is absolute, empty, too long, not UTF-8, or contains a control character
/// or a backslash.
pub fn link_target(name: &[u8], raw: &[u8]) -> Result<String> {
    let target =
        printable(raw).map_err(|why| violation(name, format!("links to {}, which {why}", shown(raw))))?;
    if target.starts_with('/') {
        return Err(violation(name, format!("links to {}, which is absolute", shown(raw))));
    }
    Ok(target.to_owned())
}

/// Returns whether a target, by its text alone, stays inside from a directory `depth` levels below the top.
pub fn stays_inside(depth: usize, target: &str) -> bool {
    let mut parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
    parts
        .try_fold(depth, |depth, part| if part == ".." { depth.checked_sub(1) } else { Some(depth + 1) })
        .is_some()
}

/// Returns a `Refused` error for an entry that breaks a rule.
pub fn violation(name: &[u8], why: impl std::fmt::Display) -> Error {
    Error::refused(format!("entry {} {why}", shown(name)))
}

/// Returns a name in quotes, with unprintable characters escaped, and truncated if it is overlong.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn printable(raw: &[u8]) -> EntryResult<&str> {
    let text = std::str::from_utf8(raw).map_err(|_| "is not UTF-8")?;
    if text.is_empty() {
        Err("is empty")
    } else if text.len() > PATH_MAX {
        Err("is longer than 4096 bytes")
    } else if text.contains(char::is_control) {
        Err("contains a control character")
    } else if text.contains('\\') {
        Err("contains a backslash")
    } else {
        Ok(text)
    }
}

fn relative(text: &str, path: &str) -> EntryResult<()> {
    if text.starts_with('/') {
        return Err("is absolute");
    }
    if matches!(path.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic()) {
        return Err("begins with a drive letter");
    }
    if path.split('/').count() > DEPTH_MAX {
        return Err("is deeper than 200 directories");
    }
    path.split('/').try_for_each(|part| match part {
        ".." => Err("leaves the release"),
        "" | "." => Err("has an empty component"),
        part if part.len() > COMPONENT_MAX => Err("has a component longer than 255 bytes"),
        _ => Ok(()),
    })
}

/// The limit that an archive exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The number of files, directories and links.
    Entries,
    /// The disk space in bytes.
    Bytes,
}

/// The limits of a release. Its size is counted while it is read: an archive's own totals may be wrong.
pub struct Limits<'a> {
    /// The maximum number of files, directories and links.
    pub entries: u64,
    /// The maximum disk space, in bytes.
    pub bytes: u64,
    /// The unit in which files take disk space, in bytes.
    pub block: u64,
    /// The additional bytes that each entry takes.
    pub each: u64,
    /// The function that makes the error for an exceeded limit.
    pub refuse: &'a (dyn Fn(Excess) -> Error + Sync),
}

impl Limits<'_> {
    /// Checks these totals of entries and bytes.
    ///
    /// # Errors
    /// Returns the error of `refuse` if a total exceeds its limit.
    pub fn admit(&self, entries: u64, bytes: u64) -> Result<()> {
        if entries > self.entries {
            return Err((self.refuse)(Excess::Entries));
        }
        let bytes = entries.saturating_mul(self.each).saturating_add(bytes);
        if bytes > self.bytes { Err((self.refuse)(Excess::Bytes)) } else { Ok(()) }
    }

    /// Returns the disk space that so many bytes of a file take.
    pub fn room(&self, bytes: u64) -> u64 {
        bytes.checked_next_multiple_of(self.block.max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_to_paths() {
        let table = [
            ("a", "a", false),
            ("./a/b", "a/b", false),
            ("a/b/", "a/b", true),
            ("./", "", true),
            (".", "", true),
            ("..a/b..", "..a/b..", false),
            (" a:b ", " a:b ", false),
            ("caf\u{e9}", "caf\u{e9}", false),
        ];
        for (raw, path, slash) in table {
            let name = Name::parse(raw.as_bytes()).unwrap();
            assert_eq!((name.path.as_str(), name.slash), (path, slash), "{raw}");
        }
    }

    #[test]
    fn unsafe_names_are_refused() {
        let longest = format!("{}/a", vec!["d".repeat(200); 20].join("/"));
        assert!(Name::parse(longest.as_bytes()).is_ok());
        let table = [
            ("", "is empty"),
            ("/", "is absolute"),
            (".//a", "is absolute"),
            ("a//", "has an empty component"),
            ("././a", "has an empty component"),
            ("a/.", "has an empty component"),
            ("..", "leaves the release"),
            ("a/../b", "leaves the release"),
            ("c:a", "begins with a drive letter"),
            ("a\u{7f}", "contains a control character"),
            ("a\u{85}", "contains a control character"),
        ];
        for (raw, why) in table {
            let error = Name::parse(raw.as_bytes()).unwrap_err().to_string();
            assert!(error.ends_with(why), "{raw:?}: {error}");
        }
    }

    #[test]
    fn targets_are_resolved_as_text() {
        let table = [
            (0, "a/b", true),
            (0, "..", false),
            (0, "a/..", true),
            (0, "a/../..", false),
            (1, "..", true),
            (1, "../..", false),
            (2, "../../a//./b/../../..", false),
            (2, "../a//./..", true),
        ];
        for (depth, target, inside) in table {
            assert_eq!(stays_inside(depth, target), inside, "{depth} {target}");
        }
    }

    #[test]
    fn overlong_names_are_cut_in_errors() {
        assert_eq!(shown(b"a\x1b\"\xff"), "\"a\\u{1b}\\\"\u{fffd}\"");
        assert_eq!(shown("\u{e9}".repeat(300).as_bytes()).chars().count(), 200 + "\"\"...".len());
    }
}
