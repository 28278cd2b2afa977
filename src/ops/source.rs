//! Finds the one archive that contains a release, and checks whether a trusted key signed it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::{self as disk, FileKind};
use crate::manifest::Manifest;
use crate::naming::{self, ArchiveFormat};
use crate::plan::{Item, Step};
use crate::platform;
use crate::progress::Progress;
use crate::release::{ReleaseState, Snapshot};
use crate::root::Root;
use crate::verify;
use crate::version::{Version, nearest};

use super::archive_file::{ArchiveFile, named_as};
use super::disk_space::Reservation;
use super::remove;
use super::session::Mode;

/// The maximum number of files that a refusal lists because they nearly match.
const NEAR_MISSES_MAX: usize = 3;

/// Whether to unpack a release again over an installed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// `--replace`.
    Yes,
    /// An archive that differs is refused.
    No,
}

/// The requested release, and what may be done for it.
#[derive(Clone, Copy)]
pub(super) struct ArchiveRequest<'a> {
    /// The release.
    pub version: &'a Version,
    /// The archive that the caller named; else the one in releases/.
    pub given: Option<&'a Path>,
    /// Whether an installed release may be unpacked again.
    pub replace: Replace,
    /// In a dry run, the archive is read but not unpacked.
    pub mode: Mode,
    /// The disk space reserved for earlier releases.
    pub claimed: Reservation,
}

impl<'a> ArchiveRequest<'a> {
    /// Requests a release from its archive in releases/.
    pub fn of(version: &'a Version, replace: Replace, mode: Mode) -> Self {
        Self { version, given: None, replace, mode, claimed: Reservation::default() }
    }
}

/// The source of a release.
pub(super) struct ReleaseSource {
    pub archive: ArchiveFile,
    /// The step that discards the installed release first.
    pub first: Option<Step>,
}

/// Returns the source of a release; `None` if the installed release stays.
///
/// # Errors
/// Returns a `Refused` error if there is no archive, more than one, or one that differs from the installed release.
pub(super) fn source(
    root: &Root,
    now: &Snapshot,
    want: ArchiveRequest<'_>,
    progress: &mut dyn Progress,
) -> Result<Option<ReleaseSource>> {
    let version = want.version;
    let candidates = match want.given {
        Some(path) => vec![ArchiveFile::given(path)?],
        None => beside(root, version)?,
    };
    let Some(state) = now.state(version) else {
        return Ok(Some(ReleaseSource { archive: the_one(root, version, candidates)?, first: None }));
    };
    let in_use = matches!(state, ReleaseState::Current | ReleaseState::Permanent);
    let is_replaced = want.replace == Replace::Yes && !in_use;
    let differing = match differing(root, version, &candidates, progress)? {
        None if is_replaced && is_unproven(root, version, progress)? => {
            candidates.first().map(|candidate| candidate.shown.clone())
        }
        differing => differing,
    };
    let Some(differing) = differing else { return Ok(None) };
    match want.replace {
        Replace::Yes if in_use => Err(Error::refused(format!("cannot replace {version}: it is {state}"))
            .hint("install another release first")),
        Replace::Yes => {
            remove::refuse_running(root, version, "replace")?;
            let first = Some(Step::Trash { item: Item::Release(version.clone()) });
            Ok(Some(ReleaseSource { archive: the_one(root, version, candidates)?, first }))
        }
        Replace::No => Err(changed(version, &differing, in_use)),
    }
}

/// Returns whether an installed release lacks what only its archive can give it: a record of its files, or a signature
/// that the settings demand.
fn is_unproven(root: &Root, version: &Version, progress: &mut dyn Progress) -> Result<bool> {
    let demands_signature = !root.settings().trust.keys.is_empty();
    Ok(root.receipt(version).is_none() || demands_signature && !is_signed(root, version, progress)?)
}

/// Returns the archives of a release in releases/.
///
/// # Errors
/// Returns an error if releases/ cannot be read.
pub(super) fn beside(root: &Root, version: &Version) -> Result<Vec<ArchiveFile>> {
    Ok(root.archives(version)?.into_iter().map(|file| ArchiveFile::beside(root, file)).collect())
}

fn changed(version: &Version, archive: &str, in_use: bool) -> Error {
    let error = Error::refused(format!("release {version} was unpacked from another archive than {archive}"));
    if in_use {
        error.hint("it is in use: give the rebuilt release a version of its own, or remove the archive")
    } else {
        error.hint("use `--replace` to unpack it again, or remove the archive to keep the installed release")
    }
}

