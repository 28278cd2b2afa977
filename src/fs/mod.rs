//! Changes to a root, each named by what it guarantees: *atomic* is old or new, *durable* survives a power cut.
//!
//! All of it works on places, so that it stays in the root even where somebody else may write there and puts
//! links in the way. An owner and a mode are given through what is open and was made here; to a link, which
//! cannot be opened, in a directory that nobody else can enter.

mod hard_links;
mod temp_file;
mod links;
mod origin;
mod dir_path;
mod purge;
mod read;
mod seed;
mod space;
mod write;

use nix::unistd::{Gid, Uid};

pub use dir_path::DirPath;
pub use hard_links::{bring_back, throw_durable};
pub use links::{
    move_durable, move_staged, remove_empty, remove_file_durable, remove_link, spare_link, switch_link,
};
pub use origin::Origin;
pub use purge::purge;
pub use read::{
    FileKind, exists, is_dir, is_elsewhere, is_mount, names, open_dir, open_file, owner, owner_of_link,
    read_bytes, read_linked, read_text, read_torn, standing, unnamed,
};
pub use seed::{break_hard_links, link_staged};
pub use space::{Free, free, is_read_only, size, weigh};
pub use temp_file::TempFile;
pub use write::{
    append, append_durable, copy_mode, ensure_dir, open_kept, private_dir, set_passable, sync_dir, sync_tree,
    write_durable, write_staged,
};

pub use crate::outside::resolve;

use crate::tree::Owner;

/// The process's effective user id.
#[must_use]
pub fn effective_uid() -> u32 {
    Uid::effective().as_raw()
}

/// The user and group that this process's new files belong to.
#[must_use]
pub fn effective_owner() -> Owner {
    Owner { uid: effective_uid(), gid: Gid::effective().as_raw() }
}

/// Whether what this process makes has to be given to its owner.
fn is_anothers(owner: Owner) -> bool {
    owner != effective_owner()
}
