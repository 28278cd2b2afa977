//! A directory of its own in which a test puts archives, surveys and unpacks them.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tenure::archive::{Archive, Survey, Unpacked};
use tenure::error::{Kind, Result};
use tenure::naming::Format;
use tenure::tree;
use tenure::watch::Unwatched;

use super::make::{file, tar};

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
        Archive::open(&self.path().join(name), Format::split(name).unwrap().1).unwrap()
    }

    pub fn unpack(&self, archive: &Archive, survey: &Survey) -> Result<Unpacked> {
        let target = File::open(self.target()).unwrap();
        archive.unpack(survey, target.as_fd(), None, &mut Unwatched)
    }

    /// Surveys and unpacks, and checks that record, disk and survey agree.
    pub fn unpacked(&self, archive: &Archive) -> (Survey, Vec<String>) {
        let survey = archive.survey(&mut Unwatched).unwrap();
        let unpacked = self.unpack(archive, &survey).unwrap();
        assert_eq!(unpacked.tree, tree::scan(&self.target(), &mut Unwatched).unwrap());
        assert_eq!(unpacked.sha256, archive.sha256(&mut Unwatched).unwrap());
        assert_eq!(survey.entries(), unpacked.tree.len() as u64);
        (survey, listing(&self.target()))
    }

    /// Checks that both passes refuse and that nothing is touched but the target, by the second; returns what
    /// the first says.
    pub fn refusal(&self, name: &str, bytes: &[u8]) -> String {
        let sound = self.archive("sound.tar", &tar(&[file("a", ""), file("b", "")]));
        let survey = sound.survey(&mut Unwatched).unwrap();
        let archive = self.archive(name, bytes);
        let before = listing(self.path());
        let refused = archive.survey(&mut Unwatched).map(|_| ()).expect_err(name);
        assert_eq!(listing(self.path()), before, "{refused}");
        assert_eq!(refused.kind(), Kind::Refused, "{refused}");
        assert!(refused.to_string().starts_with(&format!("cannot unpack {name}: ")), "{refused}");
        assert!(refused.hints()[0].contains("nothing was unpacked"), "{refused}");
        assert!(!refused.to_string().contains(char::is_control), "{refused}");

        let failed = self.unpack(&archive, &survey).expect_err(name);
        assert_eq!(failed.kind(), Kind::Failed, "{failed}");
        let outside = listing(self.path()).into_iter().filter(|line| !line.starts_with("target/")).count();
        let expected = before.iter().filter(|line| !line.starts_with("target/")).count();
        assert_eq!(outside, expected, "{failed}");
        refused.to_string()
    }
}

impl Drop for Bench {
    /// A user who is not root cannot remove what is in a read-only directory.
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

/// Everything under a directory, one line each: `path/ mode`, `path mode contents` or `path -> target`.
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
