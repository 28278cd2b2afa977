//! Creates a root: `init` an empty one, and `adopt` an existing, unversioned installation as its first release.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::{self, Reporter, Staged, Staging};
use crate::fs::{self as disk, DirPath};
use crate::host_path;
use crate::manifest::MANIFEST;
use crate::plan::{self, Permanence, Plan, PlanFacts, Request, Restart, Retry, Step};
use crate::policy::Direction;
use crate::release::ReleaseState;
use crate::root::{Root, manifest_in};
use crate::settings;
use crate::version::Version;

use super::disk_space::{Reservation, SpaceBudget};
use super::fetch;
use super::session::{Common, Mode, Report, Session};

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

/// The options of `adopt`.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// The options common to all commands.
    pub common: Common,
    /// The directory of the installation.
    pub from: PathBuf,
    /// The version to give to the installation.
    pub version: Version,
}

/// The result of `adopt`.
#[derive(Clone, Debug, Serialize)]
pub struct Adopted {
    /// The adopted release.
    pub version: Version,
    /// The directory that was copied; it stays unchanged.
    pub from: String,
    /// The state of the release: permanent if no release was permanent before, otherwise unpacked.
    pub state: ReleaseState,
}

/// Copies an installation into the root. If no release is permanent yet, the adopted release becomes permanent.
///
/// # Errors
/// Returns a `Refused` error if `from` is not a directory, contains the root, does not fit, or if the release is
/// installed already. Returns a `Failed` error if the copy failed and was rolled back.
pub fn adopt(root: &Root, options: &Adopt, reporter: &mut dyn Reporter) -> Result<Report<Adopted>> {
    let version = &options.version;
    let from = adoptable(&options.from, root.path(), version, root.settings().name.as_deref())?;
    outside_releases(root, &from).and_then(|()| check_trust(root, &from, version))?;
    let session = Session::begin(root, &options.common, reporter)?;
    session.now.sound()?;
    if session.now.state(version).is_some() {
        return Err(Error::refused(format!(
            "cannot adopt {} as {version}: that release is installed",
            from.display()
        ))
        .hint("run `tenure versions` to see the installed releases"));
    }
    fetch::free_name(root, version)?;
    if options.common.mode == Mode::Act {
        execute::make_room(root, reporter);
    }
    let room = SpaceBudget::of(root, version, Reservation::default())?;
    let (bytes, files) = disk::weigh(&from, room.block())?;
    room.fits(bytes, files)?;
    let copy = Step::Copy { version: version.clone(), from: from.display().to_string() };
    let staged = match options.common.mode {
        Mode::Act => {
            reporter.staging(&copy);
            Some(stage(root, &from, reporter)?)
        }
        Mode::DryRun => None,
    };
    let first = session.now.permanent.version().is_none();
    let plan = if first {
        let facts = PlanFacts { fetch: vec![copy], ..PlanFacts::default() };
        plan::install(&session.now, &request(version), facts)?
    } else {
        Plan { steps: vec![copy], ..Plan::default() }
    };
    let state = if first { ReleaseState::Permanent } else { ReleaseState::Unpacked };
    let shown = from.display().to_string();
    let adopted = Adopted { version: version.clone(), from: shown, state };
    session.finish(plan, staged.as_ref(), reporter, |_| adopted)
}

fn check_trust(root: &Root, from: &Path, version: &Version) -> Result<()> {
    if root.settings().trust.keys.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!(
        "cannot adopt {}: tenure.toml names trusted keys, and a directory has no signature",
        from.display()
    ))
    .hint(format!(
        "get the archive of {version} and its .minisig from the vendor, then run `tenure unpack ARCHIVE`"
    )))
}

/// Refuses a directory inside releases/, even if releases/ lies on another disk.
fn outside_releases(root: &Root, from: &Path) -> Result<()> {
    if from.starts_with(root.releases().path()) {
        return Err(Error::refused(format!("cannot adopt {}: it is in releases/", from.display()))
            .hint("run `tenure versions` to see whether it is a release"));
    }
    Ok(())
}

fn stage<'a>(root: &'a Root, from: &Path, reporter: &mut dyn Reporter) -> Result<Staged<'a>> {
    let staging = Staging::begin(root)?;
    let copied = staging.copy(from, reporter)?;
    for path in &copied.skipped {
        reporter.warn(&format!("{} is a socket or a pipe and was not copied", path.display()));
    }
    staging.complete(None, None, copied.tree(), &[])
}

fn request(version: &Version) -> Request {
    Request {
        target: version.clone(),
        direction: Direction::Either,
        permanence: Permanence::Permanent,
        restart: Restart::Forbidden,
        start: false,
        retry: Retry::Yes,
    }
}

/// Returns the directory to adopt as this version, with symlinks resolved. The root need not exist yet.
///
/// # Errors
/// Returns a `Refused` error if `given` is not a directory, contains the root or lies in releases/, or if its
/// manifest cannot be used or belongs to another release.
pub fn adoptable(given: &Path, root: &Path, version: &Version, name: Option<&str>) -> Result<PathBuf> {
    let from = disk::resolve(given)?;
    let refuse = |why: &str, hint: &str| {
        Err(Error::refused(format!("cannot adopt {}: {why}", from.display())).hint(hint))
    };
    if !host_path::is_dir(&from) {
        return refuse("it is not a directory", "name the directory of the install");
    }
    if root.starts_with(&from) {
        return refuse("the root is in it", "make the root elsewhere: `tenure init --root DIR`");
    }
    if from.starts_with(root.join("releases")) {
        return refuse("it is in releases/", "run `tenure versions` to see whether it is a release");
    }
    declared(&from, version, name)?;
    Ok(from)
}

/// Refuses a manifest that an archive of this release could not have, because every later command would reject it.
fn declared(from: &Path, version: &Version, name: Option<&str>) -> Result<()> {
    let (dir, path) = host_path::open_dir(from)?;
    match manifest_in(&DirPath::of(dir, path))?.and_then(|manifest| manifest.mismatch(version, name)) {
        Some(another) => {
            Err(Error::refused(format!("cannot adopt {}: {MANIFEST} declares {another}", from.display()))
                .hint("give the version and the product of the manifest, or correct the manifest"))
        }
        None => Ok(()),
    }
}
