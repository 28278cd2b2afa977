//! The file names of archives, such as NAME-VERSION.zip, and the release that each name denotes.

use std::cmp::Reverse;

use crate::error::{Error, Result};
use crate::version::Version;

/// The format of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// .zip
    Zip,
    /// .tar
    Tar,
    /// .tar.gz or .tgz
    TarGz,
    /// .tar.zst
    TarZst,
    /// .tar.xz
    TarXz,
}

/// The common words that mark a version as a pre-release. A number does so too.
const PRERELEASES: [&str; 8] = ["alpha", "beta", "rc", "pre", "preview", "dev", "snapshot", "nightly"];

/// The suffix of the name of a digest file, which lies beside its archive.
pub const DIGEST: &str = ".sha256";

/// The suffix of the name of a signature file, which lies beside its archive.
pub const SIGNATURE: &str = ".minisig";

/// The endings of other files in releases/.
const BESIDE: [&str; 3] = [DIGEST, SIGNATURE, ".toml"];

/// The words for other systems in the names of archives.
const SYSTEMS: [&str; 8] = ["darwin", "macos", "osx", "windows", "win64", "freebsd", "openbsd", "netbsd"];

/// The words for architectures in the names of archives, and what uname(2) calls them.
const ARCHS: [(&str, &str); 16] = [
    ("amd64", "x86_64"),
    ("x64", "x86_64"),
    ("arm64", "aarch64"),
    ("aarch64", "aarch64"),
    ("armv6", "armv7l"),
    ("armv7", "armv7l"),
    ("armv7l", "armv7l"),
    ("armhf", "armv7l"),
    ("386", "i686"),
    ("i386", "i686"),
    ("i586", "i686"),
    ("i686", "i686"),
    ("ppc64le", "ppc64le"),
    ("ppc64el", "ppc64le"),
    ("s390x", "s390x"),
    ("riscv64", "riscv64"),
];

const ENDINGS: [(&str, ArchiveFormat); 6] = [
    (".zip", ArchiveFormat::Zip),
    (".tar.gz", ArchiveFormat::TarGz),
    (".tgz", ArchiveFormat::TarGz),
    (".tar.zst", ArchiveFormat::TarZst),
    (".tar.xz", ArchiveFormat::TarXz),
    (".tar", ArchiveFormat::Tar),
];

impl ArchiveFormat {
    /// Returns the suffix of the file names of such archives.
    #[must_use]
    pub fn ending(self) -> &'static str {
        ENDINGS.iter().find(|(_, format)| *format == self).map_or("", |(ending, _)| ending)
    }

    /// Returns the suffixes of all archives, in words.
    #[must_use]
    pub fn endings() -> String {
        let endings = ENDINGS.map(|(ending, _)| ending);
        let [before @ .., last] = &endings;
        format!("{} or {last}", before.join(", "))
    }

    /// Splits a file name into its stem and the format of its suffix, in any case; `None` if the suffix is not known.
    #[must_use]
    pub fn split(file_name: &str) -> Option<(&str, Self)> {
        let split = |ending: &str| file_name.split_at_checked(file_name.len().checked_sub(ending.len())?);
        ENDINGS.iter().find_map(|(ending, format)| {
            let (stem, end) = split(ending)?;
            end.eq_ignore_ascii_case(ending).then_some((stem, *format))
        })
    }
}

/// Returns whether an archive of this file name holds `version` of `product`, or of any product if that is `None`.
///
/// The name is NAME-VERSION, `NAME_VERSION` or VERSION, each also with a `v` before the version. Any suffix may follow
/// the version (`.linux-amd64`, `-otp24-el8`), unless it makes a different version: 5.0.1 is not taken from
/// `emqx-5.0.10.zip`, `emqx-5.0.1.2.zip` or `emqx-5.0.1-rc.1.zip`, and 7.2.4 is not taken from `redis-7.2.4-52.tar`.
#[must_use]
pub fn holds(file_name: &str, product: Option<&str>, version: &Version) -> bool {
    let version = version.to_string();
    let suffix = after_product(file_name, product).and_then(|rest| rest.strip_prefix(&version));
    suffix.is_some_and(|suffix| !continues(&version, suffix))
}

/// Returns the version in a file name: the shortest for which [`holds`] is true; `None` if there is none.
#[must_use]
pub fn version_of(file_name: &str, product: Option<&str>) -> Option<Version> {
    version_and_suffix(file_name, product).map(|(version, _)| version)
}

/// Returns the version in a file name, and what follows it before the ending.
fn version_and_suffix<'a>(file_name: &'a str, product: Option<&str>) -> Option<(Version, &'a str)> {
    let rest = after_product(file_name, product)?;
    let ends = rest.match_indices(['.', '-', '_', '+']).map(|(at, _)| at).chain([rest.len()]);
    let mut candidates =
        ends.map(|end| rest.split_at(end)).filter(|(version, suffix)| !continues(version, suffix));
    candidates.find_map(|(version, suffix)| Some((version.parse().ok()?, suffix)))
}

