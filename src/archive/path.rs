//! The names in an archive: which of them may be created, and which link targets may stand in a release.

use crate::error::{Error, Result};

/// The longest name of one file on the file systems that Linux has.
const COMPONENT_MAX: usize = 255;
/// The longest path that the kernel takes (PATH_MAX).
pub const PATH_MAX: usize = 4096;
/// Deeper trees cannot be removed with a bounded number of open directories.
const DEPTH_MAX: usize = 200;
/// How much of a name an error repeats.
const SHOWN_MAX: usize = 200;

/// What is wrong, in words that follow the name of an entry.
pub type EntryResult<T> = std::result::Result<T, &'static str>;

/// Where an entry goes: relative, without `.`, `..` and empty components; empty for the archive's own top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPath(String);

/// A name as it stands in an archive, once it is known to be safe.
#[derive(Debug)]
pub struct Name {
    /// Where the entry goes.
    pub path: EntryPath,
    /// Whether it ends in a slash, as only a directory may.
    pub slash: bool,
}

impl Name {
    /// Parses an entry's name.
    ///
    /// # Errors
    /// Refuses what could be written elsewhere, or read differently by another program.
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
    /// The path as text; empty for the archive's own top.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parses the target of the symlink `name`, as far as that needs no knowledge of where the link stands.
///
/// # Errors
/// Refuses absolute targets and those that no file system takes.
pub fn link_target(name: &[u8], raw: &[u8]) -> Result<String> {
    let target =
        printable(raw).map_err(|why| violation(name, format!("links to {}, which {why}", shown(raw))))?;
    if target.starts_with('/') {
        return Err(violation(name, format!("links to {}, which is absolute", shown(raw))));
    }
    Ok(target.to_owned())
}

/// Whether a target stays inside, read by its text alone, from a directory `depth` levels below the top.
pub fn stays_inside(depth: usize, target: &str) -> bool {
    let mut parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
    parts
        .try_fold(depth, |depth, part| if part == ".." { depth.checked_sub(1) } else { Some(depth + 1) })
        .is_some()
}

/// An entry breaks a rule.
pub fn violation(name: &[u8], why: impl std::fmt::Display) -> Error {
    Error::refused(format!("entry {} {why}", shown(name)))
}

/// A name in quotes with everything unprintable escaped, cut where it is overlong.
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
    fn targets_are_followed_by_their_text() {
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
