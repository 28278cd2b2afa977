//! `lint`: reports all problems of a release before its vendor publishes it.

use std::path::Path;

use serde::Serialize;

use crate::archive::{self, ENTRIES_MAX, Limits, Whole};
use crate::error::{Error, Kind, Result};
use crate::fs as disk;
use crate::host_path;
use crate::lint::{self, Code, FileType, Finding, Release};
use crate::progress::Progress;
use crate::tree::Node;

use super::archive_file::ArchiveFile;

/// The name of the top directory under which a directory is checked, as if it were an archive.
pub(super) const TOP: &str = "release";

/// The result of `lint`.
#[derive(Clone, Debug, Serialize)]
pub struct Linted {
    /// The directory or archive, as given on the command line.
    pub subject: String,
    /// All problems of the archive, the manifest and the files.
    pub findings: Vec<Finding>,
}

/// Checks a release in an archive or in a directory for all problems. Writes nothing.
///
/// # Errors
/// Returns a `Refused` error if `what` is neither a directory nor an archive, and a `Failed` error if it cannot be
/// read.
pub fn lint(what: &Path, progress: &mut dyn Progress) -> Result<Linted> {
    let path = disk::resolve(what)?;
    let (looked, name) = if host_path::is_dir(&path) {
        (archive::lint_dir(&path, TOP, &unlimited(), progress)?, None)
    } else {
        let candidate = ArchiveFile::given(what)?;
        let (archive, name) = (candidate.open()?, candidate.file_name.clone());
        let mut looked = archive.examine(&unlimited(), progress)?;
        let digest = archive.sha256(&mut |_| {}, progress)?;
        match crate::verify::check_digest(&candidate.origin, &digest) {
            Err(error) if error.kind() == Kind::Refused => {
                looked.findings.push(Finding::new(Code::DigestDiffers, "", error.in_one_line()));
            }
            checked => drop(checked?),
        }
        (looked, Some(name))
    };
    let mut findings = looked.findings;
    findings.extend(looked.whole.iter().flat_map(|whole| lint::lint(&release(whole, name.clone()))));
    Ok(Linted { subject: what.display().to_string(), findings })
}

/// Returns limits for any size, because nothing is written.
pub(super) fn unlimited() -> Limits<'static> {
    let refuse = &|_| Error::refused(format!("it has more than {ENTRIES_MAX} entries"));
    Limits { entries: ENTRIES_MAX, bytes: u64::MAX, block: 1, each: 0, refuse }
}

fn release(whole: &Whole, archive: Option<String>) -> Release {
    let thing = |mode: u32, node| match node {
        Node::Directory => Some(FileType::Directory),
        Node::File { .. } => Some(FileType::File { executable: mode & 0o100 != 0 }),
        Node::Symlink { target } => Some(FileType::Link(target)),
        Node::Other => None,
    };
    Release {
        archive,
        manifest: whole.survey.manifest.clone(),
        entries: whole
            .tree()
            .filter_map(|entry| Some((entry.path, thing(entry.mode, entry.node)?)))
            .collect(),
        programs: whole.heads.iter().cloned().collect(),
    }
}
