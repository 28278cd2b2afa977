//! Reads the contents of a root, where symlinks are not followed except the one to the operator's settings, and files
//! that the operator names, where they are.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{self, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use rustix::fs::{StatxFlags, statx};

use crate::error::{Context, Error, Kind, Result};
use crate::host_path;

use super::dir_path::{ErrnoContext, LIST, REACH, READ};
use super::walk::{file_type, list};
use super::{DirPath, Owner};

/// The kind of entry at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// No entry.
    Nothing,
    /// A directory.
    Directory,
    /// A file, or anything else that is neither a directory nor a symlink.
    File,
    /// A symlink, with its target.
    Link(PathBuf),
}

/// Returns the kind of entry at a path.
///
/// # Errors
/// Returns an error if the path cannot be inspected.
pub fn standing(place: &DirPath) -> Result<FileKind> {
    let context = || format!("cannot inspect {}", place.display());
    match stat(place) {
        Err(Errno::ENOENT) => Ok(FileKind::Nothing),
        stat => match file_type(&stat.tell(context)?) {
            SFlag::S_IFDIR => Ok(FileKind::Directory),
            SFlag::S_IFLNK => link(place),
            _ => Ok(FileKind::File),
        },
    }
}

fn link(place: &DirPath) -> Result<FileKind> {
    match place.parent_and_name().and_then(|(parent, name)| readlinkat(parent, name)) {
        // The link was removed between the two calls.
        Err(Errno::ENOENT) => Ok(FileKind::Nothing),
        to => Ok(FileKind::Link(to.tell(|| format!("cannot read {}", place.display()))?.into())),
    }
}

/// Returns whether the path is a directory, and not a symlink to one.
#[must_use]
pub fn is_dir(place: &DirPath) -> bool {
    stat(place).is_ok_and(|stat| file_type(&stat) == SFlag::S_IFDIR)
}

/// Returns whether the path exists, even as a dangling symlink.
#[must_use]
pub fn exists(place: &DirPath) -> bool {
    stat(place).is_ok()
}

