//! Validates the names and link targets in an archive.

use crate::error::{Error, Result};

/// The maximum length of a file name on Linux file systems, in bytes.
const COMPONENT_MAX: usize = 255;
/// The maximum length of a path that the kernel accepts (PATH_MAX), in bytes.
pub const PATH_MAX: usize = 4096;
/// Deeper trees cannot be removed with a bounded number of open directories.
const DEPTH_MAX: usize = 200;
/// The maximum length of a name in a message, in characters.
const SHOWN_MAX: usize = 200;

/// A result whose error text follows the name of an entry.
pub type EntryResult<T> = std::result::Result<T, &'static str>;

/// The relative path of an entry, without `.`, `..` and empty components; empty for the archive's own top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPath(String);

/// The validated name of an entry.
#[derive(Debug)]
pub struct Name {
    /// The path of the entry.
    pub path: EntryPath,
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
        Ok(Self { path: EntryPath(path.to_owned()), slash: slash || path.is_empty() })
    }
}

impl EntryPath {
    /// Returns the path as text. It is empty for the archive's own top.
    pub fn as_str(&self) -> &str {
        &self.0
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
