//! What is wrong with a release that its vendor is about to hand out: every fault at once, each with a code, a
//! place and a hint. Pure: what the release holds is told by whoever read it.

mod binaries;
mod files;
mod head;
mod manifest;
mod requires;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::manifest::{MANIFEST, printable};
use crate::naming;

pub use head::{FileMagic, Interpreter, Shebang};

/// The kinds of faults. Their words stay what they are: scripts tell faults apart by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The archive is damaged, empty, or cannot be read to its end.
    ArchiveUnfit,
    /// The digest that lies beside the archive is another's.
    DigestDiffers,
    /// The file name of the archive is of another release than the manifest.
    NameDiffers,
    /// A name that is not safe, or is there twice.
    EntryUnsafe,
    /// A device, pipe or socket.
    EntrySpecial,
    /// A link to an absolute path.
    LinkAbsolute,
    /// A link that leaves the release, or leads nowhere.
    LinkUnsafe,
    /// A mode that is not kept.
    ModeLost,
    /// The manifest is no TOML.
    ManifestSyntax,
    /// A key that is not known.
    ManifestUnknown,
    /// A key that has to be there.
    ManifestMissing,
    /// A value that cannot be used.
    ManifestValue,
    /// A range of versions that nothing can be in.
    RangeNever,
    /// A word for an architecture that is not uname's.
    ArchUnknown,
    /// A hook whose program is not in the release.
    HookMissing,
    /// A hook whose program cannot be run.
    HookNotExecutable,
    /// A script whose interpreter may not be there.
    InterpreterMissing,
    /// A binary for another architecture than the release's.
    ArchDiffers,
    /// A file that services usually write to.
    FileWritten,
    /// Nothing by which a process of this release is known for one.
    VersionUntold,
}

impl Code {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ArchiveUnfit => "archive-unfit",
            Self::DigestDiffers => "digest-differs",
            Self::NameDiffers => "name-differs",
            Self::EntryUnsafe => "entry-unsafe",
            Self::EntrySpecial => "entry-special",
            Self::LinkAbsolute => "link-absolute",
            Self::LinkUnsafe => "link-unsafe",
            Self::ModeLost => "mode-lost",
            Self::ManifestSyntax => "manifest-syntax",
            Self::ManifestUnknown => "manifest-unknown",
            Self::ManifestMissing => "manifest-missing",
            Self::ManifestValue => "manifest-value",
            Self::RangeNever => "range-never",
            Self::ArchUnknown => "arch-unknown",
            Self::HookMissing => "hook-missing",
            Self::HookNotExecutable => "hook-not-executable",
            Self::InterpreterMissing => "interpreter-missing",
            Self::ArchDiffers => "arch-differs",
            Self::FileWritten => "file-written",
            Self::VersionUntold => "version-untold",
        }
    }

    /// What to do about it, where nothing more is known.
    fn hint(self) -> &'static str {
        match self {
            Self::ArchiveUnfit => "pack it again: `tenure pack DIR`",
            Self::DigestDiffers => "write the digest again after you have checked the archive",
            Self::NameDiffers => {
                "name the archive NAME-VERSION as its manifest says, or correct the manifest"
            }
            Self::EntryUnsafe => "rename it; an entry with this name is not unpacked",
            Self::EntrySpecial => "remove it, and let the service create it when it starts",
            Self::LinkAbsolute => "link to it by a path relative to the link, inside the release",
            Self::LinkUnsafe => "point it to a file in the release, or remove it",
            Self::ModeLost => {
                "give the privilege by the service manager, or by a program outside the release"
            }
            Self::ManifestSyntax | Self::ManifestUnknown | Self::ManifestValue | Self::ManifestMissing => {
                "`tenure manifest --example` shows every key"
            }
            Self::RangeNever => "correct the range, or remove it",
            Self::ArchUnknown => "write what `uname -m` prints",
            Self::HookMissing => {
                "ship the program, or remove the hook; paths begin at the top of the release"
            }
            Self::HookNotExecutable => "set its executable bit: `chmod 755`",
            Self::InterpreterMissing => "ship the interpreter and run the script by it, or write for /bin/sh",
            Self::ArchDiffers => {
                "ship the binary for the release's architecture, or name its own in [requires] arch"
            }
            Self::FileWritten => {
                "write it to a directory that tenure.toml lists in [shared] directories, which outlives releases"
            }
            Self::VersionUntold => {
                "add a hook `running-version`, which prints the version that the service runs"
            }
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of fault it is.
    pub code: Code,
    /// A path in the release, or `release.toml:LINE`; empty for the archive as a whole.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Finding {
    /// A fault, with the hint that its kind has. What a terminal would obey is escaped.
    pub fn new(code: Code, place: &str, message: impl Into<String>) -> Self {
        let place = place.chars().map(printable).collect();
        Self { code, place, message: message.into(), hint: code.hint().to_owned() }
    }

    /// The same with a hint that knows more.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

/// What stands at a path of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A file, and whether its owner may execute it.
    File {
        /// Whether its mode says so.
        executable: bool,
    },
    /// A link, and where it leads.
    Link(String),
}

