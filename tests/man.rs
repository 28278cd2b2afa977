//! The man page names every command and option that `--help` names, and no other.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

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
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let first = |line: &str| line.strip_prefix("  ")?.split_whitespace().next().map(str::to_owned);
    list.lines().filter(|line| !line.starts_with("   ")).filter_map(first).collect()
}

/// Every `--word` in a text.
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
fn every_option_stands_in_both() {
    let mut in_help = options(&help(None));
    for command in commands() {
        in_help.extend(options(&help(Some(&command))));
    }
    assert!(in_help.contains("no-permanent") && in_help.contains("wait"), "{in_help:?}");
    assert_eq!(options(&man()), in_help);
}

#[test]
fn every_command_stands_in_both() {
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
fn the_page_is_of_this_version() {
    assert!(man().contains(&format!("tenure {}", env!("CARGO_PKG_VERSION"))));
}
