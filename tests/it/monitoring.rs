//! `status` for programs that monitor many roots: JSON, and metrics for Prometheus.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::support::case;
use crate::support::serving::{Greeter, Serving};
use crate::support::{self, Host};
use serde_json::{Value, json};

const PAGE: [&str; 3] = ["status", "--format", "prometheus"];

fn status(host: &Host) -> Value {
    host.run(["status", "--json"]).json()
}

/// Returns the series of a page with their values. Panics unless the page follows the Prometheus text format exactly:
/// HELP and TYPE once and before the series, no duplicate series, quoted labels, and only the three defined escapes.
fn series(page: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let (mut lines, mut families) = (page.lines().peekable(), Vec::new());
    assert!(page.ends_with('\n'), "the last line has an end");
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(!help.contains('\\') && help.ends_with('.'), "{line}");
        assert!(
            name.starts_with("tenure_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{name}"
        );
        assert!(!families.contains(&name), "{name} comes twice");
        families.push(name);
        assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
        let mut count = 0;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (labels, value) = line.strip_prefix(name).and_then(|rest| rest.rsplit_once(' ')).expect(line);
            let labels = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).expect(line);
            let key = format!("{name}{{{}}}", unlabelled(labels));
            assert!(found.insert(key, value.parse().expect(line)).is_none(), "{line} comes twice");
            count += 1;
        }
        assert!(count > 0, "{name} has no series");
    }
    found
}

/// Returns the labels except for those that name the root.
fn unlabelled(labels: &str) -> String {
    let (mut rest, mut own) = (labels, Vec::new());
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect(labels);
        assert!(name.chars().all(|c| c.is_ascii_lowercase()), "{name}");
        let mut end = 0;
        while !after[end..].starts_with('"') {
            let escape = after[end..].starts_with('\\');
            assert!(!escape || matches!(&after[end + 1..end + 2], "\\" | "\"" | "n"), "{labels}");
            end += if escape { 2 } else { after[end..].chars().next().unwrap().len_utf8() };
        }
        if !matches!(name, "root" | "name") {
            own.push(format!("{name}={}", &after[..end]));
        }
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
    own.join(",")
}

fn metrics(host: &Host) -> BTreeMap<String, f64> {
    series(&host.run(PAGE).ok().stderr("").stdout)
}

/// Asserts that the JSON document, the exit code and the metrics report this state.
fn is(host: &Host, state: &str) {
    let run = host.run(["status", "--json"]);
    assert_eq!(run.json()["state"], state, "{run:#?}");
    let grave = ["unknown", "drift", "down", "migration-failed", "interrupted", "broken"].contains(&state);
    assert_eq!(run.code, Some(i32::from(grave)), "{run:#?}");
    let metrics = metrics(host);
    let states = metrics.iter().filter(|(name, _)| name.starts_with("tenure_state{"));
    let (on, off): (Vec<_>, Vec<_>) = states.partition(|(_, value)| **value == 1.0);
    assert_eq!(on, [(&format!("tenure_state{{state={state}}}"), &1.0)]);
    assert!(off.len() == 10 && off.iter().all(|(_, value)| **value == 0.0), "{off:?}");
    assert_eq!(metrics["tenure_problems{}"] > 0.0, grave);
}

#[test]
fn state_is_consistent_in_all_formats() {
    let host = case::host(&["5.0.0", "5.0.1"]);
    is(&host, "empty");
    host.run(["install", "5.0.0"]).ok();
    is(&host, "steady");
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    is(&host, "trial");
    fs::write(host.root().join(".tenure/journal"), "torn").unwrap();
    is(&host, "broken");
    host.run(["revert"]).ok();
    is(&host, "steady");
    fs::remove_file(host.root().join("current")).unwrap();
    symlink("releases/5.0.9", host.root().join("current")).unwrap();
    is(&host, "broken");
    host.run(["revert"]).ok();
    let failing = "#!/bin/sh\nexit 7\n";
    let manifest =
        "name = \"emqx\"\nversion = \"5.0.2\"\n[data]\nwrites = 2\n[hooks]\nmigrate = ['bin/migrate']\n";
    host.build("5.0.2").file("release.toml", manifest).executable("bin/migrate", failing).write();
    host.run(["upgrade", "5.0.2"]).ok();
    host.run(["migrate"]).code(1);
    is(&host, "migration-failed");
    let metrics = metrics(&host);
    assert_eq!(metrics["tenure_migration{stage=failed,version=5.0.2}"], 1.0);
    assert_eq!(metrics["tenure_last_outcome{command=migrate,outcome=unfinished}"], 1.0);
}

