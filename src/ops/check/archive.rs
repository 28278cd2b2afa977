//! What was found of the archive that a release is brought from.

use super::super::fetch::{Fetch, Looked};
use super::held::Outcome;

/// The archive itself, its digest, its signature, and the room that it takes.
pub fn found(fetched: &Fetch<'_>) -> Vec<Outcome> {
    let Some(Looked { sha256, has_digest, is_signed, room }) = &fetched.looked else {
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
        ("space", Ok(room.clone())),
    ]
}
