//! Parses tenure.toml, the settings of the operator of a host, once into types.

mod salvage;
mod service;
mod shared;

use bytesize::ByteSize;
use minisign_verify::PublicKey;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::health::Health;
use crate::manifest::{Timeouts, parse};

pub use salvage::Unread;
pub use service::{Commands, Hot, Manager, ServiceSettings};
pub use shared::{Shared, SharedDirectory};

/// The file name of the settings in the root.
pub const SETTINGS: &str = "tenure.toml";

/// The settings of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The product. Archives with another name do not belong to this root.
    pub name: Option<String>,
    /// The user that hooks and health commands run as, by default the owner of the root.
    pub user: Option<String>,
    /// The service that runs from the root.
    #[serde(default)]
    pub service: ServiceSettings,
    /// The health check, which overrides that of the manifest.
    pub health: Option<Health>,
    /// The time limits, which override those of the manifest.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// The releases that `prune` keeps.
    #[serde(default)]
    pub retention: Retention,
    /// The space that unpacking leaves free.
    #[serde(default)]
    pub space: SpaceSettings,
    /// The limits on the contents of an archive.
    #[serde(default)]
    pub limits: LimitSettings,
    /// The keys that may sign releases.
    #[serde(default)]
    pub trust: Trust,
    /// The directories that all releases share.
    #[serde(default)]
    pub shared: Shared,
}

/// The table `[retention]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retention {
    /// The number of unpacked and old releases that `prune` keeps.
    pub keep: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: 3 }
    }
}

/// The table `[space]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SpaceSettings {
    /// The space that must stay free, by default 64 MiB, or a hundredth of a smaller file system.
    pub reserve: Option<ByteSize>,
    /// How a release shares files with the previous release.
    #[serde(default)]
    pub share: Share,
}

/// How a release shares files with the previous release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Shared blocks if the file system supports them, else hard links if the vendor declares files immutable.
    #[default]
    Auto,
    /// Shared blocks if the file system supports them, else hard links.
    Hardlink,
    /// No shared files.
    None,
}

/// The table `[limits]`, the limits on the contents of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitSettings {
    /// The maximum disk space in bytes, by default the free space without the reserve.
    pub size: Option<ByteSize>,
    /// The maximum number of files, directories and links, by default 1,000,000.
    pub entries: Option<u64>,
}

/// The table `[trust]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Trust {
    /// The minisign public keys, one of which must have signed every archive. If there are none, no signature is
    /// needed.
    pub keys: Vec<TrustedKey>,
}

/// A minisign public key whose owner may sign releases.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TrustedKey {
    key: PublicKey,
    text: String,
}

impl TrustedKey {
    /// Returns the key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns the key as the settings spell it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for TrustedKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match PublicKey::from_base64(&text) {
            Ok(key) => Ok(Self { key, text }),
            Err(_) => Err(Error::refused(format!(
                "{text:?} is not a minisign public key: a key begins with RWQ and has 56 characters"
            ))),
        }
    }
}

impl Settings {
    /// Parses settings. `file` is the name of the file in errors.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the file, the line and the nearest known key if the settings are not
    /// valid.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let settings: Self = parse(file, text)?;
        settings
            .name
            .as_deref()
            .map_or(Ok(()), check_product)
            .map_err(|e| e.refused_in_one_line(&format!("{file}: ")))?;
        Ok(settings)
    }
}

/// Checks that a text can be the name of a product, with which the file names of its archives begin.
///
/// # Errors
/// Returns a `Refused` error if the text cannot be a name.
pub fn check_product(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(Error::refused(format!("{name:?} is not a product name")).hint(
        "a name is 1 to 128 letters of a to z and A to Z, digits, `.`, `_`, `+` and `-`, and begins with neither `.` nor `-`",
    ))
}

#[cfg(test)]
mod tests {
    use crate::health::Probe;

    use super::*;

    #[test]
    fn known_keys_are_parsed() {
        let s = Settings::parse(
            SETTINGS,
            "name='emqx'\nuser='emqx'\n[service]\nmanager='none'\n[space]\nreserve='4 GiB'\nshare='hardlink'\n\
             [retention]\nkeep=5\n[limits]\nsize='1 GiB'\nentries=7\n[health]\ntcp='127.0.0.1:1883'\n\
             [timeouts]\nhealth='2m'\n",
        )
        .unwrap();
        assert_eq!(s.space.share, Share::Hardlink);
        assert_eq!(s.limits, LimitSettings { size: Some(ByteSize::gib(1)), entries: Some(7) });
        assert_eq!(s.space.reserve.unwrap().as_u64(), 4 << 30);
        assert_eq!(s.retention.keep, 5);
        assert_eq!(s.health.unwrap().probe, Probe::Tcp("127.0.0.1:1883".into()));
        assert_eq!(s.timeouts.health.unwrap().0.as_secs(), 120);
        assert_eq!(Settings::parse(SETTINGS, "").unwrap(), Settings::default());
    }

    #[test]
    fn unknown_key_is_reported_with_nearest_key() {
        let error = Settings::parse("tenure.toml", "name='a'\n\n[retention]\nkep = 3\n").unwrap_err();
        assert!(
            error.to_string().starts_with("cannot use tenure.toml, line 4: unknown field `kep`"),
            "{error}"
        );
        assert_eq!(error.hints(), ["the nearest known key is `keep`"]);
        let error = Settings::parse("tenure.toml", "nme='a'\n").unwrap_err();
        assert_eq!(error.hints(), ["the nearest known key is `name`"]);
    }

    #[test]
    fn control_characters_are_escaped() {
        let error = Settings::parse("tenure.toml", "[service]\nmanager = \"n\t\\u001b[2J\"\n").unwrap_err();
        assert!(error.to_string().contains(r"n\t\u{1b}[2J"), "{error}");
    }

    #[test]
    fn invalid_trusted_keys_are_refused() {
        let key = "RWQXsmJXI0GQ4xM4CJCUwPrpKwfSAQKDHVzIg+x9rBQSp+kaVx25Y9Jb";
        let parse = |key: &str| Settings::parse(SETTINGS, &format!("[trust]\nkeys = ['{key}']\n"));
        assert_eq!(parse(key).unwrap().trust.keys.len(), 1);
        for wrong in ["", "RWQ", &key[1..], "untrusted comment: x"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("not a minisign public key"), "{error}");
        }
        assert!(Settings::parse(SETTINGS, "[trust]\n").is_err(), "[trust] requires a key");
    }

    #[test]
    fn invalid_rules_are_refused() {
        assert!(Settings::parse(SETTINGS, "[service]\nmanager='systemd'\n").is_err());
        assert!(Settings::parse(SETTINGS, "name='../x'\n").is_err());
    }

    #[test]
    fn invalid_product_name_hint_states_the_rule() {
        for fine in ["a", "emqx-enterprise", "x_1.2+b", &"x".repeat(128)] {
            check_product(fine).unwrap();
        }
        for wrong in ["", "-a", ".a", "a b", "a/b", "\u{e9}", &"x".repeat(129)] {
            let error = check_product(wrong).unwrap_err();
            for rule in ["1 to 128", "a to z", "begins with neither"] {
                assert!(error.hints()[0].contains(rule), "{wrong}: {error:?}");
            }
        }
        let error = Settings::parse("tenure.toml", "name='-a'\n").unwrap_err();
        assert_eq!(error.to_string(), "tenure.toml: \"-a\" is not a product name");
        assert_eq!(error.hints(), check_product("-a").unwrap_err().hints());
    }
}
