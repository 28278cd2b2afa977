//! Prepares a directory in staging that leaves its release to be written to. No other user can enter staging yet.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};

use nix::fcntl::{AtFlags, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod};
use nix::unistd::{fchown, fchownat, symlinkat};

use crate::error::{Context, Error, Result};

use super::dir_path::ErrnoContext;
use super::read::open_dir;
use super::walk::{WalkEntry, walk_in};
use super::write::{NEW, permissions};
use super::{DirPath, Owner, is_anothers};

/// The name of an incomplete copy.
const COPY: &str = ".tenure-copy";

/// Creates a symlink in staging.
///
/// # Errors
/// Returns an error if the symlink cannot be created.
pub fn link_staged(link: &DirPath, target: &Path, owner: Owner) -> Result<()> {
    let context = || format!("cannot make the link {}", link.display());
    let (parent, name) = link.parent_and_name().tell(context)?;
    symlinkat(target, &parent, name).tell(context)?;
    if is_anothers(owner) {
        let (uid, gid) = owner.ids();
        fchownat(&parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).tell(context)?;
    }
    Ok(())
}

/// Replaces hard links in a directory in staging by copies, so that a write to one of its files changes no other
/// file.
///
/// # Errors
/// Returns a `Refused` error if a symlink in the directory leads out of it, because its target changes when the
/// directory moves. Returns a `Failed` error if the directory cannot be read or written.
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

/// Returns whether a symlink at `path` is absolute or leads above the directory where both begin.
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

/// Sets the owner first, because a change of owner may clear bits of the mode.
fn give(file: &File, as_is: &FileStat) -> nix::Result<()> {
    let (uid, gid) = Owner::of(as_is).ids();
    fchown(file, uid, gid)?;
    fchmod(file, permissions(as_is.st_mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_the_tree_are_detected() {
        let leaves = |path, target| leaves(Path::new(path), Path::new(target));
        for (path, target) in [("a", ".."), ("a", "b/../../c"), ("d/a", "../../b"), ("a", "/etc")] {
            assert!(leaves(path, target), "{path} -> {target}");
        }
        for (path, target) in [("a", "b"), ("a", "./b/../c"), ("d/a", "../b"), ("d/e/a", "../../b/c")] {
            assert!(!leaves(path, target), "{path} -> {target}");
        }
    }
}
