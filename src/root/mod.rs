//! The root of one service: where it is, its settings, and the users who may change it.

mod lock;
mod observe;
mod places;
mod receipt;
mod records;
mod trials;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

pub use lock::{Holder, RootLock};
pub use observe::manifest_in;
pub use receipt::Receipt;
pub use records::{Failure, HistoryEntry, MigrationPost, Outcome};
pub use trials::{Trial, TrialOutcome, TrialRecord, trials};

use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath, FileKind, Owner};
use crate::host_path;
use crate::manifest::Timeouts;
use crate::ownership::Owned;
use crate::process;
use crate::release::LinkName;
use crate::settings::{SETTINGS, Settings, Unread};
use crate::version::Version;

/// The maximum size of the settings or of a manifest, in bytes.
const TEXT_LIMIT: u64 = 1 << 20;

/// The number of logs to keep. Their names begin with the time.
const LOGS_KEPT: usize = 50;

/// Returns whether a directory is a release of a root. Releases of Erlang programs contain their own releases/.
fn is_release(dir: &Path) -> bool {
    let name = |dir: &Path| dir.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name(dir).is_some_and(|name| Version::of_directory(&name).is_some())
        && dir.parent().and_then(name).as_deref() == Some("releases")
}

/// Refuses a directory that was found from the working directory and belongs neither to root nor to this user.
/// Otherwise a user could prepare a root for another user to step into.
///
/// # Errors
/// Returns a `Refused` error with `--root` as the hint.
pub fn check_found(dir: &Path) -> Result<()> {
    let trusted = [0, disk::effective_uid()];
    let Some(found) = Owned::at(dir)?.filter(|found| !trusted.contains(&found.uid)) else { return Ok(()) };
    Err(Error::refused(format!(
        "cannot use the root {}: it was found from the working directory and belongs to {}",
        dir.display(),
        process::user_name(found.uid)
    ))
    .hint(format!("if you trust that user, name the root: `--root {}`", dir.display())))
}

fn open(path: &Path) -> Result<DirPath> {
    host_path::open_root(path).map(|(dir, path)| DirPath::of(dir, path))
}

/// An installation directory.
#[derive(Clone, Debug)]
pub struct Root {
    place: DirPath,
    owner: Owner,
    releases: ReleasesDir,
    loaded: LoadedSettings,
}

