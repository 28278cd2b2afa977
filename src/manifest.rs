//! The manifest release.toml, parsed once into types: the vendor's declarations about a release. A declaration that
//! this Tenure does not know or cannot honour is an error, because a rule must never be ignored silently.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::data::Formats;
use crate::error::{Error, Result};
use crate::health::{Argv, Health, Span};
use crate::requires::Requires;
use crate::version::{Range, Version};

/// The file name of the manifest, in the top directory of a release.
pub const MANIFEST: &str = "release.toml";

/// An example manifest that shows and explains every key.
pub const EXAMPLE: &str = include_str!("manifest.example.toml");

/// The vendor's declarations about a release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// The name of the product.
    pub name: String,
    /// The version. It must equal the version that the release is installed as.
    pub version: Version,
    /// The releases from which this release may be reached.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// The requirements on the host.
    #[serde(default)]
    pub requires: Requires,
    /// The handling of its files.
    #[serde(default)]
    pub files: Files,
    /// The data formats of the release; `None` if not declared.
    pub data: Option<Formats>,
    /// The programs of the release, by purpose.
    #[serde(default)]
    pub hooks: Hooks,
    /// The health check of the release.
    pub health: Option<Health>,
    /// The time limits of the release.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// The manifest's table `[hooks]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hooks {
    /// Decides by its exit status whether the service may move to this release. Changes nothing.
    pub check: Option<Argv>,
    /// Prepares this release in the directory where it was unpacked.
    pub prepare: Option<Argv>,
    /// Copies the data before the first step that cannot be undone.
    pub backup: Option<Argv>,
    /// Converts the data to the format of this release, once the release is permanent.
    pub migrate: Option<Argv>,
    /// Moves the running service up to this release.
    pub hot_upgrade: Option<Argv>,
    /// Moves the running service from this release down to a lower one.
    pub hot_downgrade: Option<Argv>,
    /// Prints the running version.
    pub running_version: Option<Argv>,
}

/// The table `[timeouts]` of a manifest or of the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Timeouts {
    /// How long the service may take to become healthy after a move.
    pub health: Option<Span>,
    /// How long the manager may take to stop and start the service, or to move it.
    pub stop: Option<Span>,
    /// How long a hook may run that has no limit of its own.
    pub hook: Option<Span>,
    /// How long the preparation of a release may take.
    pub prepare: Option<Span>,
    /// How long a backup may take.
    pub backup: Option<Span>,
    /// How long a migration may take.
    pub migrate: Option<Span>,
}

impl Hooks {
    /// Returns the declared hooks with their keys.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Argv)> {
        let Self { check, prepare, backup, migrate, hot_upgrade, hot_downgrade, running_version } = self;
        let named = [
            ("check", check),
            ("prepare", prepare),
            ("backup", backup),
            ("migrate", migrate),
            ("hot-upgrade", hot_upgrade),
            ("hot-downgrade", hot_downgrade),
            ("running-version", running_version),
        ];
        named.into_iter().filter_map(|(key, hook)| Some((key, hook.as_ref()?)))
    }
}

impl Timeouts {
    /// Returns these limits, with unset limits taken from `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            health: self.health.or(others.health),
            stop: self.stop.or(others.stop),
            hook: self.hook.or(others.hook),
            prepare: self.prepare.or(others.prepare),
            backup: self.backup.or(others.backup),
            migrate: self.migrate.or(others.migrate),
        }
    }
}

/// The manifest's table `[files]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Files {
    /// Whether the files are never written to, so that releases may share them by hard links.
    #[serde(default)]
    pub immutable: bool,
}

/// The manifest's table `[upgrade]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Upgrade {
    /// The releases from which this release is reached without a restart; by default those of the same major.minor.
    pub hot_from: Option<Vec<Range>>,
    /// The releases from which this release may be reached; by default those that releases/paths.toml allows.
    pub from: Option<Vec<Range>>,
}

impl Manifest {
    /// Parses a manifest. Errors name it as `file`.
    ///
    /// # Errors
    /// Returns a `Refused` error that names the file, the line and the nearest known key.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        parse(file, text)
    }

    /// Returns the mismatch if the manifest is for another version, or for a product other than `product`: `another
    /// version: 5.0.2, not 5.0.1`.
    #[must_use]
    pub fn mismatch(&self, version: &Version, product: Option<&str>) -> Option<String> {
        if self.version != *version {
            return Some(format!("another version: {}, not {version}", self.version));
        }
        let product = product.filter(|product| *product != self.name)?;
        Some(format!("another product: {}, not {product}", self.name.escape_debug()))
    }
}

/// Parses a TOML file that a user wrote. Errors name it as `file`.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        let place = e.span().map_or_else(String::new, |span| format!(", line {}", line(text, span.start)));
        let error = Error::refused(format!("cannot use {file}{place}: {}", message(&e)));
        match nearest_key(e.message()) {
            Some(key) => error.hint(format!("the nearest known key is `{key}`")),
            None => error,
        }
    })
}

