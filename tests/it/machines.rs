//! JSON output: in every case, every command prints a document that the schema defines for it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::{Host, Run, schema};
use serde_json::Value;
use tenure::health::Baseline;
use tenure::plan::{Item, Method, ServiceMove, Step, TrialEnd};
use tenure::release::LinkName;

fn json(host: &Host, args: &[&str]) -> Run {
    host.run([args, &["--json"]].concat())
}

/// Returns the commands that `--help` lists.
fn commands() -> BTreeSet<String> {
    let out = Command::new(env!("CARGO_BIN_EXE_tenure")).env_clear().arg("--help").output().unwrap();
    let help = String::from_utf8(out.stdout).unwrap();
    let lines = help.split("Options:\n").next().unwrap().lines();
    lines.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).map(str::to_owned).collect()
}

/// Returns a root with an old, a permanent and an unpacked release, archives of higher releases, and an install next
/// to it.
fn host() -> Host {
    let host = crate::support::case::host(&["5.0.0", "5.0.1", "5.0.2", "5.0.3", "5.1.0"]);
    host.run(["install", "5.0.0"]).ok();
    host.run(["install", "5.0.1"]).ok();
    host.run(["unpack", "5.0.2"]).ok();
    fs::create_dir(host.root().parent().unwrap().join("opt")).unwrap();
    host
}

/// Runs each command as a dry run.
fn dry(host: &Host) {
    for args in [
        &["init", "--root", "made"][..],
        &["adopt", "../opt", "4.0.0"],
        &["unpack", "5.0.3"],
        &["install", "5.0.3"],
        &["upgrade", "5.0.3"],
        &["downgrade", "5.0.0"],
        &["confirm"],
        &["migrate"],
        &["revert"],
        &["uninstall", "5.0.0"],
        &["boot"],
        &["prune", "--keep", "0"],
    ] {
        json(host, &[args, &["--dry-run"]].concat()).ok();
    }
}

/// Runs each command, one after the other.
fn done(host: &Host) {
    for args in [
        &["init", "--root", "../made"][..],
        &["adopt", "--root", "../made", "../opt", "4.0.0"],
        &["versions"],
        &["root-dir"],
        &["root_dir"],
        &["status"],
        &["check", "5.0.3"],
        &["check", "--os", "debian 13"],
        &["plan", "5.1.0"],
        &["plan", "5.1.0", "--format", "dot", "--available", "5.0.9"],
        &["unpack", "5.0.3"],
        &["install", "--prepare-only", "5.0.2"],
        &["upgrade", "--prepare-only", "5.0.2"],
        &["downgrade", "--prepare-only", "5.0.0"],
        &["upgrade", "--no-permanent", "5.0.2"],
        &["status"],
        &["revert"],
        &["upgrade", "--no-permanent", "5.0.2"],
        &["boot"],
        &["upgrade", "--no-permanent", "5.0.2"],
        &["confirm"],
        &["downgrade", "5.0.1"],
        &["install", "5.0.2"],
        &["install", "--multi-hop", "5.0.3"],
        &["upgrade", "--multi-hop", "--restart", "5.1.0"],
        &["migrate"],
        &["uninstall", "5.0.0"],
        &["verify"],
        &["prune", "--keep", "0"],
        &["history"],
    ] {
        json(host, args).ok();
    }
    for_vendors(host);
    fs::write(host.root().join("releases/5.1.0/added"), "").unwrap();
    json(host, &["verify"]).code(1);
}

/// Runs the commands for vendors on the last release.
fn for_vendors(host: &Host) {
    for args in [
        &["pack", "releases/5.1.0", "--output", "../emqx-5.1.0.zip"][..],
        &["pack", "--dry-run", "releases/5.1.0", "--output", "../emqx-5.1.0-other.zip"],
        &["lint", "releases/5.1.0"],
        &["manifest", "--example"],
        &["completions", "bash"],
    ] {
        json(host, args).ok();
    }
}

/// Makes each command fail in several ways.
fn failed(host: &Host) {
    for args in [&["pack", "/nowhere"][..], &["lint", "/nowhere"], &["manifest"], &["completions", "tcsh"]] {
        let error = json(host, args).json();
        assert!(error["error"]["code"].is_u64(), "{args:?}: {error}");
    }
    let needs_root =
        |command: &String| !["pack", "lint", "manifest", "completions"].contains(&command.as_str());
    for command in commands().into_iter().filter(needs_root) {
        let given: &[&str] = match command.as_str() {
            "init" => &["--name", "../x"],
            "adopt" => &["/nowhere", "4.0.0"],
            "unpack" | "install" | "upgrade" | "downgrade" | "uninstall" | "check" | "plan" => &["5.0.9"],
            _ => &[],
        };
        let error = json(host, &[&[command.as_str(), "--root", "/nowhere"], given].concat()).code(2).json();
        assert_eq!(error["error"]["code"], 2, "{command}: {error}");
        let error = json(host, &[command.as_str(), "--banana"]).code(64).json();
        assert_eq!(error["error"]["kind"], "usage", "{command}: {error}");
    }
    for args in [&["--banana"][..], &[], &["banana"]] {
        json(host, args).code(64);
    }
}

#[test]
fn every_command_prints_schema_documents() {
    let host = host();
    dry(&host);
    done(&host);
    failed(&host);
    let documents = schema::documents();
    let of_schema: BTreeSet<String> = documents.iter().map(|(command, _)| command.clone()).collect();
    assert_eq!(of_schema, commands(), "the schema has the commands that there are");
    let met = schema::met();
    let missed: Vec<_> = documents.difference(&met).collect();
    assert!(missed.is_empty(), "never printed: {missed:?}");
}

