//! Parses the table `[shared]` of the settings: the directories that all releases share.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::manifest::MANIFEST;

/// The table `[shared]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawShared")]
pub struct Shared {
    /// The directories at the top of every release that all releases share.
    pub directories: Vec<SharedDirectory>,
}

/// The name of a directory at the top of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct SharedDirectory(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShared {
    directories: Vec<SharedDirectory>,
}

impl TryFrom<RawShared> for Shared {
    type Error = Error;

    fn try_from(RawShared { directories }: RawShared) -> Result<Self> {
        let mut seen = BTreeSet::new();
        match directories.iter().find(|name| !seen.insert(*name)) {
            Some(twice) => Err(Error::refused(format!("directories lists {twice} twice"))),
            None => Ok(Self { directories }),
        }
    }
}

impl TryFrom<String> for SharedDirectory {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        let allowed = |c: char| !c.is_control() && c != '/' && c != '\\';
        if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.chars().all(allowed) {
            return Err(Error::refused(format!("{name:?} is not a directory at the top of a release")));
        }
        if name == MANIFEST {
            return Err(Error::refused(format!("{MANIFEST} is each release's own")));
        }
        Ok(Self(name))
    }
}

impl AsRef<str> for SharedDirectory {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for SharedDirectory {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for SharedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{SETTINGS, Settings};

    #[test]
    fn shared_directory_is_one_top_level_name() {
        let parsed = |list: &str| Settings::parse(SETTINGS, &format!("[shared]\ndirectories = {list}\n"));
        assert_eq!(parsed("['etc', 'data']").unwrap().shared.directories.len(), 2);
        for (list, why) in [
            ("['']", "is not a directory"),
            ("['../etc']", "is not a directory"),
            ("['var/log']", "is not a directory"),
            ("['/etc']", "is not a directory"),
            ("['.git']", "is not a directory"),
            ("['release.toml']", "each release's own"),
            ("['etc', 'etc']", "twice"),
        ] {
            let error = parsed(list).unwrap_err().to_string();
            assert!(error.contains(why), "{list}: {error}");
        }
    }
}
