//! A temporary directory in which a test writes, surveys and unpacks archives.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tenure::archive::{Archive, ENTRIES_MAX, Limits, Owner, Reading, Survey, Target};
use tenure::error::{Error, Kind, Result};
use tenure::naming::ArchiveFormat;
use tenure::progress::{NoProgress, Progress};
use tenure::tree::{self, TreeEntry};

pub struct Bench {
    temp: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Self { temp: tempfile::tempdir().unwrap() };
        fs::create_dir(bench.target()).unwrap();
        bench
    }

    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    pub fn target(&self) -> PathBuf {
        self.path().join("target")
    }

    pub fn archive(&self, name: &str, bytes: &[u8]) -> Archive {
        fs::write(self.path().join(name), bytes).unwrap();
        self.open(name)
    }

    pub fn open(&self, name: &str) -> Archive {
        Archive::open(&self.path().join(name), ArchiveFormat::split(name).unwrap().1).unwrap()
    }

    pub fn unpack(&self, archive: &Archive) -> Result<Reading> {
        self.unpack_for(archive, None, &mut NoProgress)
    }

    pub fn unpack_for(
        &self,
        archive: &Archive,
        owner: Option<Owner>,
        progress: &mut dyn Progress,
    ) -> Result<Reading> {
        let dir = File::open(self.target()).unwrap();
        archive.unpack(Target { dir: dir.as_fd(), owner, twins: None }, &limits(), &mut |_| {}, progress)
    }

    /// Returns the directory of the unpacked release.
    pub fn release(&self, survey: &Survey) -> PathBuf {
        survey.top.as_ref().map_or_else(|| self.target(), |top| self.target().join(top))
    }

    /// Unpacks an archive. Asserts that the record, the files on disk, the survey and a survey without unpacking
    /// agree.
    pub fn unpacked(&self, archive: &Archive) -> (Survey, Vec<String>) {
        let read = self.unpack(archive).unwrap();
        let release = self.release(&read.survey);
        let tree: Vec<TreeEntry> = read.tree().collect();
        assert_eq!(tree, tree::scan(&release).unwrap());
        assert_eq!(read.sha256, archive.sha256(&mut |_| {}, &mut NoProgress).unwrap());
        assert_eq!(read.survey.entries(), tree.len() as u64);
        let looked = survey(archive).unwrap();
        assert_eq!((looked.sha256, &looked.survey), (read.sha256, &read.survey));
        (read.survey, listing(&release))
    }

    /// Asserts that an archive is refused and that only the target changes. Returns the message.
    pub fn refusal(&self, name: &str, bytes: &[u8]) -> String {
        let archive = self.archive(name, bytes);
        let before = listing(self.path());
        let refused = survey(&archive).map(|_| ()).expect_err(name);
        assert_eq!(listing(self.path()), before, "{refused}");
        assert_eq!(refused.kind(), Kind::Refused, "{refused}");
        assert!(refused.to_string().starts_with(&format!("cannot unpack {name}: ")), "{refused}");
        assert!(refused.hints()[0].contains("nothing was unpacked"), "{refused}");
        assert!(!refused.to_string().contains(char::is_control), "{refused}");

        let again = self.unpack(&archive).expect_err(name);
        assert_eq!((again.kind(), again.to_string()), (Kind::Refused, refused.to_string()));
        let beside =
            |lines: Vec<String>| lines.into_iter().filter(|line| !line.starts_with("target/")).count();
        assert_eq!(beside(listing(self.path())), beside(before), "{refused}");
        open_up(&self.target());
        fs::remove_dir_all(self.target()).unwrap();
        fs::create_dir(self.target()).unwrap();
        refused.to_string()
    }
}

/// The limits of the tests.
pub fn limits() -> Limits<'static> {
    let refuse = &|_| Error::refused("it is too large");
    Limits { entries: ENTRIES_MAX, bytes: 1 << 40, block: 4096, each: 0, refuse }
}

pub fn survey(archive: &Archive) -> Result<Reading> {
    archive.survey(&limits(), &mut |_| {}, &mut NoProgress)
}

impl Drop for Bench {
    /// Restores the modes first, because an unprivileged user cannot remove files in a read-only directory.
    fn drop(&mut self) {
        open_up(self.path());
    }
}

fn open_up(dir: &Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(dir).unwrap().map(std::result::Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            open_up(&entry.path());
        }
    }
}

/// Lists a directory tree, one line per entry: `path/ mode`, `path mode contents` or `path -> target`.
pub fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    list(dir, "", &mut lines);
    lines.sort();
    lines
}

fn list(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(std::result::Result::unwrap) {
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let metadata = entry.metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            lines.push(format!("{path}/ {mode:o}"));
            list(&entry.path(), &format!("{path}/"), lines);
        } else if metadata.is_symlink() {
            lines.push(format!("{path} -> {}", fs::read_link(entry.path()).unwrap().display()));
        } else if metadata.is_file() {
            let data = fs::read(entry.path()).unwrap();
            lines.push(format!("{path} {mode:o} {}", String::from_utf8_lossy(&data)));
        }
    }
}