/// Returns the first archive if the installed release comes from none of them; `None` if its digest is unknown.
fn differing(
    root: &Root,
    version: &Version,
    candidates: &[ArchiveFile],
    progress: &mut dyn Progress,
) -> Result<Option<String>> {
    let Some(installed) = root.receipt(version).and_then(|receipt| receipt.sha256) else { return Ok(None) };
    for candidate in candidates {
        if candidate.open()?.sha256(&mut |_| {}, progress)? == installed {
            return Ok(None);
        }
    }
    Ok(candidates.first().map(|candidate| candidate.shown.clone()))
}

/// Returns the only candidate for this host.
fn the_one(root: &Root, version: &Version, mut candidates: Vec<ArchiveFile>) -> Result<ArchiveFile> {
    let arch = platform::arch()?;
    let product = root.settings().name.as_deref();
    let mut foreign = None;
    candidates.retain(|ArchiveFile { file_name, shown, .. }| {
        let other = naming::other_platform(file_name, product, &arch);
        if let (Some(platform), None) = (other, &foreign) {
            foreign = Some(format!("{shown} is for {platform}, and this host is Linux on {arch}"));
        }
        other.is_none()
    });
    match (candidates.pop(), candidates.is_empty(), foreign) {
        (Some(only), true, _) => Ok(only),
        (Some(last), false, _) => {
            let all: Vec<String> = candidates.into_iter().chain([last]).map(|c| c.shown).collect();
            Err(Error::refused(format!("more than one archive contains {version}: {}", all.join(", ")))
                .hint("keep one of them, or name it: `tenure unpack FILE`"))
        }
        (None, _, Some(foreign)) => Err(Error::refused(foreign)
            .hint(format!("get the archive of {version} for this host from its vendor"))),
        (None, _, None) => Err(absent(root, version)),
    }
}

fn absent(root: &Root, version: &Version) -> Error {
    let product = root.settings().name.as_deref();
    let name = product.unwrap_or("NAME");
    let place = root.releases();
    let here: Vec<Version> = root.archived().unwrap_or_default().into_iter().chain(installed(root)).collect();
    let looked = Error::refused(format!(
        "looked for {name}-{version}, {name}_{version} and {version}, also with a v before the version or with \
         -ANYTHING after it, ending in {}",
        ArchiveFormat::endings()
    ));
    let near = |file: String| {
        let why = naming::near_miss(&file, product, version)?;
        Some(Error::refused(format!("releases/{file} does not match: {why}")))
    };
    let mut files = disk::names(&place).unwrap_or_default();
    files.retain(|file| matches!(disk::standing(&place.join(file)), Ok(FileKind::File)));
    files.sort();
    let misses = files.into_iter().filter_map(near).take(NEAR_MISSES_MAX);
    Error::refused(format!(
        "release {version} is not installed, and no archive of it is in {}",
        place.display()
    ))
    .because_all([looked].into_iter().chain(misses))
    .hint(match nearest(version, &here) {
        Some(near) => format!("copy the archive there, or did you mean {near}?"),
        None => "copy the archive there; run `tenure versions` to see the installed releases".to_owned(),
    })
}

fn installed(root: &Root) -> Vec<Version> {
    root.observe().map_or_else(|_| Vec::new(), |now| now.releases.into_keys().collect())
}

/// Parses the manifest of an archive, which must declare this product and release.
///
/// # Errors
/// Returns a `Refused` error if it declares another one, or is invalid.
pub(super) fn manifest(
    root: &Root,
    version: &Version,
    candidate: &ArchiveFile,
    text: Option<&str>,
) -> Result<Option<Manifest>> {
    let Some(text) = text else { return Ok(None) };
    let manifest = candidate.parse_manifest(text)?;
    match manifest.mismatch(version, root.settings().name.as_deref()) {
        Some(another) => Err(Error::refused(format!("{} contains {another}", candidate.shown))
            .hint("the archive is misnamed or misbuilt: get it again from its vendor")),
        None => Ok(Some(manifest)),
    }
}

/// Returns the manifest in the only archive of a release in releases/.
///
/// # Errors
/// Returns a `Refused` error if there is no archive, more than one, or if its manifest is invalid.
pub(super) fn manifest_of(
    root: &Root,
    version: &Version,
    progress: &mut dyn Progress,
) -> Result<Option<Manifest>> {
    let candidate = the_one(root, version, beside(root, version)?)?;
    let text = candidate.manifest_text(progress)?;
    manifest(root, version, &candidate, text.as_deref())
}

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
fn is_signed(root: &Root, version: &Version, progress: &mut dyn Progress) -> Result<bool> {
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
