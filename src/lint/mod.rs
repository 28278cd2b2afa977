//! Finds the faults of a release before its vendor publishes it: all at once, each with a code, a place and a hint.
//! The module has no effects: the caller reads the release.

mod binaries;
mod files;
mod finding;
mod manifest;
mod release;
mod requires;

use crate::manifest::MANIFEST;
use crate::naming;

pub use finding::{Code, Finding};
pub use release::{FileMagic, FileType, Interpreter, Release, Shebang};

/// Returns all faults of a release: those of the manifest first, in the order of its lines, then those of the files.
#[must_use]
pub fn lint(release: &Release) -> Vec<Finding> {
    let (manifest, mut findings) = match &release.manifest {
        Some(text) => manifest::check(text, release),
        None => (None, check_file_name(release).into_iter().collect()),
    };
    let empty = &[][..];
    let arch = manifest.as_ref().map_or(empty, |manifest| &manifest.requires.arch);
    let hooks = manifest.iter().flat_map(manifest::programs).map(|(_, _, argv)| argv.program());
    let named = || naming::version_of(release.archive.as_ref()?, None);
    let version = manifest.as_ref().map(|manifest| manifest.version.clone()).or_else(named);
    findings.extend(files::check(release, version.as_ref(), arch, hooks));
    findings
}

/// Without a manifest, the file name must contain the version of the release.
fn check_file_name(release: &Release) -> Option<Finding> {
    if release.entries.contains_key(MANIFEST) {
        return None;
    }
    let archive = release.archive.as_ref().filter(|archive| naming::version_of(archive, None).is_none())?;
    let message = format!("{archive:?} contains no version, and there is no {MANIFEST}");
    Some(Finding::new(Code::NameDiffers, "", message))
}
