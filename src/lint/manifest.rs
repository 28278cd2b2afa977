//! Reports all faults of a manifest: removes each entry that the parser refuses, and parses the rest again.

use std::borrow::Cow;
use std::ops;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use crate::health::{Argv, Probe};
use crate::manifest::{MANIFEST, Manifest, line, message, nearest_key};
use crate::naming;
use crate::settings;
use crate::version::Range;

use super::finding::{Code, Finding};
use super::release::{FileMagic, FileType, Release};
use super::requires;

type Key<'a> = Spanned<Cow<'a, str>>;

/// The value for a missing `name` or `version`, valid as either, so that the rest can be checked.
const STAND_IN: &str = "0.0.0";

/// Returns the manifest without its faulty entries, or `None` if it is not TOML, and the faults.
pub fn check(text: &str, release: &Release) -> (Option<Manifest>, Vec<Finding>) {
    let mut root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            return (None, vec![finding(Code::ManifestSyntax, text, error.span(), message(&error))]);
        }
    };
    let whole = root.clone();
    let mut findings = Vec::new();
    let manifest = loop {
        match Manifest::deserialize(Deserializer::from(root.clone())) {
            Ok(manifest) => break Some(manifest),
            Err(error) => {
                // A key that an earlier pass removed is not missing.
                if !missing(&error).is_some_and(|key| has_key(whole.get_ref(), &error, key)) {
                    findings.push(parser_finding(text, &error));
                }
                if !repair(root.get_mut(), &error) {
                    break None;
                }
            }
        }
    };
    if let Some(manifest) = &manifest {
        let lines = Lines { text, root: whole.get_ref() };
        findings.extend(check_values(manifest, &lines, release));
    }
    findings.sort_by_key(|finding| {
        finding.place.strip_prefix(MANIFEST).and_then(|place| place.strip_prefix(':')?.parse::<usize>().ok())
    });
    (manifest, findings)
}

/// Returns the fault that a parser error reports.
fn parser_finding(text: &str, error: &Error) -> Finding {
    let (code, told) = (code(error.message()), message(error));
    let span = error.span().filter(|_| code != Code::ManifestMissing);
    let finding = finding(code, text, span, told);
    match nearest_key(error.message()) {
        Some(key) if code == Code::ManifestUnknown => {
            finding.hint(format!("the nearest known key is `{key}`"))
        }
        _ => finding,
    }
}

fn code(message: &str) -> Code {
    match message {
        message if message.starts_with("unknown field") => Code::ManifestUnknown,
        message if message.starts_with("missing field") => Code::ManifestMissing,
        _ => Code::ManifestValue,
    }
}

fn finding(code: Code, text: &str, span: Option<ops::Range<usize>>, message: String) -> Finding {
    let place = span.map_or_else(|| MANIFEST.to_owned(), |span| place(text, span.start));
    Finding::new(code, &place, message)
}

fn place(text: &str, at: usize) -> String {
    format!("{MANIFEST}:{}", line(text, at))
}

/// Removes the entry that the parser refused, or adds the key that it missed. Returns false if it can do neither.
fn repair(table: &mut DeTable<'_>, error: &Error) -> bool {
    let Some(span) = error.span() else { return false };
    match missing(error) {
        Some(key) if matches!(key, "name" | "version") && !table.contains_key(key) => {
            let value = DeValue::String(Cow::Borrowed(STAND_IN));
            table.insert(Spanned::new(0..0, key.to_owned().into()), Spanned::new(0..0, value));
            true
        }
        _ => remove_entry(table, &span),
    }
}

/// Returns the key that the parser missed.
fn missing(error: &Error) -> Option<&str> {
    error.message().strip_prefix("missing field `")?.split('`').next()
}

/// Returns whether the key is in the table that the error is about, which is the whole manifest or a table in it.
fn has_key(table: &DeTable<'_>, error: &Error, key: &str) -> bool {
    let about = |value: &&Spanned<DeValue<'_>>| error.span().as_ref() == Some(&value.span());
    match table.values().find(about) {
        Some(inner) => inner.get_ref().as_table().is_some_and(|inner| inner.contains_key(key)),
        None => table.contains_key(key),
    }
}

