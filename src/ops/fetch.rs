//! Fetches a release: unpacks its archive into staging and checks it.

use std::fs::File;
use std::sync::Arc;

use crate::archive::{self, Archive, BaseRelease, Inspection, Reading, Sharing};
use crate::error::{Error, Kind, Result};
use crate::execute::{self, Archived, Reporter, Staged, Staging};
use crate::fs as disk;
use crate::manifest::{MANIFEST, Manifest};
use crate::plan::Step;
use crate::progress::Progress;
use crate::release::Snapshot;
use crate::root::Root;
use crate::settings::Share;
use crate::verify::{self, Signed, VerifiedSignature};
use crate::version::Version;

use super::archive_file::{ArchiveFile, named_as};
use super::disk_space::{Reservation, SpaceBudget};
use super::session::Mode;
use super::source::{ArchiveRequest, ReleaseSource, manifest, source};

/// A fetched release, or the findings about it in a dry run.
#[derive(Default)]
pub(super) struct Fetch<'a> {
    /// The steps that put the release on disk; empty if it is installed and stays.
    pub steps: Vec<Step>,
    /// The staged release that the steps publish; `None` if nothing is to be changed.
    pub staged: Option<Staged<'a>>,
    /// The manifest in the archive of the release.
    pub manifest: Option<Manifest>,
    /// The SHA-256 of the archive, in hex; `None` if the release is installed.
    pub sha256: Option<String>,
    /// The findings about the archive; `None` if the release is installed.
    pub looked: Option<ArchiveFacts>,
    /// The disk space that the release still needs before the switch.
    pub claim: Reservation,
}

/// The findings about an archive.
pub(super) struct ArchiveFacts {
    /// The SHA-256, in hex.
    pub sha256: String,
    /// Whether a digest file lies beside the archive and matches.
    pub has_digest: bool,
    /// Whether a trusted key signed the archive.
    pub is_signed: bool,
    /// The needed and the free space in words, or an error if the release does not fit.
    pub room: std::result::Result<String, Error>,
}

impl Fetch<'_> {
    /// Sets the manifest of a release that is installed and not fetched from an archive.
    ///
    /// # Errors
    /// Returns a `Refused` error if the manifest cannot be used.
    pub fn declared(self, root: &Root, version: &Version) -> Result<Self> {
        let manifest = if self.steps.is_empty() { root.manifest(version)? } else { self.manifest };
        Ok(Self { manifest, ..self })
    }
}

/// The reasons why a release cannot be fetched.
pub(super) enum FailedChecks<'a> {
    /// The archive is not verified to be from the vendor. Each failed check comes with its name.
    Foreign {
        /// The more significant failed check.
        first: FailedCheck,
        /// The other failed check, if both failed.
        also: Option<FailedCheck>,
    },
    /// The archive breaks a rule, or the path of the release is occupied.
    Broken(Error),
    /// The release needs more space than is free.
    TooLarge {
        /// The error that names the lacking resource.
        why: Error,
        /// The release as it would be fetched.
        fetched: Box<Fetch<'a>>,
    },
}

/// The name of a failed check, and the reason.
pub(super) type FailedCheck = (&'static str, Error);

impl FailedChecks<'_> {
    /// Returns the error to report if only one is reported.
    fn first(self) -> Error {
        match self {
            Self::Foreign { first: (_, why), .. } | Self::Broken(why) | Self::TooLarge { why, .. } => why,
        }
    }
}

/// A fetched release, or the reasons why it cannot be fetched.
pub(super) type Fetched<'a> = std::result::Result<Fetch<'a>, FailedChecks<'a>>;

/// How many problems of a release are reported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// The first problem; nothing is read beyond it.
    First,
    /// All problems, found in one reading of the archive.
    All,
}

/// Finds the archive of a release and unpacks it into staging. Refuses an archive that cannot be unpacked.
///
/// # Errors
/// Returns a `Refused` error if there is no archive or more than one, or if the archive differs from the installed
/// release, is damaged, holds another release or does not fit. Nothing remains in staging then.
pub(super) fn fetch<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: ArchiveRequest<'_>,
    reporter: &mut dyn Reporter,
) -> Result<Fetch<'a>> {
    bring(root, now, want, Detail::First, reporter)?.map_err(FailedChecks::first)
}

/// Fetches a release like [`fetch`], but returns all problems of the archive. The archive is read only once.
///
/// # Errors
/// Returns a `Refused` error if there is no archive or more than one, or if it differs from the installed release.
pub(super) fn fetch_or_tell<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: ArchiveRequest<'_>,
    reporter: &mut dyn Reporter,
) -> Result<Fetched<'a>> {
    bring(root, now, want, Detail::All, reporter)
}

/// Only an intact archive that holds this release and fits gets steps.
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
    /// Why the archive was not unpacked: it needs too much space.
    excess: Option<Error>,
}

/// The contents and the manifest of an archive.
struct DeclaredRelease {
    reading: Reading,
    has_digest: bool,
    /// The trusted key that signed the archive.
    signed_by: Option<String>,
    manifest: Option<Manifest>,
}

/// A sound archive, or the reasons why it is refused.
type InspectionResult = std::result::Result<Sound, FailedChecks<'static>>;

