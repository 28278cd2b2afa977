//! Every command of `tenure` in README.md and docs/ works on a root whose service runs, and the reference names every key.

use std::fs;
use std::path::Path;
use std::process::Command;

use minisign::KeyPair;

use tenure::manifest::Manifest;
use tenure::policy::Paths;
use tenure::settings::Settings;

use crate::support::Run;
use crate::support::serving::{Greeter, Serving};

const TEXTS: [(&str, &str); 3] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/operators.md", include_str!("../../docs/operators.md")),
    ("docs/vendors.md", include_str!("../../docs/vendors.md")),
];

/// The lines of shell in a text that run Tenure, without their comments.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    let lines = lines.map(|line| line.trim_start_matches("$ ").split("  ").next().unwrap_or_default());
    lines.filter(|line| line.starts_with("tenure ") || line.contains("&& tenure "))
}

/// What a command needs to have happened before.
fn prepare(serving: &Serving, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let before: &[&str] = match words[1..] {
        ["confirm" | "revert", ..] => &["upgrade", "--no-permanent", "5.0.1"],
        ["uninstall", "5.0.1"] => &["unpack", "5.0.1"],
        ["downgrade" | "uninstall", ..] => &["install", "5.0.1"],
        _ => return,
    };
    serving.host.run(before).ok();
}

/// The directory of the build and the key of its vendor, beside the install that is to be adopted.
fn supply(dir: &Path) {
    for (tree, version) in [("build", "5.0.1"), ("emqx-as-it-was", "4.9.0")] {
        fs::create_dir(dir.join(tree)).unwrap();
        let manifest = format!("name = \"greeter\"\nversion = \"{version}\"\n");
        fs::write(dir.join(tree).join("release.toml"), manifest).unwrap();
        fs::write(dir.join(tree).join("data"), "").unwrap();
    }
    let key = KeyPair::generate_unencrypted_keypair().unwrap().sk.to_box(None).unwrap();
    fs::write(dir.join("emqx.key"), key.into_string()).unwrap();
}

fn run(serving: &Serving, command: &str) -> Run {
    let tenure = Path::new(env!("CARGO_BIN_EXE_tenure"));
    let path = format!("{}:/usr/bin:/bin", tenure.parent().unwrap().display());
    let (root, dir) = (serving.host.root().to_str().unwrap(), serving.dir());
    let command = command.replace("/usr/lib/emqx", root).replace("--name emqx", "--name greeter");
    let command = command
        .replace("/opt/emqx-as-it-was 5.0.0", "../emqx-as-it-was 4.9.0")
        .replace("10m", "1s")
        .replace("1h", "1s");
    let mut sh = Command::new("sh");
    sh.env_clear().env("PATH", path).env("TENURE_ROOT", root).env("page", dir.join("page"));
    // What vendors do happens in the directory of their build.
    let is_vendors =
        ["lint", "pack", "manifest"].iter().any(|word| command.contains(&format!("tenure {word} ")));
    sh.args(["-c", &command]).current_dir(if is_vendors { &dir } else { serving.host.root() });
    Run::of(sh.output().unwrap(), &sh)
}

#[test]
fn commands_in_the_docs_work() {
    for (file, text) in TEXTS {
        let commands: Vec<&str> = commands(text).collect();
        assert!(commands.len() > 2, "{file}: {commands:?}");
        for command in commands {
            let serving = Serving::start("");
            serving.pack(&Greeter::well("5.0.1"));
            supply(&serving.dir());
            prepare(&serving, command);
            let run = run(&serving, command);
            assert_eq!(run.code, Some(0), "{file}: {command}: {run:#?}");
        }
    }
}

/// Returns the keys that a parser expects in a table, as its error for an unknown key lists them.
fn keys<T: std::fmt::Debug>(parse: impl Fn(&str) -> tenure::error::Result<T>, table: &str) -> Vec<String> {
    let error = parse(&format!("{table}\nno-such-key = 1\n")).unwrap_err().to_string();
    let quoted = error.split('`').skip(1).step_by(2).map(str::to_owned);
    quoted.filter(|key| key != "no-such-key").collect()
}

#[test]
fn reference_names_every_key() {
    let reference = include_str!("../../docs/reference.md");
    let (settings, rest) = reference.split_once("## release.toml").unwrap();
    let (manifest, paths) = rest.split_once("## paths.toml").unwrap();
    let tables = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| if name.is_empty() { String::new() } else { format!("[{name}]") }).collect()
    };
    let mut checked = 0;
    let mut names = |text: &str, keys: Vec<String>| {
        assert!(!keys.is_empty());
        for key in keys {
            assert!(text.contains(&format!("{key}`")) || text.contains(&format!("[{key}]")), "{key}");
            checked += 1;
        }
    };
    for table in tables(&["", "service", "retention", "space", "limits", "trust", "shared"]) {
        names(settings, keys(|text| Settings::parse("tenure.toml", text), &table));
    }
    for table in tables(&["", "upgrade", "requires", "files", "data", "hooks", "health", "timeouts"]) {
        names(manifest, keys(|text| Manifest::parse("release.toml", text), &table));
    }
    let path = "[[path]]".to_owned();
    for key in keys(|text| Paths::parse("paths.toml", text), &path) {
        assert!(paths.contains(&format!("{key} =")), "{key}");
    }
    assert!(checked > 45, "{checked}");
}
