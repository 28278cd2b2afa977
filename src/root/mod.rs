//! The root of one service: every path in it, and the users who may change it.

mod data;
mod declared;
mod failure;
mod history;
mod home;
mod lock;
mod observe;
mod receipt;
mod rules;
mod trial;
mod trials;

use std::fs::File;
use std::path::Path;

pub use data::MigrationPost;
pub use declared::manifest_in;
pub use failure::Failure;
pub use history::{HistoryEntry, Outcome};
pub use lock::{Holder, RootLock};
pub use receipt::Receipt;
pub use trial::Trial;
pub use trials::{TrialOutcome, TrialRecord, trials};

use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath, FileKind};
use crate::manifest::Timeouts;
use crate::outside;
use crate::ownership::Owned;
use crate::process;
use crate::release::LinkName;
use crate::settings::{SETTINGS, Settings};
use crate::tree::Owner;
use crate::version::Version;

use home::Home;
use rules::Rules;

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
    outside::open_root(path).map(|(dir, path)| DirPath::of(dir, path))
}

/// An installation directory.
#[derive(Clone, Debug)]
pub struct Root {
    place: DirPath,
    owner: Owner,
    home: Home,
    rules: Rules,
}

impl Root {
    /// Returns the root at `given`, or otherwise at the nearest parent of `here` that contains releases/.
    ///
    /// # Errors
    /// Returns a `Refused` error if there is no root, or if the nearest parent belongs to another user. Settings that
    /// cannot be used are not an error here; [`Self::ruled`] refuses them.
    pub fn find(given: Option<&Path>, here: &Path) -> Result<Self> {
        let is_root = |dir: &Path| outside::leads_to_dir(&dir.join("releases")) && !is_release(dir);
        let path = match given {
            Some(dir) if is_root(dir) => dir,
            Some(dir) => {
                if let Some(target) = outside::link_target(&dir.join("releases")) {
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
        let (home, rules) = (Home::find(&place, owner)?, Rules::read(&place));
        Ok(Self { place, owner, home, rules })
    }

    /// Returns the root, with `timeouts` overriding those in its settings.
    #[must_use]
    pub fn within(mut self, timeouts: Timeouts) -> Self {
        self.rules.settings.timeouts = timeouts.or(self.rules.settings.timeouts);
        self
    }

    /// Creates a root at `path`, unless there is one. Returns the root, and whether it is new.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be created, or if existing settings do not name this product.
    pub fn create(path: &Path, name: Option<&str>) -> Result<(Self, bool)> {
        outside::make_dirs(path)?;
        let made = !Self::is_at(path);
        let place = open(path)?;
        check_modes([&place])?;
        let releases = place.join("releases");
        // The operator may keep the releases on another file system, behind a symlink.
        if !outside::leads_to_dir(releases.path()) {
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
        match &self.rules.settings.name {
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
        self.rules.settings = Settings::parse(SETTINGS, &text)?;
        disk::write_durable(&file, &self.staging(), text.as_bytes(), 0o644, self.owner).map(drop)
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

    /// Returns the absolute path, without symlinks.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Returns the path of the root as a [`DirPath`].
    #[must_use]
    pub fn place(&self) -> &DirPath {
        &self.place
    }

    /// Returns the owner of the root, who also owns everything that Tenure creates in it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Returns the operator's settings, as far as they can be used.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.rules.settings
    }

    /// Returns the directory for files that outlive releases.
    #[must_use]
    pub fn shared(&self) -> DirPath {
        self.place.join("shared")
    }

    /// Returns the directory in which Tenure writes its own files before it renames them.
    #[must_use]
    pub fn staging(&self) -> DirPath {
        self.own().join("staging")
    }

    /// Returns the directory that files are moved to before they are deleted.
    #[must_use]
    pub fn trash(&self) -> DirPath {
        self.own().join("trash")
    }

    /// Returns the journal of the transaction under way.
    #[must_use]
    pub fn journal(&self) -> DirPath {
        self.own().join("journal")
    }

    /// Returns the path that an unreadable journal is moved to.
    #[must_use]
    pub fn damaged_journal(&self) -> DirPath {
        self.own().join("journal.damaged")
    }

    /// Returns the directory with the records of a release: its receipt, its tree, and whether it has been permanent.
    #[must_use]
    pub fn receipt_dir(&self, version: &Version) -> DirPath {
        self.receipts().join(version.to_string())
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

    /// Opens the file that the active guard locks.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn guard_lock(&self) -> Result<File> {
        // The file does not go through staging, because a guard does not hold the root's lock.
        disk::open_kept(&self.own().join("guard"), &self.own(), 0o600, self.owner)
    }

    /// Returns whether a guard is active.
    ///
    /// # Errors
    /// Returns an error if the lock file cannot be opened.
    pub fn is_guarded(&self) -> Result<bool> {
        Ok(self.guard_lock()?.try_lock().is_err())
    }

    fn lock(&self) -> DirPath {
        self.own().join("lock")
    }

    fn receipts(&self) -> DirPath {
        self.own().join("receipts")
    }

    fn own(&self) -> DirPath {
        self.place.join(".tenure")
    }
}

fn check_modes<'a>(dirs: impl IntoIterator<Item = &'a DirPath>) -> Result<()> {
    if disk::effective_uid() != 0 {
        return Ok(());
    }
    dirs.into_iter().try_for_each(|dir| Owned::at(dir.path())?.as_ref().map_or(Ok(()), Owned::not_shared))
}