impl<'a> ArchiveJob<'_, 'a> {
    /// Inspects the archive, and unpacks it into `staging` if given. If the release may not keep files shared with an
    /// installed release, the archive is unpacked again without sharing.
    fn inspect_into(
        &self,
        now: &Snapshot,
        staging: Option<&Staging<'_>>,
        progress: &mut dyn Progress,
    ) -> Result<InspectionResult> {
        let base = staging.and_then(|staging| base_release(self.root, now, staging));
        let inspected = self.inspect(staging.map(|staging| (staging, base.clone())), progress)?;
        match (staging, base, &inspected) {
            (Some(staging), Some(base), Ok(sound))
                if !may_keep_links(self.root, &base, sound.inspected.manifest.as_ref()) =>
            {
                staging.again()?;
                self.inspect(Some((staging, None)), progress)
            }
            _ => Ok(inspected),
        }
    }

    /// Reads the archive once, so that its digest and its signature cover exactly the bytes that are unpacked. An
    /// archive that no trusted key can have signed is not decoded.
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
        let VerifiedSignature { made, signed } = verify::verify_signature(
            &candidate.origin,
            &root.settings().trust.keys,
            |also, may_be_signed| match (may_be_signed, staging, tell) {
                (false, _, Detail::First) => Ok(None),
                (false, _, Detail::All) => archive.sha256(also, progress).map(|sha256| Some((sha256, None))),
                (true, Some((staging, base)), _) => {
                    staging.unpack(archive, base, [&limits, &beyond], also, progress).map(told)
                }
                (true, None, _) => archive.inspect(None, &limits, &beyond, also, progress).map(told),
            },
        )?;
        let signature =
            signed.and_then(|Signed { name, by }| named_as(root, room.version, candidate, name).map(|()| by));
        let Some((sha256, read)) = made else { return Ok(Err(foreign(None, signature.err()))) };
        let digest = refusal(verify::check_digest(&candidate.origin, &sha256))?;
        match (digest, signature, read) {
            (Ok(has_digest), Ok(signed_by), Some(Ok(read))) => self.declared(read, has_digest, signed_by),
            (Ok(_), Ok(_), Some(Err(broken))) => Ok(Err(FailedChecks::Broken(broken))),
            // If the bytes are not the vendor's, that is more important than other problems in them.
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

    /// Returns the findings about an archive without a staged release. `weigh` also checks whether the release fits.
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

    /// Completes the staged release. Without `staging`, as in a dry run, returns only the findings.
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

/// Returns the failed digest and signature checks. The signature comes first because it is the stronger evidence.
fn foreign(digest: Option<Error>, signature: Option<Error>) -> FailedChecks<'static> {
    let (digest, signature) = (digest.map(|why| ("digest", why)), signature.map(|why| ("signature", why)));
    match (signature, digest) {
        (Some(first), also) => FailedChecks::Foreign { first, also },
        (None, Some(first)) => FailedChecks::Foreign { first, also: None },
        (None, None) => FailedChecks::Broken(Error::refused("the archive was not read")),
    }
}

/// Separates a refusal by a rule from a failure.
fn refusal<T>(outcome: Result<T>) -> Result<std::result::Result<T, Error>> {
    match outcome {
        Err(error) if error.kind() != Kind::Refused => Err(error),
        told => Ok(told),
    }
}

/// Refuses to unpack over a file or link that is not a release.
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

/// The maximum number of files to compare; their records are held in memory.
const FILES_MAX: usize = 200_000;

/// Returns the files of the current release, or else of the permanent one; `None` if sharing is off or impossible.
/// That is not an error: sharing only saves space and time.
fn base_release(root: &Root, now: &Snapshot, staging: &Staging<'_>) -> Option<Arc<BaseRelease>> {
    let share = root.settings().space.share;
    let version = now.current.version().or(now.permanent.version()).filter(|_| share != Share::None)?;
    let may_link = || share == Share::Hardlink || immutable(root.manifest(version).ok().flatten().as_ref());
    let sharing = if staging.shares_blocks(&sample(root, version)?) {
        Sharing::Blocks
    } else if may_link() {
        Sharing::Links
    } else {
        return None;
    };
    let release = disk::open_dir(&root.release(version)).ok()?;
    let tree = root.recorded_tree(version).ok().flatten()?.take(FILES_MAX + 1);
    let tree = tree.collect::<Result<Vec<_>>>().ok().filter(|tree| tree.len() <= FILES_MAX)?;
    Some(Arc::new(BaseRelease::new(release, sharing, tree, root.recorded_packed(version))))
}

/// Returns a file on the disk of the release whose blocks a new one may share.
fn sample(root: &Root, version: &Version) -> Option<File> {
    let inside = || disk::open_file(&root.release(version).join(MANIFEST)).ok();
    if root.is_spread() { inside().or_else(|| root.tree_file(version)) } else { root.tree_file(version) }
}

/// Returns whether a new release may keep its hard links. If its own manifest does not declare the files immutable,
/// writes to them would also change the old release.
fn may_keep_links(root: &Root, base: &BaseRelease, manifest: Option<&Manifest>) -> bool {
    let linked = base.sharing() == Sharing::Links && base.shared() > 0;
    !linked || root.settings().space.share == Share::Hardlink || immutable(manifest)
}

fn immutable(manifest: Option<&Manifest>) -> bool {
    manifest.is_some_and(|manifest| manifest.files.immutable)
}
