//! Builds a release in staging, before the plan publishes it, with its symlinks to the shared directories.
//!
//! Shared directories outlive releases. Every release has a symlink in their place, and the first release that ships
//! such a directory provides its content. That content is never overwritten or removed.

use std::fs::File;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::archive::{self, Also, Archive, BaseRelease, Copied, Inspection, Limits, PackedSum, Target};
use crate::clock;
use crate::error::{Context, Error, Result};
use crate::fs::{self as disk, DirPath, FileKind};
use crate::journal;
use crate::progress::{NoProgress, Progress};
use crate::root::{Receipt, Root};
use crate::settings::SharedDirectory;
use crate::tree::{Node, TreeEntry};

/// The smallest archive whose files are flushed while it is unpacked, in bytes.
const FLUSH_FROM: u64 = 16 << 20;

/// The directory in which copies are made. No shared directory can have this name.
const COPIES: &str = ".tenure-copies";

/// A directory in staging that only the user of this process can enter. Dropping it deletes everything that was not
/// published.
pub struct Staging<'a> {
    root: &'a Root,
    transaction: String,
    parts: StagingPaths,
}

/// A release that is complete and durable in staging.
pub struct Staged<'a>(Staging<'a>);

/// Facts about the archive that a release was unpacked from.
#[derive(Default)]
pub struct Archived {
    /// The file name.
    pub name: Option<String>,
    /// The SHA-256, in hex.
    pub sha256: Option<String>,
    /// The public key that verified the archive.
    pub signed_by: Option<String>,
}

/// The paths of a transaction in staging.
#[derive(Clone)]
pub(super) struct StagingPaths {
    /// The directory of the release and its content, on the disk of the releases.
    pub whole: DirPath,
    /// The directory of Tenure's records of the release, on the disk of .tenure; the same as `whole` unless the
    /// releases lie on another disk.
    pub own: DirPath,
    /// The incomplete release.
    pub raw: DirPath,
    /// The complete release.
    pub tree: DirPath,
    /// Its receipt.
    pub receipt: DirPath,
    /// The content that it ships for the shared directories.
    pub seed: DirPath,
}

impl StagingPaths {
    pub fn of(root: &Root, transaction: &str) -> Self {
        Self::at(root.release_staging().join(transaction), root.staging().join(transaction))
    }

    fn at(whole: DirPath, own: DirPath) -> Self {
        let [raw, tree, seed] = ["raw", "releases/tree", "seed"].map(|name| whole.join(name));
        Self { receipt: own.join("receipt"), whole, own, raw, tree, seed }
    }

    /// Creates the directories so that only this user can enter them, and holds them open so that no other user can
    /// exchange them.
    fn private(root: &Root, transaction: &str) -> Result<Self> {
        let Self { whole, own, .. } = Self::of(root, transaction);
        let own = disk::private_dir(&own)?;
        let whole = if root.is_spread() { disk::private_dir(&whole)? } else { own.clone() };
        Ok(Self::at(whole, own))
    }

    /// Creates the directories again for a rollback.
    pub fn make(&self) -> Result<()> {
        disk::ensure_dir(&self.own, 0o700, disk::effective_owner())?;
        disk::ensure_dir(&self.whole, 0o700, disk::effective_owner())?;
        self.make_inner()
    }

    /// The tree lies as deep as in the root, so that symlinks out of the release resolve in the same way.
    fn make_inner(&self) -> Result<()> {
        disk::ensure_dir(&self.whole.join("releases"), 0o755, disk::effective_owner())
    }
}

impl<'a> Staging<'a> {
    /// Creates an empty staging directory. The caller must hold the lock.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be created.
    pub fn begin(root: &'a Root) -> Result<Self> {
        let transaction = journal::new_transaction();
        // No other user can reach the content until it is moved out, complete and with its final owner.
        let parts = StagingPaths::private(root, &transaction)?;
        let staging = Self { root, transaction, parts };
        staging.parts.make_inner()?;
        disk::ensure_dir(&staging.parts.raw, 0o755, root.owner())?;
        Ok(staging)
    }

    /// Empties the staging directory.
    ///
    /// # Errors
    /// Returns an error if the unpacked files cannot be deleted.
    pub fn again(&self) -> Result<()> {
        let parts = &self.parts;
        disk::purge(&parts.whole, &mut |_| true)?;
        parts.make_inner()?;
        disk::ensure_dir(&parts.raw, 0o755, self.root.owner())
    }

    /// Returns whether files in staging can share their blocks with this file.
    #[must_use]
    pub fn shares_blocks(&self, with: &File) -> bool {
        disk::unnamed(&self.parts.whole).is_ok_and(|to| archive::can_share_blocks(with, &to))
    }