impl Root {
    /// Returns the root at `given`, or otherwise at the nearest parent of `here` that contains releases/.
    ///
    /// # Errors
    /// Returns a `Refused` error if there is no root, or if the nearest parent belongs to another user. Settings that
    /// cannot be used are not an error here; [`Self::ruled`] refuses them.
    pub fn find(given: Option<&Path>, here: &Path) -> Result<Self> {
        let is_root = |dir: &Path| host_path::leads_to_dir(&dir.join("releases")) && !is_release(dir);
        let path = match given {
            Some(dir) if is_root(dir) => dir,
            Some(dir) => {
                if let Some(target) = host_path::link_target(&dir.join("releases")) {
                    let error = format!(
                        "cannot use {}: its link releases points to {}, which does not exist",
                        dir.display(),
                        target.display()
                    );
                    return Err(
                        Error::refused(error).hint("mount the disk that holds it, or correct the link")
                    );
                }
                return Err(Error::refused(format!("{} is not a root: it has no releases/", dir.display()))
                    .hint(format!("run `tenure init --root {}` to create one", dir.display())));
            }
            None => {
                let nearest = here.ancestors().find(|dir| is_root(dir)).ok_or_else(|| {
                    Error::refused(format!(
                        "no root here: neither {} nor a parent contains releases/",
                        here.display()
                    ))
                    .hint("name one with --root or TENURE_ROOT, or make one with `tenure init`")
                })?;
                check_found(nearest)?;
                nearest
            }
        };
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self> {
        let place = open(path)?;
        let owner = disk::owner(&place)?;
        let (releases, loaded) = (ReleasesDir::find(&place, owner)?, LoadedSettings::read(&place));
        Ok(Self { place, owner, releases, loaded })
    }

    /// Returns the root, with `timeouts` overriding those in its settings.
    #[must_use]
    pub fn within(mut self, timeouts: Timeouts) -> Self {
        self.loaded.settings.timeouts = timeouts.or(self.loaded.settings.timeouts);
        self
    }

    /// Creates a root at `path`, unless there is one. Returns the root, and whether it is new.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be created, or if existing settings do not name this product.
    pub fn create(path: &Path, name: Option<&str>) -> Result<(Self, bool)> {
        host_path::make_dirs(path)?;
        let made = !Self::is_at(path);
        let place = open(path)?;
        check_modes([&place])?;
        let releases = place.join("releases");
        // The operator may keep the releases on another file system, behind a symlink.
        if !host_path::leads_to_dir(releases.path()) {
            disk::ensure_dir(&releases, 0o755, disk::owner(&place)?)?;
        }
        disk::sync_dir(&place)?;
        let mut root = Self::open(path)?;
        root.may_change()?;
        root.ruled()?;
        root.prepare()?;
        if let Some(name) = name {
            root.set_name(name)?;
        }
        Ok((root, made))
    }

    fn set_name(&mut self, name: &str) -> Result<()> {
        let file = self.place.join(SETTINGS);
        match &self.loaded.settings.name {
            Some(present) if present == name => return Ok(()),
            present if disk::exists(&file) => {
                let says = present.as_deref().unwrap_or("no product");
                return Err(Error::refused(format!(
                    "{} exists already and names {says}, not {name}",
                    file.display()
                ))
                .hint(format!("write `name = {name:?}` into it")));
            }
            _ => {}
        }
        let text = format!("name = {name:?}\n");
        self.loaded.settings = Settings::parse(SETTINGS, &text)?;
        self.write_record(&file, text.as_bytes())
    }

    /// Creates the directories that Tenure uses for itself.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be created.
    pub fn prepare(&self) -> Result<()> {
        disk::ensure_dir(&self.own(), 0o755, self.owner)?;
        for dir in [self.staging(), self.trash(), self.receipts()] {
            disk::ensure_dir(&dir, 0o755, self.owner)?;
        }
        if self.is_spread() {
            for dir in [self.beside(), self.release_staging(), self.release_trash()] {
                disk::ensure_dir(&dir, 0o755, self.owner)?;
            }
        }
        Ok(())
    }

    /// Deletes what is in the trash and what crashes left behind, as long as `goes_on` returns `true`; `goes_on`
    /// receives the bytes deleted since its last call. The caller holds the lock, and no journal is open.
    ///
    /// # Errors
    /// Returns an error if an entry cannot be deleted.
    pub fn collect_garbage(&self, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        for link in [LinkName::Current, LinkName::Permanent] {
            let spare = disk::spare_link(&self.place, link.file_name());
            if matches!(disk::standing(&spare), Ok(FileKind::Link(_))) {
                disk::remove_file_durable(&spare)?;
            }
        }
        self.forget_trial()?;
        let mut swept = Ok(());
        for dir in self.left() {
            swept = disk::purge(&dir, goes_on).and(swept);
        }
        swept
    }

    /// Returns the number of bytes that [`Self::collect_garbage`] deletes.
    #[must_use]
    pub fn left_behind(&self) -> u64 {
        self.left().iter().map(disk::size).sum()
    }

    /// Returns the directories that [`Self::collect_garbage`] empties, also after the releases changed file systems.
    fn left(&self) -> [DirPath; 4] {
        let beside = self.beside();
        [self.staging(), self.trash(), beside.join("staging"), beside.join("trash")]
    }

    /// Refuses a directory that contains releases/ but was never made a root, like those of other tools. A root has
    /// .tenure/ or tenure.toml, or its `permanent` leads to a release.
    ///
    /// # Errors
    /// Returns a `Refused` error with the command that makes the directory a root.
    pub fn adopted(&self) -> Result<()> {
        let is_written = disk::exists(&self.own()) || disk::exists(&self.place.join(SETTINGS));
        if is_written || self.observe()?.permanent.version().is_some() {
            return Ok(());
        }
        let path = self.path().display();
        let why = "it contains releases/, but it is not a Tenure root";
        Err(Error::refused(format!("cannot change {path}: {why}"))
            .hint(format!("to make it a root, run `tenure init --root {path}`")))
    }

    /// Returns whether there is a root at `path`.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        Self::find(Some(path), path).and_then(|root| root.adopted()).is_ok()
    }

    /// Refuses users other than root and the owner of this root.
    ///
    /// # Errors
    /// Returns a `Refused` error that names both users.
    pub fn may_change(&self) -> Result<()> {
        let user = disk::effective_uid();
        if user == 0 || user == self.owner.uid {
            return Ok(());
        }
        let owner = process::user_name(self.owner.uid);
        Err(Error::refused(format!(
            "cannot change {}: it belongs to {owner}, and you are {}",
            self.path().display(),
            process::user_name(user)
        ))
        .hint(self.as_whom()))
    }

    /// If this user is root, refuses a root that other users can write, like sshd's `StrictModes`, because its
    /// contents may be theirs. A sticky directory is refused as well, because other users can add files to it.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the directory.
    pub fn check_modes(&self) -> Result<()> {
        check_modes([&self.place, &self.releases(), &self.own()])
    }

    /// Returns the hint for a user who may not read or change this root.
    #[must_use]
    pub fn as_whom(&self) -> String {
        match self.owner.uid {
            0 => "run it as root".to_owned(),
            owner => format!("run it as root or as {}", process::user_name(owner)),
        }
    }

