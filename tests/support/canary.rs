//! Files outside a root that no command may touch.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::{Host, hex};

/// A directory next to a root, with everything that an attacker could lead Tenure to.
pub struct Canaries {
    pub dir: PathBuf,
}

impl Canaries {
    /// Creates canaries next to the root of `host`: files, directories, and directories like those of another root.
    pub fn beside(host: &Host) -> Self {
        let dir = host.root().parent().unwrap().join("outside");
        for path in [
            "file",
            "loose",
            "file-x",
            "dir/file",
            "dir/sub/file",
            "tenure/staging/x/file",
            "tenure/trash/x/file",
            "tenure/receipts/5.0.0/tenured",
            "tenure/history",
            "releases/5.0.0/bin/emqx",
            "releases/5.0.2/bin/emqx",
            "releases/emqx-5.0.4.zip",
        ] {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("canary {}\n", path.display())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        fs::create_dir(dir.join("empty")).unwrap();
        // Other users can make hard links to this file even if the kernel restricts them.
        fs::set_permissions(dir.join("loose"), fs::Permissions::from_mode(0o666)).unwrap();
        Self { dir }
    }

    /// Returns the kind, mode, owner and contents of each entry, and the change time of each directory.
    pub fn now(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        look(&self.dir, &self.dir, &mut found);
        found
    }
}

fn look(top: &Path, path: &Path, found: &mut BTreeMap<String, String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let name = path.strip_prefix(top).unwrap().display().to_string();
    let owned = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
    let what = if meta.is_dir() {
        let names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.iter().for_each(|path| look(top, path, found));
        format!("{owned} changed {}.{:09}", meta.ctime(), meta.ctime_nsec())
    } else {
        // The change time of a file also changes with its number of hard links, which does not matter.
        format!("{owned} {}", hex(&fs::read(path).unwrap()))
    };
    found.insert(name, what);
}

/// Gives everything in a directory to a user.
pub fn give(path: &Path, to: u32) {
    lchown(path, Some(to), Some(to)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), to);
        }
    }
}
