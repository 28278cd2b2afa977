//! Copies an installed tree into a release, by the same writer that unpacks archives.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::{FileStat, SFlag, fstat};

use super::Owner;
use super::entry::MODE_MASK;
use super::writer::{NewFile, Writer};
use crate::error::{Doing, Error, Result};
use crate::tree::{CHUNK, Found, TreeEntry, walk};
use crate::watch::Watch;

/// What a copy consists of.
#[derive(Debug)]
pub struct Copied {
    /// Everything that was copied, sorted by path.
    pub tree: Vec<TreeEntry>,
    /// Sockets and pipes, which mean nothing outside the process that made them.
    pub skipped: Vec<PathBuf>,
}

/// Copies what is in the directory `from` into the empty directory `target`, open for reading.
///
/// Modes are masked as those of archives are, and `target` gets 0755. Symlinks are kept as they are, wherever
/// they lead: the operator owns this tree. Hard links become files of their own. Sockets and pipes are skipped.
///
/// # Errors
/// Refuses devices, names that are not UTF-8, and a target inside `from`. Fails on whatever cannot be read or
/// written, leaving what is copied so far.
pub fn copy(
    from: &Path,
    target: BorrowedFd<'_>,
    owner: Option<Owner>,
    watch: &mut dyn Watch,
) -> Result<Copied> {
    let cannot_copy = || format!("cannot copy {}", from.display());
    let mut writer = Writer::new(target, owner);
    let mut skipped = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let own = identity(&fstat(target).doing(cannot_copy)?);
    walk(from, &mut |found| {
        watch.go_on()?;
        if identity(&found.stat) == own {
            return Err(Error::refused(format!("{} contains what it would be copied to", from.display())));
        }
        match found.kind() {
            SFlag::S_IFSOCK | SFlag::S_IFIFO => skipped.push(found.path.to_owned()),
            _ => copy_one(found, &mut writer, &mut buffer, watch)?,
        }
        Ok(())
    })
    .and_then(|()| writer.finish())
    .map(|tree| Copied { tree, skipped })
    .doing(cannot_copy)
}

fn copy_one(
    found: &Found<'_>,
    writer: &mut Writer<'_>,
    buffer: &mut [u8],
    watch: &mut dyn Watch,
) -> Result<()> {
    let path = text(found.path)?;
    let mode = found.stat.st_mode & MODE_MASK;
    match found.kind() {
        SFlag::S_IFDIR => writer.directory(path, mode),
        SFlag::S_IFLNK => {
            let target = found.target().doing(|| format!("cannot read {path:?}"))?;
            writer.symlink(path, text(Path::new(&target))?);
            Ok(())
        }
        SFlag::S_IFREG => {
            let mut file = found.open().doing(|| format!("cannot read {path:?}"))?;
            let mut new = writer.create(path)?;
            copy_data(&mut file, &mut new, path, buffer, watch)?;
            writer.keep(new, mode, u64::try_from(found.stat.st_mtime).ok())
        }
        _ => Err(Error::refused(format!("{path:?} is a device"))),
    }
}

fn copy_data(
    file: &mut File,
    new: &mut NewFile,
    path: &str,
    buffer: &mut [u8],
    watch: &mut dyn Watch,
) -> Result<()> {
    loop {
        watch.go_on()?;
        match file.read(buffer).doing(|| format!("cannot read {path:?}"))? {
            0 => return Ok(()),
            n => new.write(&buffer[..n])?,
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::refused(format!("{path:?} is not UTF-8")))
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
