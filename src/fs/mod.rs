//! Reads and changes files in a root. Names state the guarantee: *atomic* leaves the old or the new state, *durable* survives a
//! power cut.
//!
//! The functions take a [`DirPath`], so they stay in the root even if another user can write there and puts symlinks
//! in the way. They set owner and mode through an open descriptor of a file that was created here. A symlink cannot
//! be opened, so its owner is set in a directory that no other user can enter.

mod dir_path;
mod walk;
mod read;
mod space;
mod dirs;
mod moves;
mod atomic;
mod links;
mod purge;

use nix::sys::stat::FileStat;
use nix::unistd::{Gid, Uid};

pub use atomic::{TempFile, append, append_durable, open_kept, write_durable, write_staged};
pub use dir_path::DirPath;
pub use dirs::{copy_mode, ensure_dir, private_dir, set_passable, sync_dir, sync_tree};
pub use links::{break_hard_links, link_staged, remove_link, spare_link, switch_link};
pub use moves::{bring_back, move_durable, move_staged, remove_empty, remove_file_durable, throw_durable};
pub use purge::purge;
pub use read::{
    FileKind, Origin, exists, is_dir, is_elsewhere, is_mount, names, open_dir, open_file, owner,
    owner_of_link, read_bytes, read_linked, read_text, read_torn, standing, unnamed,
};
pub use space::{Free, free, is_read_only, size, weigh};

pub(crate) use walk::{WalkEntry, file_type, walk, walk_in};

pub use crate::host_path::resolve;

/// The user and group that own written files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
}

impl Owner {
    /// Returns the owner in a file status.
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self { uid: stat.st_uid, gid: stat.st_gid }
    }

    /// Returns both IDs as the arguments of chown(2).
    pub(crate) fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }
}

/// Returns the effective user ID of the process.
#[must_use]
pub fn effective_uid() -> u32 {
    Uid::effective().as_raw()
}

/// Returns the user and group that own new files of this process.
#[must_use]
pub fn effective_owner() -> Owner {
    Owner { uid: effective_uid(), gid: Gid::effective().as_raw() }
}

/// Returns whether files that this process creates must be given to `owner`.
fn is_anothers(owner: Owner) -> bool {
    owner != effective_owner()
}
