//! How a release gets onto the disk: its archive is unpacked into staging and held against the rules.

use std::sync::Arc;

use crate::archive::{self, Archive, BaseRelease, Inspection, Reading};
use crate::digest;
use crate::error::{Error, Kind, Result};
use crate::execute::{self, Archived, Reporter, Staged, Staging};
use crate::fs as disk;
use crate::manifest::Manifest;
use crate::naming;
use crate::plan::Step;
use crate::progress::Progress;
use crate::release::Snapshot;
use crate::root::Root;
use crate::signature::{self, Signed, VerifiedSignature};
use crate::version::Version;

use super::Mode;
use super::disk_space::{Reservation, SpaceBudget};
use super::share;
use super::source::{ArchiveFile, ArchiveRequest, ReleaseSource, manifest, source};

/// How a release gets onto the disk.
#[derive(Default)]
pub(super) struct Fetch<'a> {
    /// The steps that bring it there; none where it is there to stay.
    pub steps: Vec<Step>,
    /// What they publish; none where nothing is to be changed.
    pub staged: Option<Staged<'a>>,
    /// What the release declares, by the manifest in its archive.
    pub manifest: Option<Manifest>,
    /// The archive's SHA-256, in hex; none where the release is installed.
    pub sha256: Option<String>,
    /// What was found of the archive; none where the release is installed.
    pub looked: Option<ArchiveFacts>,
    /// What is still to be taken before it is switched to.
    pub claim: Reservation,
}

/// What was found of an archive.
pub(super) struct ArchiveFacts {
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

/// What is in the way of a release that was to be fetched.
pub(super) enum FailedChecks<'a> {
    /// Its archive is not known to be the vendor's; what of that was found, by the name of the check.
    Foreign {
        /// What says most.
        first: FailedCheck,
        /// What was found besides.
        also: Option<FailedCheck>,
    },
    /// Its archive breaks a rule, or there is no place for it.
    Broken(Error),
    /// It takes more room than there is.
    TooLarge {
        /// What there is too little of.
        why: Error,
        /// What the archive would bring.
        fetched: Box<Fetch<'a>>,
    },
}

/// A check that failed, and why.
pub(super) type FailedCheck = (&'static str, Error);

impl FailedChecks<'_> {
    /// What is told where only one fault is.
    fn first(self) -> Error {
        match self {
            Self::Foreign { first: (_, why), .. } | Self::Broken(why) | Self::TooLarge { why, .. } => why,
        }
    }
}

/// A release that was fetched, or all that is in its way.
pub(super) type Fetched<'a> = std::result::Result<Fetch<'a>, FailedChecks<'a>>;

/// How much is told of what is in the way of a release.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// The first of it; no more is read than that takes.
    First,
    /// All of it, by one reading of the archive.
    All,
}

/// Finds what brings a release onto the disk, stages it, and refuses what cannot be unpacked.
///
/// # Errors
/// Refused where there is no archive, or two, or one that differs from what is installed, is damaged, holds
/// another release or does not fit; nothing of it is left then.
pub(super) fn fetch<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: ArchiveRequest<'_>,
    reporter: &mut dyn Reporter,
) -> Result<Fetch<'a>> {
    bring(root, now, want, Detail::First, reporter)?.map_err(FailedChecks::first)
}

/// The same, and tells all that is wrong with an archive. It is read once, whatever that is.
///
/// # Errors
/// Refused where there is no archive, or two, or one that differs from what is installed.
pub(super) fn fetch_or_tell<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: ArchiveRequest<'_>,
    reporter: &mut dyn Reporter,
) -> Result<Fetched<'a>> {
    bring(root, now, want, Detail::All, reporter)
}

