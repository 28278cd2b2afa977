//! `adopt`: take an existing, unversioned install into a root, as its first release.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::execute::{self, Reporter, Staged, Staging};
use crate::fs::{self as disk, DirPath};
use crate::manifest::MANIFEST;
use crate::outside;
use crate::plan::{self, Permanence, Plan, PlanFacts, Request, Restart, Retry, Step};
use crate::policy::Direction;
use crate::release::ReleaseState;
use crate::root::{Root, manifest_in};
use crate::version::Version;

use super::disk_space::{Reservation, SpaceBudget};
use super::{Common, Mode, Report, Session, fetch};

/// What `adopt` is told.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// What every command is told.
    pub common: Common,
    /// The directory of the install.
    pub from: PathBuf,
    /// The version that it is.
    pub version: Version,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Adopted {
    /// The release.
    pub version: Version,
    /// The directory that was copied; it stays as it is.
    pub from: String,
    /// The state that it is in: permanent, where no release was.
    pub state: ReleaseState,
}

/// Copies an install into the root; where no release is permanent yet, this one becomes so.
///
/// # Errors
/// Refused where it is not a directory, holds the root, does not fit, or where the release is there already;
/// failed where it was taken back.
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
        .hint("`tenure versions` lists the installed releases"));
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

/// Refuses what lies among the releases, wherever these are.
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

/// The directory that is to be adopted as this version, without links; also before there is a root to adopt it into.
///
/// # Errors
/// Refused where it is not a directory, where it and the root lie in each other, or where its manifest cannot be used or is
/// another release's.
pub fn adoptable(given: &Path, root: &Path, version: &Version, name: Option<&str>) -> Result<PathBuf> {
    let from = disk::resolve(given)?;
    let refuse = |why: &str, hint: &str| {
        Err(Error::refused(format!("cannot adopt {}: {why}", from.display())).hint(hint))
    };
    if !outside::is_dir(&from) {
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

/// Refuses a manifest that no archive of this release could have: every later command would stumble over it.
fn declared(from: &Path, version: &Version, name: Option<&str>) -> Result<()> {
    let (dir, path) = outside::open_dir(from)?;
    match manifest_in(&DirPath::of(dir, path))?.and_then(|manifest| manifest.mismatch(version, name)) {
        Some(another) => {
            Err(Error::refused(format!("cannot adopt {}: {MANIFEST} declares {another}", from.display()))
                .hint("give the version and the product of the manifest, or correct the manifest"))
        }
        None => Ok(()),
    }
}
