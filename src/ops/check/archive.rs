//! Checks the archive of a release and returns the findings.

use crate::error::{Kind, Result};
use crate::execute::Reporter;
use crate::release::Snapshot;
use crate::root::Root;

use super::super::fetch::{ArchiveFacts, FailedChecks, Fetch, fetch_or_tell};
use super::super::source::ArchiveRequest;
use super::super::trust;
use super::run::CheckOutcome;

/// Fetches a release as far as `want` says, and returns the findings about its archive. Also returns the release with
/// its manifest, or `None` if the archive is not verified or breaks a rule. If a check fails, nothing remains in
/// staging.
///
/// # Errors
/// Returns an error if the archive or the root cannot be read.
pub fn check_archive<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: ArchiveRequest<'_>,
    reporter: &mut dyn Reporter,
) -> Result<(Vec<CheckOutcome>, Option<Fetch<'a>>)> {
    let fetched = match fetch_or_tell(root, now, want, reporter) {
        Ok(Ok(fetched)) => fetched.declared(root, want.version),
        Ok(Err(faults)) => return Ok(all(faults)),
        Err(error) => Err(error),
    };
    match fetched {
        Ok(mut fetched) => {
            let mut outcomes = found(&mut fetched);
            if fetched.steps.is_empty() {
                let signature = trust::signature(root, now, want.version, reporter)?;
                outcomes.extend(signature.map(|outcome| ("signature", outcome)));
            }
            Ok((outcomes, Some(fetched)))
        }
        Err(error) if error.kind() == Kind::Refused => Ok((vec![("archive", Err(error))], None)),
        Err(error) => Err(error),
    }
}

/// Returns the failed checks of a release.
fn all(faults: FailedChecks<'_>) -> (Vec<CheckOutcome>, Option<Fetch<'_>>) {
    match faults {
        FailedChecks::Foreign { first, also } => {
            (also.into_iter().chain([first]).map(|(what, why)| (what, Err(why))).collect(), None)
        }
        FailedChecks::Broken(why) => (vec![("archive", Err(why))], None),
        FailedChecks::TooLarge { why, mut fetched } => {
            let outcomes = found(&mut fetched);
            match outcomes.iter().all(|(_, outcome)| outcome.is_ok()) {
                true => (vec![("archive", Err(why))], None),
                false => (outcomes, Some(*fetched)),
            }
        }
    }
}

/// Returns the findings about the archive, its digest, its signature and the space that it takes.
fn found(fetched: &mut Fetch<'_>) -> Vec<CheckOutcome> {
    let Some(ArchiveFacts { sha256, has_digest, is_signed, room }) = fetched.looked.take() else {
        return vec![("archive", Ok("it is installed".to_owned()))];
    };
    let brings: Vec<String> = fetched.steps.iter().map(ToString::to_string).collect();
    let digest = match has_digest {
        true => format!("SHA-256 {sha256}, as the file beside it says"),
        false => format!("SHA-256 {sha256}; a digest file to compare it with is missing"),
    };
    let signature = match is_signed {
        true => "by a trusted key",
        false => "not needed: tenure.toml names no trusted keys",
    };
    vec![
        ("archive", Ok(format!("would {}", brings.join("; ")))),
        ("digest", Ok(digest)),
        ("signature", Ok(signature.to_owned())),
        ("space", room),
    ]
}
