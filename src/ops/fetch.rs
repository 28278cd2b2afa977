//! Where a release comes from: the one archive that holds it, looked through before anything is written.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use crate::archive::{Archive, Survey};
use crate::digest;
use crate::error::{Error, Result};
use crate::execute::Source;
use crate::fs as disk;
use crate::manifest::{MANIFEST, Manifest};
use crate::naming::{self, Format};
use crate::plan::{Item, Step};
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::signature::{self, Vouched};
use crate::version::Version;
use crate::watch::Watch;

/// The reserve where the settings name none: 64 MiB, or a hundredth of a smaller file system.
const RESERVE: u64 = 64 << 20;

/// About how long the line of a file in a receipt is, in bytes.
const LINE: u64 = 256;

/// The files and directories that Tenure makes for itself on the way, at most.
const OWN_FILES: u64 = 16;

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
pub(super) struct Fetch {
    /// The steps that bring it there; none where it is there to stay.
    pub steps: Vec<Step>,
    /// What the first of them reads.
    pub source: Option<Source>,
    /// What the archive's manifest declares.
    pub manifest: Option<Manifest>,
}

/// A candidate archive.
struct Candidate {
    path: PathBuf,
    /// As it is shown: releases/FILE, or the path that was given.
    shown: String,
    file_name: String,
    format: Format,
}

