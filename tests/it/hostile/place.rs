//! A root with canaries in and around it, and the changes that a command makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::corpus::bombs::SETTINGS;
use crate::support::{Host, Run, in_shell};

/// The version of every archive.
pub const VERSION: &str = "1.2.3";

/// The root of a host with one archive, and with canaries in the root and in its parent.
pub struct Place {
    pub host: Host,
    pub archive: String,
}

/// The metadata, without access times, and the contents of all files in and around a root.
pub type Marks = BTreeMap<PathBuf, String>;

impl Place {
    /// Returns a place with the limits of the corpus.
    pub fn new(format: &str, bytes: &[u8]) -> Self {
        Self::with(SETTINGS, format, bytes)
    }

    /// Returns a place with these settings in addition to the usual ones.
    pub fn with(settings: &str, format: &str, bytes: &[u8]) -> Self {
        let place = Self::empty(settings, format);
        place.put(bytes);
        place
    }

    /// Returns such a place without its archive.
    pub fn empty(settings: &str, format: &str) -> Self {
        let host = Host::in_memory();
        let archive = format!("emqx-{VERSION}.{format}");
        let usual = "name = \"emqx\"\n[space]\nreserve = \"0 B\"\n";
        fs::write(host.root().join("tenure.toml"), format!("{usual}{settings}")).unwrap();
        let place = Self { host, archive };
        for dir in [place.around(), place.root(), &place.root().join("releases")] {
            let canaries = dir.join("canaries");
            fs::create_dir_all(canaries.join("dir")).unwrap();
            fs::write(canaries.join("file"), "canary").unwrap();
            symlink("file", canaries.join("link")).unwrap();
        }
        place
    }

    pub fn put(&self, bytes: &[u8]) {
        fs::write(self.root().join("releases").join(&self.archive), bytes).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.host.root()
    }

    /// Returns the directory that contains the root and canaries.
    pub fn around(&self) -> &Path {
        self.root().parent().unwrap()
    }

    pub fn release(&self) -> PathBuf {
        self.root().join("releases").join(VERSION)
    }

    /// Runs a command with at most 256 MiB of memory.
    pub fn run(&self, args: &[&str]) -> Run {
        self.run_within(256, args)
    }

    /// Runs a command that may reserve this many MiB of memory. A command that needs more ends by a signal.
    pub fn run_within(&self, mib: usize, args: &[&str]) -> Run {
        let mut shell = in_shell(&format!("ulimit -d {}", mib << 10), &self.host.command(args));
        Run::of(shell.output().unwrap(), &shell)
    }

    /// Returns the marks of everything except the release.
    pub fn marks(&self) -> Marks {
        let mut marks = Marks::new();
        mark(self.around(), &self.release(), &mut marks);
        marks
    }

    /// Returns the differences between two sets of marks, except at paths for which `may` returns true.
    pub fn differing(&self, before: &Marks, after: &Marks, may: &dyn Fn(&str) -> bool) -> Vec<String> {
        let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
        let inside = |path: &PathBuf| match path.strip_prefix(self.root()) {
            Ok(inside) => inside.to_str().unwrap().to_owned(),
            Err(_) => format!("outside {}", path.display()),
        };
        paths
            .into_iter()
            .filter(|path| before.get(*path) != after.get(*path) && !may(&inside(path)))
            .map(|path| format!("{}: {:?}, then {:?}", inside(path), before.get(path), after.get(path)))
            .collect()
    }
}

fn mark(path: &Path, skip: &Path, marks: &mut Marks) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let stat = [meta.mode(), meta.uid(), meta.gid()];
    let times = [meta.ino(), meta.nlink(), meta.size()].map(|n| n.to_string()).join(" ");
    let changed = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    let held = if meta.is_file() {
        fs::read(path).map(|bytes| crate::support::hex(&bytes))
    } else {
        Ok(String::new())
    };
    marks.insert(path.to_owned(), format!("{stat:?} {times} {changed:?} {held:?}"));
    let inside = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    if meta.is_dir() {
        inside.filter(|path| path != skip).for_each(|path| mark(&path, skip, marks));
    }
}
