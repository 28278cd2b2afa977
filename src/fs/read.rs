//! Looks at what is in a root. No link is followed, but that of the operator's settings.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use rustix::fs::{StatxFlags, statx};

use crate::error::{Context, Result};
use crate::outside::read_small;
use crate::tree::Owner;

use super::DirPath;
use super::dir_path::{ErrnoContext, LIST, REACH, READ};

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory,
    /// A file, or anything else that is neither a directory nor a link.
    File,
    /// A symlink, with what it says.
    Link(PathBuf),
}

/// Looks what stands at a place.
///
/// # Errors
/// Where it cannot be looked at.
pub fn standing(place: &DirPath) -> Result<FileKind> {
    let context = || format!("cannot inspect {}", place.display());
    match stat(place) {
        Err(Errno::ENOENT) => Ok(FileKind::Nothing),
        stat => match kind(&stat.tell(context)?) {
            SFlag::S_IFDIR => Ok(FileKind::Directory),
            SFlag::S_IFLNK => link(place),
            _ => Ok(FileKind::File),
        },
    }
}

fn link(place: &DirPath) -> Result<FileKind> {
    match place.parent_and_name().and_then(|(parent, name)| readlinkat(parent, name)) {
        // Replaced by something else between both calls: the next look will tell.
        Err(Errno::ENOENT) => Ok(FileKind::Nothing),
        to => Ok(FileKind::Link(to.tell(|| format!("cannot read {}", place.display()))?.into())),
    }
}

/// Whether a directory is there, and not a link to one.
#[must_use]
pub fn is_dir(place: &DirPath) -> bool {
    stat(place).is_ok_and(|stat| kind(&stat) == SFlag::S_IFDIR)
}

/// Whether anything is there, a dangling link included.
#[must_use]
pub fn exists(place: &DirPath) -> bool {
    stat(place).is_ok()
}

fn stat(place: &DirPath) -> nix::Result<FileStat> {
    let (parent, name) = place.parent_and_name()?;
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The kind of node, as in `st_mode`.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Who owns a directory.
///
/// # Errors
/// Where it cannot be looked at.
pub fn owner(place: &DirPath) -> Result<Owner> {
    let stat = place.open(REACH).and_then(fstat).tell(|| format!("cannot inspect {}", place.display()))?;
    Ok(Owner { uid: stat.st_uid, gid: stat.st_gid })
}

/// Who owns what stands at a place, a link itself included.
///
/// # Errors
/// Where nothing stands there.
pub fn owner_of_link(place: &DirPath) -> Result<Owner> {
    let stat = stat(place).tell(|| format!("cannot inspect {}", place.display()))?;
    Ok(Owner { uid: stat.st_uid, gid: stat.st_gid })
}

/// Whether nothing can be moved from one directory to the other by one rename: they lie on two file systems, or are reached
/// by two mounts of one.
///
/// # Errors
/// Where they cannot be looked at.
pub fn is_elsewhere(one: &DirPath, other: &DirPath) -> Result<bool> {
    let look = |place: &DirPath| mounted(place).tell(|| format!("cannot inspect {}", place.display()));
    Ok(look(one)? != look(other)?)
}

/// Whether something is mounted on a directory, by what is around it. Before Linux 5.8 only another file system is seen.
#[must_use]
pub fn is_mount(dir: &DirPath, around: &DirPath) -> bool {
    match (mounted(dir), mounted(around)) {
        (Ok((_, Some(one))), Ok((_, Some(other)))) => one != other,
        (Ok((one, _)), Ok((other, _))) => one != other,
        _ => false,
    }
}

/// The device of a directory, and the mount that it is reached by, where the kernel tells.
fn mounted(place: &DirPath) -> nix::Result<(u64, Option<u64>)> {
    let dir = place.open(REACH)?;
    let told = statx(&dir, "", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok();
    let told = told.filter(|told| told.stx_mask & StatxFlags::MNT_ID.bits() != 0);
    Ok((fstat(&dir)?.st_dev, told.map(|told| told.stx_mnt_id)))
}

/// Opens a directory.
///
/// # Errors
/// Where it cannot be opened, or is none, or is a link to one.
pub fn open_dir(place: &DirPath) -> Result<OwnedFd> {
    place.open(LIST).tell(|| format!("cannot open the directory {}", place.display()))
}

/// Opens a file for reading.
///
/// # Errors
/// Where it cannot be opened, or is a link.
pub fn open_file(place: &DirPath) -> Result<File> {
    let opened = place.open(READ).tell(|| format!("cannot open {}", place.display()));
    opened.map(File::from)
}

/// A new file in this directory that has no name and goes when it is closed.
///
/// # Errors
/// Where the file system has none, or there is no room.
pub fn unnamed(dir: &DirPath) -> Result<File> {
    let made = dir.open(OFlag::O_TMPFILE | OFlag::O_RDWR);
    made.map(File::from).tell(|| format!("cannot make a file in {}", dir.display()))
}

/// The names in a directory, sorted; none where it is not there.
///
/// # Errors
/// Where it cannot be read.
pub fn names(place: &DirPath) -> Result<Vec<String>> {
    let context = || format!("cannot read {}", place.display());
    let mut dir = match place.open(LIST) {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        dir => dir.and_then(Dir::from_fd).tell(context)?,
    };
    let mut names = Vec::new();
    for entry in dir.iter() {
        // A name that is no text is none that Tenure gave.
        names.extend(entry.tell(context)?.file_name().to_str().ok().map(str::to_owned));
    }
    names.retain(|name| name != "." && name != "..");
    names.sort();
    Ok(names)
}

/// The text of a small file; none where it is not there.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes, or is no UTF-8.
pub fn read_text(place: &DirPath, limit: u64) -> Result<Option<String>> {
    let context = || format!("cannot read {}", place.display());
    let Some(bytes) = read_bytes(place, limit)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).context(context)
}

/// As [`read_text`], for what a power cut may have torn: what is no UTF-8 is replaced.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes.
pub fn read_torn(place: &DirPath, limit: u64) -> Result<Option<String>> {
    Ok(read_bytes(place, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// As [`read_text`], of a file that its operator may keep elsewhere: where a link stands there, it is followed.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes, or is no UTF-8.
pub fn read_linked(place: &DirPath, limit: u64) -> Result<Option<String>> {
    let context = || format!("cannot read {}", place.display());
    let opened = place
        .parent_and_name()
        .and_then(|(dir, name)| openat(dir, name, READ | OFlag::O_CLOEXEC, Mode::empty()));
    let Some(bytes) = contents(opened, limit, context)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).context(context)
}

/// As [`read_text`], of what is no text.
///
/// # Errors
/// Where it cannot be read, or is larger than `limit` bytes.
pub fn read_bytes(place: &DirPath, limit: u64) -> Result<Option<Vec<u8>>> {
    contents(place.open(READ), limit, || format!("cannot read {}", place.display()))
}

fn contents(
    opened: nix::Result<OwnedFd>,
    limit: u64,
    context: impl Fn() -> String,
) -> Result<Option<Vec<u8>>> {
    match opened {
        Err(Errno::ENOENT) => Ok(None),
        file => read_small(File::from(file.tell(&context)?), limit, context).map(Some),
    }
}