    /// Unpacks an archive, and returns everything that one reading shows about it. The result must not be published
    /// before it is [complete](Self::complete).
    ///
    /// # Errors
    /// Returns the errors of [`Archive::inspect`].
    pub fn unpack(
        &self,
        archive: &Archive,
        twins: Option<Arc<BaseRelease>>,
        [limits, beyond]: [&Limits<'_>; 2],
        also: &mut Also<'_>,
        progress: &mut dyn Progress,
    ) -> Result<Inspection> {
        let parts = &self.parts;
        let raw = disk::open_dir(&parts.raw)?;
        thread::scope(|scope| {
            let (first, half) = channel();
            let flushing = scope.spawn(move || half.iter().try_for_each(|()| disk::sync_tree(&parts.raw)));
            let mut progress = Halfway { progress, half: Some(first) };
            let target = Some(self.target(raw.as_fd(), twins));
            let read = archive.inspect(target, limits, beyond, also, &mut progress);
            drop(progress);
            let flushed = flushing.join().unwrap_or_else(|_| Err(Error::failed("cannot flush")));
            read.and_then(|reading| flushed.map(|()| reading))
        })
    }

    /// Copies a directory.
    ///
    /// # Errors
    /// Returns the errors of [`archive::copy`].
    pub fn copy(&self, from: &Path, progress: &mut dyn Progress) -> Result<Copied> {
        let raw = disk::open_dir(&self.parts.raw)?;
        archive::copy(from, &self.target(raw.as_fd(), None), progress)
    }

    /// Writes the receipt of the release, and makes the release durable. If all files lie in a directory `top`, the
    /// release is the content of that directory. `archive` is `None` for a copied directory; `packed` is the result
    /// of [`archive::Reading::packed`].
    ///
    /// # Errors
    /// Returns an error if a file cannot be written.
    pub fn complete(
        self,
        top: Option<&str>,
        archive: Option<Archived>,
        tree: impl Iterator<Item = TreeEntry>,
        packed: &[PackedSum],
    ) -> Result<Staged<'a>> {
        let parts = &self.parts;
        let raw = top.map_or_else(|| parts.raw.clone(), |top| parts.raw.join(top));
        disk::move_staged(&raw, &parts.tree)?;
        link_shared(self.root, parts)?;
        disk::ensure_dir(&parts.receipt, 0o755, self.root.owner())?;
        let Archived { name, sha256, signed_by } = archive.unwrap_or_default();
        let (transaction, unpacked_at) = (self.transaction.clone(), clock::now());
        let known = Receipt { transaction, unpacked_at, archive: name, sha256, signed_by };
        known.stage(&parts.receipt, with_shared_links(self.root, tree), packed, self.root.owner())?;
        disk::sync_tree(&parts.whole)?;
        if self.root.is_spread() {
            disk::sync_tree(&parts.own)?;
        }
        Ok(Staged(self))
    }

    fn target<'t>(&self, dir: BorrowedFd<'t>, twins: Option<Arc<BaseRelease>>) -> Target<'t> {
        Target { dir, owner: (disk::effective_uid() == 0).then(|| self.root.owner()), twins }
    }
}

/// A progress receiver that starts a flush to disk when half of a large archive is read, while the rest is unpacked.
struct Halfway<'a> {
    progress: &'a mut dyn Progress,
    half: Option<Sender<()>>,
}

impl Progress for Halfway<'_> {
    fn advance(&mut self, done: u64, total: u64) {
        if total >= FLUSH_FROM && done >= total / 2 {
            // If the receiving thread has ended, nothing is flushed early.
            let _ = self.half.take().map(|half| half.send(()));
        }
        self.progress.advance(done, total);
    }

    fn interrupted(&self) -> bool {
        self.progress.interrupted()
    }
}

impl Staged<'_> {
    /// Returns the transaction that publishes the release.
    pub(super) fn transaction(&self) -> &str {
        &self.0.transaction
    }

    /// Runs programs of the release in staging as they would run in its final place.
    ///
    /// # Errors
    /// Returns an error if staging cannot be opened to other users or closed again.
    pub fn let_in<T>(&self, run: impl FnOnce(&DirPath) -> T) -> Result<T> {
        let StagingPaths { whole, tree, .. } = self.parts();
        let shared = whole.join("shared");
        // The release's symlinks to shared directories must resolve from staging as well.
        let target = self.0.root.shared_from_staging();
        disk::link_staged(&shared, Path::new(&target), disk::effective_owner())?;
        disk::set_passable(whole, true)?;
        let ran = run(tree);
        disk::set_passable(whole, false)?;
        disk::remove_file_durable(&shared)?;
        Ok(ran)
    }

    /// Returns the paths of the release in staging.
    pub(super) fn parts(&self) -> &StagingPaths {
        &self.0.parts
    }
}

