//! Checks who owns a file and the directories above it, and which other users can write to them. Resolves a path
//! symlink by symlink, as the kernel does.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::error::{Context, Error, Result};

/// The maximum number of symlinks in one path, as in the kernel (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The permission bit of a directory in which only the owner of an entry can replace the entry.
const STICKY: u32 = 0o1000;

/// A file, directory or symlink, with its owner and mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The path.
    pub path: PathBuf,
    /// The user ID of the owner.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
    /// The permission bits; 0 for a symlink, which cannot be written.
    mode: u32,
    is_dir: bool,
}

impl Owned {
    fn new(path: &Path, meta: &Metadata) -> Self {
        let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
        Self { path: path.to_owned(), uid: meta.uid(), gid: meta.gid(), mode, is_dir: meta.is_dir() }
    }

    /// Returns the owner and mode of the file at the path, following symlinks; `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be examined.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        match fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            meta => Ok(Some(Self::new(path, &meta.context(|| cannot(path))?))),
        }
    }

    /// Returns the owner and mode of an open file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be examined.
    pub fn of(file: &fs::File, path: &Path) -> Result<Self> {
        Ok(Self::new(path, &file.metadata().context(|| cannot(path))?))
    }

    /// Returns whether users other than root and the owner can write to the file: every user, or the members of a
    /// group that is neither group 0 nor the primary group of the owner.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let first_group = || User::from_uid(Uid::from_raw(self.uid)).ok().flatten().map(|u| u.gid.as_raw());
        self.mode & 0o002 != 0 || (self.mode & 0o020 != 0 && self.gid != 0 && first_group() != Some(self.gid))
    }

    /// Refuses a file that users other than root and the owner can write to.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the path and its mode.
    pub fn not_shared(&self) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let Self { path, gid, mode, .. } = self;
        let path = path.display();
        Err(Error::refused(format!("other users can write {path} (mode {mode:04o}, group {gid})"))
            .hint(format!("run `chmod go-w {path}`, and make sure that its contents are yours")))
    }
}

/// All files that a path leads through, each once: the directories from / on, the file, and the symlinks that another
/// user could replace.
#[derive(Clone, Debug)]
pub struct Trail {
    seen: Vec<Owned>,
    /// The last existing directory, if the next name in the path is missing.
    ends_in: Option<Owned>,
}

impl Trail {
    /// Follows an absolute path as far as it exists.
    ///
    /// # Errors
    /// Returns an error if a file cannot be examined, or if the path has too many symlinks.
    pub fn of(path: &Path) -> Result<Self> {
        let mut at = PathBuf::from("/");
        let mut trail = Self { seen: vec![look(&at)?], ends_in: None };
        let mut todo: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let meta = match fs::symlink_metadata(&next) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    trail.ends_in = Some(look(&at)?);
                    return Ok(trail);
                }
                meta => meta.context(|| cannot(&next))?,
            };
            if !meta.is_symlink() {
                trail.add(Owned::new(&next, &meta));
                at = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Error::failed(format!("{}: it holds too many symlinks", cannot(path))));
            }
            if look(&at)?.is_shared() {
                trail.add(Owned::new(&next, &meta));
            }
            let target = fs::read_link(&next).context(|| cannot(&next))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            names(&target).into_iter().rev().for_each(|name| todo.push_front(name));
        }
        Ok(trail)
    }

    fn add(&mut self, owned: Owned) {
        if !self.seen.contains(&owned) {
            self.seen.push(owned);
        }
    }

    /// Returns the files that do not belong to root. The owner of / counts as root: that user can replace every
    /// program of the host, and in a user namespace the root user of the host has another number.
    pub fn others(&self) -> impl Iterator<Item = &Owned> {
        let top = self.seen.first().map_or(0, |top| top.uid);
        self.seen.iter().filter(move |owned| owned.uid != 0 && owned.uid != top)
    }

    /// Refuses a path that users other than root and the owners can redirect. A sticky directory on the way is
    /// accepted, because each entry in it is checked by its own owner.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the writable file.
    pub fn not_shared(&self) -> Result<()> {
        let guarded = |owned: &&Owned| owned.is_dir && owned.mode & STICKY != 0;
        let on_the_way = self.seen.iter().filter(|owned| !guarded(owned));
        on_the_way.chain(&self.ends_in).try_for_each(Owned::not_shared)
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn look(path: &Path) -> Result<Owned> {
    fs::symlink_metadata(path).map(|meta| Owned::new(path, &meta)).context(|| cannot(path))
}

fn cannot(path: &Path) -> String {
    format!("cannot determine who owns {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn paths(trail: &Trail) -> Vec<&Path> {
        trail.seen.iter().map(|owned| owned.path.as_path()).collect()
    }

    fn ground() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for path in ["a/b", "c", "open"] {
            fs::create_dir_all(top.join(path)).unwrap();
        }
        fs::write(top.join("a/b/file"), "").unwrap();
        symlink("../a/./b", top.join("c/inner")).unwrap();
        symlink(top.join("c/inner/file"), top.join("outer")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        symlink("../c", top.join("open/link")).unwrap();
        (dir, top)
    }

    #[test]
    fn trail_follows_links_step_by_step() {
        let (_dir, top) = ground();
        let trail = Trail::of(&top.join("outer")).unwrap();
        let found = paths(&trail);
        assert_eq!(found[0], Path::new("/"));
        for path in ["", "c", "a", "a/b", "a/b/file"] {
            assert!(found.contains(&top.join(path).as_path()), "{path}: {found:?}");
        }
        assert!(!found.contains(&top.join("outer").as_path()), "no other user can replace it: {found:?}");
        assert!(trail.ends_in.is_none());
        let missing = Trail::of(&top.join("c/inner/none/file")).unwrap();
        assert_eq!(missing.ends_in.unwrap().path, top.join("a/b"));
        let error = Trail::of(&top.join("loop/x")).unwrap_err().to_string();
        assert!(error.contains("too many symlinks"), "{error}");
        assert!(Trail::of(&top.join("a/b/file/x")).is_err());
    }

    #[test]
    fn shared_directories_are_refused_unless_sticky() {
        let (_dir, top) = ground();
        let open = top.join("open");
        let mode = |mode| fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        let refused = |path: &str| Trail::of(&top.join(path)).unwrap().not_shared().err();
        mode(0o755);
        assert!(refused("open/link").is_none());
        mode(0o777);
        let error = refused("open/link").unwrap();
        assert!(error.to_string().contains("open (mode 0777, "), "{error}");
        assert!(error.hints()[0].starts_with("run `chmod go-w "), "{error:?}");
        mode(0o1777);
        assert!(refused("open/link").is_none());
        assert!(refused("open/none").is_some(), "another user could create it");
        let trail = Trail::of(&top.join("open/link")).unwrap();
        assert!(paths(&trail).contains(&top.join("open/link").as_path()), "its owner can replace the link");
        fs::set_permissions(top.join("a/b/file"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refused("outer").is_some());
    }
}
