//! Paths in a root, relative to an open directory. They are resolved downwards and through no symlink, so a user who
//! can write in the root cannot lead Tenure out of it.

use std::error::Error as Cause;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{self, Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use crate::error::{Context, Result};

/// Flags to open a directory in order to reach its entries. Of the directory itself, only owner and mode can be read.
pub(super) const REACH: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Flags to open a directory in order to list it or to make it durable.
pub(super) const LIST: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Flags to open a file for reading, without waiting for the writer of a pipe or acquiring a terminal.
pub(super) const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// A path in a root: an open directory and a relative path below it. The path need not exist.
#[derive(Clone, Debug)]
pub struct DirPath {
    from: Arc<OwnedFd>,
    below: PathBuf,
    path: PathBuf,
}

/// The open parent directory of a path.
pub(super) enum Parent {
    Held(Arc<OwnedFd>),
    Opened(OwnedFd),
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Held(dir) => dir.as_fd(),
            Self::Opened(dir) => dir.as_fd(),
        }
    }
}

impl DirPath {
    /// Returns the path of an open directory. `path` is its absolute path, for messages and for code that only reads.
    #[must_use]
    pub fn of(dir: OwnedFd, path: PathBuf) -> Self {
        Self { from: Arc::new(dir), below: PathBuf::new(), path }
    }

    /// Returns the path of `name` below this path. A path that leads upwards or away cannot be used.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        let name = name.as_ref();
        Self { from: Arc::clone(&self.from), below: self.below.join(name), path: self.path.join(name) }
    }

    /// Returns the path that results if `change` is applied to the relative and to the absolute path.
    pub(super) fn renamed(&self, change: impl Fn(&Path) -> PathBuf) -> Self {
        Self { from: Arc::clone(&self.from), below: change(&self.below), path: change(&self.path) }
    }

    /// Returns the absolute path, for messages and for code that only reads.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the absolute path for display.
    #[must_use]
    pub fn display(&self) -> path::Display<'_> {
        self.path.display()
    }

    /// Returns the parent directory for display.
    pub(super) fn around(&self) -> path::Display<'_> {
        self.path.parent().unwrap_or(&self.path).display()
    }

    /// Returns the same path with its directory held open, or `None` if it does not exist. Its entries are then
    /// reached directly, and stay reachable if the directory is moved.
    ///
    /// # Errors
    /// Returns an error if the path cannot be opened or is not a directory.
    pub fn open(&self) -> Result<Option<Self>> {
        match self.open_fd(REACH) {
            Err(Errno::ENOENT) => Ok(None),
            dir => {
                let dir = dir.tell(|| format!("cannot open the directory {}", self.display()))?;
                Ok(Some(Self::of(dir, self.path.clone())))
            }
        }
    }

    pub(super) fn open_fd(&self, flags: OFlag) -> nix::Result<OwnedFd> {
        static STEPWISE: AtomicBool = AtomicBool::new(false);
        if !STEPWISE.load(Ordering::Relaxed) {
            match at_once(self.from.as_fd(), &self.below, flags) {
                // openat2(2) fails before Linux 5.6, and behind a container's filter that does not know it.
                Err(Errno::ENOSYS | Errno::EPERM) => STEPWISE.store(true, Ordering::Relaxed),
                opened => return opened,
            }
        }
        stepwise(self.from.as_fd(), &self.below, flags)
    }

    /// Opens the parent directory, and returns it and the name in it. Operations on that name stay in this directory.
    pub(super) fn parent_and_name(&self) -> nix::Result<(Parent, &OsStr)> {
        let mut way = names(&self.below)?;
        let name = way.pop().ok_or(Errno::EXDEV)?;
        if way.is_empty() {
            return Ok((Parent::Held(Arc::clone(&self.from)), name));
        }
        let around = Self { below: way.iter().collect(), ..self.clone() };
        Ok((Parent::Opened(around.open_fd(REACH)?), name))
    }
}

/// Returns the names on the way down. Fails with `EXDEV` if a component does not lead down.
fn names(below: &Path) -> nix::Result<Vec<&OsStr>> {
    let name = |part| match part {
        Component::Normal(name) => Ok(name),
        _ => Err(Errno::EXDEV),
    };
    below.components().map(name).collect()
}

fn at_once(from: BorrowedFd<'_>, below: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let way: PathBuf = if names(below)?.is_empty() { ".".into() } else { below.to_owned() };
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(from, &way, OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve))
}

