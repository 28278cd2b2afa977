//! Archives of small releases, in every format.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};
use zip::write::SimpleFileOptions;

use super::hex;

/// An entry of a release.
#[derive(Clone)]
enum Part {
    Directory(u32),
    File(u32, Vec<u8>),
    Symlink(String),
}

/// A release to pack.
#[derive(Clone)]
pub struct Build {
    dir: PathBuf,
    version: String,
    format: &'static str,
    top: &'static str,
    parts: BTreeMap<String, Part>,
}

impl Build {
    /// Returns a small release: an executable, a manifest, a few files, a symlink, an empty and a read-only
    /// directory.
    pub fn new(dir: PathBuf, version: &str) -> Self {
        let mut parts = BTreeMap::new();
        for (path, mode) in
            [("bin", 0o755), ("lib", 0o755), ("lib/deep", 0o755), ("empty", 0o755), ("fixed", 0o555)]
        {
            parts.insert(path.to_owned(), Part::Directory(mode));
        }
        let build = Self { dir, version: version.to_owned(), format: "zip", top: "emqx/", parts };
        build
            .executable("bin/emqx", &format!("#!/bin/sh\necho {version}\n"))
            .file("release.toml", &format!("name = \"emqx\"\nversion = \"{version}\"\n"))
            .file("lib/version", version)
            .file("lib/deep/data", &format!("{version}\n").repeat(2000))
            .file("fixed/file", "fixed")
            .file("none", "")
            .symlink("lib/emqx", "../bin/emqx")
    }

    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.parts.insert(path.to_owned(), Part::File(0o644, text.as_bytes().to_vec()));
        self
    }

    pub fn executable(mut self, path: &str, text: &str) -> Self {
        self.parts.insert(path.to_owned(), Part::File(0o755, text.as_bytes().to_vec()));
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.parts.insert(path.to_owned(), Part::Symlink(target.to_owned()));
        self
    }

    /// Sets the format: zip, tar, tar.gz, tgz, tar.zst or tar.xz.
    pub fn format(mut self, format: &'static str) -> Self {
        self.format = format;
        self
    }

    /// Omits the directory at the top.
    pub fn flat(mut self) -> Self {
        self.top = "";
        self
    }

    /// Writes the release into a directory, from which an archive can be made.
    pub fn spread(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        let (directories, others): (Vec<_>, Vec<_>) =
            self.parts.iter().partition(|(_, part)| matches!(part, Part::Directory(_)));
        directories.iter().for_each(|(path, _)| fs::create_dir_all(dir.join(path)).unwrap());
        for (path, part) in others.into_iter().chain(directories.into_iter().rev()) {
            let path = dir.join(path);
            match part {
                Part::Symlink(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
                Part::File(_, data) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, data).unwrap();
                }
                Part::Directory(_) => {}
            }
            if let Part::Directory(mode) | Part::File(mode, _) = part {
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }

    /// Returns the expected tree on disk.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let shown = |part: &Part| match part {
            Part::Directory(mode) => format!("{mode:o} directory"),
            Part::File(mode, data) => format!("{mode:o} {}", hex(data)),
            Part::Symlink(target) => format!("-> {target}"),
        };
        self.parts.iter().map(|(path, part)| (path.clone(), shown(part))).collect()
    }

    /// Writes the archive and returns its path.
    pub fn write(&self) -> PathBuf {
        let path = self.dir.join(format!("emqx-{}.{}", self.version, self.format));
        let file = File::create(&path).unwrap();
        match self.format {
            "zip" => self.zip(file),
            "tar" => drop(self.tar(file)),
            "tar.zst" => {
                let packed = self.tar(zstd::Encoder::new(file, 1).unwrap());
                packed.finish().unwrap();
            }
            "tar.xz" => {
                self.tar(liblzma::write::XzEncoder::new(file, 1)).finish().unwrap();
            }
            _ => {
                let level = flate2::Compression::fast();
                self.tar(flate2::write::GzEncoder::new(file, level)).finish().unwrap();
            }
        }
        path
    }

    fn tar<W: Write>(&self, out: W) -> W {
        let mut tar = tar::Builder::new(out);
        for (path, part) in &self.parts {
            let path = format!("{}{path}", self.top);
            let mut header = Header::new_gnu();
            let data: &[u8] = match part {
                Part::File(_, data) => data,
                _ => &[],
            };
            header.set_size(data.len() as u64);
            match part {
                Part::Directory(mode) | Part::File(mode, _) => header.set_mode(*mode),
                Part::Symlink(_) => header.set_mode(0o777),
            }
            match part {
                Part::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    tar.append_link(&mut header, &path, target).unwrap();
                }
                Part::Directory(_) => {
                    header.set_entry_type(EntryType::Directory);
                    tar.append_data(&mut header, format!("{path}/"), io::empty()).unwrap();
                }
                Part::File(..) => tar.append_data(&mut header, &path, data).unwrap(),
            }
        }
        tar.into_inner().unwrap()
    }

    fn zip(&self, file: File) {
        let mut zip = zip::ZipWriter::new(file);
        for (path, part) in &self.parts {
            let path = format!("{}{path}", self.top);
            let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
            match part {
                Part::Directory(mode) => zip.add_directory(path, options.unix_permissions(*mode)).unwrap(),
                Part::Symlink(target) => zip.add_symlink(path, target.as_str(), options).unwrap(),
                Part::File(mode, data) => {
                    zip.start_file(path, options.unix_permissions(*mode)).unwrap();
                    zip.write_all(data).unwrap();
                }
            }
        }
        zip.finish().unwrap();
    }
}
