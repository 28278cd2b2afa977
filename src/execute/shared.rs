//! Directories that outlive releases: every release has a link in their place, and the first one that ships such a
//! directory brings what is in it. Nothing of them is ever overwritten or removed.

use std::iter;
use std::path::Path;

use crate::error::{Doing, Error, Result};
use crate::fs::{self as disk, Place, Standing};
use crate::root::Root;
use crate::settings::SharedDirectory;
use crate::tree::{Node, Owner, TreeEntry};

use super::stage::Parts;

/// Where the link in a release leads.
fn target(name: &SharedDirectory) -> String {
    format!("../../shared/{name}")
}

/// Takes the directories out of a release in staging, and puts links in their places.
pub(super) fn link(parts: &Parts, names: &[SharedDirectory], owner: Owner) -> Result<()> {
    for name in names {
        let (shipped, seed) = (parts.tree.join(name), parts.seed.join(name));
        let cannot = || format!("cannot share the directory {name}, as tenure.toml says");
        match disk::standing(&shipped)? {
            Standing::Nothing => {}
            Standing::Directory => {
                disk::set_apart(&shipped).doing(cannot)?;
                disk::ensure_dir(&parts.seed, 0o755, owner)?;
                disk::move_staged(&shipped, &seed)?;
            }
            Standing::File | Standing::Link(_) => {
                return Err(Error::refused(format!("{}: the release has a file or link there", cannot())));
            }
        }
        disk::link_staged(&shipped, Path::new(&target(name)), owner)?;
    }
    Ok(())
}

/// What a release consists of once it has these links.
pub(super) fn linked<'a>(
    tree: impl Iterator<Item = TreeEntry> + 'a,
    names: &'a [SharedDirectory],
) -> impl Iterator<Item = TreeEntry> + 'a {
    let is_shared = move |entry: &TreeEntry| {
        let top = entry.path.split('/').next();
        names.iter().any(|name| Some(name.as_ref()) == top)
    };
    let mut sorted: Vec<&SharedDirectory> = names.iter().collect();
    sorted.sort();
    let link = |name: &SharedDirectory| {
        let node = Node::Symlink { target: target(name) };
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

/// Lets the directories appear that are not there yet, with what the release ships in them, or else empty.
pub(super) fn appear(root: &Root, parts: &Parts) -> Result<()> {
    let names = &root.settings().shared.directories;
    if names.is_empty() {
        return Ok(());
    }
    let shared = root.shared();
    disk::ensure_dir(&shared, 0o755, root.owner())?;
    disk::sync_dir(root.place())?;
    names.iter().try_for_each(|name| fill(root, &shared.join(name), &parts.seed.join(name)))?;
    disk::sync_dir(&shared)
}

fn fill(root: &Root, directory: &Place, seed: &Place) -> Result<()> {
    // An empty one was made for releases that ship nothing in it.
    let is_empty = || disk::names(directory).is_ok_and(|names| names.is_empty());
    match (disk::exists(seed), disk::standing(directory)?) {
        (true, Standing::Nothing) => disk::move_durable(seed, directory),
        (true, Standing::Directory) if is_empty() => {
            disk::remove_empty(directory)?;
            disk::move_durable(seed, directory)
        }
        (false, Standing::Nothing) => disk::ensure_dir(directory, 0o755, root.owner()),
        _ => Ok(()),
    }
}