/// Removes the innermost entry that contains the span.
fn remove_entry(table: &mut DeTable<'_>, span: &ops::Range<usize>) -> bool {
    let within = |outer: ops::Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (_, value) in table.iter_mut() {
        let whole = value.span() == *span;
        if let DeValue::Table(inner) = value.get_mut()
            && !whole
            && remove_entry(inner, span)
        {
            return true;
        }
    }
    let meant = |(key, value): &(&Key<'_>, &Spanned<DeValue<'_>>)| within(key.span()) || within(value.span());
    let key = table.iter().find(meant).map(|(key, _)| key.get_ref().to_string());
    key.is_some_and(|key| table.remove(key.as_str()).is_some())
}

/// The positions of the keys of a manifest.
struct Lines<'a> {
    text: &'a str,
    root: &'a DeTable<'a>,
}

impl Lines<'_> {
    /// Returns the place of a key in a table: `release.toml:LINE`.
    fn of(&self, table: &str, key: &str) -> String {
        let at = self.root.get(table).and_then(|table| {
            let (key, _) = table.get_ref().as_table()?.get_key_value(key)?;
            Some(key.span().start)
        });
        at.map_or_else(|| MANIFEST.to_owned(), |at| place(self.text, at))
    }
}

/// Reports the faults of values that the parser accepts.
fn check_values(manifest: &Manifest, lines: &Lines<'_>, release: &Release) -> Vec<Finding> {
    let mut findings: Vec<Finding> = check_name(manifest, lines, release).into_iter().collect();
    let upgrade = &manifest.upgrade;
    if upgrade.from.as_ref().is_some_and(Vec::is_empty) {
        let message = "no release can be upgraded to it: the list is empty";
        findings.push(Finding::new(Code::RangeNever, &lines.of("upgrade", "from"), message));
    }
    for (key, ranges) in [("hot-from", &upgrade.hot_from), ("from", &upgrade.from)] {
        let never = |range: &&Range| !comes_before(range, manifest);
        for range in ranges.iter().flatten().filter(never) {
            let message = match range.least() {
                None => format!("no version is in `{range}`"),
                Some(_) => format!("no version in `{range}` is lower than {}", manifest.version),
            };
            findings.push(Finding::new(Code::RangeNever, &lines.of("upgrade", key), message));
        }
    }
    findings.extend(requires::check(&manifest.requires, &|key| lines.of("requires", key)));
    findings
        .extend(programs(manifest).filter_map(|(table, key, argv)| {
            check_hook(key, argv.program(), &lines.of(table, key), release)
        }));
    findings.extend(check_running_version(manifest, lines, release));
    findings
}

/// Reports a release that moves a running service although Tenure cannot determine afterwards which release the
/// service runs. The process of a script only shows its interpreter.
fn check_running_version(manifest: &Manifest, lines: &Lines<'_>, release: &Release) -> Option<Finding> {
    let (hooks, hot_from) = (&manifest.hooks, &manifest.upgrade.hot_from);
    let (table, key, _) = [
        ("hooks", "hot-upgrade", hooks.hot_upgrade.is_some()),
        ("hooks", "hot-downgrade", hooks.hot_downgrade.is_some()),
        ("upgrade", "hot-from", hot_from.as_ref().is_some_and(|ranges| !ranges.is_empty())),
    ]
    .into_iter()
    .find(|(.., is_there)| *is_there)?;
    let is_known = hooks.running_version.is_some()
        || release.programs.values().any(|head| matches!(head, FileMagic::Binary(_)));
    let message = format!(
        "`{key}` moves a running service, but the release holds scripts only: Tenure cannot determine which release an \
         interpreter runs"
    );
    (!is_known).then(|| Finding::new(Code::VersionUntold, &lines.of(table, key), message))
}

/// Returns the programs that the manifest makes Tenure run, with their tables and keys.
pub fn programs(manifest: &Manifest) -> impl Iterator<Item = (&'static str, &'static str, &Argv)> {
    let health = manifest.health.as_ref().and_then(|health| match &health.probe {
        Probe::Command(argv) => Some(("health", "command", argv)),
        _ => None,
    });
    manifest.hooks.all().map(|(key, argv)| ("hooks", key, argv)).chain(health)
}

