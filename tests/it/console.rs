//! Messages beside results: --quiet, --verbose, suggestions and escaped text.

use crate::support::Host;

#[test]
fn quiet_hides_notes_and_verbose_shows_steps() {
    let host = Host::new();
    ["5.0.0", "5.0.1"].iter().for_each(|version| host.archive(version));
    host.run(["install", "--quiet", "5.0.0"]).ok().stdout("").stderr("");
    // The requested output is printed, and so are errors.
    host.run(["-q", "versions"]).ok().stdout("Installed versions:\n* 5.0.0\tpermanent\n");
    host.run(["-q", "upgrade", "5.0.9"])
        .code(2)
        .stdout("")
        .stderr_has("error: release 5.0.9 is not installed");
    host.run(["-q", "--json", "upgrade", "--no-permanent", "5.0.1"])
        .ok()
        .stdout_has("\"state\": \"current\"");
    host.run(["revert"]).ok();
    let run = host.run(["upgrade", "-v", "5.0.1"]).ok();
    let run = run.stdout(
        "Release 5.0.1 is already unpacked, switching to it.\nInstalled Release: 5.0.1\n\
         Made release permanent: \"5.0.1\"\n",
    );
    let lines: Vec<&str> = run.stderr.lines().map(|line| line.split(", in ").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "check: trial: no release is on trial",
            "check: owner: OWNER",
            "check: archive: it is installed",
            "check: path: 5.0.1 can be reached from 5.0.0",
            "check: data: no release declares its format",
            "check: service: no service is moved",
            "step: record that 5.0.0 has been permanent",
            "done: record that 5.0.0 has been permanent",
            "step: point current at releases/5.0.1, now releases/5.0.0",
            "done: point current at releases/5.0.1, now releases/5.0.0",
            "step: point permanent at releases/5.0.1, now releases/5.0.0",
            "done: point permanent at releases/5.0.1, now releases/5.0.0",
        ]
        .map(|line| if line.ends_with("OWNER") { lines[1] } else { line })
    );
    host.run(["-q", "-v", "versions"]).code(64);
}

#[test]
fn missing_version_suggests_nearest() {
    let host = Host::new();
    ["5.0.0", "5.0.1"].iter().for_each(|version| host.archive(version));
    host.run(["install", "5.0.0"]).ok();
    host.run(["upgrade", "5.0.11"])
        .code(2)
        .stderr_has("hint: copy the archive there, or did you mean 5.0.1?\n");
    host.run(["upgrade", "--restart", "9.1.7"])
        .code(2)
        .stderr_has("hint: copy the archive there; run `tenure versions`");
    host.run(["uninstall", "5.0.01"]).code(64);
    host.run(["uninstall", "5.0.2"]).code(2).stderr_has("hint: 5.0.0 is installed\n");
    host.run(["uninstall", "77.1.2"])
        .code(2)
        .stderr_has("hint: run `tenure versions` to see the installed releases\n");
    host.run(["statsu"]).code(64).stderr_has("hint: a similar subcommand exists: 'status'\n");
    // A suggestion is easily run without a second look.
    for wrong in ["upgrdae", "uninstal", "prun", "revrt", "migrater"] {
        let run = host.run([wrong, "5.0.1"]).code(64);
        assert!(!run.stderr.contains("hint"), "{run:#?}");
        run.stderr_has(&format!("error: unrecognized subcommand '{wrong}'\n\nUsage: "));
    }
    // Messages name the product's own command, which wraps this one.
    let mut command = host.command(["downgrade", "5.0.1"]);
    let out = command.env("TENURE_COMMAND", "acme").output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("hint: run `acme upgrade 5.0.1`"), "{said}");
    let out = host.command(["upgrade"]).env("TENURE_COMMAND", "acme").output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("Usage: acme upgrade <VERSION>\n"), "{said}");
    // Hidden commands are not suggested.
    let run = host.run(["gaurd"]).code(64);
    assert!(!run.stderr.contains("'guard'"), "{run:#?}");
    let run = host.run(["upgrade", "--restrat", "5.0.1"]).code(64);
    run.stderr_has(
        "error: unexpected argument '--restrat' found\nhint: a similar argument exists: '--restart'\n",
    );
}