    /// Returns the operator's settings, as far as they can be used.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// Writes one of Tenure's own files durably. The caller holds the lock.
    fn write_record(&self, place: &DirPath, bytes: &[u8]) -> Result<()> {
        disk::write_durable(place, &self.staging(), bytes, 0o644, self.owner).map(drop)
    }

    /// Creates a log file for the output of a release's program, and deletes all but the newest logs.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn new_log(&self, name: &str) -> Result<(File, DirPath)> {
        let logs = self.own().join("log");
        disk::ensure_dir(&logs, 0o755, self.owner)?;
        let mut names = disk::names(&logs)?;
        names.retain(|name| !name.starts_with('.'));
        for old in names.iter().take((names.len() + 1).saturating_sub(LOGS_KEPT)) {
            disk::remove_file_durable(&logs.join(old))?;
        }
        let place = logs.join(name);
        // The log does not go through staging, which another command may sweep during a migration.
        let file = disk::open_kept(&place, &logs, 0o644, self.owner)?;
        Ok((file, place))
    }
}

fn check_modes<'a>(dirs: impl IntoIterator<Item = &'a DirPath>) -> Result<()> {
    if disk::effective_uid() != 0 {
        return Ok(());
    }
    dirs.into_iter().try_for_each(|dir| Owned::at(dir.path())?.as_ref().map_or(Ok(()), Owned::not_shared))
}

/// The directory of the releases: in the root, on a file system mounted there, or where the operator's symlink leads.
#[derive(Clone, Debug)]
struct ReleasesDir {
    /// The directory itself; the target, if `releases` in the root is a symlink.
    dir: DirPath,
    /// Whether `releases` in the root is a symlink.
    is_linked: bool,
    /// Whether one rename cannot move a file there from .tenure/; also set if `releases` is a symlink.
    is_elsewhere: bool,
}

impl ReleasesDir {
    /// Finds the directory of the releases in a root.
    ///
    /// # Errors
    /// Returns a `Refused` error if another user created the symlink to it, or if the target belongs to another user.
    fn find(root: &DirPath, owner: Owner) -> Result<Self> {
        let inner = root.join("releases");
        if let FileKind::Link(_) = disk::standing(&inner)? {
            return Ok(Self { dir: linked(&inner, owner)?, is_linked: true, is_elsewhere: true });
        }
        let own = root.join(".tenure");
        let beside = if disk::is_dir(&own) { own } else { root.clone() };
        let is_elsewhere = disk::is_dir(&inner) && disk::is_elsewhere(&inner, &beside)?;
        Ok(Self { dir: inner, is_linked: false, is_elsewhere })
    }
}

/// Refuses a location that another user controls, because files there are given to the owner of the root.
fn linked(link: &DirPath, owner: Owner) -> Result<DirPath> {
    let (dir, path) = host_path::open_dir(link.path())?;
    let releases = DirPath::of(dir, path);
    let (made_by, of) = (disk::owner_of_link(link)?.uid, disk::owner(&releases)?.uid);
    let is_trusted = of == owner.uid || of == 0 && made_by == 0;
    if (made_by == owner.uid || made_by == 0) && is_trusted {
        return Ok(releases);
    }
    let [made_by, of, owner] = [made_by, of, owner.uid].map(process::user_name);
    Err(Error::refused(format!(
        "cannot use the link {} of {made_by} to {}, which belongs to {of}: the root belongs to {owner}",
        link.display(),
        releases.display()
    ))
    .hint(format!(
        "give both to {owner}: `chown -h {owner} {}; chown {owner} {}`",
        link.display(),
        releases.display()
    )))
}

/// The settings, as far as they can be used.
#[derive(Clone, Debug, Default)]
struct LoadedSettings {
    settings: Settings,
    /// The reason why they cannot be used in full.
    error: Option<Arc<Error>>,
    unread: Unread,
}

impl LoadedSettings {
    /// Reads the settings in this directory. Follows a symlink, because the operator may keep them elsewhere.
    fn read(root: &DirPath) -> Self {
        let file = root.join(SETTINGS);
        let text = match disk::read_linked(&file, TEXT_LIMIT) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                let error = Some(Arc::new(error));
                return Self { error, unread: Unread::ALL, ..Self::default() };
            }
        };
        match Settings::parse(&file.display().to_string(), &text) {
            Ok(settings) => Self { settings, ..Self::default() },
            Err(error) => {
                let (settings, unread) = Settings::salvage(&text);
                Self { settings, error: Some(Arc::new(error)), unread }
            }
        }
    }

    fn error(&self) -> Option<Error> {
        self.error.as_ref().map(|wrong| wrong.refused_in_one_line(""))
    }
}
