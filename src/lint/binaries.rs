//! Finds binaries for another architecture than the release's that are not selected by architecture at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

use super::finding::{Code, Finding};
use super::release::{FileMagic, FileType, Release};

/// The words for architectures in the names of files and directories, by uname's word.
const WORDS: [(&str, &[&str]); 8] = [
    ("x86_64", &["x86_64", "x86-64", "amd64", "x64"]),
    ("aarch64", &["aarch64", "arm64"]),
    ("i686", &["i386", "i486", "i586", "i686", "x86", "ia32", "386"]),
    ("arm", &["arm", "armel", "armhf", "armv5", "armv6", "armv6l", "armv7", "armv7l", "arm32"]),
    ("ppc64le", &["ppc64le", "ppc64el", "powerpc64le"]),
    ("riscv64", &["riscv64", "riscv64gc"]),
    ("loongarch64", &["loongarch64", "loong64"]),
    ("mips", &["mips", "mipsel", "mipsle", "mips64", "mips64el", "mips64le"]),
];

/// Reports the binaries that are for none of the architectures in `arch`; if empty, that of most binaries counts.
pub fn check(release: &Release, arch: &[String]) -> Vec<Finding> {
    let binaries: Vec<(&str, &str)> = release
        .programs
        .iter()
        .filter_map(|(path, head)| match head {
            FileMagic::Binary(arch) => Some((path.as_str(), arch.as_str())),
            FileMagic::Script(_) => None,
        })
        .collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    binaries.iter().for_each(|(_, arch)| *counts.entry(arch).or_default() += 1);
    let most = counts.iter().max_by_key(|(_, count)| **count).map(|(arch, _)| *arch);
    let (meant, why): (Vec<&str>, _) = match arch {
        [] => (most.into_iter().collect(), "most of the release is"),
        arch => (arch.iter().map(String::as_str).collect(), "the manifest requires"),
    };
    let fits = |arch: &str| meant.iter().any(|meant| family(meant) == family(arch));
    let choice = Choice::of(release, &meant);
    let finding = |(path, arch): (&str, &str)| {
        let message = format!("is for {arch}, but {why} {}", meant.join(" or "));
        Finding::new(Code::ArchDiffers, path, message)
    };
    let differs = |(path, arch): &(&str, &str)| !fits(arch) && !choice.holds(path, arch);
    binaries.into_iter().filter(differs).map(finding).collect()
}

/// Returns one word for an architecture that has several words in uname.
fn family(arch: &str) -> &str {
    match arch {
        "i386" | "i486" | "i586" | "i686" => "i686",
        arch if arch.starts_with("armv") => "arm",
        arch if arch.starts_with("mips") => "mips",
        arch => arch,
    }
}

/// Returns the words for an architecture in file names.
fn words(arch: &str) -> Vec<&str> {
    let family = family(arch);
    WORDS.iter().find(|(known, _)| *known == family).map_or_else(|| vec![family], |(_, words)| words.to_vec())
}

/// Returns whether a name contains one of the words for this architecture.
fn names_arch(name: &str, arch: &str) -> bool {
    let is_word = |word: &&str| {
        name.match_indices(*word).any(|(at, _)| {
            let (before, behind) = (&name[..at], &name[at + word.len()..]);
            !before.ends_with(char::is_alphanumeric) && !behind.starts_with(char::is_alphanumeric)
        })
    };
    words(arch).iter().any(is_word)
}

/// The parts of a release that exist for several architectures, each named after its architecture, such as add-ons of
/// Node and libraries of .NET. The program that loads them selects by the architecture of the host.
struct Choice<'a> {
    release: &'a Release,
    /// The words in names for the architectures of the release.
    meant: Vec<&'a str>,
    /// The directories that have a subdirectory for an architecture of the release.
    parents: BTreeSet<&'a str>,
}

impl<'a> Choice<'a> {
    fn of(release: &'a Release, meant: &[&'a str]) -> Self {
        let parent = |(path, thing): (&'a String, &FileType)| {
            let (parent, name) = split(path);
            let is_meant = *thing == FileType::Directory && meant.iter().any(|arch| names_arch(name, arch));
            is_meant.then_some(parent)
        };
        let parents = release.entries.iter().filter_map(parent).collect();
        Self { release, meant: meant.iter().flat_map(|arch| words(arch)).collect(), parents }
    }

    /// Returns whether a binary is selected by its architecture. It lies in a directory named after that
    /// architecture, beside a directory for an architecture of the release; or the same file exists for an
    /// architecture of the release.
    fn holds(&self, path: &str, arch: &str) -> bool {
        let (parent, name) = split(path);
        let mut dirs = iter::successors(Some(parent), |dir| Some(split(dir).0).filter(|_| !dir.is_empty()));
        let is_chosen = |dir: &str| {
            let (above, name) = split(dir);
            names_arch(name, arch) && self.parents.contains(above)
        };
        let has_twin = |word: &str| {
            let twins = self.meant.iter().map(|meant| name.replace(word, meant)).filter(|twin| twin != name);
            twins.map(|twin| join(parent, &twin)).any(|twin| self.release.entries.contains_key(&twin))
        };
        dirs.any(is_chosen) || words(arch).into_iter().any(has_twin)
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// Splits a path into the parent directory and the name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(binaries: &[(&str, &str)]) -> Release {
        let mut release = Release::default();
        for (path, arch) in binaries {
            release.programs.insert((*path).to_owned(), FileMagic::Binary((*arch).to_owned()));
            release.entries.insert((*path).to_owned(), FileType::File { executable: true });
            for (at, _) in path.match_indices('/') {
                release.entries.insert(path[..at].to_owned(), FileType::Directory);
            }
        }
        release
    }

    fn told(binaries: &[(&str, &str)], arch: &[&str]) -> Vec<String> {
        let arch: Vec<String> = arch.iter().map(|arch| (*arch).to_owned()).collect();
        check(&release(binaries), &arch).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn binaries_match_architecture_of_release() {
        let mixed = [("a", "x86_64"), ("b", "x86_64"), ("c", "aarch64")];
        assert_eq!(told(&mixed, &[]), ["c"]);
        assert_eq!(told(&mixed, &["aarch64"]), ["a", "b"]);
        assert_eq!(told(&mixed, &["aarch64", "x86_64"]), [""; 0]);
        assert_eq!(told(&[("a", "i686")], &["i386"]), [""; 0]);
    }

    #[test]
    fn binaries_match_architecture_in_their_path() {
        let prebuilt = [
            ("bin/node", "x86_64"),
            ("m/prebuilds/android-arm64/addon.node", "aarch64"),
            ("m/prebuilds/linux-arm/addon.armv7.node", "armv7l"),
            ("m/prebuilds/linux-arm64/lib/addon.node", "aarch64"),
            ("m/prebuilds/linux-x64/addon.node", "x86_64"),
        ];
        assert_eq!(told(&prebuilt, &[]), [""; 0]);
        assert_eq!(told(&prebuilt, &["x86_64"]), [""; 0]);
        assert_eq!(told(&prebuilt[..4], &["x86_64"]), [prebuilt[1].0, prebuilt[2].0, prebuilt[3].0]);
        let tools = [("bin/tool-linux-amd64", "x86_64"), ("bin/tool-linux-arm64", "aarch64")];
        assert_eq!(told(&tools, &["x86_64"]), [""; 0]);
        let wrong = [("lib/a.x86_64.so", "x86_64"), ("lib/b.aarch64.so", "aarch64"), ("arm64/c", "aarch64")];
        assert_eq!(told(&wrong, &["x86_64"]), ["arm64/c", "lib/b.aarch64.so"]);
    }
}
