//! Where a release comes from: the one archive that holds it, unpacked into staging and held against the rules.

use std::path::Path;
use std::sync::Arc;

use crate::archive::{Archive, ENTRIES_MAX, Limits, Reading, Twins};
use crate::digest;
use crate::error::{Error, Kind, Result};
use crate::execute::{self, Observer, Staged, Staging};
use crate::fs::{self as disk, Origin};
use crate::manifest::{MANIFEST, Manifest};
use crate::naming::{self, Format};
use crate::plan::{Item, Step};
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::signature::{self, Vouched};
use crate::version::{Version, nearest};
use crate::watch::Watch;

use super::Mode;
use super::room::Room;
use super::share;

/// Whether a release may be unpacked anew over an installed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// `--replace`.
    Yes,
    /// An archive that differs is refused.
    No,
}

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
}

/// What was found of an archive.
pub(super) struct Looked {
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Whether a digest lies beside it, which is the same.
    pub has_digest: bool,
    /// Whether a trusted key has signed it.
    pub is_signed: bool,
    /// The room that it takes, and what there is, in words.
    pub room: String,
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

/// A candidate archive.
pub(super) struct Candidate {
    pub origin: Origin,
    /// As it is shown: releases/FILE, or the path that was given.
    shown: String,
    pub file_name: String,
    format: Format,
}

/// Which release is wanted, and how much may be done for it.
#[derive(Clone, Copy)]
pub(super) struct Want<'a> {
    /// The release.
    pub version: &'a Version,
    /// The archive that is named; else the one in releases/.
    pub given: Option<&'a Path>,
    /// Whether an installed release may be unpacked anew.
    pub replace: Replace,
    /// In a dry run the archive is only looked through.
    pub mode: Mode,
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
    let version = want.version;
    let candidates = match want.given {
        Some(path) => vec![Candidate::given(path)?],
        None => root.archives(version)?.into_iter().map(|file| Candidate::beside(root, file)).collect(),
    };
    let Some(state) = now.state(version) else {
        return bring(root, now, want, &the_one(root, version, candidates)?, Vec::new(), observer);
    };
    let Some(differing) = differing(root, version, &candidates, observer)? else {
        return Ok(Fetch::default());
    };
    let in_use = matches!(state, ReleaseState::Current | ReleaseState::Permanent);
    match want.replace {
        Replace::Yes if in_use => Err(Error::refused(format!("cannot replace {version}: it is {state}"))
            .hint("install another release first")),
        Replace::Yes => {
            super::uninstall::refuse_running(root, version, "replace")?;
            let discard = Step::Discard { item: Item::Release(version.clone()) };
            bring(root, now, want, &the_one(root, version, candidates)?, vec![discard], observer)
        }
        Replace::No => Err(changed(version, &differing, in_use)),
    }
}

fn changed(version: &Version, archive: &str, in_use: bool) -> Error {
    let error = Error::refused(format!("release {version} was unpacked from another archive than {archive}"));
    if in_use {
        error.hint("it is in use: give the rebuilt release a version of its own, or remove the archive")
    } else {
        error.hint("`--replace` unpacks it anew; or remove the archive to keep what is installed")
    }
}

/// The first archive whose content is not what the installed release was unpacked from, unless another one's
/// is. Where that is not known, none differs.
fn differing(
    root: &Root,
    version: &Version,
    candidates: &[Candidate],
    watch: &mut dyn Watch,
) -> Result<Option<String>> {
    let Some(installed) = root.receipt(version).and_then(|receipt| receipt.sha256) else { return Ok(None) };
    for candidate in candidates {
        if candidate.open()?.sha256(&mut |_| {}, watch)? == installed {
            return Ok(None);
        }
    }
    Ok(candidates.first().map(|candidate| candidate.shown.clone()))
}

fn the_one(root: &Root, version: &Version, mut candidates: Vec<Candidate>) -> Result<Candidate> {
    match (candidates.pop(), candidates.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            let all: Vec<String> = candidates.into_iter().chain([last]).map(|c| c.shown).collect();
            Err(Error::refused(format!("more than one archive holds {version}: {}", all.join(", ")))
                .hint("keep the one that is meant, or name it: `tenure unpack FILE`"))
        }
        (None, _) => Err(absent(root, version)),
    }
}

fn absent(root: &Root, version: &Version) -> Error {
    let name = root.settings().name.as_deref().unwrap_or("NAME");
    let place = root.releases();
    let here: Vec<Version> = root.archived().unwrap_or_default().into_iter().chain(installed(root)).collect();
    Error::refused(format!(
        "release {version} is not installed, and no archive of it is in {}",
        place.display()
    ))
    .because(Error::refused(format!(
        "looked for {name}-{version}.zip, .tar.gz, .tgz, .tar.zst, .tar.xz and .tar, also with -ANYTHING \
             behind the version"
    )))
    .hint(match nearest(version, &here) {
        Some(near) => format!("copy the archive there; or is {near} meant, which is here?"),
        None => "copy the archive there; `tenure versions` lists what is installed".to_owned(),
    })
}

fn installed(root: &Root) -> Vec<Version> {
    root.observe().map_or_else(|_| Vec::new(), |now| now.releases.into_keys().collect())
}

