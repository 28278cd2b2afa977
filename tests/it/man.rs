//! Tests that tenure(1) names exactly the commands and options of `--help`, and that the pages of section 5 are
//! correct.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn help(command: Option<&str>) -> String {
    let mut tenure = Command::new(env!("CARGO_BIN_EXE_tenure"));
    let out = tenure.env_clear().args(command).arg("--help").output().unwrap();
    assert!(out.status.success(), "{command:?} --help: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn commands() -> Vec<String> {
    let help = help(None);
    let lines = help.split("Options:\n").next().unwrap().lines();
    lines.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).map(str::to_owned).collect()
}

/// Returns every `--word` in a text.
fn options(text: &str) -> BTreeSet<String> {
    let word =
        |rest: &str| -> String { rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect() };
    text.split("--").skip(1).map(word).filter(|w| !w.is_empty()).collect()
}

fn man() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/tenure.1");
    fs::read_to_string(file).unwrap().replace("\\-", "-")
}

#[test]
fn man_page_names_every_option() {
    let mut in_help = options(&help(None));
    for command in commands() {
        in_help.extend(options(&help(Some(&command))));
    }
    assert!(in_help.contains("no-permanent") && in_help.contains("wait"), "{in_help:?}");
    assert_eq!(options(&man()), in_help);
}

#[test]
fn man_page_names_every_command() {
    let man = man();
    let section = man.split(".SH COMMANDS").nth(1).unwrap().split(".SH OPTIONS").next().unwrap();
    let entry = |entry: &str| {
        let line = entry.lines().next()?;
        let word = line.trim_start_matches(".BR ").trim_start_matches(".BI ").trim_start_matches(".B ");
        Some(word.split([' ', '"']).next()?.to_owned())
    };
    let in_man: BTreeSet<String> = section.split(".TP\n").skip(1).filter_map(entry).collect();
    let in_help: BTreeSet<String> = commands().into_iter().collect();
    assert!(in_help.len() >= 16, "{in_help:?}");
    assert_eq!(in_man, in_help);
}

#[test]
fn man_page_has_current_version() {
    assert!(man().contains(&format!("tenure {}", env!("CARGO_PKG_VERSION"))));
}

/// Returns a page of section 5 with dashes and quotes unescaped.
fn page(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
    fs::read_to_string(file).unwrap().replace("\\-", "-").replace("\\(dq", "\"")
}

/// Returns the lines from `first` up to `last`, without `last` and without indentation.
fn between(page: &str, first: &str, last: &str) -> String {
    let lines =
        page.lines().map(str::trim).skip_while(|line| *line != first).take_while(|line| *line != last);
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn man_page_examples_parse() {
    let manifest = between(&page("tenure-release.5"), "name = \"acme\"", ".fi");
    let manifest = tenure::manifest::Manifest::parse("the example", &manifest).unwrap();
    assert_eq!(manifest.data.unwrap().reads, [6, 7]);
    let settings = between(&page("tenure.toml.5"), "name = \"acme\"", ".fi");
    let settings = tenure::settings::Settings::parse("the example", &settings).unwrap();
    assert_eq!((settings.trust.keys.len(), settings.shared.directories.len()), (1, 3));
}

#[test]
fn man_pages_name_every_key() {
    let release = page("tenure-release.5");
    let example = include_str!("../../src/manifest.example.toml");
    let keys = example.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = "));
    let keys: BTreeSet<&str> = keys.map(|(key, _)| key).filter(|key| !key.contains(' ')).collect();
    assert!(keys.len() > 25, "{keys:?}");
    let missing: Vec<_> = keys.iter().filter(|key| !release.contains(**key)).collect();
    assert!(missing.is_empty(), "tenure-release(5) says nothing of {missing:?}");
    // The error about an unknown key lists the known keys.
    let settings = page("tenure.toml.5");
    for table in [
        "",
        "[retention]",
        "[space]",
        "[limits]",
        "[trust]",
        "[shared]",
        "[timeouts]",
        "[service]",
        "[health]",
    ] {
        let error =
            tenure::settings::Settings::parse("x", &format!("{table}\nno-such-key = 1\n")).unwrap_err();
        let error = error.to_string();
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(!known.is_empty(), "{table}: {error}");
        let missing: Vec<_> = known.into_iter().filter(|key| !settings.contains(key)).collect();
        assert!(missing.is_empty(), "tenure.toml(5) says nothing of {missing:?}, in {table}");
    }
}
