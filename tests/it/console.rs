//! Messages beside results: --quiet, --verbose, suggestions and escaped text.

use crate::support::{Host, assert_run};

#[test]
fn quiet_hides_notes_and_verbose_shows_steps() {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    assert_run!(host, "install --quiet 5.0.0", @"exit 0");
    // The requested output is printed, and so are errors.
    assert_run!(host, "-q versions", @r"
    exit 0
    --- stdout
    Installed versions:
    * 5.0.0\tpermanent
    ");
    assert_run!(host, "-q upgrade 5.0.9", @"
    exit 2
    --- stderr
    error: release 5.0.9 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-5.0.9, emqx_5.0.9 and 5.0.9, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    hint: copy the archive there, or did you mean 5.0.1?
    ");
    assert_run!(host, "-q --json upgrade --no-permanent 5.0.1", @r#"
    exit 0
    --- stdout
    {
      "schema": 1,
      "version": "5.0.1",
      "was": null,
      "state": "current",
      "previous": "5.0.0",
      "changed": true,
      "until": null,
      "migration": null
    }
    "#);
    host.run(["revert"]).ok();
    assert_run!(host, "upgrade -v 5.0.1", @r#"
    exit 0
    --- stdout
    Release 5.0.1 is already unpacked, switching to it.
    Installed Release: 5.0.1
    Made release permanent: "5.0.1"
    --- stderr
    check: trial: no release is on trial
    check: owner: [USER], as of 5.0.0
    check: archive: it is installed
    check: path: 5.0.1 can be reached from 5.0.0
    check: data: no release declares its format
    check: service: no service is moved
    step: record that 5.0.0 has been permanent
    done: record that 5.0.0 has been permanent, in [DURATION]
    step: point current at releases/5.0.1, now releases/5.0.0
    done: point current at releases/5.0.1, now releases/5.0.0, in [DURATION]
    step: point permanent at releases/5.0.1, now releases/5.0.0
    done: point permanent at releases/5.0.1, now releases/5.0.0, in [DURATION]
    "#);
    host.run(["-q", "-v", "versions"]).code(64);
}

#[test]
fn missing_version_suggests_nearest() {
    let host = Host::new();
    host.archives(&["5.0.0", "5.0.1"]);
    host.run(["install", "5.0.0"]).ok();
    assert_run!(host, "upgrade 5.0.11", @"
    exit 2
    --- stderr
    error: release 5.0.11 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-5.0.11, emqx_5.0.11 and 5.0.11, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    hint: copy the archive there, or did you mean 5.0.1?
    ");
    assert_run!(host, "upgrade --restart 9.1.7", @"
    exit 2
    --- stderr
    error: release 9.1.7 is not installed, and no archive of it is in [ROOT]/releases
    caused by: looked for emqx-9.1.7, emqx_9.1.7 and 9.1.7, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    hint: copy the archive there; run `tenure versions` to see the installed releases
    ");
    host.run(["uninstall", "5.0.x"]).code(64);
    assert_run!(host, "uninstall 5.0.2", @"
    exit 2
    --- stderr
    error: cannot uninstall 5.0.2: it is not installed
    hint: 5.0.0 is installed
    ");
    assert_run!(host, "uninstall 77.1.2", @"
    exit 2
    --- stderr
    error: cannot uninstall 77.1.2: it is not installed
    hint: run `tenure versions` to see the installed releases
    ");
    assert_run!(host, "statsu", @"
    exit 64
    --- stderr
    error: unrecognized subcommand 'statsu'
    hint: a similar subcommand exists: 'status'

    Usage: tenure [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
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
    assert!(said.contains("Usage: acme upgrade <VERSION|ARCHIVE>\n"), "{said}");
    // Hidden commands are not suggested.
    let run = host.run(["gaurd"]).code(64);
    assert!(!run.stderr.contains("'guard'"), "{run:#?}");
    assert_run!(host, "upgrade --restrat 5.0.1", @"
    exit 64
    --- stderr
    error: unexpected argument '--restrat' found
    hint: a similar argument exists: '--restart'

    Usage: tenure upgrade --restart <VERSION|ARCHIVE>

    For more information, try '--help'.
    ");
}

#[test]
fn usage_error_is_complete_in_json() {
    let host = Host::new();
    let help = "`tenure --help` shows the usage";
    for (args, message, hints) in [
        (
            &["install"][..],
            "the following required arguments were not provided: <VERSION|ARCHIVE>",
            &[help][..],
        ),
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
