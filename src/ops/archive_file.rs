//! An archive that may contain a release: its place, its name, and who may have written it.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, ENTRIES_MAX, Limits};
use crate::error::{Context, Error, Result};
use crate::fs::{self as disk, Origin};
use crate::manifest::{MANIFEST, Manifest};
use crate::naming::{self, ArchiveFormat, DIGEST, SIGNATURE};
use crate::ownership::Owned;
use crate::process;
use crate::progress::Progress;
use crate::root::Root;
use crate::version::Version;

/// A release as the caller names it.
#[derive(Clone, Debug)]
pub enum ReleaseOrArchive {
    /// The release of this version, installed or from its archive in releases/.
    Release(Version),
    /// The release in the archive at this path.
    Archive {
        /// The path.
        path: PathBuf,
        /// The version that the caller states, if the name of the archive does not tell it.
        version: Option<Version>,
    },
}

impl ReleaseOrArchive {
    /// Returns the version of the release, and the path of its archive if the caller named one. The version is the
    /// stated one, or else that in the name of the archive, or else that in its manifest.
    ///
    /// # Errors
    /// Returns a `Refused` error if the version cannot be determined, or if the stated one differs from that in the
    /// name.
    pub fn identify(&self, root: &Root, progress: &mut dyn Progress) -> Result<(Version, Option<PathBuf>)> {
        let (path, stated) = match self {
            Self::Release(version) => return Ok((version.clone(), None)),
            Self::Archive { path, version } => (path, version),
        };
        let candidate = ArchiveFile::given(path)?;
        let by_name = naming::version_of(&candidate.file_name, root.settings().name.as_deref());
        let version = match (stated, by_name) {
            (Some(stated), Some(named)) if *stated != named => {
                return Err(Error::refused(format!(
                    "{} is an archive of {named}, not of {stated}",
                    candidate.shown
                ))
                .hint("remove `--version`, or rename the archive"));
            }
            (Some(version), _) => version.clone(),
            (None, Some(version)) => version,
            (None, None) => version_in_manifest(root, &candidate, progress)?,
        };
        Ok((version, Some(path.clone())))
    }
}

/// A candidate archive.
pub(super) struct ArchiveFile {
    pub origin: Origin,
    /// The path for messages: releases/FILE, or the given path.
    pub shown: String,
    pub file_name: String,
    format: ArchiveFormat,
}

impl ArchiveFile {
    /// Creates a candidate from an archive in releases/.
    pub fn beside(root: &Root, file: String) -> Self {
        let format = ArchiveFormat::split(&file).map_or(ArchiveFormat::Zip, |(_, format)| format);
        Self {
            origin: Origin::Inside(root.releases().join(&file)),
            shown: format!("releases/{file}"),
            file_name: file,
            format,
        }
    }

    /// Creates a candidate from an archive at any path.
    pub fn given(path: &Path) -> Result<Self> {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (_, format) = ArchiveFormat::split(&file_name).ok_or_else(|| no_archive(path))?;
        disk::resolve(path)?;
        let origin = Origin::Outside(path.to_owned());
        Ok(Self { origin, shown: path.display().to_string(), file_name, format })
    }

    /// Opens the archive to read it.
    pub fn open(&self) -> Result<Archive> {
        Archive::of(self.origin.open()?, self.origin.path(), self.format)
    }

    /// Reads through the archive, of any size, and returns the text of its manifest; `None` if it has none.
    pub fn manifest_text(&self, progress: &mut dyn Progress) -> Result<Option<String>> {
        let nowhere = |_| Error::refused(format!("cannot unpack {}: it is too large", self.shown));
        let limits = Limits { entries: ENTRIES_MAX, bytes: u64::MAX, block: 1, each: 0, refuse: &nowhere };
        Ok(self.open()?.survey(&limits, &mut |_| {}, progress)?.survey.manifest)
    }

    /// Parses the text of the manifest in the archive.
    ///
    /// # Errors
    /// Returns a `Refused` error if it is invalid.
    pub fn parse_manifest(&self, text: &str) -> Result<Manifest> {
        Manifest::parse(&format!("{MANIFEST} in {}", self.shown), text)
    }

    /// Opens the archive to install it in this root. As user root, Tenure installs only files of root or of this
    /// root's owner.
    ///
    /// # Errors
    /// Returns a `Refused` error if the archive, its digest or its signature belongs to another user, or is writable
    /// by one.
    pub fn open_to_install(&self, root: &Root) -> Result<Archive> {
        let file = self.origin.open()?;
        check_owner(root, &file, &self.origin)?;
        for beside in [DIGEST, SIGNATURE].map(|ending| self.origin.beside(ending)) {
            // A file that cannot be opened is reported when it is read.
            beside.open().map_or(Ok(()), |file| check_owner(root, &file, &beside))?;
        }
        Archive::of(file, self.origin.path(), self.format)
    }
}

fn check_owner(root: &Root, file: &File, origin: &Origin) -> Result<()> {
    if disk::effective_uid() != 0 {
        return Ok(());
    }
    let (owned, path) = (Owned::of(file, origin.path())?, origin.display());
    if owned.uid != 0 && owned.uid != root.owner().uid {
        return Err(Error::refused(format!(
            "cannot install {path} as root: it belongs to {}, who is neither root nor the owner of the root",
            process::user_name(owned.uid)
        ))
        .hint(format!("check that this is the file to install, then run `chown root {path}`")));
    }
    owned.not_shared().context(|| format!("cannot install {path} as root"))
}

fn no_archive(path: &Path) -> Error {
    Error::refused(format!(
        "{} is not an archive: its name must end in {}",
        path.display(),
        ArchiveFormat::endings()
    ))
}

/// Returns the version in the manifest of an archive.
fn version_in_manifest(root: &Root, candidate: &ArchiveFile, progress: &mut dyn Progress) -> Result<Version> {
    if let Some(text) = candidate.manifest_text(progress)? {
        return Ok(candidate.parse_manifest(&text)?.version);
    }
    let product = root.settings().name.as_deref();
    let why = match (product, naming::version_of(&candidate.file_name, None)) {
        (Some(product), Some(_)) => format!("does not begin with {product}"),
        _ => "has no version".to_owned(),
    };
    let name = product.unwrap_or("NAME");
    Err(Error::refused(format!(
        "cannot determine which release {} contains: its name {why}, and it has no {MANIFEST}",
        candidate.shown
    ))
    .hint("use `--version VERSION` to state it")
    .hint(format!("or name the file {name}-VERSION.zip, or with another ending of an archive")))
}

/// Refuses a signed archive that was renamed: it could bring back a release that was abandoned for a reason.
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
