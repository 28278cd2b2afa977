//! Checks installed releases against `[trust] keys`: a trusted key must have signed one that becomes current.

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::verify;
use crate::version::Version;

use super::fetch::named_as;
use super::source::beside;

/// Returns the signature of an installed release that is to become current, or why it is not valid; `None` if no key
/// is trusted, or if the release is already current or permanent.
///
/// # Errors
/// Returns an error if its archive cannot be read.
pub(super) fn signature(
    root: &Root,
    now: &Snapshot,
    version: &Version,
    progress: &mut dyn Progress,
) -> Result<Option<std::result::Result<String, Error>>> {
    let is_next = matches!(now.state(version), Some(ReleaseState::Unpacked | ReleaseState::Old));
    if root.settings().trust.keys.is_empty() || !is_next {
        return Ok(None);
    }
    Ok(Some(match is_signed(root, version, progress)? {
        true => Ok("it was unpacked from an archive that a trusted key signed".to_owned()),
        false => Err(unsigned(root, version)),
    }))
}

/// Returns whether a currently trusted key signed the archive of a release. The proof is the receipt, or else that
/// archive if it is still in releases/ with its signature.
///
/// # Errors
/// Returns an error if the archive cannot be read.
pub(super) fn is_signed(root: &Root, version: &Version, progress: &mut dyn Progress) -> Result<bool> {
    let keys = &root.settings().trust.keys;
    let Some(receipt) = root.receipt(version) else { return Ok(false) };
    if receipt.signed_by.is_some_and(|by| keys.iter().any(|key| key.text() == by)) {
        return Ok(true);
    }
    for candidate in beside(root, version)? {
        let archive = candidate.open()?;
        let vouched =
            verify::verify_signature(&candidate.origin, keys, |also, _| archive.sha256(also, progress))?;
        let is_same = receipt.sha256.as_ref() == Some(&vouched.made);
        let named = vouched.signed.and_then(|signed| named_as(root, version, &candidate, signed.name));
        if is_same && named.is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unsigned(root: &Root, version: &Version) -> Error {
    let why = match root.receipt(version).map(|receipt| receipt.archive) {
        None => "it was not unpacked by Tenure".to_owned(),
        Some(None) => "it was copied from a directory".to_owned(),
        Some(Some(archive)) => {
            format!("{archive} is not known to be signed by a key in `[trust] keys` of tenure.toml")
        }
    };
    Error::refused(format!("cannot make {version} current: {why}")).hint(format!(
        "get the archive of {version} and its .minisig from the vendor into {}, then run `tenure install --replace \
         {version}`",
        root.releases().display()
    ))
}
