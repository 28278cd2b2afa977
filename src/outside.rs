//! What the operator names by its path, in a root or anywhere else: links are followed, and of what is there
//! nothing is written. What a root holds is reached by way of its places.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::error::{Context, Error, Result};

/// Whether a directory is there, and not a link to one.
#[must_use]
pub fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

/// Whether a directory is there, or a link to one.
#[must_use]
pub fn leads_to_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_dir())
}

/// Where a link leads, by its own words; none where no link is there.
#[must_use]
pub fn link_target(path: &Path) -> Option<PathBuf> {
    fs::read_link(path).ok()
}

/// The absolute path of something that is there, without links.
///
/// # Errors
/// Refused where nothing is there.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|e| Error::refused(format!("cannot find {}", path.display())).because(e))
}

/// Makes a directory and those above it, where they are missing.
///
/// # Errors
/// Where one cannot be made.
pub fn make_dirs(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context(|| format!("cannot make the directory {}", path.display()))
}

/// Opens the directory of a root, and returns its absolute path without links as well.
///
/// # Errors
/// Where it cannot be opened.
pub fn open_root(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    open_named(path, "root")
}

/// Opens a directory to reach what is in it, and returns its absolute path without links as well.
///
/// # Errors
/// Where it cannot be opened.
pub fn open_dir(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    open_named(path, "directory")
}

fn open_named(path: &Path, what: &str) -> Result<(OwnedFd, PathBuf)> {
    let context = || format!("cannot open the {what} {}", path.display());
    let path = fs::canonicalize(path).context(context)?;
    // To reach what is in it no more is needed, and nothing more may be allowed.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let dir = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path).context(context)?;
    Ok((dir.into(), path))
}

/// Opens a file to be read; never waits, as for the writer of a pipe.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()).open(path)
}

/// The text of a small file; none where it is not there.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes, or is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<Option<String>> {
    let context = || format!("cannot read {}", path.display());
    let file = match open_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.context(context)?,
    };
    let bytes = read_small(file, limit, context)?;
    String::from_utf8(bytes).map(Some).context(context)
}

/// All of an open file, which may be removed meanwhile: a reader takes no lock.
pub(crate) fn read_small(file: File, limit: u64, context: impl Fn() -> String) -> Result<Vec<u8>> {
    let meta = file.metadata().context(&context)?;
    if !meta.is_file() {
        return Err(Error::refused(format!("{}: it is not a file", context())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(limit)).unwrap_or_default());
    // It may grow meanwhile.
    file.take(limit + 1).read_to_end(&mut bytes).context(&context)?;
    if bytes.len() as u64 > limit {
        return Err(Error::refused(format!("{}: it is larger than {limit} bytes", context())));
    }
    Ok(bytes)
}
