//! What was found of the archive that a release is brought from, or all that is wrong with it.

use crate::error::{Error, Kind, Result};
use crate::execute::Observer;
use crate::release::Snapshot;
use crate::root::Root;

use super::super::fetch::{Faults, Fetch, Looked, faults, fetch};
use super::super::source::Want;
use super::held::Outcome;

/// Brings a release as far as it is wanted, and tells what was found of its archive; with what it declares, where it is
/// known to be the vendor's. Where anything is in the way, nothing of it stays.
///
/// # Errors
/// Where the archive or the root cannot be read.
pub fn looked<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: Want<'_>,
    observer: &mut dyn Observer,
) -> Result<(Vec<Outcome>, Option<Fetch<'a>>)> {
    let fetched = fetch(root, now, want, observer);
    match fetched.and_then(|fetched| fetched.declared(root, want.version)) {
        Ok(mut fetched) => Ok((found(&mut fetched), Some(fetched))),
        Err(first) if first.kind() == Kind::Refused => {
            let faults = match faults(root, now, want, observer) {
                Err(error) if error.kind() != Kind::Refused => return Err(error),
                faults => faults.unwrap_or_default(),
            };
            Ok(all(first, faults))
        }
        Err(error) => Err(error),
    }
}

/// All that is wrong with an archive; what was found first, where nothing more can be told.
fn all(first: Error, faults: Faults<'_>) -> (Vec<Outcome>, Option<Fetch<'_>>) {
    let Faults { digest, signature, mut fetched } = faults;
    let mut outcomes: Vec<Outcome> = fetched.iter_mut().flat_map(found).collect();
    outcomes.extend(digest.map(|error| ("digest", Err(error))));
    outcomes.extend(signature.map(|error| ("signature", Err(error))));
    if outcomes.iter().all(|(_, outcome)| outcome.is_ok()) {
        return (vec![("archive", Err(first))], None);
    }
    (outcomes, fetched)
}

/// The archive itself, its digest, its signature, and the room that it takes.
fn found(fetched: &mut Fetch<'_>) -> Vec<Outcome> {
    let Some(Looked { sha256, has_digest, is_signed, room }) = fetched.looked.take() else {
        return vec![("archive", Ok("it is installed".to_owned()))];
    };
    let brings: Vec<String> = fetched.steps.iter().map(ToString::to_string).collect();
    let digest = match has_digest {
        true => format!("SHA-256 {sha256}, as the file beside it tells"),
        false => format!("SHA-256 {sha256}; no digest lies beside it"),
    };
    let signature = match is_signed {
        true => "by a trusted key",
        false => "none is needed: tenure.toml names no trusted keys",
    };
    vec![
        ("archive", Ok(format!("would {}", brings.join("; ")))),
        ("digest", Ok(digest)),
        ("signature", Ok(signature.to_owned())),
        ("space", room),
    ]
}
