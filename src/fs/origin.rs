//! Reads files in a root, where symlinks are not followed, or at a path that the operator names, where they are.

use std::fs::File;
use std::path::{self, Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::outside;

use super::DirPath;
use super::dir_path::{ErrnoContext, READ};
use super::read::read_text;

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
                let opened = place.open(READ);
                let linked = matches!(opened, Err(Errno::ELOOP));
                let hint = "name the target of the link, or put the file there";
                let explain = |e: Error| if linked { e.as_kind(Kind::Refused).hint(hint) } else { e };
                opened.map(File::from).tell(context).map_err(explain)
            }
            Self::Outside(path) => outside::open_file(path).context(context),
        }
    }

    /// Returns the text of a small file, or `None` if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is larger than `limit` bytes, or is not UTF-8.
    pub fn read_text(&self, limit: u64) -> Result<Option<String>> {
        match self {
            Self::Inside(place) => read_text(place, limit),
            Self::Outside(path) => outside::read_text(path, limit),
        }
    }
}
