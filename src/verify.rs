//! The files beside an archive that prove where it comes from: NAME.sha256, a bare digest or the output of `sha256sum`,
//! and NAME.minisig, a signature by minisign over the hash of the archive.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use ct_codecs::{Base64, Decoder};
use minisign::{PError, PublicKey, SecretKey, SecretKeyBox};
use minisign_verify::{Error as Fault, Signature};

use crate::error::{Context, Error, Kind, Result};
use crate::fs::Origin;
use crate::host_path;
use crate::naming::{DIGEST, SIGNATURE};
use crate::settings::TrustedKey;

/// The largest digest file that is read, in bytes.
const DIGEST_MAX: u64 = 1 << 20;

/// Checks an archive against the digest file beside it. Returns `false` if the digest file is missing.
///
/// # Errors
/// Returns a `Refused` error if the digests differ, or if the file does not contain a digest for this archive.
pub fn check_digest(archive: &Origin, sha256: &str) -> Result<bool> {
    let beside = archive.beside(DIGEST);
    let Some(text) = beside.read_text(DIGEST_MAX)? else { return Ok(false) };
    let file_name = archive.path().file_name().unwrap_or_default().to_string_lossy();
    let expected = digest_of(&text, &file_name).ok_or_else(|| {
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
fn digest_of<'a>(text: &'a str, file_name: &str) -> Option<&'a str> {
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

/// The largest signature file that is read, in bytes. Its comments can have any length.
const SIGNATURE_MAX: u64 = 1 << 14;

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
    let text = beside.read_text(SIGNATURE_MAX)?.ok_or_else(|| {
        Error::refused(format!(
            "{} is not signed: its signature {} is missing",
            archive.display(),
            beside.display()
        ))
        .hint("tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor")
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

/// The largest key file that is read, in bytes. A key file has two lines.
const KEY_MAX: u64 = 1 << 14;
/// The bytes of a decoded key file that name its protection.
const PROTECTION: Range<usize> = 2..4;
/// The protection by a password: scrypt.
const BY_PASSWORD: &[u8] = b"Sc";
/// The bytes of the checksum, which minisign leaves zero in a key without a password.
const CHECKSUM: Range<usize> = 126..158;

/// A minisign secret key, ready to sign.
pub struct SigningKey {
    secret: SecretKey,
    public: PublicKey,
    trusted: TrustedKey,
}

impl SigningKey {
    /// Reads a key file. Calls `password` only if a password protects the key.
    ///
    /// # Errors
    /// Returns a `Refused` error if the file is missing or does not contain a key, or if the password is wrong; a
    /// `Failed` error if the file cannot be read; and the errors of `password`.
    pub fn read(path: &Path, password: &dyn Fn() -> Result<String>) -> Result<Self> {
        let cannot_sign = || format!("cannot sign with the key {}", path.display());
        let text = host_path::read_text(path, KEY_MAX)?
            .ok_or_else(|| Error::refused(format!("{}: it does not exist", cannot_sign())))?;
        let refused = |cause: PError| {
            let hint = "`minisign -G` makes a key, and `minisign -G -W` one without a password";
            Error::refused(cannot_sign()).because(cause).hint(hint)
        };
        let secret = decode_key(&text, password)?.map_err(refused)?;
        let public = PublicKey::from_secret_key(&secret).map_err(refused)?;
        let trusted = public.to_base64().try_into()?;
        Ok(Self { secret, public, trusted })
    }

    /// Returns the public key that verifies the signatures of this key.
    #[must_use]
    pub fn trusted(&self) -> &TrustedKey {
        &self.trusted
    }

    /// Returns the signature of `data` as the text of a signature file. Its signed comment contains `file_name` and
    /// `time`, in seconds since the epoch.
    ///
    /// # Errors
    /// Returns an error if the data cannot be read, or if the key is damaged.
    pub fn sign(&self, data: impl Read, file_name: &str, time: u64) -> Result<String> {
        let trusted = format!("timestamp:{time}\tfile:{file_name}\thashed");
        let untrusted = "signature from minisign secret key";
        let signature =
            minisign::sign(Some(&self.public), &self.secret, data, Some(&trusted), Some(untrusted));
        Ok(signature.context(|| format!("cannot sign {file_name}"))?.into_string())
    }
}

/// Decodes the key in the second line of a key file.
fn decode_key(
    text: &str,
    password: &dyn Fn() -> Result<String>,
) -> Result<std::result::Result<SecretKey, PError>> {
    let bytes = text.lines().nth(1).and_then(|line| Base64::decode_to_vec(line.trim(), None).ok());
    let bytes = bytes.unwrap_or_default();
    let whole = || SecretKeyBox::from_string(text);
    if bytes.get(PROTECTION) == Some(BY_PASSWORD) {
        let password = password()?;
        return Ok(whole().and_then(|key| key.into_secret_key(Some(password))));
    }
    let unchecked = bytes.get(CHECKSUM).is_some_and(|sum| sum.iter().all(|byte| *byte == 0));
    Ok(if unchecked {
        SecretKey::from_bytes(&bytes)
    } else {
        whole().and_then(SecretKeyBox::into_unencrypted_secret_key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_digest_file_formats_are_read() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(digest_of(&hex, "a.zip"), Some(hex.as_str()));
        assert_eq!(digest_of(&format!("{hex}\n"), "a.zip"), Some(hex.as_str()));
        assert_eq!(digest_of(&format!("{hex}  a.zip\n"), "a.zip"), Some(hex.as_str()));
        assert_eq!(digest_of(&format!("{hex} *dist/a.zip\n"), "a.zip"), Some(hex.as_str()));
        let two = format!("{}  b.zip\n{hex}  a.zip\n", "f".repeat(64));
        assert_eq!(digest_of(&two, "a.zip"), Some(hex.as_str()));
        assert_eq!(digest_of(&format!("{hex}  b.zip\n"), "a.zip"), None);
        assert_eq!(digest_of("", "a.zip"), None);
        assert_eq!(digest_of("banana", "a.zip"), None);
    }

    #[test]
    fn signed_name_is_read_from_trusted_comment() {
        assert_eq!(signed_as("timestamp:1\tfile:a-1.0.0.zip\thashed").as_deref(), Some("a-1.0.0.zip"));
        assert_eq!(signed_as("timestamp:1 file:dist/a-1.0.0.zip").as_deref(), Some("a-1.0.0.zip"));
        assert_eq!(signed_as("release of today"), None);
        assert_eq!(signed_as(""), None);
    }

    #[test]
    fn signature_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, keys.sk.to_box(None).unwrap().into_string()).unwrap();
        let key = SigningKey::read(&file, &|| Err(Error::failed("it has no password"))).unwrap();
        let text = key.sign(&b"data"[..], "a-1.0.0.zip", 7).unwrap();
        let signature = minisign_verify::Signature::decode(&text).unwrap();
        assert_eq!(signature.trusted_comment(), "timestamp:7\tfile:a-1.0.0.zip\thashed");
        key.trusted().public_key().verify(b"data", &signature, false).unwrap();
        assert!(key.trusted().public_key().verify(b"date", &signature, false).is_err());
    }
}