/// Stages the archive; only what is whole, holds this release and fits gets a plan.
fn bring<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: ArchiveRequest<'_>,
    tell: Detail,
    reporter: &mut dyn Reporter,
) -> Result<Fetched<'a>> {
    let version = want.version;
    let Some(ReleaseSource { archive: candidate, first }) = source(root, now, want, reporter)? else {
        return Ok(Ok(Fetch::default()));
    };
    let is_free = free_name(root, version);
    let archive = candidate.open_to_install(root)?;
    if want.mode == Mode::Act {
        execute::make_room(root, reporter);
    }
    let room = SpaceBudget::of(root, version, want.claimed)?;
    let has_room = room.any();
    let (is_free, has_room) = match tell {
        Detail::First => (Ok(is_free?), Ok(has_room?)),
        Detail::All => (is_free, has_room),
    };
    let unpack = Step::Unpack { version: version.clone(), archive: candidate.shown.clone() };
    let staging = match want.mode {
        Mode::Act if is_free.is_ok() && has_room.is_ok() => {
            reporter.staging(&unpack);
            Some(Staging::begin(root)?)
        }
        Mode::Act | Mode::DryRun => None,
    };
    let job = ArchiveJob { root, room: &room, candidate: &candidate, archive: &archive, tell };
    let sound = match job.inspect_into(now, staging.as_ref(), reporter)? {
        Ok(sound) => sound,
        Err(faults) => return Ok(Err(faults)),
    };
    if let Err(taken) = is_free {
        return Ok(Err(FailedChecks::Broken(taken)));
    }
    let steps = first.into_iter().chain([unpack]).collect();
    match (has_room.err().or(sound.excess), sound.inspected) {
        (Some(why), inspected) => {
            Ok(Err(FailedChecks::TooLarge { why, fetched: Box::new(job.found(inspected, steps, true)?) }))
        }
        (None, inspected) => job.stage(inspected, steps, staging).map(Ok),
    }
}

/// An archive that is inspected.
#[derive(Clone, Copy)]
struct ArchiveJob<'j, 'a> {
    root: &'a Root,
    room: &'j SpaceBudget<'j>,
    candidate: &'j ArchiveFile,
    archive: &'j Archive,
    tell: Detail,
}

/// An archive that breaks no rule.
struct Sound {
    inspected: DeclaredRelease,
    /// Why it is not unpacked all the same.
    excess: Option<Error>,
}

/// What an archive holds and declares.
struct DeclaredRelease {
    reading: Reading,
    has_digest: bool,
    /// The trusted key that signed it.
    signed_by: Option<String>,
    manifest: Option<Manifest>,
}

/// What was made of an archive, or what is wrong with it.
type InspectionResult = std::result::Result<Sound, FailedChecks<'static>>;

