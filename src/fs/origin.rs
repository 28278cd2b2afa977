//! Files that are only read: in a root, where no link is followed, or where the operator says, where links are.

use std::fs::File;
use std::path::{self, Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Result};
use crate::outside;

use super::DirPath;
use super::dir_path::{ErrnoContext, READ};
use super::read::read_text;

/// Where a file is that is read.
#[derive(Clone, Debug)]
pub enum Origin {
    /// In a root.
    Inside(DirPath),
    /// Where the operator says.
    Outside(PathBuf),
}

impl Origin {
    /// The file whose name has this ending more.
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

    /// The path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Inside(place) => place.path(),
            Self::Outside(path) => path,
        }
    }

    /// The path, as it is shown.
    #[must_use]
    pub fn display(&self) -> path::Display<'_> {
        self.path().display()
    }

    /// Opens it to be read; never waits, as for the writer of a pipe.
    ///
    /// # Errors
    /// Where it cannot be opened, or is a link in a root.
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

    /// The text of a small file; none where it is not there.
    ///
    /// # Errors
    /// Where it cannot be read, or is larger than `limit` bytes, or is no UTF-8.
    pub fn read_text(&self, limit: u64) -> Result<Option<String>> {
        match self {
            Self::Inside(place) => read_text(place, limit),
            Self::Outside(path) => outside::read_text(path, limit),
        }
    }
}