#[test]
fn recovery_is_reported() {
    let host = host();
    let record = r#"{"transaction":"t","command":"upgrade 5.0.2","by":"root","started":"2026-01-01T00:00:00Z",
        "plan":{"from":"5.0.1","to":"5.0.2","steps":[{"step":"point","link":"current","from":"5.0.1","to":"5.0.2"}]}}"#;
    fs::write(host.root().join(".tenure/journal"), record.replace("\n        ", "") + "\n{\"begun\":1}\n")
        .unwrap();
    let status = json(&host, &["status"]).code(1).json();
    assert_eq!((&status["state"], &status["unfinished"]["at_work"]), (&"interrupted".into(), &false.into()));
    assert_eq!(json(&host, &["boot", "--dry-run"]).ok().json()["recovery"]["toward"], "back");
    let boot = json(&host, &["boot"]).ok().json();
    assert_eq!(boot["recovered"]["command"], "upgrade 5.0.2");
    assert_eq!(json(&host, &["status"]).ok().json()["state"], "steady");
}

/// Returns every step with all its variants.
fn steps() -> Vec<Step> {
    let (from, to) = ("5.0.0".parse().unwrap(), "5.1.0-rc.1+b7".parse().unwrap());
    let (version, one) = (|| tenure::version::Version::clone(&from), || tenure::version::Version::clone(&to));
    let motion = |way, baseline| ServiceMove { way, baseline };
    let signal = motion(Method::Signal("USR2".into()), Baseline::Sound);
    let second = Duration::from_secs(1);
    vec![
        Step::Unpack { version: version(), archive: "releases/a.zip".into() },
        Step::Copy { version: version(), from: "/opt/a".into() },
        Step::Prepare { version: version() },
        Step::Backup { version: version(), command: None },
        Step::Backup { version: version(), command: Some("true".into()) },
        Step::Data { formats: [2, 3].into() },
        Step::Migrate { version: one(), old: None, from: [].into(), to: None },
        Step::Migrate { version: one(), old: Some(version()), from: [1].into(), to: Some(2) },
        Step::Unpublish { version: version() },
        Step::Trash { item: Item::Release(version()) },
        Step::Restore { item: Item::Archive("a.zip".into()) },
        Step::RecordPermanent { version: version() },
        Step::SwitchLink { link: LinkName::Current, from: None, to: Some(one()) },
        Step::SwitchLink { link: LinkName::Permanent, from: Some(one()), to: None },
        Step::StartTrial { version: version(), term: TrialEnd::Confirmation(second) },
        Step::StartTrial { version: version(), term: TrialEnd::Watch(second) },
        Step::MoveService { from: version(), to: one(), motion: signal },
        Step::MoveService { from: version(), to: one(), motion: motion(Method::Hook, Baseline::Known) },
        Step::ReturnService { from: one(), to: version(), motion: motion(Method::Reload, Baseline::Failing) },
        Step::StartService { version: one() },
        Step::StopService { version: one() },
        Step::WaitHealthy { version: one(), motion: motion(Method::Restart, Baseline::Sound) },
    ]
}

#[test]
fn schema_contains_every_step() {
    let mut seen = BTreeSet::new();
    for step in steps() {
        let value = serde_json::to_value(&step).unwrap();
        assert_eq!(schema::faults("Step", &value), "", "{value}");
        seen.insert(value["step"].as_str().unwrap().to_owned());
    }
    let steps = schema::SCHEMA["$defs"]["Step"]["oneOf"].as_array().unwrap().iter();
    let named: BTreeSet<_> =
        steps.map(|s| s["properties"]["step"]["const"].as_str().unwrap().to_owned()).collect();
    assert_eq!(seen, named);
}

/// Returns the gaps in a part of the schema; `at` is its path.
fn gaps(at: &str, part: &Value) -> Vec<String> {
    let mut gaps = Vec::new();
    if let Some(fields) = part.get("properties").and_then(Value::as_object) {
        let required: BTreeSet<&str> =
            part["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let always: BTreeSet<&str> =
            fields.keys().map(String::as_str).filter(|name| *name != "recovered").collect();
        if required != always {
            gaps.push(format!("{at} does not require all of its fields"));
        }
        if part["additionalProperties"] != false {
            gaps.push(format!("{at} allows more fields"));
        }
        let unsaid = fields.iter().filter(|(_, field)| field.get("description").is_none());
        gaps.extend(unsaid.map(|(name, _)| format!("{at}/{name} is not described")));
    }
    let parts: Vec<(String, &Value)> = match part {
        Value::Object(parts) => parts.iter().map(|(name, part)| (name.clone(), part)).collect(),
        Value::Array(parts) => parts.iter().enumerate().map(|(n, part)| (n.to_string(), part)).collect(),
        _ => Vec::new(),
    };
    gaps.extend(parts.into_iter().flat_map(|(name, part)| self::gaps(&format!("{at}/{name}"), part)));
    gaps
}

#[test]
fn schema_describes_all_fields_and_no_others() {
    assert!(jsonschema::meta::is_valid(&schema::SCHEMA));
    assert_eq!(gaps("", &schema::SCHEMA), Vec::<String>::new());
    for (name, part) in schema::SCHEMA["$defs"].as_object().unwrap() {
        assert!(part["description"].is_string(), "{name} is not described");
    }
}

#[test]
fn undocumented_field_is_rejected() {
    let mut document = json(&host(), &["root-dir"]).ok().json();
    assert_eq!(schema::faults("RootDir", &document), "");
    document["more"] = 1.into();
    assert!(schema::faults("RootDir", &document).contains("more"));
}
