//! Deleting trees of any depth without running out of descriptors or stack.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Doing, Result};

use super::{exists, is_dir, names};

/// Deletes everything in the directory `trash`, links never followed. A directory within a directory is
/// first moved up into the trash, so nothing is ever reached through a path of more than two names.
///
/// A crash leaves less than there was. Deletion is not durable: what comes back is deleted again.
///
/// # Errors
/// Where something cannot be deleted.
pub fn purge(trash: &Path) -> Result<()> {
    let mut moved = 0;
    loop {
        let round = names(trash)?;
        if round.is_empty() {
            return Ok(());
        }
        // What is moved up meanwhile is found by the next round.
        for name in round {
            let path = trash.join(name);
            if is_dir(&path) { empty(&path, trash, &mut moved)? } else { unlink(&path)? }
        }
    }
}

fn empty(dir: &Path, trash: &Path, moved: &mut u64) -> Result<()> {
    // A release may hold directories that nobody may write.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .doing(|| format!("cannot delete {}", dir.display()))?;
    for entry in fs::read_dir(dir).doing(|| format!("cannot read {}", dir.display()))? {
        let path = entry.doing(|| format!("cannot read {}", dir.display()))?.path();
        if is_dir(&path) { move_up(&path, trash, moved)? } else { unlink(&path)? }
    }
    fs::remove_dir(dir).doing(|| format!("cannot delete {}", dir.display()))
}

fn move_up(dir: &Path, trash: &Path, moved: &mut u64) -> Result<()> {
    let doing = || format!("cannot delete {}", dir.display());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).doing(doing)?;
    loop {
        *moved += 1;
        let up = trash.join(format!("{moved}"));
        if !exists(&up) {
            return fs::rename(dir, up).doing(doing);
        }
    }
}

fn unlink(path: &Path) -> Result<()> {
    fs::remove_file(path).doing(|| format!("cannot delete {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_and_read_only_trees_go() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        let mut deep = trash.join("x");
        for _ in 0..60 {
            deep.push("directory");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path(), deep.join("link")).unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o555)).unwrap();
        fs::write(dir.path().join("canary"), "x").unwrap();
        purge(&trash).unwrap();
        assert!(names(&trash).unwrap().is_empty());
        assert!(exists(&dir.path().join("canary")));
    }
}