/// Stages the archive; only what is whole, holds this release and fits gets a plan.
fn bring<'a>(
    root: &'a Root,
    now: &Snapshot,
    want: Want<'_>,
    candidate: &Candidate,
    mut steps: Vec<Step>,
    observer: &mut dyn Observer,
) -> Result<Fetch<'a>> {
    let version = want.version;
    free_name(root, version)?;
    let archive = candidate.open()?;
    if want.mode == Mode::Act {
        execute::make_room(root, observer);
    }
    let room = Room::look(root, version)?;
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
    let room = room.beside(reading.survey.space(room.block()), reading.survey.entries());
    let (sha256, is_signed) = (reading.sha256.clone(), !root.settings().trust.keys.is_empty());
    let looked = Some(Looked { sha256, has_digest, is_signed, room });
    let complete = |staging: Staging<'a>| {
        let known = Some((candidate.file_name.clone(), reading.sha256.clone()));
        staging.complete(reading.survey.top.as_deref(), known, reading.tree(), reading.packed())
    };
    let staged = staging.map(complete).transpose()?;
    steps.push(unpack);
    Ok(Fetch { steps, staged, manifest, looked })
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
    match signed_as {
        // An archive that is signed and renamed would bring back a release that was left for a reason.
        Some(name) if !naming::holds(&name, settings.name.as_deref(), version) => Err(Error::refused(
            format!("{} was signed as {}, which is not {version}", candidate.shown, name.escape_debug()),
        )
        .hint("the archive was renamed: get the one of this version from the vendor")),
        _ => Ok((reading, has_digest)),
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

fn manifest(
    root: &Root,
    version: &Version,
    candidate: &Candidate,
    text: Option<&str>,
) -> Result<Option<Manifest>> {
    let Some(text) = text else { return Ok(None) };
    let file = format!("{MANIFEST} in {}", candidate.shown);
    let manifest = Manifest::parse(&file, text)?;
    let refuse = |what: &str, inside: &str, wanted: &str| {
        Err(Error::refused(format!("{} holds another {what}: {inside}, not {wanted}", candidate.shown))
            .hint("the archive is misnamed or misbuilt: get it again from its vendor"))
    };
    if manifest.version != *version {
        return refuse("version", &manifest.version.to_string(), &version.to_string());
    }
    match &root.settings().name {
        Some(name) if *name != manifest.name => {
            refuse("product", &manifest.name.escape_debug().to_string(), name)
        }
        _ => Ok(Some(manifest)),
    }
}

impl Candidate {
    fn beside(root: &Root, file: String) -> Self {
        let format = Format::split(&file).map_or(Format::Zip, |(_, format)| format);
        Self {
            origin: Origin::Inside(root.releases().join(&file)),
            shown: format!("releases/{file}"),
            file_name: file,
            format,
        }
    }

    /// An archive anywhere.
    pub fn given(path: &Path) -> Result<Self> {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (_, format) = Format::split(&file_name).ok_or_else(|| no_archive(path))?;
        disk::resolve(path)?;
        let origin = Origin::Outside(path.to_owned());
        Ok(Self { origin, shown: path.display().to_string(), file_name, format })
    }

    pub fn open(&self) -> Result<Archive> {
        Archive::of(self.origin.open()?, self.origin.path(), self.format)
    }
}

fn no_archive(path: &Path) -> Error {
    Error::refused(format!(
        "{} is no archive: its name ends in none of .zip, .tar.gz, .tgz, .tar.zst, .tar.xz, .tar",
        path.display()
    ))
}

/// What the manifest declares in the one archive of a release in releases/; nothing where there is none, or several
/// archives.
pub(super) fn manifest_of(root: &Root, version: &Version, watch: &mut dyn Watch) -> Result<Option<Manifest>> {
    let archives = root.archives(version)?;
    let [file] = archives.as_slice() else { return Ok(None) };
    let candidate = Candidate::beside(root, file.clone());
    let text = survey(&candidate, watch)?.survey.manifest;
    manifest(root, version, &candidate, text.as_deref())
}

/// Looks through an archive, however large it is.
fn survey(candidate: &Candidate, watch: &mut dyn Watch) -> Result<Reading> {
    let nowhere = |_| Error::refused(format!("cannot unpack {}: it is too large", candidate.shown));
    let limits = Limits { entries: ENTRIES_MAX, bytes: u64::MAX, block: 1, each: 0, refuse: &nowhere };
    candidate.open()?.survey(&limits, &mut |_| {}, watch)
}

/// The version that an archive holds, by its name or else by its manifest; both must agree in the end.
pub(super) fn version_in(root: &Root, path: &Path, watch: &mut dyn Watch) -> Result<Version> {
    let candidate = Candidate::given(path)?;
    if let Some(version) = naming::version_of(&candidate.file_name, root.settings().name.as_deref()) {
        return Ok(version);
    }
    let reading = survey(&candidate, watch)?;
    if let Some(text) = &reading.survey.manifest {
        return Ok(Manifest::parse(&format!("{MANIFEST} in {}", candidate.shown), text)?.version);
    }
    let name = root.settings().name.as_deref().unwrap_or("NAME");
    Err(Error::refused(format!("cannot tell which release {} holds: it has no {MANIFEST}", candidate.shown))
        .hint(format!("name the file {name}-VERSION.zip, or with another ending of an archive")))
}
