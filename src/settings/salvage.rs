//! Salvages what can be used of faulty settings, key by key, so that one wrong key only costs its own line.

use toml::{Table, Value};

use super::{Settings, check_product};

/// The keys of `[health]` that declare a probe.
const PROBES: [&str; 3] = ["command", "http", "tcp"];

/// What settings may have declared in parts that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// A service.
    pub service: bool,
    /// The user that programs of releases run as.
    pub user: bool,
}

impl Unread {
    /// The value for settings of which nothing can be used.
    pub const ALL: Self = Self { service: true, user: true };
}

impl Settings {
    /// Returns the settings without unknown and wrong keys, and what those keys may have declared. If the text is not
    /// TOML, nothing of it is used.
    #[must_use]
    pub fn salvage(text: &str) -> (Self, Unread) {
        let Ok(table) = text.parse::<Table>() else { return (Self::default(), Unread::ALL) };
        let mut unread = Unread::default();
        let mut sound = Table::new();
        for (key, value) in &table {
            match sound_part(key, value) {
                Some(part) => drop(sound.insert(key.clone(), part)),
                None if is_unknown(key, value) => {
                    unread.service |= value.is_table();
                    unread.user |= !value.is_table();
                }
                None => unread.user |= key == "user",
            }
        }
        let settings = settings_of(sound).unwrap_or_default();
        let named = table.get("service").and_then(|service| service.get("manager"));
        unread.service |= table.contains_key("service") && named.and_then(Value::as_str) != Some("none");
        unread.service &= settings.service.manager.is_none();
        unread.user &= settings.user.is_none();
        (settings, unread)
    }
}

fn settings_of(table: Table) -> Option<Settings> {
    let settings: Settings = table.try_into().ok()?;
    let is_named = settings.name.as_deref().is_none_or(|name| check_product(name).is_ok());
    is_named.then_some(settings)
}

fn with(key: &str, value: Value) -> Table {
    Table::from_iter([(key.to_owned(), value)])
}

fn is_sound(key: &str, value: &Value) -> bool {
    settings_of(with(key, value.clone())).is_some()
}

/// Returns whether settings have no such top-level key.
fn is_unknown(key: &str, value: &Value) -> bool {
    let error = with(key, value.clone()).try_into::<Settings>().err();
    error.is_some_and(|error| error.message().starts_with(&format!("unknown field `{key}`")))
}

/// Returns the value of a top-level key, or the usable part of a table.
fn sound_part(key: &str, value: &Value) -> Option<Value> {
    if is_sound(key, value) {
        return Some(value.clone());
    }
    let table = value.as_table().filter(|_| !is_unknown(key, value))?;
    let part = without_few(key, table).or_else(|| one_by_one(key, table))?;
    // A health check with nothing but an interval would replace the check that the release declares.
    let is_of_use = key != "health" || PROBES.iter().any(|probe| part.contains_key(*probe));
    is_of_use.then_some(Value::Table(part))
}

/// Returns the table without one key, or without two, if it is valid then.
fn without_few(key: &str, table: &Table) -> Option<Table> {
    let names: Vec<&String> = table.keys().collect();
    let one = names.iter().map(|name| (*name, *name));
    let two = names.iter().flat_map(|first| names.iter().map(move |second| (*first, *second)));
    one.chain(two).find_map(|(first, second)| {
        let mut less = table.clone();
        less.retain(|name, _| name != first && name != second);
        is_sound(key, &Value::Table(less.clone())).then_some(less)
    })
}

/// Returns the keys of a table that are valid together with the keys before them.
fn one_by_one(key: &str, table: &Table) -> Option<Table> {
    let mut sound = Table::new();
    for (name, value) in table {
        let mut more = sound.clone();
        more.insert(name.clone(), value.clone());
        if is_sound(key, &Value::Table(more.clone())) {
            sound = more;
        }
    }
    (!sound.is_empty()).then_some(sound)
}

#[cfg(test)]
mod tests {
    use crate::settings::{Hot, Manager};

    use super::*;

    const SERVICE: &str = "[service]\nmanager = 'systemd'\nunit = 'x'\n";

    fn salvage(text: &str) -> (Settings, Unread) {
        assert!(Settings::parse("tenure.toml", text).is_err(), "{text} is valid");
        Settings::salvage(text)
    }

    #[test]
    fn wrong_key_leaves_other_keys_usable() {
        for wrong in [
            "[helth]\ntcp = '127.0.0.1:1'\n",
            "[retention]\nkep = 3\n",
            "[limits]\nsize = 'much'\nentries = 7\n",
            "[timeouts]\nhealth = '1m'\nhok = '1s'\nstop = 3\nx = 1\n",
            "[trust]\nkeys = ['none']\n",
        ] {
            let (settings, unread) = salvage(&format!("name = 'emqx'\nuser = 'x'\n{SERVICE}{wrong}"));
            assert_eq!(settings.name.as_deref(), Some("emqx"), "{wrong}");
            assert_eq!(settings.user.as_deref(), Some("x"), "{wrong}");
            assert_eq!(settings.service.manager, Some(Manager::Systemd("x".into())), "{wrong}");
            assert_eq!(unread, Unread::default(), "{wrong}");
        }
        let (settings, _) = salvage("[timeouts]\nhealth = '1m'\nhok = '1s'\nstop = 3\nx = 1\n");
        assert_eq!(settings.timeouts.health.map(|span| span.0.as_secs()), Some(60));
        let (settings, _) = salvage("[limits]\nsize = 'much'\nentries = 7\n");
        assert_eq!(settings.limits.entries, Some(7));
        assert_eq!(salvage("name = '../x'\nuser = 'y'\n").0.user.as_deref(), Some("y"));
    }

    #[test]
    fn service_is_salvaged_only_with_its_manager() {
        let (settings, unread) = salvage(&format!("{SERVICE}hot = 'relaod'\n"));
        assert_eq!(settings.service.manager, Some(Manager::Systemd("x".into())));
        assert_eq!((settings.service.hot, unread), (None, Unread::default()));
        let (settings, _) = salvage(&format!("{SERVICE}hot = 'reload'\nrestrt = ['a']\n"));
        assert_eq!(settings.service.hot, Some(Hot::Reload));
        for wrong in [
            "[service]\nmanager = 'systmd'\nunit = 'x'\n",
            "[service]\nmanager = 'systemd'\n",
            "[servce]\nmanager = 'systemd'\nunit = 'x'\n",
            "[service\n",
        ] {
            let (settings, unread) = salvage(wrong);
            assert_eq!((settings.service.manager, unread.service), (None, true), "{wrong}");
        }
        assert!(!salvage("nme = 'x'\n[service]\nmanager = 'none'\n").1.service);
    }

    #[test]
    fn unknown_top_level_key_may_be_the_user() {
        for (text, unread) in
            [("usr = 'x'\n", true), ("user = 5\n", true), ("= \n", true), ("[helth]\ntcp = 'x:1'\n", false)]
        {
            assert_eq!(salvage(text).1.user, unread, "{text}");
        }
    }

    #[test]
    fn health_without_probe_is_dropped() {
        assert_eq!(salvage("[health]\nhtp = 'http://127.0.0.1/'\ninterval = '1s'\n").0.health, None);
        let (settings, _) = salvage("[health]\ntcp = '127.0.0.1:1'\nintervall = '1s'\n");
        assert!(settings.health.is_some());
    }
}
