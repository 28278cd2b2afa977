//! What becomes of a directory that leaves its release, to be written to from then on. Only in what nobody else can
//! enter yet.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};

use nix::fcntl::{AtFlags, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use crate::error::{Context, Error, Result};
use crate::tree::Owner;
use crate::walk::{WalkEntry, walk_in};

use super::dir_path::ErrnoContext;
use super::read::open_dir;
use super::write::{NEW, permissions};
use super::{DirPath, is_anothers};

/// The name of a copy that is not complete.
const COPY: &str = ".tenure-copy";

/// Makes a link in staging.
///
/// # Errors
/// Where it cannot be made.
pub fn link_staged(link: &DirPath, target: &Path, owner: Owner) -> Result<()> {
    let context = || format!("cannot make the link {}", link.display());
    let (parent, name) = link.parent_and_name().tell(context)?;
    symlinkat(target, &parent, name).tell(context)?;
    if is_anothers(owner) {
        let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
        fchownat(&parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).tell(context)?;
    }
    Ok(())
}

/// Has a directory in staging share no file with anything else: whoever writes to one of its files writes to that
/// alone.
///
/// # Errors
/// Refused where a link in it leads out of it: it would lead elsewhere from another place. Failed where it cannot be
/// read or written.
pub fn break_hard_links(dir: &DirPath) -> Result<()> {
    walk_in(open_dir(dir)?, dir.path(), &mut |found| match found.kind() {
        SFlag::S_IFLNK => {
            let target = found.target().context(|| format!("cannot read {}", found.path.display()))?;
            match leaves(found.path, Path::new(&target)) {
                true => Err(Error::refused(format!(
                    "its link {} to {} points out of it",
                    found.path.display(),
                    Path::new(&target).display()
                ))),
                false => Ok(()),
            }
        }
        SFlag::S_IFREG if found.stat.st_nlink > 1 => {
            copy(found).context(|| format!("cannot copy {}", found.path.display()))
        }
        _ => Ok(()),
    })
}

/// Whether a relative link at a path leads above where both begin.
fn leaves(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    !target.components().all(|component| match component {
        Component::ParentDir => depth.checked_sub(1).is_some_and(|less| {
            depth = less;
            true
        }),
        Component::Normal(_) => {
            depth += 1;
            true
        }
        other => other == Component::CurDir,
    })
}

fn copy(found: &WalkEntry<'_>) -> io::Result<()> {
    let (mut from, mut to) = (found.open()?, made(found.parent)?);
    io::copy(&mut from, &mut to)?;
    give(&to, &found.stat)?;
    renameat(found.parent, COPY, found.parent, OsStr::new(found.name))?;
    Ok(())
}

fn made(dir: BorrowedFd<'_>) -> io::Result<File> {
    Ok(openat(dir, COPY, NEW, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

/// The owner first, for a change of it may take bits of the mode away.
fn give(file: &File, as_is: &FileStat) -> nix::Result<()> {
    fchown(file, Some(Uid::from_raw(as_is.st_uid)), Some(Gid::from_raw(as_is.st_gid)))?;
    fchmod(file, permissions(as_is.st_mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leaves_where_its_text_climbs_too_far() {
        let leaves = |path, target| leaves(Path::new(path), Path::new(target));
        for (path, target) in [("a", ".."), ("a", "b/../../c"), ("d/a", "../../b"), ("a", "/etc")] {
            assert!(leaves(path, target), "{path} -> {target}");
        }
        for (path, target) in [("a", "b"), ("a", "./b/../c"), ("d/a", "../b"), ("d/e/a", "../../b/c")] {
            assert!(!leaves(path, target), "{path} -> {target}");
        }
    }
}
