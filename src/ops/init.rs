//! `init`: make a root.

use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::root::Root;
use crate::settings;

use super::{Common, Mode};

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    /// The root's path.
    pub root: String,
    /// The product, where the settings name it.
    pub name: Option<String>,
    /// Whether it was not there before.
    pub made: bool,
    /// Whether this only tells what would be done.
    pub dry_run: bool,
}

/// Makes a root at `path`; one that is there stays as it is.
///
/// # Errors
/// Refused where the name is none, or where the settings there say otherwise; failed where a directory
/// cannot be made.
pub fn init(path: &Path, name: Option<&str>, common: &Common) -> Result<Initialised> {
    name.map_or(Ok(()), settings::check_product)?;
    if common.mode == Mode::DryRun {
        let made = !Root::is_at(path);
        return Ok(Initialised {
            root: path.display().to_string(),
            name: name.map(Into::into),
            made,
            dry_run: true,
        });
    }
    let (root, made) = Root::create(path, name)?;
    Ok(Initialised {
        root: root.path().display().to_string(),
        name: root.settings().name.clone(),
        made,
        dry_run: false,
    })
}
