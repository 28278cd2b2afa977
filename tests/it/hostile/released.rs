//! Comparison of a release on disk with the expected tree.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::corpus::{Node, Tree};

/// Checks that the directory contains exactly this tree.
pub fn is(dir: &Path, expected: &Tree) -> Result<(), String> {
    let mut found = Tree::new();
    walk(&File::open(dir).unwrap(), "", &mut found);
    let paths = found.keys().chain(expected.keys());
    match paths.into_iter().find(|path| found.get(*path) != expected.get(*path)) {
        None => Ok(()),
        Some(path) => Err(format!(
            "{path:?} is {:?}, expected {:?}",
            found.get(path).map(shown),
            expected.get(path).map(shown)
        )),
    }
}

fn shown(node: &Node) -> String {
    format!("{node:?}").chars().take(200).collect()
}

/// Walks by descriptors, because a path may be longer than the kernel accepts.
fn walk(dir: &File, prefix: &str, found: &mut Tree) {
    let here = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    for entry in fs::read_dir(&here).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let (path, at) = (format!("{prefix}{name}"), here.join(&name));
        let meta = fs::symlink_metadata(&at).unwrap();
        let mode = meta.mode() & 0o7777;
        let node = if meta.is_symlink() {
            Node::Symlink(fs::read_link(&at).unwrap().to_str().unwrap().to_owned())
        } else if meta.is_dir() {
            walk(&File::open(&at).unwrap(), &format!("{path}/"), found);
            Node::Directory(mode)
        } else {
            assert!(meta.is_file(), "{path} is of a kind that no release holds");
            Node::File(mode, fs::read(&at).unwrap())
        };
        found.insert(path, node);
    }
}