/// Opens the path name by name, for a kernel that cannot do it in one call.
fn stepwise(from: BorrowedFd<'_>, below: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let mut way = names(below)?;
    let last = way.pop().unwrap_or(OsStr::new("."));
    let mut dir: Option<OwnedFd> = None;
    for name in way {
        let next = openat(dir.as_ref().map_or(from, AsFd::as_fd), name, REACH, Mode::empty())?;
        dir = Some(next);
    }
    let from = dir.as_ref().map_or(from, AsFd::as_fd);
    openat(from, last, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// Adds the failed action to an error, and explains in plain words if a symlink is in the way.
pub(super) trait ErrnoContext<T> {
    fn tell<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T>;
}

impl<T> ErrnoContext<T> for nix::Result<T> {
    fn tell<S: Into<String>>(self, action: impl FnOnce() -> S) -> Result<T> {
        let cause = |errno| -> Box<dyn Cause + Send + Sync> {
            match errno {
                Errno::ELOOP => {
                    "it is or contains a symlink, and Tenure does not follow symlinks in a root".into()
                }
                Errno::ENOTDIR => "it is or contains a symlink or a file instead of a directory".into(),
                errno => io::Error::from(errno).into(),
            }
        };
        self.map_err(cause).context(action)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// Creates a directory with a/b/file, and symlinks of every kind beside and in it.
    fn ground() -> (tempfile::TempDir, DirPath) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(dir.path().join("outside/b")).unwrap();
        for path in ["root/a/b/file", "outside/file", "outside/b/file"] {
            fs::write(dir.path().join(path), path).unwrap();
        }
        symlink("a", root.join("inner")).unwrap();
        symlink("../outside", root.join("outer")).unwrap();
        symlink(dir.path().join("outside"), root.join("a/absolute")).unwrap();
        symlink("/proc/self/root", root.join("a/magic")).unwrap();
        symlink("file", root.join("a/b/link")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let place = DirPath::of(fs::File::open(&root).unwrap().into(), root);
        (dir, place)
    }

    /// Returns the inode of the opened file, or whether it was missing or refused.
    fn found(opened: nix::Result<OwnedFd>) -> std::result::Result<u64, &'static str> {
        match opened {
            Ok(fd) => Ok(fs::File::from(fd).metadata().unwrap().ino()),
            Err(Errno::ENOENT) => Err("not there"),
            // The kernel returns `ENOTDIR` for a symlink where a directory is expected.
            Err(Errno::ELOOP | Errno::ENOTDIR) => Err("a link or no directory"),
            Err(Errno::EXDEV) => Err("leads away"),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn both_open_methods_agree_and_stay_in_root() {
        let (_dir, root) = ground();
        let file = OFlag::O_RDONLY;
        for (below, flags, expected) in [
            ("a/b/file", file, None),
            ("", LIST, None),
            ("a", LIST, None),
            ("a/b", REACH, None),
            ("a/none/file", file, Some("not there")),
            ("inner/b/file", file, Some("a link or no directory")),
            ("outer/file", file, Some("a link or no directory")),
            ("outer", LIST, Some("a link or no directory")),
            ("outer", REACH, Some("a link or no directory")),
            ("a/absolute/file", file, Some("a link or no directory")),
            ("a/magic/etc", file, Some("a link or no directory")),
            ("a/b/link", file, Some("a link or no directory")),
            ("loop/x", file, Some("a link or no directory")),
            ("a/b/file/x", file, Some("a link or no directory")),
            ("../outside/file", file, Some("leads away")),
            ("a/../../outside/file", file, Some("leads away")),
            ("a/..", LIST, Some("leads away")),
            ("/etc", LIST, Some("leads away")),
        ] {
            let place = root.join(below);
            let open = [at_once, stepwise].map(|open| found(open(place.from.as_fd(), &place.below, flags)));
            assert_eq!(open[0], open[1], "{below}");
            assert_eq!(open[0].err(), expected, "{below}");
            assert_eq!(found(place.open_fd(flags)), open[0], "{below}");
        }
    }

    #[test]
    fn parent_and_name_stay_in_root() {
        let (_dir, root) = ground();
        for (below, expected) in [
            ("new", Ok("new")),
            ("a/b/new", Ok("new")),
            ("outer", Ok("outer")),
            ("outer/new", Err(Errno::ENOTDIR)),
            ("a/absolute/new", Err(Errno::ENOTDIR)),
            ("..", Err(Errno::EXDEV)),
            ("a/../x", Err(Errno::EXDEV)),
            ("", Err(Errno::EXDEV)),
        ] {
            let place = root.join(below);
            // The last part of the parent path is itself a symlink, for which the kernel returns `ENOTDIR`.
            let name = place.parent_and_name().map(|(_, name)| name.to_str().unwrap());
            assert_eq!(name, expected, "{below}");
        }
    }

    #[test]
    fn held_directory_survives_rename() {
        let (_dir, root) = ground();
        let held = root.join("a").open().unwrap().unwrap();
        fs::rename(root.path().join("a"), root.path().join("moved")).unwrap();
        symlink("../outside", root.path().join("a")).unwrap();
        let inode = fs::metadata(root.path().join("moved/b/file")).unwrap().ino();
        assert_eq!(found(held.join("b/file").open_fd(OFlag::O_RDONLY)), Ok(inode));
        assert!(root.join("none").open().unwrap().is_none());
        let error = root.join("a").open().unwrap_err().in_one_line();
        assert!(error.contains(&root.join("a").display().to_string()), "{error}");
        let error = root.join("a/b").open().unwrap_err().in_one_line();
        assert!(error.contains("a symlink"), "{error}");
    }
}
