//! The running service: what moves it from one release to the next.

use crate::error::Result;
use crate::manifest::{Manager, Settings};
use crate::policy::Hop;
use crate::release::Service;
use crate::version::Version;

/// What starts, stops and moves a service.
pub trait ServiceManager {
    /// Moves the running service between two releases, to the second of which `current` leads already;
    /// returns once it runs there. May be asked again for a move that was made.
    ///
    /// # Errors
    /// Where the service does not run the new release afterwards.
    fn move_service(&self, from: &Version, to: &Version, hop: Hop) -> Result<()>;
}

/// The manager that the settings name; none where Tenure is to move links alone.
#[must_use]
pub fn manager(settings: &Settings) -> Option<Box<dyn ServiceManager>> {
    match settings.service.manager {
        Manager::None => None,
    }
}

/// Whether a service goes along with the links.
#[must_use]
pub fn presence(settings: &Settings) -> Service {
    if manager(settings).is_some() { Service::Managed } else { Service::Absent }
}
