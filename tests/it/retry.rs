//! Releases that failed on this host. Tenure marks and shows them, and refuses them without `--retry`.

use crate::support::assert_run;
use crate::support::serving::{Greeter, HOT, Serving};
use serde_json::Value;

const SICK: &str = "sick-after-ms = 1\n";

fn status(serving: &Serving) -> Value {
    serving.host.run(["status", "--json"]).ok().json()
}

/// Returns the releases that are marked as failed, with the reasons.
fn failed(serving: &Serving) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let status = status(serving);
    status["failed"].as_array().unwrap().iter().map(|f| (text(&f["version"]), text(&f["why"]))).collect()
}

/// Waits until the guard has rolled back the trial of 5.0.1.
fn until_rolled_back(serving: &Serving) {
    serving.until("it is rolled back", || {
        serving.host.link("current").as_deref() == Some("releases/5.0.0")
            && !serving.host.root().join(".tenure/journal").exists()
    });
}

#[test]
fn failed_release_is_refused_without_retry() {
    let serving = Serving::start("");
    let host = &serving.host;
    serving.pack(&Greeter { conf: SICK, ..Greeter::well("5.0.1") });
    host.run(["upgrade", "5.0.1"]).code(3);
    let why = format!(
        "release 5.0.1 did not become healthy: unhealthy: http://127.0.0.1:{}/healthz answers 503",
        serving.port
    );
    assert_eq!(failed(&serving), [("5.0.1".to_owned(), why.clone())]);
    // Files that the rollback discarded may still be in deletion.
    let lasting = || {
        let mut tree = host.tree();
        tree.retain(|path, _| !path.starts_with(".tenure/staging/") && !path.starts_with(".tenure/trash/"));
        tree
    };
    let before = lasting();
    for args in [
        &["upgrade", "5.0.1"][..],
        &["install", "5.0.1"],
        &["upgrade", "--dry-run", "--watch", "1m", "5.0.1"],
    ] {
        host.run(args)
            .code(2)
            .stderr_has("error: cannot upgrade to 5.0.1: it failed here on 2")
            .stderr_has(&format!("Z: {why}\nhint: run `tenure upgrade --retry 5.0.1` to try it again\n"));
    }
    assert_eq!(lasting(), before);
    let row = host.run(["check", "5.0.1"]).code(2);
    row.stdout_has("FAILED  failed-before: cannot upgrade to 5.0.1: it failed here on 2")
        .stdout_has("hint: run `tenure upgrade --retry 5.0.1` to try it again\n");
    host.run(["check", "--retry", "5.0.1"]).ok().stdout_has("ok      failed-before: it failed here on 2");
    assert_run!(host, "status", @r"
    exit 0
    --- stdout
    Root: [ROOT]
    Name: greeter
    Current: 5.0.0
    Permanent: 5.0.0
    Service: the service runs 5.0.0, healthy
    Releases:
    * 5.0.0\tpermanent
    Last: 5.0.1 failed and was rolled back to 5.0.0 on [TIME] by [USER]: release 5.0.1 did not become healthy: unhealthy: http://127.0.0.1:[PORT]/healthz answers 503
    Failed: 5.0.1 on [TIME]: release 5.0.1 did not become healthy: unhealthy: http://127.0.0.1:[PORT]/healthz answers 503
    ");
    let page = host.run(["status", "--format", "prometheus"]).ok();
    page.stdout_has("name=\"greeter\",version=\"5.0.1\"} 1\n")
        .stdout_has("# TYPE tenure_release_failed gauge\n");
}

#[test]
fn installed_failed_release_is_shown() {
    let serving = Serving::start("");
    let host = &serving.host;
    serving.pack(&Greeter { conf: SICK, ..Greeter::well("5.0.1") });
    host.run(["upgrade", "5.0.1"]).code(3);
    let why = failed(&serving)[0].1.clone();
    // The release can be prepared; this does not try it.
    host.run(["upgrade", "--prepare-only", "5.0.1"]).ok();
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.1\tunpacked, failed its trial
    * 5.0.0\tpermanent
    ");
    let listed = host.run(["versions", "--json"]).ok().json();
    assert_eq!(listed["releases"][0]["failed"]["why"], why);
    assert_eq!(listed["releases"][0]["failed"]["sha256"], listed["releases"][0]["sha256"]);
    assert!(listed["releases"][1]["failed"].is_null(), "{listed}");
    host.run(["upgrade", "5.0.1"]).code(2);
    host.run(["upgrade", "--retry", "5.0.1"]).code(3);
    assert_eq!(failed(&serving).len(), 1);
}

#[test]
fn new_archive_of_failed_release_is_accepted() {
    let serving = Serving::start("");
    serving.pack(&Greeter { conf: "no such key = 1\n", ..Greeter::well("5.0.1") });
    serving.changed("hook = \"5s\"", "hook = \"300ms\"");
    serving.host.run(["upgrade", "5.0.1"]).code(3);
    assert!(failed(&serving)[0].1.starts_with("cannot move the service from 5.0.0 to 5.0.1"));
    // Removing the release does not remove its mark.
    serving.host.run(["unpack", "5.0.1"]).ok();
    serving.host.run(["uninstall", "5.0.1"]).ok();
    serving.host.run(["upgrade", "5.0.1"]).code(2).stderr_has("it failed here on 2");
    serving.pack(&Greeter::well("5.0.1"));
    let check = serving.host.run(["check", "5.0.1"]).ok();
    check.stdout_has("ok      failed-before: another archive of it failed here on 2");
    serving.changed("hook = \"300ms\"", "hook = \"5s\"");
    serving.host.run(["upgrade", "5.0.1"]).ok();
    assert_eq!(failed(&serving), []);
}

#[test]
fn unconfirmed_release_is_marked_as_failed() {
    let serving = Serving::start("");
    let host = &serving.host;
    serving.pack(&Greeter::well("5.0.1"));
    host.run(["upgrade", "--confirm-within", "300ms", "5.0.1"]).ok();
    until_rolled_back(&serving);
    let why = "5.0.1 was not confirmed in time";
    assert_eq!(failed(&serving), [("5.0.1".to_owned(), why.to_owned())]);
    // The confirmation comes too late.
    for args in [&["confirm", "5.0.1"][..], &["confirm"]] {
        host.run(args)
            .code(2)
            .stderr_has("error: cannot confirm 5.0.1: it is not on trial any more; 5.0.0 is current\n")
            .stderr_has("caused by: 5.0.1 failed and was rolled back to 5.0.0 on 2")
            .stderr_has(&format!(
                "Z by the guard: {why}\nhint: run `tenure upgrade --retry 5.0.1` to try it again\n"
            ));
    }
    host.run(["revert", "5.0.1"]).ok();
    assert_run!(host, "upgrade 5.0.1", @"
    exit 2
    --- stderr
    error: cannot upgrade to 5.0.1: it failed here on [TIME]: 5.0.1 was not confirmed in time
    hint: run `tenure upgrade --retry 5.0.1` to try it again
    ");
    host.run(["upgrade", "--retry", "--no-permanent", "5.0.1"]).ok();
    // On trial again, the release can be confirmed like any other.
    assert_run!(host, "versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.1\tcurrent
    * 5.0.0\tpermanent
    ");
    assert_eq!(failed(&serving).len(), 1);
    host.run(["upgrade", "5.0.1"]).ok();
    assert_eq!(failed(&serving), []);
    host.run(["downgrade", "5.0.0"]).ok();
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn interruption_and_revert_do_not_mark_release() {
    let serving = Serving::start("");
    let host = &serving.host;
    for signal in ["TERM", "KILL"] {
        let hot = HOT.replace(
            "#!/bin/sh\n",
            &format!("#!/bin/sh\n[ $TENURE_ACTION = downgrade ] || {{ kill -{signal} $PPID; sleep 1; }}\n"),
        );
        serving.pack(&Greeter { hot: &hot, ..Greeter::well("5.0.1") });
        let run = host.run(["upgrade", "5.0.1"]);
        assert_ne!(run.code, Some(0), "{run:#?}");
        serving.until("it is taken back", || !host.root().join(".tenure/journal").exists());
        assert_eq!(failed(&serving), [], "{signal}");
    }
    serving.pack(&Greeter::well("5.0.1"));
    for end in [&["revert"][..], &["install", "5.0.0"]] {
        host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
        host.run(end).ok();
        assert_eq!(failed(&serving), []);
    }
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    host.run(["boot"]).ok();
    assert_eq!(serving.host.run(["status", "--json"]).code(1).json()["failed"], Value::Array(Vec::new()));
}
