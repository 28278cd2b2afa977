//! A release that is built in staging, ahead of the plan that publishes it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::archive::{self, Also, Archive, BaseRelease, Copied, Inspection, Limits, PackedSum, Target};
use crate::clock;
use crate::error::{Error, Result};
use crate::fs::{self as disk, DirPath};
use crate::progress::Progress;
use crate::root::{Receipt, Root};
use crate::tree::TreeEntry;

use super::{shared, transaction};

/// The size of an archive from which on its files are flushed in between, in bytes.
const FLUSH_FROM: u64 = 16 << 20;

/// A part of staging that only this process's user can enter. It is deleted when this is dropped, whatever of
/// it was not published by then.
pub struct Staging<'a> {
    root: &'a Root,
    transaction: String,
    parts: Parts,
}

/// A release that is complete and durable in staging.
pub struct Staged<'a>(Staging<'a>);

/// What is known of the archive that a release was unpacked from.
#[derive(Default)]
pub struct Archived {
    /// Its file name.
    pub name: Option<String>,
    /// Its SHA-256, in hex.
    pub sha256: Option<String>,
    /// The public key by which it was verified.
    pub signed_by: Option<String>,
}

/// Where the parts of a transaction are, in its part of staging.
#[derive(Clone)]
pub(super) struct Parts {
    /// The release, and what it ships: on the disk of the releases.
    pub whole: DirPath,
    /// What Tenure writes down of it, beside what it has written down of others; the same place, unless the releases lie on
    /// another disk.
    pub own: DirPath,
    /// What is not complete yet.
    pub raw: DirPath,
    /// The release.
    pub tree: DirPath,
    /// What is known of it.
    pub receipt: DirPath,
    /// The directories that it ships and that outlive it.
    pub seed: DirPath,
}

impl Parts {
    pub fn of(root: &Root, transaction: &str) -> Self {
        Self::at(root.release_staging().join(transaction), root.staging().join(transaction))
    }

    fn at(whole: DirPath, own: DirPath) -> Self {
        let [raw, tree, seed] = ["raw", "releases/tree", "seed"].map(|name| whole.join(name));
        Self { receipt: own.join("receipt"), whole, own, raw, tree, seed }
    }

    /// Holds it where only this user can enter it, and nobody can exchange it.
    fn private(root: &Root, transaction: &str) -> Result<Self> {
        let Self { whole, own, .. } = Self::of(root, transaction);
        let own = disk::private_dir(&own)?;
        let whole = if root.is_spread() { disk::private_dir(&whole)? } else { own.clone() };
        Ok(Self::at(whole, own))
    }

    /// Makes them anew where a transaction is taken back.
    pub fn make(&self) -> Result<()> {
        disk::ensure_dir(&self.own, 0o700, disk::effective_owner())?;
        disk::ensure_dir(&self.whole, 0o700, disk::effective_owner())?;
        self.make_inner()
    }

    /// As deep as in the root, so that links out of the release lead as far.
    fn make_inner(&self) -> Result<()> {
        disk::ensure_dir(&self.whole.join("releases"), 0o755, disk::effective_owner())
    }
}

impl<'a> Staging<'a> {
    /// Begins with nothing. Under the lock.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn begin(root: &'a Root) -> Result<Self> {
        let transaction = transaction();
        // Until something is moved out of it, whole and its owner's, nobody else reaches what is made in there.
        let parts = Parts::private(root, &transaction)?;
        let staging = Self { root, transaction, parts };
        staging.parts.make_inner()?;
        disk::ensure_dir(&staging.parts.raw, 0o755, root.owner())?;
        Ok(staging)
    }

    /// Begins once more with nothing.
    ///
    /// # Errors
    /// Where what was unpacked cannot be deleted.
    pub fn again(&self) -> Result<()> {
        let parts = &self.parts;
        disk::purge(&parts.whole, &mut |_| true)?;
        parts.make_inner()?;
        disk::ensure_dir(&parts.raw, 0o755, self.root.owner())
    }

    /// Whether files here can share their blocks with this one.
    #[must_use]
    pub fn shares_blocks(&self, with: &File) -> bool {
        disk::unnamed(&self.parts.whole).is_ok_and(|to| archive::can_share_blocks(with, &to))
    }

    /// Unpacks an archive, which must not be published before it is [complete](Self::complete), and tells all that is
    /// wrong with it.
    ///
    /// # Errors
    /// As [`Archive::inspect`].
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
    /// As [`archive::copy`].
    pub fn copy(&self, from: &Path, progress: &mut dyn Progress) -> Result<Copied> {
        let raw = disk::open_dir(&self.parts.raw)?;
        archive::copy(from, &self.target(raw.as_fd(), None), progress)
    }

    /// Writes down what is known of the release, and makes all of it durable. `top` is left out of the release,
    /// where everything lies in that directory; `archive` is none for a copied directory, `packed` as in
    /// [`archive::Reading::packed`].
    ///
    /// # Errors
    /// Where it cannot be written.
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
        shared::link(self.root, parts)?;
        disk::ensure_dir(&parts.receipt, 0o755, self.root.owner())?;
        let Archived { name, sha256, signed_by } = archive.unwrap_or_default();
        let (transaction, unpacked_at) = (self.transaction.clone(), clock::now());
        let known = Receipt { transaction, unpacked_at, archive: name, sha256, signed_by };
        known.stage(&parts.receipt, shared::linked(self.root, tree), packed, self.root.owner())?;
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

/// Has the disk begin to write when half of a large archive is read, while the other half is unpacked.
struct Halfway<'a> {
    progress: &'a mut dyn Progress,
    half: Option<Sender<()>>,
}

impl Progress for Halfway<'_> {
    fn advance(&mut self, done: u64, total: u64) {
        if total >= FLUSH_FROM && done >= total / 2 {
            // Without anybody to receive it, nothing is flushed early.
            let _ = self.half.take().map(|half| half.send(()));
        }
        self.progress.advance(done, total);
    }

    fn interrupted(&self) -> bool {
        self.progress.interrupted()
    }
}

impl Staged<'_> {
    /// The transaction that is to publish it.
    pub(super) fn transaction(&self) -> &str {
        &self.0.transaction
    }

    /// Lets programs of the release run where it is, as they would from where it is going to be.
    ///
    /// # Errors
    /// Where others cannot be let in, or shut out again.
    pub fn let_in<T>(&self, run: impl FnOnce(&DirPath) -> T) -> Result<T> {
        let Parts { whole, tree, .. } = self.parts();
        let shared = whole.join("shared");
        // What outlives releases is where its links say, seen from here.
        let target = self.0.root.shared_from_staging();
        disk::link_staged(&shared, Path::new(&target), disk::effective_owner())?;
        disk::set_passable(whole, true)?;
        let ran = run(tree);
        disk::set_passable(whole, false)?;
        disk::remove_file_durable(&shared)?;
        Ok(ran)
    }

    /// Where it is.
    pub(super) fn parts(&self) -> &Parts {
        &self.0.parts
    }
}

impl Drop for Staging<'_> {
    /// What cannot be deleted now, the next command deletes.
    fn drop(&mut self) {
        let Parts { whole, own, .. } = Parts::of(self.root, &self.transaction);
        for (held, empty) in [(&self.parts.whole, whole), (&self.parts.own, own)] {
            let _ = disk::purge(held, &mut |_| true).and_then(|()| disk::remove_empty(&empty));
        }
    }
}
