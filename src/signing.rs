//! Signs an archive as minisign does: over the hash of the file, with its name in the signed comment.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use ct_codecs::{Base64, Decoder};
use minisign::{PError, PublicKey, SecretKey, SecretKeyBox};

use crate::error::{Context, Error, Result};
use crate::outside;
use crate::settings::TrustedKey;

/// The largest key file that is read, in bytes. A key file has two lines.
const LIMIT: u64 = 1 << 14;
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
        let text = outside::read_text(path, LIMIT)?
            .ok_or_else(|| Error::refused(format!("{}: it does not exist", cannot_sign())))?;
        let refused = |cause: PError| {
            let hint = "`minisign -G` makes a key, and `minisign -G -W` one without a password";
            Error::refused(cannot_sign()).because(cause).hint(hint)
        };
        let secret = decode(&text, password)?.map_err(refused)?;
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
fn decode(
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
