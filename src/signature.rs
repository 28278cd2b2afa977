//! The signature beside an archive: NAME.minisig, made by the owner of a key that the operator trusts.

use std::path::Path;

use minisign_verify::{Error as Fault, Signature};

use crate::error::{Error, Result};
use crate::fs::Origin;
use crate::settings::TrustedKey;

/// The largest signature that is read, in bytes; its comments are of any length.
const LIMIT: u64 = 1 << 14;

/// What was made of an archive whose every byte was read, and vouched for where that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched<T> {
    /// What `read` made of it.
    pub made: T,
    /// The file name that the signer wrote into the signature.
    pub signed_as: Option<String>,
}

/// Verifies the signature of an archive over the very bytes that `read` hands on while it takes them in. With
/// no keys nothing need be signed.
///
/// # Errors
/// Refused where the signature is missing, damaged, another's, or of other bytes; else as `read`.
pub fn vouch<T>(
    archive: &Origin,
    keys: &[TrustedKey],
    read: impl FnOnce(&mut (dyn FnMut(&[u8]) + Send)) -> Result<T>,
) -> Result<Vouched<T>> {
    if keys.is_empty() {
        return Ok(Vouched { made: read(&mut |_| {})?, signed_as: None });
    }
    let beside = archive.beside(".minisig");
    let signature = load(archive, &beside)?;
    let mut verifiers = keys.iter().map(|key| key.public_key().verify_stream(&signature));
    let mut verifier = match verifiers.find(|v| !matches!(v, Err(Fault::UnexpectedKeyId))) {
        Some(verifier) => verifier.map_err(|fault| refuse(&beside, &fault))?,
        None => return Err(refuse(&beside, &Fault::UnexpectedKeyId)),
    };
    let made = read(&mut |bytes| verifier.update(bytes))?;
    verifier.finalize().map_err(|fault| refuse(&beside, &fault))?;
    Ok(Vouched { made, signed_as: signed_as(signature.trusted_comment()) })
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
        Fault::UnexpectedKeyId => (
            "is by a key that tenure.toml does not name",
            "compare the vendor's public key with `[trust] keys`",
        ),
        Fault::UnsupportedLegacyMode => {
            ("is of the old kind, over the file and not over its hash", "sign it with `minisign -S -H`")
        }
        Fault::InvalidSignature => (
            "is not of this archive",
            "the archive or its signature is damaged or forged: get both again from the vendor",
        ),
        _ => ("is no minisign signature", "get it again from the vendor"),
    };
    Error::refused(format!("the signature {} {why}", beside.display())).hint(hint)
}

/// minisign writes `timestamp:N`, a tab, `file:NAME` and another word into the comment that is signed along.
fn signed_as(comment: &str) -> Option<String> {
    let named = comment.split_whitespace().find_map(|word| word.strip_prefix("file:"))?;
    Some(Path::new(named).file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_name_is_read_from_the_comment() {
        assert_eq!(signed_as("timestamp:1\tfile:a-1.0.0.zip\thashed").as_deref(), Some("a-1.0.0.zip"));
        assert_eq!(signed_as("timestamp:1 file:dist/a-1.0.0.zip").as_deref(), Some("a-1.0.0.zip"));
        assert_eq!(signed_as("release of today"), None);
        assert_eq!(signed_as(""), None);
    }
}
