//! The files that people write for a root: its settings, the rules of upgrade paths, and the manifests of its
//! releases. An error in such a file never prevents opening the root.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath};
use crate::release::LinkName;
use crate::settings::{SETTINGS, Settings, Unread};

use super::{Root, TEXT_LIMIT};

/// The settings, as far as they can be used.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub settings: Settings,
    /// The reason why they cannot be used in full.
    wrong: Option<Arc<Error>>,
    unread: Unread,
}

impl Rules {
    /// Reads the settings in this directory. Follows a symlink, because the operator may keep them elsewhere.
    pub fn read(root: &DirPath) -> Self {
        let file = root.join(SETTINGS);
        let text = match disk::read_linked(&file, TEXT_LIMIT) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                let wrong = Some(Arc::new(error));
                return Self { wrong, unread: Unread::ALL, ..Self::default() };
            }
        };
        match Settings::parse(&file.display().to_string(), &text) {
            Ok(settings) => Self { settings, ..Self::default() },
            Err(error) => {
                let (settings, unread) = Settings::salvage(&text);
                Self { settings, wrong: Some(Arc::new(error)), unread }
            }
        }
    }

    fn error(&self) -> Option<Error> {
        self.wrong.as_ref().map(|wrong| wrong.refused_in_one_line(""))
    }
}

impl Root {
    /// Refuses wrong settings, because a rule that cannot be read must not be ignored.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the file, the line and the nearest known key.
    pub fn ruled(&self) -> Result<()> {
        self.rules.error().map_or(Ok(()), Err)
    }

    /// Reads the settings again if they were wrong, because the operator may have corrected them.
    pub fn read_again(&mut self) {
        if self.rules.wrong.is_some() {
            self.rules = Rules::read(&self.place);
        }
    }

    /// Returns whether the settings may name a service in a part that cannot be used.
    #[must_use]
    pub fn may_have_service(&self) -> bool {
        self.rules.unread.service
    }

    /// Returns the user that the settings name for programs of releases.
    ///
    /// # Errors
    /// Returns a `Refused` error if the settings may name a user in a part that cannot be used.
    pub fn user(&self) -> Result<Option<&str>> {
        match self.rules.error() {
            Some(error) if self.rules.unread.user => {
                Err(Error::refused("cannot determine the user that programs of releases run as")
                    .because(error))
            }
            _ => Ok(self.settings().user.as_deref()),
        }
    }

    /// Returns every error in the settings, in the rules of upgrade paths, and in the manifests of the current and
    /// the permanent release.
    #[must_use]
    pub fn damage(&self) -> Vec<Error> {
        let mut wrong: Vec<Error> = self.rules.error().into_iter().chain(self.paths().err()).collect();
        if let Ok(now) = self.observe() {
            let [current, permanent] =
                [LinkName::Current, LinkName::Permanent].map(|name| now.link(name).version());
            let versions = current.into_iter().chain(permanent.filter(|version| current != Some(*version)));
            wrong.extend(versions.filter_map(|version| self.manifest(version).err()));
        }
        wrong
    }
}
