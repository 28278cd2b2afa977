//! Deletes trees of any depth without running out of file descriptors or stack.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::Result;

use super::DirPath;
use super::dir_path::{ErrnoContext, LIST};
use super::moves::unlock;
use super::space::length;
use super::walk::{file_type, list};

/// Deletes everything in the directory `trash`, and never follows a symlink. A directory is first moved to another
/// name in the trash, so at most two directories are open, and every name is relative to one of them. A mount point
/// cannot be moved, so its contents are never deleted.
///
/// `goes_on` receives the number of bytes deleted since its last call, and ends the deletion early if it returns
/// `false`. A crash also leaves fewer entries. Deletion is not durable: entries that reappear are deleted again.
///
/// # Errors
/// Returns an error if an entry cannot be deleted.
pub fn purge(trash: &DirPath, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
    let top = match trash.open_fd(LIST) {
        Err(Errno::ENOENT) => return Ok(()),
        top => top.tell(|| format!("cannot read {}", trash.display()))?,
    };
    let mut purge = Purge { top, goes_on, is_over: false, moved: 0 };
    let cannot_read = || format!("cannot read {}", trash.display());
    let cannot_delete = |name: &OsStr| format!("cannot delete {}", trash.join(name).display());
    purge.gone(0);
    for name in purge.names().tell(cannot_read)? {
        purge.take(&name).tell(|| cannot_delete(&name))?;
    }
    loop {
        let round: Vec<_> = purge.names().tell(cannot_read)?;
        if round.is_empty() || purge.is_over {
            return Ok(());
        }
        // The next round finds the directories that this round moves up.
        for name in round {
            purge.delete(&name).tell(|| cannot_delete(&name))?;
        }
    }
}

struct Purge<'a> {
    top: OwnedFd,
    goes_on: &'a mut dyn FnMut(u64) -> bool,
    is_over: bool,
    moved: u64,
}

impl Purge<'_> {
    fn gone(&mut self, bytes: u64) {
        self.is_over = !(self.goes_on)(bytes);
    }

    fn names(&self) -> nix::Result<Vec<OsString>> {
        list(&mut Dir::from_fd(openat(&self.top, ".", LIST, Mode::empty())?)?)
    }

    fn take(&mut self, name: &OsStr) -> nix::Result<()> {
        let top = openat(&self.top, ".", LIST, Mode::empty())?;
        self.take_from(&top, name)
    }

    fn take_from(&mut self, dir: &OwnedFd, name: &OsStr) -> nix::Result<()> {
        let bytes = delete_file(dir, name)?;
        self.gone(bytes.unwrap_or(0));
        if bytes.is_none() { self.move_up(dir, name) } else { Ok(()) }
    }

    fn delete(&mut self, name: &OsStr) -> nix::Result<()> {
        if let Some(bytes) = delete_file(&self.top, name)? {
            self.gone(bytes);
            return Ok(());
        }
        let mut dir = Dir::from_fd(openat(&self.top, name, LIST, Mode::empty())?)?;
        let inside = openat(&dir, ".", LIST, Mode::empty())?;
        for entry in dir.iter() {
            if self.is_over {
                return Ok(());
            }
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                self.take_from(&inside, name)?;
            }
        }
        unlinkat(&self.top, name, UnlinkatFlags::RemoveDir)
    }

    fn move_up(&mut self, dir: &OwnedFd, name: &OsStr) -> nix::Result<()> {
        // A release may contain directories without write permission.
        unlock(dir, name)?;
        loop {
            self.moved += 1;
            let up = self.moved.to_string();
            match fstatat(&self.top, up.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => return renameat(dir, name, &self.top, up.as_str()),
                taken => drop(taken?),
            }
        }
    }
}

/// Deletes a file and returns its size in bytes. Returns `None` for a directory, which stays.
fn delete_file(dir: impl AsFd, name: &OsStr) -> nix::Result<Option<u64>> {
    let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if file_type(&stat) == SFlag::S_IFDIR {
        return Ok(None);
    }
    unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir).map(|()| Some(length(&stat)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn deep_and_read_only_trees_are_purged() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("trash");
        let mut deep = top.join("x");
        for _ in 0..60 {
            deep.push("directory");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), deep.join("link")).unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o555)).unwrap();
        fs::create_dir(top.join("closed")).unwrap();
        fs::set_permissions(top.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::write(top.join(OsStr::from_bytes(b"\xff")), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), top.join("away")).unwrap();
        fs::write(dir.path().join("canary"), "x").unwrap();
        let root = DirPath::of(File::open(dir.path()).unwrap().into(), dir.path().to_owned());
        // A purge that ends early leaves entries, and the next purge deletes them.
        purge(&root.join("trash"), &mut |_| false).unwrap();
        assert!(fs::read_dir(&top).unwrap().count() > 0);
        let mut gone = 0;
        purge(&root.join("trash"), &mut |bytes| {
            gone += bytes;
            true
        })
        .unwrap();
        assert!(gone >= 2, "bytes of the deleted files: {gone}");
        assert_eq!(fs::read_dir(top).unwrap().count(), 0);
        assert!(dir.path().join("canary").exists());
        std::os::unix::fs::symlink(dir.path(), dir.path().join("linked")).unwrap();
        assert!(purge(&root.join("linked"), &mut |_| true).is_err());
        assert!(dir.path().join("canary").exists());
        purge(&root.join("none"), &mut |_| true).unwrap();
    }
}
