//! `init`: creates a root.

use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::root::Root;
use crate::settings;

use super::{Common, Mode};

/// The result of `init`.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    /// The path of the root.
    pub root: String,
    /// The product, if the settings name one.
    pub name: Option<String>,
    /// Whether the root did not exist before.
    pub made: bool,
    /// Whether this was a dry run.
    pub dry_run: bool,
}

/// Creates a root at `path`. An existing root stays as it is.
///
/// # Errors
/// Returns a `Refused` error if `name` is not a valid product name or contradicts the existing settings. Returns a
/// `Failed` error if a directory cannot be created.
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