/// A release, as far as its faults can be told without reading all of it.
#[derive(Clone, Debug, Default)]
pub struct Release {
    /// The file name of its archive; none for a directory.
    pub archive: Option<String>,
    /// The text of its manifest.
    pub manifest: Option<String>,
    /// Everything in it, by path.
    pub things: BTreeMap<String, FileType>,
    /// What the first bytes of its programs say, by path.
    pub heads: BTreeMap<String, FileMagic>,
}

/// Every fault of a release: of its manifest first, in the order of its lines, then of its files.
#[must_use]
pub fn lint(release: &Release) -> Vec<Finding> {
    let (manifest, mut findings) = match &release.manifest {
        Some(text) => manifest::check(text, release),
        None => (None, unnamed(release).into_iter().collect()),
    };
    let empty = &[][..];
    let arch = manifest.as_ref().map_or(empty, |manifest| &manifest.requires.arch);
    let hooks = manifest.iter().flat_map(manifest::programs).map(|(_, _, argv)| argv.program());
    let told = || naming::version_of(release.archive.as_ref()?, None);
    let version = manifest.as_ref().map(|manifest| manifest.version.clone()).or_else(told);
    findings.extend(files::check(release, version.as_ref(), arch, hooks));
    findings
}

/// Without a manifest the file name has to tell what the release is.
fn unnamed(release: &Release) -> Option<Finding> {
    if release.things.contains_key(MANIFEST) {
        return None;
    }
    let archive = release.archive.as_ref().filter(|archive| naming::version_of(archive, None).is_none())?;
    let message = format!("{archive:?} contains no version, and there is no {MANIFEST}");
    Some(Finding::new(Code::NameDiffers, "", message))
}

/// How many links and names of directories are followed for one path.
const STEPS_MAX: usize = 500;

impl Release {
    /// What a path leads to, links followed; nothing where it leads out of the release or nowhere.
    fn resolve(&self, path: &str) -> Option<(String, &FileType)> {
        let mut at = String::new();
        let mut ahead: Vec<&str> = path.split('/').rev().collect();
        for _ in 0..STEPS_MAX {
            match ahead.pop() {
                None => {
                    let thing = self.things.get(&at)?;
                    return Some((at, thing));
                }
                Some("" | ".") => {}
                Some("..") if at.is_empty() => return None,
                Some("..") => at.truncate(at.rfind('/').unwrap_or(0)),
                Some(name) => {
                    let here = at.len();
                    if here > 0 {
                        at.push('/');
                    }
                    at.push_str(name);
                    if let Some(FileType::Link(target)) = self.things.get(&at) {
                        at.truncate(here);
                        ahead.extend(target.split('/').rev());
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_told_by_its_word() {
        for code in [Code::ArchiveUnfit, Code::ModeLost, Code::HookNotExecutable, Code::FileWritten] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.word());
        }
    }

    #[test]
    fn paths_are_followed_through_links() {
        let things = [
            ("bin", FileType::Directory),
            ("bin/run", FileType::File { executable: true }),
            ("lib", FileType::Link("bin".into())),
            ("bin/up", FileType::Link("../lib/run".into())),
            ("out", FileType::Link("../x".into())),
            ("loop", FileType::Link("loop".into())),
        ];
        let things = things.into_iter().map(|(path, thing)| (path.to_owned(), thing)).collect();
        let release = Release { things, ..Release::default() };
        for (path, found) in [
            ("bin/run", Some("bin/run")),
            ("./lib/../bin/up", Some("bin/run")),
            ("lib", Some("bin")),
            ("bin/absent", None),
            ("out", None),
            ("loop", None),
        ] {
            assert_eq!(release.resolve(path).map(|(at, _)| at).as_deref(), found, "{path}");
        }
    }
}
