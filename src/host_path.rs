//! Access to files that the operator names by path, in a root or elsewhere. Symlinks are followed, and existing files
//! are not written. The contents of a root are reached through its `DirPath` instead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::error::{Context, Error, Result};

/// Returns whether the path is a directory, and not a symlink to one.
#[must_use]
pub fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

/// Returns whether the path is a directory, or a symlink to one.
#[must_use]
pub fn leads_to_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_dir())
}

/// Returns the target of a symlink as written; `None` if the path is not a symlink.
#[must_use]
pub fn link_target(path: &Path) -> Option<PathBuf> {
    fs::read_link(path).ok()
}

/// Returns the absolute path of an existing file, with all symlinks resolved.
///
/// # Errors
/// Returns a `Refused` error if the path does not exist.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|e| Error::refused(format!("cannot find {}", path.display())).because(e))
}

/// Creates a directory and its missing parents.
///
/// # Errors
/// Returns an error if a directory cannot be created.
pub fn make_dirs(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context(|| format!("cannot make the directory {}", path.display()))
}

/// Opens the directory of a root. Also returns its absolute path, with all symlinks resolved.
///
/// # Errors
/// Returns an error if the directory cannot be opened.
pub fn open_root(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    open_named(path, "root")
}

/// Opens a directory to reach its contents. Also returns its absolute path, with all symlinks resolved.
///
/// # Errors
/// Returns an error if the directory cannot be opened.
pub fn open_dir(path: &Path) -> Result<(OwnedFd, PathBuf)> {
    open_named(path, "directory")
}

fn open_named(path: &Path, what: &str) -> Result<(OwnedFd, PathBuf)> {
    let context = || format!("cannot open the {what} {}", path.display());
    let path = fs::canonicalize(path).context(context)?;
    // O_PATH suffices to reach the contents, and the user may lack the permission to read the directory.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let dir = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path).context(context)?;
    Ok((dir.into(), path))
}

/// Opens a file for reading without blocking, for instance on a pipe that has no writer.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()).open(path)
}

/// Returns the text of a small file; `None` if the file does not exist.
///
/// # Errors
/// Returns an error if the file cannot be read, is larger than `limit` bytes, or is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<Option<String>> {
    let context = || format!("cannot read {}", path.display());
    let file = match open_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.context(context)?,
    };
    let bytes = read_small(file, limit, context)?;
    String::from_utf8(bytes).map(Some).context(context)
}

/// Reads an open file to its end. The file may be removed meanwhile, because a reader takes no lock.
pub(crate) fn read_small(file: File, limit: u64, context: impl Fn() -> String) -> Result<Vec<u8>> {
    let meta = file.metadata().context(&context)?;
    if !meta.is_file() {
        return Err(Error::refused(format!("{}: it is not a file", context())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(limit)).unwrap_or_default());
    // The file may grow meanwhile.
    file.take(limit + 1).read_to_end(&mut bytes).context(&context)?;
    if bytes.len() as u64 > limit {
        return Err(Error::refused(format!("{}: it is larger than {limit} bytes", context())));
    }
    Ok(bytes)
}