/// Reports a fault of the name or the version.
fn check_name(manifest: &Manifest, lines: &Lines<'_>, release: &Release) -> Option<Finding> {
    let (name, version) = (&manifest.name, &manifest.version);
    if let Err(error) = settings::check_product(name) {
        let at = lines.root.get_key_value("name").map(|(key, _)| key.span());
        let hint = error.hints().concat();
        return Some(finding(Code::ManifestValue, lines.text, at, error.to_string()).hint(hint));
    }
    if name == STAND_IN || version.to_string() == STAND_IN {
        return None;
    }
    // The user who packs a directory names the archive, so assume the default name.
    let archive = release.archive.clone().unwrap_or_else(|| format!("{name}-{version}.zip"));
    let error = naming::check(&archive, name, version).err()?;
    let hint = error.hints().concat();
    Some(Finding::new(Code::NameDiffers, MANIFEST, error.to_string()).hint(hint))
}

/// Returns whether the range can contain a lower release than this one, as an upgrade needs. If the version is not
/// known, any lower release is possible.
fn comes_before(range: &Range, manifest: &Manifest) -> bool {
    let unknown = manifest.version.to_string() == STAND_IN;
    range.least().is_some_and(|least| unknown || least < manifest.version)
}

/// Reports a fault of a hook's program. `place` is the place of the hook in the manifest.
fn check_hook(key: &str, program: &str, place: &str, release: &Release) -> Option<Finding> {
    let finding =
        |code, what: &str| Some(Finding::new(code, place, format!("`{key}` runs {program:?}, which {what}")));
    let Some((path, thing)) = release.resolve(program) else {
        return finding(Code::HookMissing, "is not in the release");
    };
    match thing {
        // The kernel executes a hook directly, and no shell tries a file that the kernel refuses.
        FileType::File { executable: true } if !release.programs.contains_key(&path) => finding(
            Code::HookNotExecutable,
            "is neither a script that begins with `#!` nor a program of Linux",
        )
        .map(|finding| finding.hint("name its interpreter in the first line: `#!/bin/sh`")),
        FileType::File { executable: true } => None,
        FileType::File { .. } => finding(Code::HookNotExecutable, "is not executable"),
        _ => finding(Code::HookNotExecutable, "is not a file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the faults of a manifest in a release with the programs bin/run and bin/text and the file bin/data.
    fn faults(text: &str) -> Vec<(&'static str, String, String)> {
        let entries = [
            ("bin", FileType::Directory),
            ("bin/run", FileType::File { executable: true }),
            ("bin/text", FileType::File { executable: true }),
            ("bin/data", FileType::File { executable: false }),
        ];
        let entries = entries.into_iter().map(|(path, thing)| (path.to_owned(), thing)).collect();
        let programs = [("bin/run".to_owned(), FileMagic::Binary("x86_64".into()))].into();
        let release = Release { entries, programs, ..Release::default() };
        let (_, findings) = check(text, &release);
        findings.into_iter().map(|found| (found.code.word(), found.place, found.hint)).collect()
    }

    fn places(text: &str) -> Vec<(&'static str, String)> {
        faults(text).into_iter().map(|(code, place, _)| (code, place)).collect()
    }

    fn at(code: &'static str, line: usize) -> (&'static str, String) {
        (code, format!("release.toml:{line}"))
    }

    #[test]
    fn hot_script_release_needs_running_version_hook() {
        let script = FileMagic::of(b"#!/bin/sh\n").unwrap();
        let entries = [("bin/run".to_owned(), FileType::File { executable: true })].into();
        let release =
            Release { entries, programs: [("bin/run".to_owned(), script)].into(), ..Release::default() };
        let faults = |more: &str| {
            let (_, findings) = check(&format!("name = 'a'\nversion = '2.0.0'\n{more}"), &release);
            findings.into_iter().map(|found| (found.code.word(), found.place)).collect::<Vec<_>>()
        };
        let hot = "[hooks]\nhot-upgrade = ['bin/run']\n";
        assert_eq!(faults(hot), [at("version-untold", 4)]);
        assert_eq!(faults("[upgrade]\nhot-from = ['~1.0']\n"), [at("version-untold", 4)]);
        assert_eq!(faults(&format!("{hot}running-version = ['bin/run']\n")), []);
        assert_eq!(faults("[hooks]\nprepare = ['bin/run']\n"), []);
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let text = "nme = 'a'\nversion = '2.0.0'\n[upgrade]\nhot-form = ['~1.0']\nfrom = ['banana']\n\
                    [requires]\narch = ['amd64']\nfree-space = 'much'\n[hooks]\nhot-upgrade = ['/bin/sh']\n\
                    hot-downgrade = ['bin/absent']\n[helth]\ninterval = '1s'\n[health]\nhttp = 'x'\n\
                    [timeouts]\nhook = '0s'\nhealth = '1m'\n";
        let expected = [
            ("manifest-missing", "release.toml".to_owned()),
            at("manifest-unknown", 1),
            at("manifest-unknown", 4),
            at("manifest-value", 5),
            at("arch-unknown", 7),
            at("manifest-value", 8),
            at("manifest-value", 10),
            at("hook-missing", 11),
            at("manifest-unknown", 12),
            at("manifest-value", 15),
            at("manifest-value", 17),
        ];
        assert_eq!(places(text), expected);
        assert_eq!(faults(text)[2].2, "the nearest known key is `hot-from`");
    }

    #[test]
    fn invalid_toml_has_one_fault() {
        assert_eq!(places("name = 'a'\nversion = \n"), [at("manifest-syntax", 2)]);
        assert_eq!(places("name = 'a'\nname = 'b'\n").len(), 1);
    }

    #[test]
    fn ranges_contain_lower_releases() {
        let ranges = |ranges: &str| {
            places(&format!("name = 'a'\nversion = '5.0.1'\n[upgrade]\nfrom = [{ranges}]\n")).len()
        };
        for fine in ["'~5.0'", "'>=4.4.2, <5'", "'<=5.0.1'", "'*'", "'>5.0.1-rc.1, <5.0.1'", "'5.0.0'"] {
            assert_eq!(ranges(fine), 0, "{fine}");
        }
        for never in ["", "'~5.1'", "'>=5, <4'", "'^4, ^5'", "'>5.0.1'", "'5.0.1'", "'<0.0.0-0.0'", "'>5.0'"]
        {
            assert_eq!(ranges(never), 1, "{never}");
        }
    }

    #[test]
    fn invalid_value_is_not_reported_missing() {
        let data = |data: &str| places(&format!("name='a'\nversion='1.0.0'\n[data]\n{data}\n"));
        assert_eq!(data("writes='x'"), [at("manifest-value", 4)]);
        assert_eq!(data("reads=[1]")[0].0, "manifest-missing");
        assert_eq!(places("name=1\nversion='x'\n"), [at("manifest-value", 1), at("manifest-value", 2)]);
    }

    #[test]
    fn hook_exists_and_is_executable() {
        let hook = |argv: &str| {
            places(&format!(
                "name='a'\nversion='1.0.0'\n[health]\ncommand={argv}\n[hooks]\nrunning-version={argv}\n"
            ))
        };
        assert_eq!(hook("['bin/run', '-v']"), []);
        assert_eq!(hook("['bin/absent']"), [at("hook-missing", 4), at("hook-missing", 6)]);
        assert_eq!(hook("['bin/data']")[0].0, "hook-not-executable");
        assert_eq!(hook("['bin']")[0].0, "hook-not-executable");
        assert_eq!(hook("['bin/text']")[0].0, "hook-not-executable");
    }

    #[test]
    fn product_name_is_checked() {
        assert_eq!(places("name = 'a b'\nversion = '1.0.0'\n"), [at("manifest-value", 1)]);
    }

    #[test]
    fn file_name_must_identify_the_version() {
        let named = |name: &str, version: &str| places(&format!("name = '{name}'\nversion = '{version}'\n"));
        assert_eq!(named("a", "2.0.0-rc.1"), []);
        for (name, version) in [("a", "2.0.0-hotfix.1"), ("a-2.0.0", "1.0.0")] {
            assert_eq!(named(name, version), [("name-differs", "release.toml".to_owned())], "{name}");
        }
    }
}
