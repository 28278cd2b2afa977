//! Looks through a directory as if it were unpacked from an archive: by the same rules.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::stat::SFlag;

use super::body::{Body, Filled};
use super::entry::{Raw, Shape};
use super::intake::Intake;
use super::limits::Limits;
use super::notes::Looked;
use crate::error::{Doing, Result};
use crate::lint::Code;
use crate::walk::{Found, walk};
use crate::watch::Watch;

/// What helps with a directory that no archive can be made of.
const NO_RELEASE: &str = "name the directory that holds the release and nothing else";

/// Looks through the directory `from` as an archive would hold it, all below the directory `top`, and notes all
/// that breaks a rule. Of files no more is read than says what they are.
///
/// # Errors
/// When something cannot be read, or on interruption.
pub fn look(from: &Path, top: &str, limits: &Limits<'_>, watch: &dyn Watch) -> Result<Looked> {
    let mut intake = Intake::noting(limits);
    let read = walk(from, &mut |found| {
        watch.go_on()?;
        let name = [top.as_bytes(), b"/", found.path.as_os_str().as_bytes()].concat();
        admit(found, &name, &mut intake).doing(|| format!("cannot read {}", from.join(found.path).display()))
    });
    let mut looked = intake.looked(read)?;
    let unfit = looked.findings.iter_mut().filter(|finding| finding.code == Code::ArchiveUnfit);
    unfit.for_each(|finding| NO_RELEASE.clone_into(&mut finding.hint));
    Ok(looked)
}

/// What a walk came upon, in the words of an archive.
pub fn shape(found: &Found<'_>) -> Shape {
    match found.kind() {
        SFlag::S_IFDIR => Shape::Directory,
        SFlag::S_IFREG => Shape::File,
        SFlag::S_IFLNK => Shape::Symlink,
        _ => Shape::Unfit("is a device, pipe or socket"),
    }
}

fn admit(found: &Found<'_>, name: &[u8], intake: &mut Intake<'_>) -> Result<()> {
    let shape = shape(found);
    let target =
        if shape == Shape::Symlink { found.target().doing(|| "it cannot be followed")? } else { "".into() };
    let raw = Raw {
        name,
        shape,
        target: target.as_bytes(),
        size: if shape == Shape::File { u64::try_from(found.stat.st_size).unwrap_or(0) } else { 0 },
        mode: found.stat.st_mode & 0o7777,
        mtime: None,
    };
    let Some(body) = intake.admit(&raw)? else { return Ok(()) };
    let filled = read(found, body)?;
    intake.put(filled);
    Ok(())
}

/// Reads as much of a file as is wanted of it.
fn read(found: &Found<'_>, body: Body) -> Result<Filled> {
    let most = body.wanted.bytes() as u64;
    let mut filling = body.open()?;
    let mut text = Vec::new();
    let file = found.open().doing(|| "it cannot be opened")?;
    file.take(most).read_to_end(&mut text).doing(|| "its beginning cannot be read")?;
    filling.write(&text)?;
    filling.close()
}
