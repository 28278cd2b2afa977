//! release.toml and tenure.toml, parsed once into types. What they declare and this Tenure does not know, or
//! cannot honour, is an error: a rule is never silently ignored.

use bytesize::ByteSize;
use minisign_verify::PublicKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::version::{Range, Version};

/// The file name of the manifest, at the top of a release.
pub const MANIFEST: &str = "release.toml";

/// The file name of the settings, in the root.
pub const SETTINGS: &str = "tenure.toml";

/// What the vendor declares of a release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// The product.
    pub name: String,
    /// The version, which must be the one that the release is installed as.
    pub version: Version,
    /// How this release may be reached.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// What becomes of its files.
    #[serde(default)]
    pub files: Files,
}

/// The manifest's table `[files]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Files {
    /// Whether nothing ever writes to them: then releases may share them by hard links.
    #[serde(default)]
    pub immutable: bool,
}

/// The manifest's table `[upgrade]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Upgrade {
    /// The releases from which it is reached without a restart; by default those of the same major.minor.
    pub hot_from: Option<Vec<Range>>,
}

/// What the operator declares of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The product; archives of another name are none of this root's.
    pub name: Option<String>,
    /// The service that runs from the root.
    #[serde(default)]
    pub service: ServiceSettings,
    /// What `prune` keeps.
    #[serde(default)]
    pub retention: Retention,
    /// What unpacking leaves free.
    #[serde(default)]
    pub space: Space,
    /// What an archive may unpack to.
    #[serde(default)]
    pub limits: Limits,
    /// Who may sign releases.
    #[serde(default)]
    pub trust: Trust,
}

/// The settings' table `[service]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServiceSettings {
    /// What starts and stops the service.
    #[serde(default)]
    pub manager: Manager,
}

/// The service managers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// No service: Tenure moves links and releases, and nothing else.
    #[default]
    None,
}

/// The settings' table `[retention]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retention {
    /// How many unpacked and old releases `prune` keeps.
    pub keep: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: 3 }
    }
}

/// The settings' table `[space]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Space {
    /// How much must stay free; by default 64 MiB, or a hundredth of a smaller file system.
    pub reserve: Option<ByteSize>,
    /// How files that the release before holds as well are shared with it.
    #[serde(default)]
    pub share: Share,
}

/// How a release shares files with the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Their blocks, where the file system can; else hard links, where the vendor declares files immutable.
    #[default]
    Auto,
    /// Their blocks, where the file system can; else hard links.
    Hardlink,
    /// Not at all.
    None,
}

/// The settings' table `[limits]`: what an archive may unpack to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// The bytes of disk; by default what is free beside the reserve.
    pub size: Option<ByteSize>,
    /// The files, directories and links; by default 1,000,000.
    pub entries: Option<u64>,
}

/// The settings' table `[trust]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trust {
    /// The minisign public keys, one of which must have signed every archive; with none, nothing need be signed.
    pub keys: Vec<TrustedKey>,
}

/// A minisign public key, by whose owner a release may be signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TrustedKey(PublicKey);

impl TrustedKey {
    /// The key itself.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0
    }
}

impl TryFrom<String> for TrustedKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        PublicKey::from_base64(&text).map(Self).map_err(|_| {
            Error::refused(format!(
                "{text:?} is no minisign public key: it begins with RWQ and has 56 characters"
            ))
        })
    }
}

impl Manifest {
    /// Parses a manifest; `file` names it in errors.
    ///
    /// # Errors
    /// Refused, naming the file, the line and the nearest known key.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        parse(file, text)
    }
}

impl Settings {
    /// Parses settings; `file` names them in errors.
    ///
    /// # Errors
    /// Refused, naming the file, the line and the nearest known key.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let settings: Self = parse(file, text)?;
        match &settings.name {
            Some(name) if !is_product(name) => {
                Err(Error::refused(format!("{file}: {name:?} is no product name"))
                    .hint("a name is made of letters, digits, `.`, `_`, `+` and `-`"))
            }
            _ => Ok(settings),
        }
    }
}

/// Whether the text can name a product: it is the beginning of the file names of its archives.
#[must_use]
pub fn is_product(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(allowed) && !name.starts_with(['.', '-'])
}

fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        let line = e.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        let message = e.message().lines().next().unwrap_or("it is no TOML");
        let shown: String = message.chars().map(printable).collect();
        let error = Error::refused(format!("cannot use {file}{place}: {shown}"));
        match nearest_key(message) {
            Some(key) => error.hint(format!("the nearest known key is `{key}`")),
            None => error,
        }
    })
}

/// A file's words may hold what a terminal would obey.
fn printable(c: char) -> String {
    if c.is_control() { c.escape_default().collect() } else { c.into() }
}

/// The known key that is most like the unknown one, out of serde's "unknown field `x`, expected one of ...".
fn nearest_key(message: &str) -> Option<&str> {
    let mut quoted = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    quoted.max_by(|a, b| {
        strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)).then_with(|| b.cmp(a))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_parsed() {
        let m = Manifest::parse(
            MANIFEST,
            "name='emqx'\nversion='5.0.1'\n[upgrade]\nhot-from=['~5.0', '>=4.4.2, <5']\n",
        )
        .unwrap();
        assert_eq!(m.version.to_string(), "5.0.1");
        assert!(m.upgrade.hot_from.unwrap()[1].contains(&"4.9.0".parse().unwrap()));
        let s = Settings::parse(
            SETTINGS,
            "name='emqx'\n[service]\nmanager='none'\n[space]\nreserve='4 GiB'\nshare='hardlink'\n[retention]\nkeep=5\n\
             [limits]\nsize='1 GiB'\nentries=7\n",
        )
        .unwrap();
        assert_eq!(s.space.share, Share::Hardlink);
        assert_eq!(s.limits, Limits { size: Some(ByteSize::gib(1)), entries: Some(7) });
        assert_eq!(s.space.reserve.unwrap().as_u64(), 4 << 30);
        assert_eq!(s.retention.keep, 5);
        assert_eq!(Settings::parse(SETTINGS, "").unwrap(), Settings::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_its_neighbour() {
        let error = Settings::parse("tenure.toml", "name='a'\n\n[retention]\nkep = 3\n").unwrap_err();
        assert!(
            error.to_string().starts_with("cannot use tenure.toml, line 4: unknown field `kep`"),
            "{error}"
        );
        assert_eq!(error.hints(), ["the nearest known key is `keep`"]);
        let error = Settings::parse("tenure.toml", "nme='a'\n").unwrap_err();
        assert_eq!(error.hints(), ["the nearest known key is `name`"]);
        let error = Manifest::parse("release.toml", "name='a'\nversion='5.0'\n").unwrap_err();
        assert!(error.to_string().contains("line 2") && error.to_string().contains("5.0"), "{error}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let error = Settings::parse("tenure.toml", "[service]\nmanager = \"n\t\\u001b[2J\"\n").unwrap_err();
        assert!(error.to_string().contains(r"n\t\u{1b}[2J"), "{error}");
    }

    #[test]
    fn a_key_is_one_or_the_settings_are_refused() {
        let key = "RWQXsmJXI0GQ4xM4CJCUwPrpKwfSAQKDHVzIg+x9rBQSp+kaVx25Y9Jb";
        let parse = |key: &str| Settings::parse(SETTINGS, &format!("[trust]\nkeys = ['{key}']\n"));
        assert_eq!(parse(key).unwrap().trust.keys.len(), 1);
        for wrong in ["", "RWQ", &key[1..], "untrusted comment: x"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("no minisign public key"), "{error}");
        }
        assert!(Settings::parse(SETTINGS, "[trust]\n").is_err(), "trust in nobody is not meant");
    }

    #[test]
    fn a_rule_that_cannot_be_honoured_is_not_ignored() {
        assert!(Settings::parse(SETTINGS, "[shared]\ndirectories=['etc']\n").is_err());
        assert!(Settings::parse(SETTINGS, "[service]\nmanager='systemd'\n").is_err());
        assert!(
            Manifest::parse(MANIFEST, "name='a'\nversion='1.0.0'\n[requires]\narch=['x86_64']\n").is_err()
        );
        assert!(Settings::parse(SETTINGS, "name='../x'\n").is_err());
    }
}