/// Returns why a file whose name contains the text of a version is not an archive of it; `None` if the name does not
/// contain it, or if the file is not meant as an archive.
#[must_use]
pub fn near_miss(file_name: &str, product: Option<&str>, version: &Version) -> Option<String> {
    if !file_name.contains(&version.to_string()) || BESIDE.iter().any(|ending| file_name.ends_with(ending)) {
        return None;
    }
    if ArchiveFormat::split(file_name).is_none() {
        return Some("its name does not end like that of an archive".to_owned());
    }
    Some(match (version_of(file_name, product), product) {
        (Some(read), _) => format!("it is an archive of {read}"),
        (None, Some(product)) if version_of(file_name, None).is_some() => {
            format!("its name does not begin with {product}")
        }
        (None, _) => "its name contains no version that ends there".to_owned(),
    })
}

/// Returns the platform for which an archive is made, according to the words after the version in its name, if that is
/// not Linux on `arch`, which is named as uname(2) names it.
#[must_use]
pub fn other_platform(file_name: &str, product: Option<&str>, arch: &str) -> Option<&'static str> {
    let (_, suffix) = version_and_suffix(file_name, product)?;
    let suffix = suffix.to_ascii_lowercase().replace("x86_64", "amd64");
    let words: Vec<&str> = suffix.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let system = SYSTEMS.iter().find(|system| words.contains(*system));
    let archs: Vec<&str> =
        ARCHS.iter().filter(|(word, _)| words.contains(word)).map(|(_, arch)| *arch).collect();
    // A 64-bit host may run programs of its 32-bit predecessor.
    let runs =
        |made: &&str| *made == arch || [("i686", "x86_64"), ("armv7l", "aarch64")].contains(&(made, arch));
    let foreign = archs.first().filter(|_| !archs.iter().any(runs));
    system.or(foreign).copied()
}

/// Checks that the file name is read as this release, both with and without knowledge of the product.
///
/// # Errors
/// Returns a `Refused` error if the name is read as another version, or as none.
pub fn check(file_name: &str, product: &str, version: &Version) -> Result<()> {
    let words = PRERELEASES.join(", ");
    if !holds(file_name, Some(product), version) {
        let ending = ArchiveFormat::split(file_name).map_or(".zip", |(_, format)| format.ending());
        let has_more = file_name.starts_with(&format!("{product}-{version}-"));
        let but = if has_more { format!(", but not a number or one of {words}") } else { String::new() };
        let hint = format!("name it {product}-{version}{ending}, or with -ANYTHING after the version{but}");
        let what = format!("{file_name:?} is not the name of an archive of {product} {version}");
        return Err(Error::refused(what).hint(hint));
    }
    let begin = format!("after the numbers of a version, continue with a number or one of {words}");
    let rename = "give the product a name without a version in it".to_owned();
    for (reader, hint) in [(Some(product), begin), (None, rename)] {
        let read = version_of(file_name, reader);
        if read.as_ref() != Some(version) {
            let read = read.map_or_else(|| "a name without a version".to_owned(), |read| read.to_string());
            let what = format!("the file name {file_name:?} is parsed as {read}, not as {version}");
            return Err(Error::refused(what).hint(hint));
        }
    }
    Ok(())
}

/// Returns the part of the name of an archive from its version to its ending. Without a product, that is the part
/// after a separator that begins with the most numbers, up to three: a product name may contain a number, but is
/// assumed not to contain more.
fn after_product<'a>(file_name: &'a str, product: Option<&str>) -> Option<&'a str> {
    let (stem, _) = ArchiveFormat::split(file_name)?;
    if let Some(product) = product {
        let rest = stem.strip_prefix(product).and_then(|rest| rest.strip_prefix(['-', '_']));
        return versionlike(rest.unwrap_or(stem));
    }
    let begins = stem.match_indices(['-', '_']).map(|(at, _)| at + 1);
    let candidates = [0].into_iter().chain(begins).filter_map(|begin| versionlike(&stem[begin..]));
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let numbers = |rest: &&str| rest.split(['.', '-', '_', '+']).take_while(is_number).take(3).count();
    // Of several, the first is meant, which `max_by_key` does not return.
    candidates.min_by_key(|rest| Reverse(numbers(rest)))
}

/// Returns the text without a leading `v` if it begins with a number.
fn versionlike(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('v').unwrap_or(text);
    rest.starts_with(|c: char| c.is_ascii_digit()).then_some(rest)
}