/// Finds what brings `version` onto the disk, and refuses what cannot be unpacked.
///
/// # Errors
/// Refused where there is no archive, or two, or one that differs from what is installed, is damaged, holds
/// another release or does not fit.
pub(super) fn fetch(
    root: &Root,
    now: &Snapshot,
    version: &Version,
    given: Option<&Path>,
    replace: Replace,
    watch: &mut dyn Watch,
) -> Result<Fetch> {
    let candidates = match given {
        Some(path) => vec![Candidate::given(path)?],
        None => root.archives(version)?.into_iter().map(|file| Candidate::beside(root, file)).collect(),
    };
    let Some(state) = now.state(version) else {
        return bring(root, version, the_one(root, version, candidates)?, Vec::new(), watch);
    };
    let Some(differing) = differing(root, version, &candidates, watch)? else { return Ok(Fetch::default()) };
    let in_use = matches!(state, ReleaseState::Current | ReleaseState::Permanent);
    match replace {
        Replace::Yes if in_use => Err(Error::refused(format!("cannot replace {version}: it is {state}"))
            .hint("install another release first")),
        Replace::Yes => {
            super::uninstall::refuse_running(root, version, "replace")?;
            let discard = Step::Discard { item: Item::Release(version.clone()) };
            bring(root, version, the_one(root, version, candidates)?, vec![discard], watch)
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
        if candidate.open()?.sha256(watch)? == installed {
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
    Error::refused(format!(
        "release {version} is not installed, and no archive of it is in {}",
        place.display()
    ))
    .because(Error::refused(format!(
        "looked for {name}-{version}.zip, .tar.gz, .tgz, .tar.zst, .tar.xz and .tar, also with -ANYTHING \
             behind the version"
    )))
    .hint("copy the archive there; `tenure versions` lists what is installed")
}

/// Looks the archive through; only what is whole, holds this release and fits gets a plan.
fn bring(
    root: &Root,
    version: &Version,
    candidate: Candidate,
    mut steps: Vec<Step>,
    watch: &mut dyn Watch,
) -> Result<Fetch> {
    free_name(root, version)?;
    let archive = candidate.open()?;
    let sha256 = vouched(root, version, &candidate, &archive, watch)?;
    let survey = archive.survey(watch)?;
    let manifest = manifest(root, version, &candidate, &survey)?;
    room(root, version, survey.space(disk::free(root.path())?.block), survey.entries())?;
    steps.push(Step::Unpack { version: version.clone(), archive: candidate.shown });
    let source = Source::Archive { archive, survey, file_name: candidate.file_name, sha256 };
    Ok(Fetch { steps, source: Some(source), manifest })
}

/// Reads the archive once, for its digest and its signature; what is unpacked must have the same digest.
fn vouched(
    root: &Root,
    version: &Version,
    candidate: &Candidate,
    archive: &Archive,
    watch: &mut dyn Watch,
) -> Result<String> {
    let settings = root.settings();
    let read = |also: &mut dyn FnMut(&[u8])| archive.hash_with(watch, also);
    let Vouched { sha256, signed_as } = signature::vouch(&candidate.path, &settings.trust.keys, read)?;
    digest::check(&candidate.path, &sha256)?;
    match signed_as {
        // An archive that is signed and renamed would bring back a release that was left for a reason.
        Some(name) if !naming::holds(&name, settings.name.as_deref(), version) => Err(Error::refused(
            format!("{} was signed as {}, which is not {version}", candidate.shown, name.escape_debug()),
        )
        .hint("the archive was renamed: get the one of this version from the vendor")),
        _ => Ok(sha256),
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
    survey: &Survey,
) -> Result<Option<Manifest>> {
    let Some(text) = &survey.manifest else { return Ok(None) };
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
        Some(name) if *name != manifest.name => refuse("product", &manifest.name, name),
        _ => Ok(Some(manifest)),
    }
}

/// Refuses what does not fit, before anything is written.
pub(super) fn room(root: &Root, version: &Version, bytes: u64, files: u64) -> Result<()> {
    let free = disk::free(root.path())?;
    // Beside the release itself, a line for each file goes into its receipt, and some files into the journal.
    let (bytes, files) = (bytes + files * LINE + OWN_FILES * free.block, files + OWN_FILES);
    let reserve =
        root.settings().space.reserve.map_or(RESERVE.min(free.size / 100), |reserve| reserve.as_u64());
    let needed = bytes.saturating_add(reserve);
    let refuse = |needed: String, free: String| {
        let place = root.path().display();
        Err(Error::refused(format!("not enough space for {version} on {place}: needs {needed}, has {free}"))
            .hint("`tenure prune` removes releases that are no longer needed"))
    };
    if needed > free.bytes {
        let unpacked =
            format!("{} ({} unpacked and {} in reserve)", size(needed), size(bytes), size(reserve));
        return refuse(unpacked, format!("{} free", size(free.bytes)));
    }
    match free.files {
        Some(left) if left < files => refuse(format!("{files} files (inodes)"), format!("{left} free")),
        _ => Ok(()),
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

impl Candidate {
    fn beside(root: &Root, file: String) -> Self {
        let format = Format::split(&file).map_or(Format::Zip, |(_, format)| format);
        Self { path: root.releases().join(&file), shown: format!("releases/{file}"), file_name: file, format }
    }

    fn given(path: &Path) -> Result<Self> {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (_, format) = Format::split(&file_name).ok_or_else(|| no_archive(path))?;
        disk::resolve(path)?;
        Ok(Self { path: path.to_owned(), shown: path.display().to_string(), file_name, format })
    }

    fn open(&self) -> Result<Archive> {
        Archive::open(&self.path, self.format)
    }
}

fn no_archive(path: &Path) -> Error {
    Error::refused(format!(
        "{} is no archive: its name ends in none of .zip, .tar.gz, .tgz, .tar.zst, .tar.xz, .tar",
        path.display()
    ))
}

/// The version that an archive holds, by its manifest or else by its name.
pub(super) fn version_in(root: &Root, path: &Path, watch: &mut dyn Watch) -> Result<Version> {
    let candidate = Candidate::given(path)?;
    let survey = candidate.open()?.survey(watch)?;
    if let Some(text) = &survey.manifest {
        return Ok(Manifest::parse(&format!("{MANIFEST} in {}", candidate.shown), text)?.version);
    }
    naming::version_of(&candidate.file_name, root.settings().name.as_deref()).ok_or_else(|| {
        let name = root.settings().name.as_deref().unwrap_or("NAME");
        Error::refused(format!("cannot tell which release {} holds: it has no {MANIFEST}", candidate.shown))
            .hint(format!("name the file {name}-VERSION.zip, or with another ending of an archive"))
    })
}
