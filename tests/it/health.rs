//! Health checks, the users that programs of a release run as, and rollbacks that fail.

use std::fs;
use std::net::TcpListener;

use crate::support::serving::{Greeter, Serving};

const HTTP: &str = "http = \"http://127.0.0.1:";

/// Returns a service with this line in the table [health].
fn told_by(probe: &str) -> Serving {
    let serving = Serving::start("");
    let line = format!("{HTTP}{}/healthz\"", serving.port);
    serving.changed(&line, &probe.replace("PORT", &serving.port.to_string()));
    serving.changed("health = \"20s\"", "health = \"600ms\"");
    serving
}

#[test]
fn tcp_check_needs_only_a_connection() {
    let serving = told_by("tcp = \"127.0.0.1:PORT\"");
    serving.host.run(["status"]).ok().stdout_has("Service: the service runs 5.0.0, healthy\n");
    // The service answers 503, which a TCP check does not see.
    serving.pack(&Greeter { conf: "sick-after-ms = 1\n", ..Greeter::well("5.0.1") });
    serving.host.run(["upgrade", "5.0.1"]).ok();
    assert_eq!(serving.host.states(), ["5.0.1 permanent", "5.0.0 old"]);
}

#[test]
fn closed_port_is_unhealthy() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let serving = told_by(&format!("tcp = \"{free}\""));
    let run = serving.host.run(["status"]).ok();
    run.stdout_has(&format!("unhealthy: {free}: Connection refused"));
    // The port was closed before the upgrade, so the new release is not blamed.
    serving.pack(&Greeter::well("5.0.1"));
    serving
        .host
        .run(["upgrade", "5.0.1"])
        .ok()
        .stderr_has("warning: the service is already failing on 5.0.0");
}

#[test]
fn health_command_decides() {
    let serving = told_by("command = [\"bin/hot\", \"ask\"]");
    let well = "#!/bin/sh\nif [ \"$TENURE_ACTION\" = health ]; then [ \"$1\" = ask ]; exit; fi\n";
    let hot = crate::support::serving::HOT.trim_start_matches("#!/bin/sh\n");
    // The program of 5.0.0 does not implement health checks and fails.
    serving.changed("unhealthy-after = 3", "unhealthy-after = 3\ntimeout = \"200ms\"");
    serving.pack(&Greeter { hot: &format!("{well}{hot}"), ..Greeter::well("5.0.1") });
    serving.host.run(["upgrade", "5.0.1"]).ok();
    serving.host.run(["status"]).ok().stdout_has("Service: the service runs 5.0.1, healthy\n");
    for (what, ill) in [
        ("bin/hot: it ended with exit status 3: out of order", "echo out of order; exit 3"),
        ("bin/hot: it did not finish within 200ms and was killed", "sleep 1000"),
    ] {
        let ill = format!("#!/bin/sh\nif [ \"$TENURE_ACTION\" = health ]; then {ill}; fi\n{hot}");
        serving.pack(&Greeter { hot: &ill, ..Greeter::well("5.0.2") });
        let run = serving.host.run(["upgrade", "5.0.2"]).code(3);
        run.stderr_has("error: release 5.0.2 did not become healthy").stderr_has(what);
        assert_eq!(serving.answers().as_deref(), Some("5.0.1"));
        assert_eq!(serving.host.states()[0], "5.0.1 permanent");
    }
}

#[test]
fn inconclusive_answers_roll_back() {
    let serving = told_by(&format!("{HTTP}PORT/no-such-page\""));
    serving.host.run(["status"]).ok().stdout_has("/no-such-page answers 404");
    serving.pack(&Greeter::well("5.0.1"));
    let upgrade = |when: &str, status: &str| {
        let run = serving.host.run(["upgrade", "--retry", "5.0.1"]).code(3);
        let words =
            format!("error: release 5.0.1 did not become healthy{when}: rolled back; 5.0.0 is running\n");
        run.stderr_has(&words).stderr_has(status);
        assert_eq!(serving.host.states(), ["5.0.0 permanent"]);
        assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
    };
    // While the release may still be starting, such an answer counts as not ready.
    serving.changed("[health]\n", "[health]\nstartup = \"1h\"\n");
    upgrade(" within 600ms", "answers 404");
    serving.changed("startup = \"1h\"\n", "");
    // A server that limits the rate of health checks may answer again.
    serving.changed("/no-such-page", "/busy");
    upgrade(" within 600ms", "answers 429");
    serving.changed("health = \"600ms\"", "health = \"1h\"");
    serving.changed("/busy", "/no-such-page");
    upgrade("", "answers 404");
}

#[test]
fn failed_rollback_is_retried_by_guard() {
    let serving = Serving::start("");
    let start = "start = [\"sh\", \"-c\", \"";
    serving.changed(start, &format!("{start}[ ! -e ../locked ] || exit 9; "));
    serving.changed("stop = \"20s\"", "stop = \"300ms\"");
    let lock = serving.dir().join("locked");
    serving.pack(&Greeter::well("5.1.0"));
    fs::write(&lock, "").unwrap();
    let run = serving.host.run(["upgrade", "--restart", "5.1.0"]).code(4);
    run.stderr_has("error: cannot move the service back to 5.0.0 during the rollback of this failure: ")
        .stderr_has("hint: check the service and its log; run `tenure status` to see the release that runs\n")
        .stderr_has("hint: fix the cause, then run `tenure boot`\n");
    // The links are rolled back even if the service is not, so its next start runs the old release.
    assert_eq!(serving.host.link("current").as_deref(), Some("releases/5.0.0"));
    // While the guard retries, a command is in progress.
    let seen = std::cell::RefCell::new(None);
    serving.until("the guard has given up", || {
        let run = serving.host.run(["status"]);
        let code = run.code;
        *seen.borrow_mut() = Some(run);
        code == Some(1)
    });
    seen.take()
        .unwrap()
        .stdout_has("Service: the service does not run\n")
        .stdout_has("Problem: `upgrade --restart 5.1.0` was interrupted");
    fs::remove_file(&lock).unwrap();
    serving.until("the guard takes it back", || serving.answers().as_deref() == Some("5.0.0"));
    serving.until("it is over", || !serving.host.root().join(".tenure/journal").exists());
    assert_eq!(serving.host.states(), ["5.0.0 permanent"]);
    serving.host.run(["status"]).ok();
}

#[test]
fn programs_run_as_configured_user() {
    let serving = Serving::start("");
    let is_root = nix::unistd::geteuid().is_root();
    serving.changed(
        "name = \"greeter\"",
        &format!("name = \"greeter\"\nuser = \"{}\"", if is_root { "nobody" } else { "root" }),
    );
    serving
        .pack(&Greeter { hot: "#!/bin/sh\necho \"as $(id -u), $USER\"\nexit 1\n", ..Greeter::well("5.0.1") });
    let run = serving.host.run(["upgrade", "5.0.1"]);
    match is_root {
        true => run.code(3).stderr_has("\nas 65534, nobody\n".trim_start()),
        false => run.code(2).stderr_has("names the user root"),
    };
    assert_eq!(serving.answers().as_deref(), Some("5.0.0"));
}
