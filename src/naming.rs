//! The file names of archives, NAME-VERSION[-ANYTHING].zip and other formats, and the release that each name denotes.

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

    /// Splits a file name into its stem and the format of its suffix; `None` if the suffix is not known.
    #[must_use]
    pub fn split(file_name: &str) -> Option<(&str, Self)> {
        ENDINGS.iter().find_map(|(ending, format)| Some((file_name.strip_suffix(ending)?, *format)))
    }
}

/// Returns whether an archive of this file name holds `version` of `product`, or of any product if that is `None`.
///
/// Any suffix may follow the version (`-otp24-el8-amd64`), unless it makes a different version: 5.0.1 is not taken
/// from `emqx-5.0.10.zip` or `emqx-5.0.1-rc.1.zip`, and 7.2.4 is not taken from `redis-7.2.4-52.tar`.
#[must_use]
pub fn holds(file_name: &str, product: Option<&str>, version: &Version) -> bool {
    let Some((stem, _)) = ArchiveFormat::split(file_name) else { return false };
    let Some(rest) = after_product(stem, product) else { return false };
    match rest.strip_prefix(&version.to_string()) {
        Some("") => true,
        Some(suffix) => suffix.strip_prefix('-').is_some_and(|s| !s.is_empty() && !is_prerelease(s)),
        None => false,
    }
}

/// Returns the version in a file name: the shortest for which [`holds`] is true; `None` if there is none.
#[must_use]
pub fn version_of(file_name: &str, product: Option<&str>) -> Option<Version> {
    let (stem, _) = ArchiveFormat::split(file_name)?;
    let rest = after_product(stem, product)?;
    let ends = rest.match_indices('-').map(|(at, _)| at).chain([rest.len()]);
    ends.filter_map(|end| rest[..end].parse::<Version>().ok()).find(|v| holds(file_name, product, v))
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
    let begin = format!("after the third number of a version, continue with a number or one of {words}");
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

fn after_product<'a>(stem: &'a str, product: Option<&str>) -> Option<&'a str> {
    match product {
        Some(product) => stem.strip_prefix(product)?.strip_prefix('-'),
        None => stem.match_indices('-').map(|(at, _)| &stem[at + 1..]).find(|rest| is_versionlike(rest)),
    }
}

/// Whether the text begins with three numbers separated by dots. A product name is assumed not to contain such text.
fn is_versionlike(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3 && numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether the suffix after a version and a hyphen denotes a pre-release or a build.
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
            ("5.0.1.zip", "5.0.1", false),
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
        ];
        for (file, expected) in table {
            assert_eq!(version_of(file, None).map(|v| v.to_string()).as_deref(), expected, "{file}");
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
