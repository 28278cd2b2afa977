//! Inspects a directory by the same rules as if it were unpacked from an archive.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::stat::SFlag;

use super::entry::{EntryType, RawEntry};
use super::extractor::Extractor;
use super::limits::Limits;
use super::lint_report::LintReport;
use super::pending_file::{PendingFile, WrittenFile};
use crate::error::{Context, Result};
use crate::fs::{WalkEntry, walk};
use crate::lint::Code;
use crate::progress::Progress;

/// The hint for a directory that cannot be packed into an archive.
const NO_RELEASE: &str = "name a directory that contains only the release";

/// Inspects the directory `from` like an archive whose top directory is `top`, and notes all broken rules. Apart from
/// the manifest, only the first bytes of files are read.
///
/// # Errors
/// Returns an error if something cannot be read, or on interruption.
pub fn look(from: &Path, top: &str, limits: &Limits<'_>, progress: &dyn Progress) -> Result<LintReport> {
    let mut extractor = Extractor::noting(limits);
    let read = walk(from, &mut |found| {
        progress.go_on()?;
        let name = [top.as_bytes(), b"/", found.path.as_os_str().as_bytes()].concat();
        admit(found, &name, &mut extractor)
            .context(|| format!("cannot read {}", from.join(found.path).display()))
    });
    let mut looked = extractor.looked(read)?;
    let unfit = looked.findings.iter_mut().filter(|finding| finding.code == Code::ArchiveUnfit);
    unfit.for_each(|finding| NO_RELEASE.clone_into(&mut finding.hint));
    Ok(looked)
}

/// Returns the type that a walk's entry has in an archive.
pub fn shape(found: &WalkEntry<'_>) -> EntryType {
    match found.kind() {
        SFlag::S_IFDIR => EntryType::Directory,
        SFlag::S_IFREG => EntryType::File,
        SFlag::S_IFLNK => EntryType::Symlink,
        _ => EntryType::Unfit("is a device, pipe or socket"),
    }
}

fn admit(found: &WalkEntry<'_>, name: &[u8], extractor: &mut Extractor<'_>) -> Result<()> {
    let shape = shape(found);
    let target = if shape == EntryType::Symlink {
        found.target().context(|| "it cannot be followed")?
    } else {
        "".into()
    };
    let raw = RawEntry {
        name,
        shape,
        target: target.as_bytes(),
        size: if shape == EntryType::File { u64::try_from(found.stat.st_size).unwrap_or(0) } else { 0 },
        mode: found.stat.st_mode & 0o7777,
        mtime: None,
    };
    let Some(body) = extractor.admit(&raw)? else { return Ok(()) };
    let filled = read(found, body)?;
    extractor.put(filled);
    Ok(())
}

/// Reads only the part of a file that is to be captured.
fn read(found: &WalkEntry<'_>, body: PendingFile) -> Result<WrittenFile> {
    let most = body.wanted.bytes() as u64;
    let mut filling = body.open()?;
    let mut text = Vec::new();
    let file = found.open().context(|| "it cannot be opened")?;
    file.take(most).read_to_end(&mut text).context(|| "its first bytes cannot be read")?;
    filling.write(&text)?;
    filling.close()
}
