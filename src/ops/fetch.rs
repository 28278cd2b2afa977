//! How a release gets onto the disk: its archive is unpacked into staging and held against the rules.

use std::sync::Arc;

use crate::archive::{Archive, Limits, Reading, Twins};
use crate::digest;
use crate::error::{Error, Kind, Result};
use crate::execute::{self, Observer, Staged, Staging};
use crate::fs as disk;
use crate::manifest::Manifest;
use crate::naming;
use crate::plan::Step;
use crate::release::Snapshot;
use crate::root::Root;
use crate::signature::{self, Vouched};
use crate::version::Version;
use crate::watch::Watch;

use super::Mode;
use super::room::{Claim, Room};
use super::share;
use super::source::{Candidate, Source, Want, manifest, source};

/// How a release gets onto the disk.
#[derive(Default)]
pub(super) struct Fetch<'a> {
    /// The steps that bring it there; none where it is there to stay.
    pub steps: Vec<Step>,
    /// What they publish; none where nothing is to be changed.
    pub staged: Option<Staged<'a>>,
    /// What the release declares, by the manifest in its archive.
    pub manifest: Option<Manifest>,
    /// What was found of the archive; none where the release is installed.
    pub looked: Option<Looked>,
    /// What is still to be taken before it is switched to.
    pub claim: Claim,
}

/// What was found of an archive.
pub(super) struct Looked {
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Whether a digest lies beside it, which is the same.
    pub has_digest: bool,
    /// Whether a trusted key has signed it.
    pub is_signed: bool,
    /// The room that it takes, and what there is, in words; or that it does not fit.
    pub room: std::result::Result<String, Error>,
}

impl Fetch<'_> {
    /// The same with what the release declares, also where it is installed and not brought from an archive.
    ///
    /// # Errors
    /// Refused where its manifest cannot be used.
    pub fn declared(self, root: &Root, version: &Version) -> Result<Self> {
        let manifest = if self.steps.is_empty() { root.manifest(version)? } else { self.manifest };
        Ok(Self { manifest, ..self })
    }
}

/// Finds what brings a release onto the disk, stages it, and refuses what cannot be unpacked.
///
/// # Errors
/// Refused where there is no archive, or two, or one that differs from what is installed, is damaged, holds
/// another release or does not fit; nothing of it is left then.
pub(super) fn fetch<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: Want<'_>,
    observer: &mut dyn Observer,
) -> Result<Fetch<'a>> {
    match source(root, now, want, observer)? {
        None => Ok(Fetch::default()),
        Some(Source { archive, first }) => bring(root, now, want, &archive, first, observer),
    }
}

/// Stages the archive; only what is whole, holds this release and fits gets a plan.
fn bring<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: Want<'_>,
    candidate: &Candidate,
    first: Option<Step>,
    observer: &mut dyn Observer,
) -> Result<Fetch<'a>> {
    let version = want.version;
    free_name(root, version)?;
    let archive = candidate.open()?;
    if want.mode == Mode::Act {
        execute::make_room(root, observer);
    }
    let room = Room::look(root, version, want.claimed)?;
    let unpack = Step::Unpack { version: version.clone(), archive: candidate.shown.clone() };
    let staging = match want.mode {
        Mode::Act => {
            observer.staging(&unpack);
            Some(Staging::begin(root)?)
        }
        Mode::DryRun => None,
    };
    let twins = staging.as_ref().and_then(|staging| share::twins(root, now, staging));
    let read = |twins: Option<Arc<Twins>>, observer: &mut dyn Observer| {
        let reading =
            vouched(root, &room, candidate, &archive, staging.as_ref().map(|s| (s, twins)), observer)?;
        let manifest = manifest(root, version, candidate, reading.0.survey.manifest.as_deref())?;
        Ok::<_, Error>((reading, manifest))
    };
    let mut read_once = read(twins.clone(), observer)?;
    if let (Some(staging), Some(twins)) = (&staging, twins)
        && !share::may_keep(root, &twins, read_once.1.as_ref())
    {
        staging.again()?;
        read_once = read(None, observer)?;
    }
    let ((reading, has_digest), manifest) = read_once;
    let looked = Some(looked(root, &reading, has_digest, Ok(room.beside(&reading.survey))));
    let complete = |staging: Staging<'a>| {
        let known = Some((candidate.file_name.clone(), reading.sha256.clone()));
        staging.complete(reading.survey.top.as_deref(), known, reading.tree(), reading.packed())
    };
    let staged = staging.map(complete).transpose()?;
    let claim = if staged.is_some() { Claim::default() } else { room.claim(&reading.survey) };
    Ok(Fetch { steps: first.into_iter().chain([unpack]).collect(), staged, manifest, looked, claim })
}

fn looked(
    root: &Root,
    reading: &Reading,
    has_digest: bool,
    room: std::result::Result<String, Error>,
) -> Looked {
    let is_signed = !root.settings().trust.keys.is_empty();
    Looked { sha256: reading.sha256.clone(), has_digest, is_signed, room }
}

