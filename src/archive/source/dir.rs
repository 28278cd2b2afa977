//! Inspects a directory by the same rules as an archive, or copies it with the same writer.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::stat::{FileStat, SFlag, fstat};

use super::{EntryType, RawEntry};
use crate::archive::extractor::{Extractor, Target};
use crate::archive::input::ProgressMeter;
use crate::archive::layout::{Layout, PathUse};
use crate::archive::lint_report::LintReport;
use crate::archive::rules::{Limits, MODE_MASK};
use crate::archive::unpack::{Captured, OpenFile, PendingFile, WrittenFile};
use crate::archive::writer::Writer;
use crate::error::{Context, Error, Result};
use crate::fs::{WalkEntry, walk};
use crate::lint::Code;
use crate::progress::Progress;
use crate::tree::{CHUNK, TreeEntry};

/// The hint for a directory that cannot be packed into an archive.
const NO_RELEASE: &str = "name a directory that contains only the release";

/// Inspects the directory `from` like an archive whose top directory is `top`, and notes all broken rules. Apart from
/// the manifest, only the first bytes of files are read.
///
/// # Errors
/// Returns an error if something cannot be read, or on interruption.
pub fn lint_dir(from: &Path, top: &str, limits: &Limits<'_>, progress: &dyn Progress) -> Result<LintReport> {
    let mut extractor = Extractor::noting(limits);
    let read = walk(from, &mut |found| {
        progress.go_on()?;
        let name = [top.as_bytes(), b"/", found.path.as_os_str().as_bytes()].concat();
        admit(found, &name, &mut extractor)
            .context(|| format!("cannot read {}", from.join(found.path).display()))
    });
    let mut report = extractor.report(read)?;
    let unfit = report.findings.iter_mut().filter(|finding| finding.code == Code::ArchiveUnfit);
    unfit.for_each(|finding| NO_RELEASE.clone_into(&mut finding.hint));
    Ok(report)
}

/// Returns the type that a walk's entry has in an archive.
fn entry_type(found: &WalkEntry<'_>) -> EntryType {
    match found.kind() {
        SFlag::S_IFDIR => EntryType::Directory,
        SFlag::S_IFREG => EntryType::File,
        SFlag::S_IFLNK => EntryType::Symlink,
        _ => EntryType::Unfit("is a device, pipe or socket"),
    }
}

fn admit(found: &WalkEntry<'_>, name: &[u8], extractor: &mut Extractor<'_>) -> Result<()> {
    let kind = entry_type(found);
    let target = if kind == EntryType::Symlink {
        found.target().context(|| "it cannot be followed")?
    } else {
        "".into()
    };
    let raw = RawEntry {
        name,
        kind,
        target: target.as_bytes(),
        size: if kind == EntryType::File { u64::try_from(found.stat.st_size).unwrap_or(0) } else { 0 },
        mode: found.stat.st_mode & 0o7777,
        mtime: None,
    };
    let Some(body) = extractor.admit(&raw)? else { return Ok(()) };
    capture(found, body).map(|written| extractor.put(written))
}

/// Reads only the part of a file that is to be captured.
fn capture(found: &WalkEntry<'_>, body: PendingFile) -> Result<WrittenFile> {
    let most = body.wanted.bytes() as u64;
    let mut captured = body.open()?;
    let mut text = Vec::new();
    let file = found.open().context(|| "it cannot be opened")?;
    file.take(most).read_to_end(&mut text).context(|| "its first bytes cannot be read")?;
    captured.write(&text)?;
    captured.close()
}

/// The result of a copy.
#[derive(Debug)]
pub struct Copied {
    layout: Layout,
    /// Skipped sockets and pipes, which mean nothing outside the process that made them.
    pub skipped: Vec<PathBuf>,
}

impl Copied {
    /// Returns everything that was copied, sorted by path.
    pub fn tree(&self) -> impl Iterator<Item = TreeEntry> {
        self.layout.entries(None)
    }
}

/// Copies the contents of the directory `from` into the empty directory `target`, which is open for reading.
///
/// Modes are masked like those of archives, and `target` gets 0755. Symlinks are copied unchanged wherever they lead,
/// because the operator owns this tree. Hard links become separate files. Sockets and pipes are skipped.
///
/// # Errors
/// Returns a `Refused` error if `from` contains a device, a name that is not UTF-8, or the target. Returns a `Failed`
/// error if something cannot be read or written. The files copied so far remain.
pub fn copy(from: &Path, target: &Target<'_>, progress: &mut dyn Progress) -> Result<Copied> {
    let cannot_copy = || format!("cannot copy {}", from.display());
    let mut copied = Copied { layout: Layout::default(), skipped: Vec::new() };
    let mut writer = Writer::new(target.dir, target.owner)?;
    let own = identity(&fstat(target.dir).context(cannot_copy)?);
    // The walk below reports whatever cannot be read.
    let (total, done) = (fs_extra::dir::get_size(from).unwrap_or(0), AtomicU64::new(0));
    let mut meter = ProgressMeter::new(progress, &done, total);
    walk(from, &mut |found| {
        meter.tick()?;
        if identity(&found.stat) == own {
            return Err(Error::refused(format!("{} contains the destination of the copy", from.display())));
        }
        match found.kind() {
            SFlag::S_IFSOCK | SFlag::S_IFIFO => copied.skipped.push(found.path.to_owned()),
            _ => copy_one(found, &mut writer, &mut copied.layout, &mut |n| {
                done.fetch_add(n, Ordering::Relaxed);
                meter.tick()
            })?,
        }
        Ok(())
    })
    .and_then(|()| writer.finish(&mut copied.layout, None))
    .map(|()| copied)
    .context(cannot_copy)
}

fn copy_one(
    found: &WalkEntry<'_>,
    writer: &mut Writer,
    layout: &mut Layout,
    passed: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let path = text(found.path)?;
    let mode = found.stat.st_mode & MODE_MASK;
    match found.kind() {
        SFlag::S_IFDIR => {
            layout.insert(path, PathUse::Directory { mode, made: false })?;
            writer.directory(layout, path)
        }
        SFlag::S_IFLNK => {
            let target = found.target().context(|| format!("cannot read {path:?}"))?;
            layout.insert(path, PathUse::Symlink { target: text(Path::new(&target))?.into() })
        }
        SFlag::S_IFREG => {
            let mut file = found.open().context(|| format!("cannot read {path:?}"))?;
            let mtime = u64::try_from(found.stat.st_mtime).ok();
            let slot = Some(writer.slot(layout, path, mode, mtime)?);
            let pending = PendingFile { path: path.to_owned(), slot, wanted: Captured::Nothing, base: None };
            let mut copy = pending.open()?;
            let size = copy_data(&mut file, &mut copy, path, passed)?;
            let sum = copy.close()?.sum;
            layout.insert(path, PathUse::File { mode, size, sum })
        }
        _ => Err(Error::refused(format!("{path:?} is a device"))),
    }
}

fn copy_data(
    file: &mut File,
    to: &mut OpenFile,
    path: &str,
    passed: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let (mut buffer, mut size) = (vec![0; CHUNK], 0);
    loop {
        match file.read(&mut buffer).context(|| format!("cannot read {path:?}"))? {
            0 => return Ok(size),
            n => {
                to.write(&buffer[..n])?;
                size += n as u64;
                passed(n as u64)?;
            }
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::refused(format!("{path:?} is not UTF-8")))
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