#[test]
fn unreadable_history_is_reported() {
    let host = case::installed(&["5.0.0"], &[&["install", "5.0.0"]]);
    let history = host.root().join(".tenure/history");
    fs::remove_file(&history).unwrap();
    fs::create_dir(&history).unwrap();
    is(&host, "broken");
    let told = status(&host);
    assert_eq!((&told["last"], &told["current"]), (&Value::Null, &"5.0.0".into()));
    assert!(told["problems"][0]["message"].as_str().unwrap().contains("/.tenure/history"), "{told:#}");
}

/// Waits until the root has this state.
fn until(host: &Host, state: &str) {
    support::until(state, || status(host)["state"] == state, || status(host).to_string());
}

#[test]
fn running_commands_are_not_problems() {
    let host = case::installed(&["5.0.0"], &[&["install", "5.0.0"]]);
    let held = |name: &str| host.root().parent().unwrap().join(name);
    let waits = "#!/bin/sh\nwhile [ -e \"$TENURE_ROOT/../$TENURE_ACTION\" ]; do sleep 0.02; done\n";
    let manifest = "name = \"emqx\"\nversion = \"5.0.1\"\n[data]\nwrites = 2\n[hooks]\n\
                    prepare = ['bin/wait']\nmigrate = ['bin/wait']\n";
    host.build("5.0.1").file("release.toml", manifest).executable("bin/wait", waits).write();
    ["prepare", "migrate"].iter().for_each(|name| fs::write(held(name), "").unwrap());
    let mut upgrade = host.command(["upgrade", "5.0.1"]).stdout(Stdio::null()).spawn().unwrap();
    until(&host, "working");
    is(&host, "working");
    fs::remove_file(held("prepare")).unwrap();
    assert!(upgrade.wait().unwrap().success());
    until(&host, "migrating");
    is(&host, "migrating");
    fs::remove_file(held("migrate")).unwrap();
    host.run(["migrate"]).ok();
    is(&host, "steady");
    assert_eq!(metrics(&host)["tenure_data_format{}"], 2.0);
}

#[test]
fn drift_is_reported() {
    let serving = Serving::start("");
    let host = &serving.host;
    is(host, "steady");
    let service = json!({"up": true, "runs": {"release": "5.0.0"}, "health": {"health": "healthy"}});
    let told = status(host);
    assert_eq!((&told["service"], &told["drift"]), (&service, &false.into()));
    serving.pack(&Greeter::well("5.0.1"));
    host.run(["upgrade", "--confirm-within", "1h", "5.0.1"]).ok();
    is(host, "trial");
    let trial = &status(host)["trial"];
    assert_eq!(trial["to_be_confirmed"], true);
    let left = metrics(host)["tenure_trial_left_seconds{}"];
    assert!((1.0..=3600.0).contains(&left), "{left}");
    host.run(["boot"]).ok();
    is(host, "drift");
    let page = metrics(host);
    for (name, value) in
        [("drift", 1.0), ("service_up", 1.0), ("service_healthy", 1.0), ("on_trial", 0.0), ("problems", 1.0)]
    {
        assert_eq!(page[&format!("tenure_{name}{{}}")], value, "{name}");
    }
    assert!(!page.contains_key("tenure_trial_left_seconds{}"), "it ends no more by itself");
}

