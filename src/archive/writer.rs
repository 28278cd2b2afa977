//! Puts files, directories and links into one directory, and never reaches anything outside it.
//!
//! Every path is opened from the target downwards, one component at a time and never through a link. Nothing
//! is made durable here; what a crash leaves is for the caller to remove.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use sha2::{Digest, Sha256};

use super::Owner;
use crate::error::{Doing, Result};
use crate::tree::{Node, TreeEntry, hex};

/// The mode of the release's own directory, and of those that an archive implies without naming them.
const DIRECTORY_MODE: u32 = 0o755;

/// Writes a tree into an empty directory.
pub struct Writer<'a> {
    target: BorrowedFd<'a>,
    owner: Option<Owner>,
    /// The directories from the target down to the one last written to.
    open: Vec<(String, OwnedFd)>,
    /// The modes that directories get in the end; until then only their owner may enter.
    directories: BTreeMap<String, u32>,
    symlinks: Vec<(String, String)>,
    hardlinks: BTreeMap<String, String>,
    tree: Vec<TreeEntry>,
}

/// A file on its way into the tree.
pub struct NewFile {
    path: String,
    file: File,
    size: u64,
    hash: Sha256,
}

impl NewFile {
    /// Appends to the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes).doing(|| format!("cannot write {:?}", self.path))
    }
}

impl<'a> Writer<'a> {
    /// Writes into `target`; with an owner, everything is given to it.
    pub fn new(target: BorrowedFd<'a>, owner: Option<Owner>) -> Self {
        Self {
            target,
            owner,
            open: Vec::new(),
            directories: BTreeMap::new(),
            symlinks: Vec::new(),
            hardlinks: BTreeMap::new(),
            tree: Vec::new(),
        }
    }

    /// Creates a directory, or sets the mode of one that others have implied.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.enter(path)?;
        self.directories.insert(path.to_owned(), mode);
        Ok(())
    }

    /// Creates an empty file, to be written and then [kept](Self::keep).
    ///
    /// # Errors
    /// When it cannot be created, or is there.
    pub fn create(&mut self, path: &str) -> Result<NewFile> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(parent, name, flags, permissions(0o600)).doing(|| cannot_create(path))?;
        Ok(NewFile { path: path.to_owned(), file: file.into(), size: 0, hash: Sha256::new() })
    }

    /// Completes a file.
    ///
    /// # Errors
    /// When its mode or owner cannot be set.
    pub fn keep(&mut self, new: NewFile, mode: u32, mtime: Option<u64>) -> Result<()> {
        let NewFile { path, file, size, hash } = new;
        self.finish_node(&file, mode, &path)?;
        if let Some(seconds) = mtime.and_then(|seconds| i64::try_from(seconds).ok()) {
            let time = TimeSpec::new(seconds, 0);
            futimens(&file, &time, &time).doing(|| format!("cannot set the time of {path:?}"))?;
        }
        self.tree.push(TreeEntry { path, mode, node: Node::File { size, sha256: hex(hash) } });
        Ok(())
    }

    /// Creates a hard link to a file that was kept, or to another link to it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn hardlink(&mut self, path: &str, first: &str) -> Result<()> {
        let first = self.hardlinks.get(first).cloned().unwrap_or_else(|| first.to_owned());
        let (old_parent, old_name) = self.parent(&first)?;
        let old_parent = old_parent.try_clone_to_owned().doing(|| cannot_create(path))?;
        let (parent, name) = self.parent(path)?;
        linkat(old_parent, old_name, parent, name, AtFlags::empty()).doing(|| cannot_create(path))?;
        self.hardlinks.insert(path.to_owned(), first);
        Ok(())
    }

    /// Notes a symlink, which is created once all files are there.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.symlinks.push((path.to_owned(), target.to_owned()));
    }

    /// Creates the symlinks, gives the directories their modes, deepest first, and returns the tree, sorted.
    ///
    /// # Errors
    /// When something cannot be created, or a mode or owner not be set.
    pub fn finish(mut self) -> Result<Vec<TreeEntry>> {
        for (path, target) in std::mem::take(&mut self.symlinks) {
            self.create_symlink(path, target)?;
        }
        self.finish_directories()?;
        let hardlinks = std::mem::take(&mut self.hardlinks);
        self.tree.sort_by(|a, b| a.path.cmp(&b.path));
        let linked: Vec<TreeEntry> = hardlinks.into_iter().filter_map(|link| self.recorded(link)).collect();
        self.tree.extend(linked);
        self.tree.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.tree)
    }

    fn create_symlink(&mut self, path: String, target: String) -> Result<()> {
        let owner = self.owner;
        let (parent, name) = self.parent(&path)?;
        symlinkat(target.as_str(), parent, name).doing(|| cannot_create(&path))?;
        if let Some(Owner { uid, gid }) = owner {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
                .doing(|| format!("cannot set the owner of {path:?}"))?;
        }
        self.tree.push(TreeEntry { path, mode: 0, node: Node::Symlink { target } });
        Ok(())
    }

    /// In descending order every directory follows all that is in it.
    fn finish_directories(&mut self) -> Result<()> {
        for (path, mode) in self.directories.clone().into_iter().rev() {
            self.enter(&path)?;
            self.finish_node(self.here(), mode, &path)?;
            self.tree.push(TreeEntry { path, mode, node: Node::Directory });
        }
        self.finish_node(self.target, DIRECTORY_MODE, ".")
    }

    /// The owner comes first: a change of owner may take permissions away.
    fn finish_node(&self, fd: impl AsFd, mode: u32, path: &str) -> Result<()> {
        if let Some(Owner { uid, gid }) = self.owner {
            fchown(fd.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .doing(|| format!("cannot set the owner of {path:?}"))?;
        }
        fchmod(fd, permissions(mode)).doing(|| format!("cannot set the mode of {path:?}"))
    }

    /// The record of a hard link, which is that of its file, found in the sorted tree.
    fn recorded(&self, (path, first): (String, String)) -> Option<TreeEntry> {
        let at = self.tree.binary_search_by(|entry| entry.path.as_str().cmp(&first)).ok()?;
        Some(TreeEntry { path, ..self.tree[at].clone() })
    }

    /// The open directory that a path lies in, made where it is missing, and the name in it.
    fn parent<'p>(&mut self, path: &'p str) -> Result<(BorrowedFd<'_>, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.enter(parent)?;
        Ok((self.here(), name))
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.target, |(_, fd)| fd.as_fd())
    }

    /// Opens a directory and those above it, which stay open for whatever comes next.
    fn enter(&mut self, path: &str) -> Result<()> {
        let parts = || path.split('/').filter(|part| !part.is_empty());
        let shared = parts().zip(&self.open).take_while(|(part, (name, _))| part == name).count();
        self.open.truncate(shared);
        let mut end = self.open.iter().map(|(name, _)| name.len() + 1).sum::<usize>();
        for part in parts().skip(shared) {
            end += part.len();
            let fd = self.open_directory(part, &path[..end])?;
            self.open.push((part.to_owned(), fd));
            end += 1;
        }
        Ok(())
    }

    fn open_directory(&mut self, name: &str, path: &str) -> Result<OwnedFd> {
        if !self.directories.contains_key(path) {
            mkdirat(self.here(), name, permissions(0o700)).doing(|| cannot_create(path))?;
            self.directories.insert(path.to_owned(), DIRECTORY_MODE);
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.here(), name, flags, Mode::empty()).doing(|| format!("cannot open {path:?}"))
    }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

fn cannot_create(path: &str) -> String {
    format!("cannot create {path:?}")
}