fn stat(place: &DirPath) -> nix::Result<FileStat> {
    let (parent, name) = place.parent_and_name()?;
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Returns the owner of a directory.
///
/// # Errors
/// Returns an error if the directory cannot be inspected.
pub fn owner(place: &DirPath) -> Result<Owner> {
    let stat = place.open_fd(REACH).and_then(fstat).tell(|| format!("cannot inspect {}", place.display()))?;
    Ok(Owner::of(&stat))
}

/// Returns the owner of the entry at a path. For a symlink, this is the owner of the link itself.
///
/// # Errors
/// Returns an error if the path does not exist.
pub fn owner_of_link(place: &DirPath) -> Result<Owner> {
    let stat = stat(place).tell(|| format!("cannot inspect {}", place.display()))?;
    Ok(Owner::of(&stat))
}

/// Returns whether one rename cannot move a file between two directories, because they are on different file systems
/// or are reached by different mounts.
///
/// # Errors
/// Returns an error if a directory cannot be inspected.
pub fn is_elsewhere(one: &DirPath, other: &DirPath) -> Result<bool> {
    let look = |place: &DirPath| mounted(place).tell(|| format!("cannot inspect {}", place.display()));
    Ok(look(one)? != look(other)?)
}

/// Returns whether a directory is a mount point, compared with its parent `around`. Before Linux 5.8, recognizes only
/// a mount of another file system.
#[must_use]
pub fn is_mount(dir: &DirPath, around: &DirPath) -> bool {
    match (mounted(dir), mounted(around)) {
        (Ok((_, Some(one))), Ok((_, Some(other)))) => one != other,
        (Ok((one, _)), Ok((other, _))) => one != other,
        _ => false,
    }
}

/// Returns the device of a directory, and the ID of its mount if the kernel provides it.
fn mounted(place: &DirPath) -> nix::Result<(u64, Option<u64>)> {
    let dir = place.open_fd(REACH)?;
    let told = statx(&dir, "", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok();
    let told = told.filter(|told| told.stx_mask & StatxFlags::MNT_ID.bits() != 0);
    Ok((fstat(&dir)?.st_dev, told.map(|told| told.stx_mnt_id)))
}

/// Opens a directory.
///
/// # Errors
/// Returns an error if the path cannot be opened, is not a directory, or is a symlink.
pub fn open_dir(place: &DirPath) -> Result<OwnedFd> {
    place.open_fd(LIST).tell(|| format!("cannot open the directory {}", place.display()))
}

/// Opens a file for reading.
///
/// # Errors
/// Returns an error if the file cannot be opened or is a symlink.
pub fn open_file(place: &DirPath) -> Result<File> {
    let opened = place.open_fd(READ).tell(|| format!("cannot open {}", place.display()));
    opened.map(File::from)
}

/// Creates a file in this directory that has no name and disappears when it is closed.
///
/// # Errors
/// Returns an error if the file system does not support such files or has no space left.
pub fn unnamed(dir: &DirPath) -> Result<File> {
    let made = dir.open_fd(OFlag::O_TMPFILE | OFlag::O_RDWR);
    made.map(File::from).tell(|| format!("cannot make a file in {}", dir.display()))
}

/// Returns the names in a directory, sorted. Returns no names if the directory does not exist.
///
/// # Errors
/// Returns an error if the directory cannot be read.
pub fn names(place: &DirPath) -> Result<Vec<String>> {
    let context = || format!("cannot read {}", place.display());
    let mut dir = match place.open_fd(LIST) {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        dir => dir.and_then(Dir::from_fd).tell(context)?,
    };
    // Tenure does not create names that are not UTF-8.
    Ok(list(&mut dir).tell(context)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Returns the text of a small file, or `None` if it does not exist.
///
/// # Errors
/// Returns an error if the file cannot be read, is larger than `limit` bytes, or is not UTF-8.
pub fn read_text(place: &DirPath, limit: u64) -> Result<Option<String>> {
    let context = || format!("cannot read {}", place.display());
    let Some(bytes) = read_bytes(place, limit)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).context(context)
}

/// Like [`read_text`], but for a file that a power cut may have torn: replaces bytes that are not UTF-8.
///
/// # Errors
/// Returns an error if the file cannot be read or is larger than `limit` bytes.
pub fn read_torn(place: &DirPath, limit: u64) -> Result<Option<String>> {
    Ok(read_bytes(place, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Like [`read_text`], but for a file that the operator may keep elsewhere: follows a symlink at the path.
///
/// # Errors
/// Returns an error if the file cannot be read, is larger than `limit` bytes, or is not UTF-8.
pub fn read_linked(place: &DirPath, limit: u64) -> Result<Option<String>> {
    let context = || format!("cannot read {}", place.display());
    let opened = place
        .parent_and_name()
        .and_then(|(dir, name)| openat(dir, name, READ | OFlag::O_CLOEXEC, Mode::empty()));
    let Some(bytes) = contents(opened, limit, context)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).context(context)
}

/// Like [`read_text`], but returns bytes.
///
/// # Errors
/// Returns an error if the file cannot be read or is larger than `limit` bytes.
pub fn read_bytes(place: &DirPath, limit: u64) -> Result<Option<Vec<u8>>> {
    contents(place.open_fd(READ), limit, || format!("cannot read {}", place.display()))
}

fn contents(
    opened: nix::Result<OwnedFd>,
    limit: u64,
    context: impl Fn() -> String,
) -> Result<Option<Vec<u8>>> {
    match opened {
        Err(Errno::ENOENT) => Ok(None),
        file => host_path::read_small(File::from(file.tell(&context)?), limit, context).map(Some),
    }
}

/// The location of a file to read.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A path in a root.
    Inside(DirPath),
    /// A path that the operator names.
    Outside(PathBuf),
}

impl Origin {
    /// Returns the file whose name has `ending` appended.
    #[must_use]
    pub fn beside(&self, ending: &str) -> Self {
        let longer = |path: &Path| {
            let mut path = path.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        match self {
            Self::Inside(place) => Self::Inside(place.renamed(longer)),
            Self::Outside(path) => Self::Outside(longer(path)),
        }
    }

    /// Returns the path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Inside(place) => place.path(),
            Self::Outside(path) => path,
        }
    }

    /// Returns the path for display.
    #[must_use]
    pub fn display(&self) -> path::Display<'_> {
        self.path().display()
    }

    /// Opens the file for reading. Never waits, for example for the writer of a pipe.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened, and a `Refused` error if it is a symlink in a root.
    pub fn open(&self) -> Result<File> {
        let context = || format!("cannot open {}", self.display());
        match self {
            Self::Inside(place) => {
                let opened = place.open_fd(READ);
                let linked = matches!(opened, Err(Errno::ELOOP));
                let hint = "name the target of the link, or put the file there";
                let explain = |e: Error| if linked { e.as_kind(Kind::Refused).hint(hint) } else { e };
                opened.map(File::from).tell(context).map_err(explain)
            }
            Self::Outside(path) => host_path::open_file(path).context(context),
        }
    }

    /// Returns the text of a small file, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is larger than `limit` bytes, or is not UTF-8.
    pub fn read_text(&self, limit: u64) -> Result<Option<String>> {
        match self {
            Self::Inside(place) => read_text(place, limit),
            Self::Outside(path) => host_path::read_text(path, limit),
        }
    }
}