/// Reads the archive once: its digest and its signature are over the very bytes that are unpacked. Tells as well whether
/// a digest lies beside it.
fn vouched(
    root: &Root,
    room: &Room<'_>,
    candidate: &Candidate,
    archive: &Archive,
    staging: Option<(&Staging<'_>, Option<Arc<Twins>>)>,
    watch: &mut dyn Watch,
) -> Result<(Reading, bool)> {
    let (settings, version) = (root.settings(), room.version);
    let refuse = |excess| room.excess(excess, &candidate.shown);
    let limits: Limits<'_> = room.limits(&refuse);
    let (origin, keys) = (&candidate.origin, &settings.trust.keys);
    let vouched = signature::vouch(origin, keys, |also| match staging {
        Some((staging, twins)) => staging.unpack(archive, twins, &limits, also, watch),
        None => archive.survey(&limits, also, watch),
    });
    let Vouched { made: reading, signed_as } = match vouched {
        Err(error) if error.kind() == Kind::Refused => {
            // Where these are not the vendor's bytes, that says more than what is wrong with them.
            let whole = signature::vouch(origin, keys, |also| archive.sha256(also, watch))?;
            digest::check(origin, &whole.made)?;
            return Err(error);
        }
        other => other?,
    };
    let has_digest = digest::check(origin, &reading.sha256)?;
    named_as(root, version, candidate, signed_as).map(|()| (reading, has_digest))
}

/// Refuses an archive that is signed and renamed: it would bring back a release that was left for a reason.
fn named_as(root: &Root, version: &Version, candidate: &Candidate, signed_as: Option<String>) -> Result<()> {
    match signed_as {
        Some(name) if !naming::holds(&name, root.settings().name.as_deref(), version) => Err(Error::refused(
            format!("{} was signed as {}, which is not {version}", candidate.shown, name.escape_debug()),
        )
        .hint("the archive was renamed: get the one of this version from the vendor")),
        _ => Ok(()),
    }
}

/// What is wrong with an archive, all of it.
#[derive(Default)]
pub(super) struct Faults<'a> {
    /// Its digest is another than the one beside it.
    pub digest: Option<Error>,
    /// No trusted key has signed it.
    pub signature: Option<Error>,
    /// What it would bring; none where it is not known to be the vendor's.
    pub fetched: Option<Fetch<'a>>,
}

/// Looks again at the archive of a release that could not be fetched, and past the first thing that is wrong with it.
/// Writes nothing.
///
/// # Errors
/// Refused where there is no archive, or where nothing can be told of what it holds; failed where it cannot be read.
pub(super) fn faults<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: Want<'_>,
    observer: &mut dyn Observer,
) -> Result<Faults<'a>> {
    let Some(Source { archive: candidate, first }) = source(root, now, want, observer)? else {
        return Ok(Faults::default());
    };
    let (version, keys, archive) = (want.version, &root.settings().trust.keys, candidate.open()?);
    let vouched = refusal(signature::vouch(&candidate.origin, keys, |also| archive.sha256(also, observer)))?;
    let sha256 = match &vouched {
        Ok(vouched) => vouched.made.clone(),
        Err(_) => archive.sha256(&mut |_| {}, observer)?,
    };
    let digest = refusal(digest::check(&candidate.origin, &sha256))?;
    let signed = vouched.and_then(|vouched| named_as(root, version, &candidate, vouched.signed_as));
    let (Ok(has_digest), Ok(())) = (&digest, &signed) else {
        return Ok(Faults { digest: digest.err(), signature: signed.err(), fetched: None });
    };
    free_name(root, version)?;
    let room = Room::of(root, version, want.claimed)?;
    let refuse = |excess| room.excess(excess, &candidate.shown);
    let reading = archive.survey(&room.generous(archive.length(), &refuse), &mut |_| {}, observer)?;
    let manifest = manifest(root, version, &candidate, reading.survey.manifest.as_deref())?;
    let fits = refusal(room.fits(reading.survey.space(room.block()), reading.survey.entries()))?;
    let looked = looked(root, &reading, *has_digest, fits.map(|()| room.beside(&reading.survey)));
    let claim = room.claim(&reading.survey);
    let unpack = Step::Unpack { version: version.clone(), archive: candidate.shown };
    let steps = first.into_iter().chain([unpack]).collect();
    Ok(Faults {
        fetched: Some(Fetch { steps, manifest, looked: Some(looked), staged: None, claim }),
        ..Faults::default()
    })
}

/// What a rule forbids, apart from what failed.
fn refusal<T>(outcome: Result<T>) -> Result<std::result::Result<T, Error>> {
    match outcome {
        Err(error) if error.kind() != Kind::Refused => Err(error),
        told => Ok(told),
    }
}

/// Refuses to unpack over something that is no release.
pub(super) fn free_name(root: &Root, version: &Version) -> Result<()> {
    let path = root.release(version);
    if disk::exists(&path) && !disk::is_dir(&path) {
        return Err(Error::refused(format!(
            "{} is a file or link, where a release would be unpacked",
            path.display()
        ))
        .hint("move it out of releases/"));
    }
    Ok(())
}