/// Returns whether the text after a version in a name makes it a different version.
fn continues(version: &str, suffix: &str) -> bool {
    let Some(separator) = suffix.chars().next() else { return false };
    let rest = &suffix[separator.len_utf8()..];
    match separator {
        _ if rest.is_empty() => true,
        '.' => rest.starts_with(|c: char| c.is_ascii_digit()) || version.contains('-') && is_prerelease(rest),
        '-' | '_' => is_prerelease(rest),
        _ => true,
    }
}

/// Whether the suffix after a version and a separator denotes a pre-release or a build number.
fn is_prerelease(suffix: &str) -> bool {
    let first = suffix.split(['-', '.', '+', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let word = first.trim_end_matches(|c: char| c.is_ascii_digit());
    word.is_empty() || PRERELEASES.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_matches_only_its_version() {
        let table = [
            ("emqx-5.0.1.zip", "5.0.1", true),
            ("emqx-5.0.1.tgz", "5.0.1", true),
            ("emqx-5.0.1-otp24.2-el8-amd64.tar.gz", "5.0.1", true),
            ("emqx-5.0.10.zip", "5.0.1", false),
            ("emqx-15.0.1.zip", "5.0.1", false),
            ("emqx-5.0.1-rc.1.zip", "5.0.1", false),
            ("emqx-5.0.1-rc.1.zip", "5.0.1-rc.1", true),
            ("emqx-5.0.1-rc.1-el8.zip", "5.0.1-rc.1", true),
            ("emqx-5.0.1-rc.10.zip", "5.0.1-rc.1", false),
            ("emqx-7.2.4-52.tar", "7.2.4", false),
            ("emqx-7.2.4-52-rhel8.tar", "7.2.4-52", true),
            ("emqx-7.2.4-520.tar", "7.2.4-52", false),
            ("emqx-enterprise-5.0.1.zip", "5.0.1", false),
            ("emqx-5.0.1.zip.sha256", "5.0.1", false),
            ("emqx-5.0.1-.zip", "5.0.1", false),
            ("5.0.1.zip", "5.0.1", true),
            ("v5.0.1.tar.gz", "5.0.1", true),
            ("emqx-v5.0.1.zip", "5.0.1", true),
            ("emqx_5.0.1_linux_amd64.ZIP", "5.0.1", true),
            ("emqx-5.0.1.linux-amd64.Tar.Gz", "5.0.1", true),
            ("emqx-5.0.1.2.zip", "5.0.1", false),
            ("emqx-5.0.1_2.zip", "5.0.1", false),
            ("emqx-5.0.1+a.zip", "5.0.1", false),
            ("emqx-5.0.1a.zip", "5.0.1", false),
            ("emqx-5.0.1..zip", "5.0.1", false),
            ("emqx-24.04.zip", "24.04", true),
            ("emqx-24.04.zip", "24.4", false),
            ("emqx-24.04.1.zip", "24.04", false),
            ("4emqx-5.0.1.zip", "5.0.1", false),
        ];
        for (file, version, expected) in table {
            assert_eq!(holds(file, Some("emqx"), &version.parse().unwrap()), expected, "{file} {version}");
        }
    }

    #[test]
    fn without_product_any_name_matches() {
        let v = "1.2.3".parse().unwrap();
        assert!(holds("a-b-1.2.3.zip", None, &v));
        assert!(holds("mongo-4-tools-1.2.3-el8.tar.zst", None, &v));
        assert!(!holds("a-11.2.3.zip", None, &v));
        assert!(!holds("a-0.1.0-1.2.3.zip", None, &v));
    }

    #[test]
    fn version_is_read_from_file_name() {
        let table = [
            ("emqx-5.0.1.zip", Some("5.0.1")),
            ("emqx-5.0.1-el8.zip", Some("5.0.1")),
            ("emqx-7.2.4-52-rhel8.tar", Some("7.2.4-52")),
            ("emqx-5.0.1-rc.1.zip", Some("5.0.1-rc.1")),
            ("emqx.zip", None),
            ("emqx-5.0.1.rar", None),
            ("prometheus-2.53.0.linux-amd64.tar.gz", Some("2.53.0")),
            ("prometheus-2.53.0-rc.1.linux-amd64.tar.gz", Some("2.53.0-rc.1")),
            ("node-v22.1.0-linux-x64.tar.xz", Some("22.1.0")),
            ("etcd-v3.5.14-linux-amd64.tar.gz", Some("3.5.14")),
            ("consul_1.18.2_linux_amd64.zip", Some("1.18.2")),
            ("v1.2.3.tar.gz", Some("1.2.3")),
            ("1.2.3.tar.gz", Some("1.2.3")),
            ("jdk-21.0.3_linux-x64_bin.tar.gz", Some("21.0.3")),
            ("OpenJDK21U-jre_x64_linux_hotspot_21.0.3_9.tar.gz", None),
            ("emqx-enterprise-5.0.3-otp24.2.1-1-ubuntu20.04-amd64.tar.gz", Some("5.0.3")),
            ("emqx-5.0.1-otp24-ubuntu22.04-amd64.zip", Some("5.0.1")),
            ("redislabs-6.4.2-110-rhel8-x86_64.tar", Some("6.4.2-110")),
            ("weka-4.2.0.142.tar", Some("4.2.0.142")),
            ("otp_src_26.2.5.2.tar.gz", Some("26.2.5.2")),
            ("k3s-1.29.4+k3s1.tar.zst", Some("1.29.4+k3s1")),
            ("app-2024.10.ZIP", Some("2024.10")),
            ("go1.22.3.linux-amd64.tar.gz", None),
        ];
        for (file, expected) in table {
            assert_eq!(version_of(file, None).map(|v| v.to_string()).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn near_misses_have_reasons() {
        let near = |file: &str, version: &str| near_miss(file, Some("emqx"), &version.parse().unwrap());
        let why = |text: &str| Some(text.to_owned());
        assert_eq!(near("emqx-5.0.10.zip", "5.0.1"), why("it is an archive of 5.0.10"));
        assert_eq!(near("emqx-5.0.1-rc.1.zip", "5.0.1"), why("it is an archive of 5.0.1-rc.1"));
        assert_eq!(near("emqx-enterprise-5.0.1.zip", "5.0.1"), why("its name does not begin with emqx"));
        assert_eq!(near("emqx-5.0.1.rar", "5.0.1"), why("its name does not end like that of an archive"));
        assert_eq!(near("emqx-5.0.1a.zip", "5.0.1"), why("its name contains no version that ends there"));
        for other in ["emqx-4.4.0.zip", "emqx-5.0.1.zip.sha256", "emqx-5.0.1.zip.minisig", "paths.toml"] {
            assert_eq!(near(other, "5.0.1"), None, "{other}");
        }
    }

    #[test]
    fn platform_is_read_from_file_name() {
        for (file, x86, arm) in [
            ("a-1.0.0.zip", None, None),
            ("a-1.0.0-linux-amd64.zip", None, Some("x86_64")),
            ("a-1.0.0.linux-x86_64.zip", None, Some("x86_64")),
            ("a-v1.0.0_linux_arm64.zip", Some("aarch64"), None),
            ("a-1.0.0-armv7.zip", Some("armv7l"), None),
            ("a-1.0.0-i386.zip", None, Some("i686")),
            ("a-1.0.0-darwin-arm64.zip", Some("darwin"), Some("darwin")),
            ("a-1.0.0-universal-amd64-arm64.zip", None, None),
            ("windows-exporter-1.0.0-amd64.zip", None, Some("x86_64")),
            ("a-1.0.0-s390x.zip", Some("s390x"), Some("s390x")),
        ] {
            assert_eq!(other_platform(file, None, "x86_64"), x86, "{file}");
            assert_eq!(other_platform(file, None, "aarch64"), arm, "{file}");
        }
    }

    #[test]
    fn file_name_must_parse_back_to_its_version() {
        let table = [
            ("emqx-5.0.1.zip", "emqx", "5.0.1", Ok(())),
            ("emqx-5.0.1-el8.zip", "emqx", "5.0.1", Ok(())),
            ("emqx-5.0.1-rc.1-el8.zip", "emqx", "5.0.1-rc.1", Ok(())),
            ("emqx-7.2.4-52.zip", "emqx", "7.2.4-52", Ok(())),
            ("emqx-5.0.1+build.7.zip", "emqx", "5.0.1+build.7", Ok(())),
            ("emqx-5.0.2.zip", "emqx", "5.0.1", Err("name it emqx-5.0.1.zip, or")),
            ("emqx-2.0.0-hotfix.1.zip", "emqx", "2.0.0-hotfix.1", Err("with a number or one of alpha, beta")),
            ("emqx-2.0.0+a-b.zip", "emqx", "2.0.0+a-b", Err("with a number or one of alpha, beta")),
            ("a-2.0.0-1.0.0.zip", "a-2.0.0", "1.0.0", Err("a name without a version")),
            ("a-02.0.0-1.0.0.zip", "a-02.0.0", "1.0.0", Err("a name without a version")),
            (
                "a-1.0.0-1.zip",
                "a",
                "1.0.0",
                Err("-ANYTHING after the version, but not a number or one of alpha,"),
            ),
        ];
        for (file, product, version, expected) in table {
            let checked = check(file, product, &version.parse().unwrap());
            match (checked, expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(hint)) => assert!(error.hints()[0].contains(hint), "{file}: {error:?}"),
                (checked, _) => panic!("{file}: {checked:?}"),
            }
        }
    }
}