#[test]
fn unknown_release_is_reported_as_unknown() {
    let serving = Serving::start("");
    let (pid, file) = (serving.pid(), serving.dir().join("pid"));
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(&file, other.id().to_string()).unwrap();
    is(&serving.host, "unknown");
    let told = status(&serving.host);
    assert_eq!((&told["service"]["up"], &told["drift"]), (&true.into(), &Value::Null));
    assert!(
        told["service"]["runs"]["unknown"].as_str().unwrap().contains("cannot be matched to a release"),
        "{told:#}"
    );
    assert!(!metrics(&serving.host).contains_key("tenure_drift{}"));
    fs::write(&file, pid.to_string()).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn stopped_service_is_not_drift() {
    let serving = Serving::down("");
    is(&serving.host, "down");
    let told = serving.host.run(["status", "--json"]).code(1).json();
    let service = json!({"up": false, "runs": "nothing", "health": null});
    assert_eq!((&told["service"], &told["drift"]), (&service, &false.into()));
    let page = metrics(&serving.host);
    assert_eq!((page["tenure_service_up{}"], page["tenure_drift{}"]), (0.0, 0.0));
    assert!(!page.contains_key("tenure_service_healthy{}"));
}

#[test]
fn last_outcome_and_space_are_reported() {
    let host = case::host(&["5.0.0"]);
    assert_eq!(status(&host)["last"], Value::Null);
    host.run(["--root", ".", "install", "5.0.0"]).ok();
    let told = status(&host);
    assert_eq!(told["last"], host.run(["history", "--json"]).ok().json()["entries"][0]);
    let space = &told["space"];
    assert!(space["free_bytes"].as_u64() <= space["size_bytes"].as_u64(), "{space}");
    assert_eq!(space["reserve_bytes"], 0);
    let inodes = metrics(&host).contains_key("tenure_free_inodes{}");
    assert_eq!(inodes, space["free_inodes"].is_u64(), "{space}");
    fs::write(host.root().join("tenure.toml"), "name = \"emqx\"\n[space]\nreserve = \"1 KiB\"\n").unwrap();
    assert_eq!(status(&host)["space"]["reserve_bytes"], 1024);
    assert_eq!(metrics(&host)["tenure_last_outcome{command=install,outcome=done}"], 1.0);
}

/// Returns the page without the values that differ between runs and between file systems.
fn steady(page: &str, host: &Host) -> String {
    let varies = ["last_timestamp_seconds", "last_duration_seconds", "free_bytes", "size_bytes"];
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((series, _)) if varies.iter().any(|v| series.starts_with(&format!("tenure_{v}{{"))) => {
            format!("{series} N\n")
        }
        _ => format!("{line}\n"),
    };
    page.lines()
        .filter(|line| !line.contains("tenure_free_inodes"))
        .map(line)
        .collect::<String>()
        .replace(host.root().to_str().unwrap(), "ROOT")
}

#[test]
fn prometheus_page_matches_snapshot() {
    let host = case::host(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    host.run(["unpack", "5.0.1"]).ok();
    let page = host.run(PAGE).ok().stdout;
    series(&page);
    assert_eq!(steady(&page, &host), include_str!("../support/page.prom"));
}

#[test]
fn labels_are_escaped() {
    let host = Host::new();
    let root = host.root().parent().unwrap().join("a\"b\\c\nd é");
    fs::create_dir_all(root.join("releases")).unwrap();
    let page = host.run_in(&root, PAGE).ok().stdout;
    let shown = host.root().parent().unwrap().display().to_string() + r#"/a\"b\\c\nd é"#;
    assert!(page.contains(&format!("tenure_on_trial{{root=\"{shown}\"}} 0\n")), "{page}");
    assert!(series(&page).len() > 10);
}

#[test]
fn prometheus_and_json_exclude_each_other() {
    let host = Host::new();
    for args in
        [["status", "--format", "prometheus", "--json"], ["--json", "status", "--format", "prometheus"]]
    {
        let error = host.run(args).code(64).json();
        assert_eq!(error["error"]["message"], "cannot combine `--format prometheus` with `--json`");
    }
    host.run(["status", "--format", "text"]).ok().stdout(&host.run(["status"]).ok().stdout);
    host.run(["status", "--format", "text", "--json"]).ok().json();
    host.run(["--root", "/nowhere", "status", "--format", "prometheus"]).code(2).stdout("");
}
