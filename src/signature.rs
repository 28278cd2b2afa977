//! Verifies the signature beside an archive, NAME.minisig, against the keys that the operator trusts.

use std::path::Path;

use minisign_verify::{Error as Fault, Signature};

use crate::error::{Error, Kind, Result};
use crate::fs::Origin;
use crate::settings::TrustedKey;

/// The suffix of the name of a signature file.
pub const SIGNATURE: &str = ".minisig";

/// The largest signature file that is read, in bytes. Its comments can have any length.
const LIMIT: u64 = 1 << 14;

/// The contents of a verified signature; empty if no signature is required.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    /// The file name in the signature.
    pub name: Option<String>,
    /// The public key that verified the signature.
    pub by: Option<String>,
}

/// The result of reading every byte of an archive, and of verifying its signature.
#[derive(Debug)]
pub struct VerifiedSignature<T> {
    /// The result of `read`.
    pub made: T,
    /// The verified signature; a `Refused` error if it is missing, damaged, by an untrusted key, or over other bytes.
    pub signed: Result<Signed>,
}

/// Verifies the signature of an archive over the bytes that `read` passes on while it reads them. The second argument
/// of `read` says whether a trusted key may have made the signature; if not, `read` must not decode the archive.
/// Without `keys`, no signature is required.
///
/// # Errors
/// Returns a `Failed` error if the signature cannot be read, and the errors of `read`.
pub fn verify_signature<T>(
    archive: &Origin,
    keys: &[TrustedKey],
    read: impl FnOnce(&mut (dyn FnMut(&[u8]) + Send), bool) -> Result<T>,
) -> Result<VerifiedSignature<T>> {
    if keys.is_empty() {
        return Ok(VerifiedSignature { made: read(&mut |_| {}, true)?, signed: Ok(Signed::default()) });
    }
    let beside = archive.beside(SIGNATURE);
    let signature = match load(archive, &beside) {
        Err(error) if error.kind() == Kind::Refused => return unsigned(error, read),
        signature => signature?,
    };
    let mut verifiers = keys.iter().map(|key| (key, key.public_key().verify_stream(&signature)));
    let (key, mut verifier) = match verifiers.find(|(_, v)| !matches!(v, Err(Fault::UnexpectedKeyId))) {
        Some((key, Ok(verifier))) => (key, verifier),
        Some((_, Err(fault))) => return unsigned(refuse(&beside, &fault), read),
        None => return unsigned(refuse(&beside, &Fault::UnexpectedKeyId), read),
    };
    let made = read(&mut |bytes| verifier.update(bytes), true)?;
    let verified = verifier.finalize().map_err(|fault| refuse(&beside, &fault));
    let (name, by) = (signed_as(signature.trusted_comment()), Some(key.text().to_owned()));
    Ok(VerifiedSignature { made, signed: verified.map(|()| Signed { name, by }) })
}

fn unsigned<T>(
    why: Error,
    read: impl FnOnce(&mut (dyn FnMut(&[u8]) + Send), bool) -> Result<T>,
) -> Result<VerifiedSignature<T>> {
    Ok(VerifiedSignature { made: read(&mut |_| {}, false)?, signed: Err(why) })
}

fn load(archive: &Origin, beside: &Origin) -> Result<Signature> {
    let text = beside.read_text(LIMIT)?.ok_or_else(|| {
        Error::refused(format!("{} is not signed: there is no {}", archive.display(), beside.display())).hint(
            "tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor",
        )
    })?;
    Signature::decode(&text).map_err(|fault| refuse(beside, &fault))
}

fn refuse(beside: &Origin, fault: &Fault) -> Error {
    let (why, hint) = match fault {
        Fault::UnexpectedKeyId => {
            ("is by a key that is not in tenure.toml", "compare the vendor's public key with `[trust] keys`")
        }
        Fault::UnsupportedLegacyMode => {
            ("is of the legacy type, over the file instead of its hash", "sign it with `minisign -S -H`")
        }
        Fault::InvalidSignature => (
            "is not of this archive",
            "the archive or its signature is damaged or forged: get both again from the vendor",
        ),
        _ => ("is not a minisign signature", "get it again from the vendor"),
    };
    Error::refused(format!("the signature {} {why}", beside.display())).hint(hint)
}

/// minisign writes `timestamp:N`, a tab, `file:NAME` and another word into the trusted comment.
fn signed_as(comment: &str) -> Option<String> {
    let named = comment.split_whitespace().find_map(|word| word.strip_prefix("file:"))?;
    Some(Path::new(named).file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_name_is_read_from_trusted_comment() {
        assert_eq!(signed_as("timestamp:1\tfile:a-1.0.0.zip\thashed").as_deref(), Some("a-1.0.0.zip"));
        assert_eq!(signed_as("timestamp:1 file:dist/a-1.0.0.zip").as_deref(), Some("a-1.0.0.zip"));
        assert_eq!(signed_as("release of today"), None);
        assert_eq!(signed_as(""), None);
    }
}