impl Drop for Staging<'_> {
    /// Deletes the directory. Errors are ignored: the next command deletes the remaining files.
    fn drop(&mut self) {
        let StagingPaths { whole, own, .. } = StagingPaths::of(self.root, &self.transaction);
        for (held, empty) in [(&self.parts.whole, whole), (&self.parts.own, own)] {
            let _ = disk::purge(held, &mut |_| true).and_then(|()| disk::remove_empty(&empty));
        }
    }
}

/// Moves the shared directories out of a release in staging, and puts symlinks in their places.
fn link_shared(root: &Root, parts: &StagingPaths) -> Result<()> {
    let owner = root.owner();
    for name in &root.settings().shared.directories {
        let (shipped, seed) = (parts.tree.join(name), parts.seed.join(name));
        let cannot = || format!("cannot share the directory {name} that tenure.toml names");
        match disk::standing(&shipped)? {
            FileKind::Nothing => {}
            FileKind::Directory => {
                disk::break_hard_links(&shipped).context(cannot)?;
                disk::ensure_dir(&parts.seed, 0o755, owner)?;
                disk::move_staged(&shipped, &seed)?;
            }
            FileKind::File | FileKind::Link(_) => {
                return Err(Error::refused(format!("{}: the release has a file or link there", cannot())));
            }
        }
        disk::link_staged(&shipped, Path::new(&root.shared_target(name)), owner)?;
    }
    Ok(())
}

/// Returns the entries of a release with its symlinks to the shared directories, sorted by path.
fn with_shared_links<'a>(
    root: &'a Root,
    tree: impl Iterator<Item = TreeEntry> + 'a,
) -> impl Iterator<Item = TreeEntry> + 'a {
    let names = &root.settings().shared.directories;
    let is_shared = move |entry: &TreeEntry| {
        let top = entry.path.split('/').next();
        names.iter().any(|name| Some(name.as_ref()) == top)
    };
    let mut sorted: Vec<&SharedDirectory> = names.iter().collect();
    sorted.sort();
    let link = |name: &SharedDirectory| {
        let node = Node::Symlink { target: root.shared_target(name) };
        TreeEntry { path: name.to_string(), mode: 0, node }
    };
    let mut links = sorted.into_iter().map(link).peekable();
    let mut others = tree.filter(move |entry| !is_shared(entry)).peekable();
    iter::from_fn(move || match (links.peek(), others.peek()) {
        (Some(link), Some(other)) if other.path < link.path => others.next(),
        (Some(_), _) => links.next(),
        (None, _) => others.next(),
    })
}

/// Creates the missing shared directories, with the content that the release ships in them, or empty.
pub(super) fn create_shared(root: &Root, parts: &StagingPaths) -> Result<()> {
    let names = &root.settings().shared.directories;
    if names.is_empty() {
        return Ok(());
    }
    let shared = root.shared();
    disk::ensure_dir(&shared, 0o755, root.owner())?;
    disk::sync_dir(root.place())?;
    names.iter().try_for_each(|name| fill_shared(root, &shared.join(name), &parts.seed.join(name)))?;
    disk::sync_dir(&shared)
}

fn fill_shared(root: &Root, directory: &DirPath, seed: &DirPath) -> Result<()> {
    // An empty directory was made for releases that ship no content for it.
    let is_empty = || disk::names(directory).is_ok_and(|names| names.is_empty());
    match (disk::exists(seed), disk::standing(directory)?) {
        (true, FileKind::Nothing) => publish_shared(root, seed, directory),
        (true, FileKind::Directory) if is_empty() => {
            disk::remove_empty(directory)?;
            publish_shared(root, seed, directory)
        }
        (false, FileKind::Nothing) => disk::ensure_dir(directory, 0o755, root.owner()),
        _ => Ok(()),
    }
}

/// Publishes a directory as a whole. If it lies on another disk, it is copied first; a crash leaves that copy, which
/// the next attempt deletes.
fn publish_shared(root: &Root, seed: &DirPath, directory: &DirPath) -> Result<()> {
    let shared = root.shared();
    if !disk::is_elsewhere(seed, &shared)? {
        return disk::move_durable(seed, directory);
    }
    let context = || format!("cannot copy {} to {}", seed.display(), directory.display());
    let copies = shared.join(COPIES);
    let held = disk::private_dir(&copies)?;
    disk::purge(&held, &mut |_| true)?;
    let copy = held.join("copy");
    disk::ensure_dir(&copy, 0o755, root.owner())?;
    let to = disk::open_dir(&copy)?;
    let owner = (disk::effective_uid() == 0).then(|| root.owner());
    archive::copy(seed.path(), &Target { dir: to.as_fd(), owner, twins: None }, &mut NoProgress)
        .context(context)?;
    disk::copy_mode(seed, &copy)?;
    disk::sync_tree(&held)?;
    disk::move_durable(&copy, directory)?;
    disk::remove_empty(&copies)
}