/// Returns the number of the line that contains the byte `at`.
pub(crate) fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Returns the error message in one printable line, with TOML's names of types.
pub(crate) fn message(error: &toml::de::Error) -> String {
    let text = error.message().lines().next().unwrap_or("it is not TOML");
    let plain = match text.rsplit_once(", expected ") {
        Some((given, wanted)) if given.starts_with("invalid ") => {
            format!("{given}, expected {}", kind(wanted))
        }
        _ => text.to_owned(),
    };
    plain.chars().map(printable).collect()
}

/// Translates serde's names of types, which are Rust's, to TOML's.
fn kind(wanted: &str) -> &str {
    match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "true or false",
        name if name.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Escapes control characters, because text from a file may contain terminal escape sequences.
pub(crate) fn printable(c: char) -> String {
    if c.is_control() { c.escape_default().collect() } else { c.into() }
}

/// Returns the known key that is most similar to the unknown key in serde's "unknown field `x`, expected one of ...".
pub(crate) fn nearest_key(message: &str) -> Option<&str> {
    let mut quoted = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, &quoted.collect::<Vec<_>>())
}

/// Returns the known word that is most similar to `unknown`; in a tie, the first in alphabetical order.
pub(crate) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let like = |word: &str| strsim::jaro_winkler(unknown, word);
    known.iter().copied().max_by(|a, b| like(a).total_cmp(&like(b)).then_with(|| b.cmp(a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_value_is_reported_in_toml_terms() {
        for (value, wanted) in [
            ("hooks = 3", "integer `3`, expected a table"),
            ("hooks = {check = 'x'}", "string \"x\", expected a list"),
            ("data = {writes = 'x'}", "string \"x\", expected a whole number"),
            ("data = {writes = -1}", "integer `-1`, expected a whole number"),
            ("files = {immutable = 1}", "integer `1`, expected true or false"),
            ("upgrade = {from = [1]}", "integer `1`, expected a string"),
        ] {
            let text = format!("name='a'\nversion='1.0.0'\n{value}\n");
            let error = Manifest::parse(MANIFEST, &text).unwrap_err().to_string();
            assert!(error.ends_with(wanted), "{error}");
        }
    }

    #[test]
    fn known_keys_are_parsed() {
        let m = Manifest::parse(
            MANIFEST,
            "name='emqx'\nversion='5.0.1'\n[upgrade]\nhot-from=['~5.0', '>=4.4.2, <5']\n",
        )
        .unwrap();
        assert_eq!(m.version.to_string(), "5.0.1");
        assert!(m.upgrade.hot_from.unwrap()[1].contains(&"4.9.0".parse().unwrap()));
    }

    #[test]
    fn example_contains_every_key() {
        Manifest::parse(MANIFEST, EXAMPLE).unwrap();
        for table in ["", "[upgrade]", "[requires]", "[files]", "[data]", "[hooks]", "[health]", "[timeouts]"]
        {
            let error = toml::from_str::<Manifest>(&format!("{table}\nbanana = 1\n")).unwrap_err();
            let keys: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
            assert!(!keys.is_empty(), "{table}: {error}");
            for key in keys {
                let shown = [format!("\n{key} = "), format!("\n# {key} = "), format!("\n[{key}]\n")];
                assert!(shown.iter().any(|shown| EXAMPLE.contains(shown)), "{table} {key}");
            }
        }
    }

    #[test]
    fn hook_is_a_program_in_the_release() {
        let hook = |argv: &str| {
            Manifest::parse(MANIFEST, &format!("name='a'\nversion='1.0.0'\n[hooks]\nhot-upgrade={argv}\n"))
        };
        let argv = hook("['bin/hot', '--fast']").unwrap().hooks.hot_upgrade.unwrap();
        assert_eq!((argv.program(), argv.arguments()), ("bin/hot", ["--fast".to_owned()].as_slice()));
        for wrong in
            ["[]", "['']", "['/bin/sh']", "['../x']", "['a/../../x']", "'bin/hot'", "['a', \"b\\u0000\"]"]
        {
            assert!(hook(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn health_has_one_probe() {
        let health = |table: &str| {
            Manifest::parse(MANIFEST, &format!("name='a'\nversion='1.0.0'\n[health]\n{table}\n"))
        };
        let declared = health("http='http://127.0.0.1:80/up'\ninterval='200ms'\nhealthy-after=1").unwrap();
        let declared = declared.health.unwrap();
        assert_eq!(
            (declared.interval.as_millis(), declared.healthy_after, declared.unhealthy_after),
            (200, 1, 3)
        );
        assert!(health("").is_ok());
        for wrong in [
            "http='https://x/'",
            "tcp='x'",
            "http='http://x/'\ntcp='x:1'",
            "healthy-after=0",
            "timeout='0s'",
            "url='x'",
        ] {
            assert!(health(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn invalid_rules_are_refused() {
        for rule in
            ["[data]\nformat=3", "[data]\nwrites=3\nreads=[2]", "[data]\nreads=[2]", "[hooks]\nafter=['x']"]
        {
            let text = format!("name='a'\nversion='1.0.0'\n{rule}\n");
            assert!(Manifest::parse(MANIFEST, &text).is_err(), "{rule}");
        }
    }
}