impl<'a> ArchiveJob<'_, 'a> {
    /// Inspects it, and unpacks it into staging where there is one. Where the release may not keep what it would share
    /// with an installed one, it is unpacked once more.
    fn inspect_into(
        &self,
        now: &Snapshot,
        staging: Option<&Staging<'_>>,
        progress: &mut dyn Progress,
    ) -> Result<InspectionResult> {
        let twins = staging.and_then(|staging| share::twins(self.root, now, staging));
        let inspected = self.inspect(staging.map(|staging| (staging, twins.clone())), progress)?;
        match (staging, twins, &inspected) {
            (Some(staging), Some(twins), Ok(sound))
                if !share::may_keep(self.root, &twins, sound.inspected.manifest.as_ref()) =>
            {
                staging.again()?;
                self.inspect(Some((staging, None)), progress)
            }
            _ => Ok(inspected),
        }
    }

    /// Reads the archive once: its digest and its signature are over the very bytes that are unpacked. What a trusted
    /// key cannot have signed is not decoded.
    fn inspect(
        &self,
        staging: Option<(&Staging<'_>, Option<Arc<BaseRelease>>)>,
        progress: &mut dyn Progress,
    ) -> Result<InspectionResult> {
        let Self { root, room, candidate, archive, tell } = *self;
        let refuse = |excess| room.excess(excess, &candidate.shown);
        let limits = room.limits(&refuse);
        let beyond = match tell {
            Detail::First => room.limits(&refuse),
            Detail::All => room.generous(archive.length(), &refuse),
        };
        let told = |Inspection { sha256, read }| Some((sha256, Some(read)));
        let VerifiedSignature { made, signed } = signature::verify_signature(
            &candidate.origin,
            &root.settings().trust.keys,
            |also, may_be_signed| match (may_be_signed, staging, tell) {
                (false, _, Detail::First) => Ok(None),
                (false, _, Detail::All) => archive.sha256(also, progress).map(|sha256| Some((sha256, None))),
                (true, Some((staging, twins)), _) => {
                    staging.unpack(archive, twins, [&limits, &beyond], also, progress).map(told)
                }
                (true, None, _) => archive.inspect(None, &limits, &beyond, also, progress).map(told),
            },
        )?;
        let signature =
            signed.and_then(|Signed { name, by }| named_as(root, room.version, candidate, name).map(|()| by));
        let Some((sha256, read)) = made else { return Ok(Err(foreign(None, signature.err()))) };
        let digest = refusal(digest::check(&candidate.origin, &sha256))?;
        match (digest, signature, read) {
            (Ok(has_digest), Ok(signed_by), Some(Ok(read))) => self.declared(read, has_digest, signed_by),
            (Ok(_), Ok(_), Some(Err(broken))) => Ok(Err(FailedChecks::Broken(broken))),
            // Where these are not the vendor's bytes, that says more than what is wrong with them.
            (digest, signature, _) => Ok(Err(foreign(digest.err(), signature.err()))),
        }
    }

    fn declared(
        &self,
        read: archive::Inspected,
        has_digest: bool,
        signed_by: Option<String>,
    ) -> Result<InspectionResult> {
        let archive::Inspected { reading, excess } = read;
        let text = reading.survey.manifest.as_deref();
        let manifest = refusal(manifest(self.root, self.room.version, self.candidate, text))?;
        Ok(match manifest {
            Ok(manifest) => {
                Ok(Sound { inspected: DeclaredRelease { reading, has_digest, signed_by, manifest }, excess })
            }
            Err(unfit) => Err(FailedChecks::Broken(unfit)),
        })
    }

    /// What was found of an archive that is not unpacked, or not yet; and whether it fits, where that is not known.
    fn found(&self, inspected: DeclaredRelease, steps: Vec<Step>, weigh: bool) -> Result<Fetch<'a>> {
        let DeclaredRelease { reading, has_digest, manifest, .. } = inspected;
        let (room, survey) = (self.room, &reading.survey);
        let fits = match weigh {
            true => refusal(room.fits(survey.space(room.block()), survey.entries()))?,
            false => Ok(()),
        };
        let is_signed = !self.root.settings().trust.keys.is_empty();
        let (claim, room) = (room.claim(survey), fits.map(|()| room.beside(survey)));
        let sha256 = Some(reading.sha256.clone());
        let looked = Some(ArchiveFacts { sha256: reading.sha256, has_digest, is_signed, room });
        Ok(Fetch { steps, staged: None, manifest, sha256, looked, claim })
    }

    /// Completes what is staged.
    fn stage(
        &self,
        inspected: DeclaredRelease,
        steps: Vec<Step>,
        staging: Option<Staging<'a>>,
    ) -> Result<Fetch<'a>> {
        let Some(staging) = staging else { return self.found(inspected, steps, false) };
        let reading = &inspected.reading;
        let (name, sha256) = (Some(self.candidate.file_name.clone()), Some(reading.sha256.clone()));
        let known = Some(Archived { name, sha256, signed_by: inspected.signed_by.clone() });
        let staged =
            staging.complete(reading.survey.top.as_deref(), known, reading.tree(), reading.packed())?;
        let fetch = self.found(inspected, steps, false)?;
        Ok(Fetch { staged: Some(staged), claim: Reservation::default(), ..fetch })
    }
}

/// What keeps an archive from being known as the vendor's: a signature says more than a digest.
fn foreign(digest: Option<Error>, signature: Option<Error>) -> FailedChecks<'static> {
    let (digest, signature) = (digest.map(|why| ("digest", why)), signature.map(|why| ("signature", why)));
    match (signature, digest) {
        (Some(first), also) => FailedChecks::Foreign { first, also },
        (None, Some(first)) => FailedChecks::Foreign { first, also: None },
        (None, None) => FailedChecks::Broken(Error::refused("the archive was not read")),
    }
}

/// Refuses an archive that is signed and renamed: it would bring back a release that was left for a reason.
pub(super) fn named_as(
    root: &Root,
    version: &Version,
    candidate: &ArchiveFile,
    signed_as: Option<String>,
) -> Result<()> {
    match signed_as {
        Some(name) if !naming::holds(&name, root.settings().name.as_deref(), version) => Err(Error::refused(
            format!("{} was signed as {}, which is not {version}", candidate.shown, name.escape_debug()),
        )
        .hint("the archive was renamed: get the one of this version from the vendor")),
        _ => Ok(()),
    }
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
            "{} is a file or link, and a release would be unpacked there",
            path.display()
        ))
        .hint("move it out of releases/"));
    }
    Ok(())
}
