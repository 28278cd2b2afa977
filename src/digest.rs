//! The digest file beside an archive, NAME.sha256: a bare digest, or the output of `sha256sum`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::Origin;

/// The suffix of the name of a digest file.
pub const DIGEST: &str = ".sha256";

/// The largest digest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// Checks an archive against the digest file beside it. Returns `false` if the digest file is missing.
///
/// # Errors
/// Returns a `Refused` error if the digests differ, or if the file does not contain a digest for this archive.
pub fn check(archive: &Origin, sha256: &str) -> Result<bool> {
    let beside = archive.beside(DIGEST);
    let Some(text) = beside.read_text(LIMIT)? else { return Ok(false) };
    let file_name = archive.path().file_name().unwrap_or_default().to_string_lossy();
    let expected = find(&text, &file_name).ok_or_else(|| {
        Error::refused(format!("{} contains no SHA-256 for {file_name}", beside.display()))
            .hint("it must contain 64 hexadecimal digits, or a line as sha256sum writes it")
    })?;
    if expected.eq_ignore_ascii_case(sha256) {
        return Ok(true);
    }
    Err(Error::refused(format!("{} does not match the digest in {}", archive.display(), beside.display()))
        .because(Error::refused(format!("expected {}, found {sha256}", expected.to_ascii_lowercase())))
        .hint("the archive is damaged or is a different one: get both files again from the vendor"))
}

/// Returns the digest of a file from the text: the only word, or the word before the name of the file.
fn find<'a>(text: &'a str, file_name: &str) -> Option<&'a str> {
    let is_digest = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(bare) = Some(text.trim()).filter(is_digest) {
        return Some(bare);
    }
    text.lines().find_map(|line| {
        let (digest, named) = line.split_once(' ')?;
        // sha256sum writes a second space, or an asterisk for a file read in binary mode, before the name.
        let name = named.strip_prefix([' ', '*']).unwrap_or(named).trim_end();
        let same = Path::new(name).file_name()?.to_string_lossy() == file_name;
        Some(digest).filter(|digest| same && is_digest(digest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_digest_file_formats_are_read() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(find(&hex, "a.zip"), Some(hex.as_str()));
        assert_eq!(find(&format!("{hex}\n"), "a.zip"), Some(hex.as_str()));
        assert_eq!(find(&format!("{hex}  a.zip\n"), "a.zip"), Some(hex.as_str()));
        assert_eq!(find(&format!("{hex} *dist/a.zip\n"), "a.zip"), Some(hex.as_str()));
        let two = format!("{}  b.zip\n{hex}  a.zip\n", "f".repeat(64));
        assert_eq!(find(&two, "a.zip"), Some(hex.as_str()));
        assert_eq!(find(&format!("{hex}  b.zip\n"), "a.zip"), None);
        assert_eq!(find("", "a.zip"), None);
        assert_eq!(find("banana", "a.zip"), None);
    }
}