#[test]
fn usage_error_is_complete_in_json() {
    let host = Host::new();
    let help = "`tenure --help` shows the usage";
    for (args, message, hints) in [
        (&["install"][..], "the following required arguments were not provided: <VERSION>", &[help][..]),
        (&["pack", "a", "--format", "x"], "[possible values: tar.zst, tar.gz, zip]", &[help]),
        (&["instal"], "unrecognized subcommand 'instal'", &[help]),
        (
            &["versons"],
            "unrecognized subcommand 'versons'",
            &["a similar subcommand exists: 'versions'", help],
        ),
        (
            &["versions", "--quie"],
            "unexpected argument '--quie' found",
            &["a similar argument exists: '--quiet'", help],
        ),
        (
            &[],
            "init, adopt, unpack, install, upgrade, downgrade, confirm, revert, migrate, uninstall, prune, boot, status, \
          versions, history, check, plan, verify, root-dir, root_dir, completions, lint, pack, manifest]",
            &[help],
        ),
    ] {
        let error = &host.run([&["--json"], args].concat()).code(64).stderr("").json()["error"];
        assert!(error["message"].as_str().unwrap().ends_with(message), "{error}");
        assert_eq!(error["hints"], serde_json::json!(hints), "{args:?}");
    }
}

/// Asserts that a text contains no control characters except newlines and tabs.
fn is_plain(text: &str, at: &str) {
    let obeyed = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(obeyed, None, "{at}: {text:?}");
}

#[test]
fn printed_text_has_no_control_characters() {
    let host = Host::new();
    host.archive("5.0.0");
    let eve = "eve\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}2J\rroot";
    let out = host.command(["install", "5.0.0"]).env("SUDO_USER", format!("{eve}\nroot")).output().unwrap();
    assert!(out.status.success());
    // An entry that another program wrote into the history is escaped too.
    let history = host.root().join(".tenure/history");
    let text = std::fs::read_to_string(&history).unwrap();
    let mut entry: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    is_plain(entry["by"].as_str().unwrap(), "history file");
    assert!(!entry["by"].as_str().unwrap().contains('\n'), "{entry}");
    (entry["by"], entry["transaction"]) = (eve.into(), "another".into());
    std::fs::write(&history, format!("{text}{entry}\n")).unwrap();
    for args in [
        &["history"][..],
        &["history", "--json"],
        &["status"],
        &["status", "--json"],
        &["status", "--format", "prometheus"],
        &["plan", "5.0.0", "--format", "dot"],
        &["upgrade", eve],
        &["upgrade", eve, "--json"],
        &[eve],
        &["--root", eve, "versions"],
        &["unpack", &format!("{eve}.zip")],
    ] {
        let run = host.run(args);
        is_plain(&run.stdout, &format!("stdout of {args:?}"));
        is_plain(&run.stderr, &format!("stderr of {args:?}"));
    }
    host.run(["history"]).ok().stdout_has("  by eve\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\u{9b}2J\\rroot: done");
    let entries = host.run(["history", "--json"]).ok().json();
    assert_eq!(entries["entries"][1]["by"], eve, "JSON keeps the text");
    // The path of the root contains control characters. The page allows three escapes.
    let root = host.root().parent().unwrap().join("a\u{1b}b\tc");
    std::fs::create_dir_all(root.join("releases")).unwrap();
    let page = host.run_in(&root, ["status", "--format", "prometheus"]).ok().stdout;
    is_plain(&page, "page");
    assert!(page.contains(r#"/a\\u{1b}b\\tc"}"#), "{page}");
    // A shell script is printed unchanged.
    let script = host.run(["completions", "zsh"]).ok().stdout;
    assert!(script.contains("_tenure") && !script.contains("\\u{"), "{script}");
}
