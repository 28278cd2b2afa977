//! The checks before an upgrade, run by `check` and by the upgrade itself.

use std::fs;
use std::process::Command;

use crate::support::serving::{Greeter, Serving};
use crate::support::{Host, Run, assert_run};

fn host(requires: &str) -> Host {
    let host = Host::new();
    host.archive("5.0.0");
    let manifest = format!("name = \"emqx\"\nversion = \"5.0.1\"\n[requires]\n{requires}\n");
    host.build("5.0.1").file("release.toml", &manifest).write();
    host.run(["install", "5.0.0"]).ok();
    host
}

fn uname() -> String {
    String::from_utf8(Command::new("uname").arg("-m").output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Returns `ID` and `VERSION_ID` of this host.
fn os() -> (String, String) {
    let text = fs::read_to_string("/etc/os-release").unwrap();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("=1");
        line.trim_start_matches('=').trim_matches('"').to_owned()
    };
    (value("ID"), value("VERSION_ID"))
}

#[test]
fn check_reports_all_problems_at_once() {
    let host = host("arch = ['sparc']\nos = ['plan9 >= 4', 'beos']\nfree-space = '1 EiB'");
    fs::write(host.root().join("releases/paths.toml"), "[[path]]\nto = '~5.0'\nfrom = ['~4.9']\n").unwrap();
    let before = host.tree();
    let (id, version) = os();
    let path = "cannot go from 5.0.0 to 5.0.1: by releases/paths.toml it can be reached from `~4.9` only";
    let arch = format!("this host has {}, and the release needs sparc", uname());
    let system = format!("this host has {id} {version}, and the release needs plan9 >= 4 or beos");
    let run = host.run(["check", "5.0.1"]).code(2);
    let run = run
        .stdout_has("ok      links: 5.0.0 is current\n")
        .stdout_has("ok      archive: would unpack releases/emqx-5.0.1.zip into releases/5.0.1\n")
        .stdout_has(&format!("FAILED  path: {path}\n        hint: "))
        .stdout_has(&format!("FAILED  arch: {arch}\n"))
        .stdout_has(&format!("FAILED  os: {system}\n"))
        .stdout_has(" free once it is unpacked, and the release needs 1.0 EiB free\n");
    assert!(
        run.stdout.ends_with("ok      service: no service is moved\n4 checks failed for 5.0.1.\n"),
        "{run:#?}"
    );
    // The upgrade reports the same problems and changes nothing.
    let run = host.run(["upgrade", "5.0.1"]).code(2);
    let run = run.stderr_has("error: cannot switch to 5.0.1: 4 checks failed\n");
    [path, &arch, &system].iter().fold(run, |run, cause| run.stderr_has(&format!("caused by: {cause}\n")));
    assert_eq!(host.tree(), before);
    let json = host.run(["check", "--json", "5.0.1"]).code(2).json();
    let failed = json["checks"].as_array().unwrap().iter().filter(|told| told["ok"] == false);
    let failed: Vec<&str> = failed.map(|told| told["check"].as_str().unwrap()).collect();
    assert_eq!((failed, &json["ok"]), (vec!["path", "arch", "os", "free-space"], &false.into()));
}

#[test]
fn satisfied_requirements_pass() {
    let (id, version) = os();
    let requires = format!(
        "arch = ['sparc', '{}']\nos = ['{id} >= {version}']\nlibc = ['glibc >= 2.17', 'musl']\nfree-space = '1 MiB'",
        uname()
    );
    let host = host(&requires);
    let before = host.tree();
    let run = host.run(["check", "5.0.1"]).ok();
    run.stdout_has(&format!("ok      arch: {}\n", uname())).stdout_has("All checks passed for 5.0.1.\n");
    assert_eq!(host.tree(), before);
    host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn check_reports_missing_or_bad_archive() {
    let host = host("");
    assert_run!(host, "check 5.0.2", @"
    exit 2
    --- stdout
    ok      lock: no other command is running
    ok      links: 5.0.0 is current
    ok      trial: no release is on trial
    ok      owner: [USER], as of 5.0.0
    FAILED  archive: release 5.0.2 is not installed, and no archive of it is in [ROOT]/releases: looked for emqx-5.0.2, emqx_5.0.2 and 5.0.2, also with a v before the version or with -ANYTHING after it, ending in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
            hint: copy the archive there, or did you mean 5.0.1?
    One check failed for 5.0.2.
    ");
    fs::write(host.root().join("releases/emqx-5.0.1.zip.sha256"), "0".repeat(64)).unwrap();
    // The checks of an untrusted archive's contents do not run.
    assert_run!(host, "check 5.0.1", @"
    exit 2
    --- stdout
    ok      lock: no other command is running
    ok      links: 5.0.0 is current
    ok      trial: no release is on trial
    ok      owner: [USER], as of 5.0.0
    FAILED  digest: [ROOT]/releases/emqx-5.0.1.zip does not match the digest in [ROOT]/releases/emqx-5.0.1.zip.sha256: expected [SHA256], found [SHA256]
            hint: the archive is damaged or is a different one: get both files again from the vendor
    One check failed for 5.0.1.
    ");
    host.run(["check", "--restart", "5.0.0"]).ok().stdout_has("ok      archive: it is installed\n");
    for wrong in [
        &["check"][..],
        &["check", "five"],
        &["check", "5.0.1", "--os", "debian 13"],
        &["check", "--os", "a b c"],
    ] {
        host.run(wrong).code(64);
    }
}

#[test]
fn check_reports_archive_details() {
    let host = host("");
    let sha256 = host.sha256("releases/emqx-5.0.1.zip");
    let run = host.run(["check", "5.0.1"]).ok();
    run.stdout_has("ok      archive: would unpack releases/emqx-5.0.1.zip into releases/5.0.1\n")
        .stdout_has(&format!(
            "ok      digest: SHA-256 {sha256}; a digest file to compare it with is missing\n"
        ))
        .stdout_has("ok      signature: not needed: tenure.toml names no trusted keys\n")
        .stdout_has("ok      space: it takes up to ")
        .stdout_has(" free, 0 B in reserve\n");
    fs::write(host.root().join("releases/emqx-5.0.1.zip.sha256"), &sha256).unwrap();
    let run = host.run(["check", "5.0.1"]).ok();
    run.stdout_has(&format!("ok      digest: SHA-256 {sha256}, as the file beside it says\n"));
    let settings = "name = \"emqx\"\n[space]\nreserve = \"1 EiB\"\n";
    fs::write(host.root().join("tenure.toml"), settings).unwrap();
    let run = host.run(["check", "5.0.1"]).code(2);
    run.stdout_has("FAILED  space: not enough space for 5.0.1").stdout_has("1.0 EiB in reserve");
}

#[test]
fn archive_problem_does_not_hide_others() {
    let host = host("arch = ['sparc']\nfree-space = '1 EiB'");
    let settings = "name = \"emqx\"\nuser = \"nobody-of-this-name\"\n[space]\nreserve = \"1 EiB\"\n";
    fs::write(host.root().join("tenure.toml"), settings).unwrap();
    let kept = |host: &Host| {
        let mut tree = host.tree();
        tree.retain(|path, _| path != "tenure.toml" && !path.ends_with(".sha256"));
        tree
    };
    let before = kept(&host);
    let run = host.run(["check", "5.0.1"]).code(2);
    let run = [
        "FAILED  user: ",
        "FAILED  space: not enough space for 5.0.1 on ",
        ": it needs 5",
        "FAILED  arch: ",
        "FAILED  free-space: ",
    ]
    .into_iter()
    .fold(run, Run::stdout_has);
    run.stdout_has("        hint: get the archive for this architecture from the vendor\n")
        .stdout_has("\n4 checks failed for 5.0.1.\n");
    for options in [&["upgrade"][..], &["upgrade", "--dry-run"], &["install", "--prepare-only"]] {
        let run = host.run([options, &["5.0.1"]].concat()).code(2);
        let run =
            run.stderr_has("error: cannot switch to 5.0.1: 4 checks failed\ncaused by: the user nobody-of-this-name does not exist");
        run.stderr_has("caused by: not enough space for 5.0.1").stderr_has(", and the release needs sparc\n");
    }
    // Without a valid digest and a trusted signature, the contents of the archive are not used.
    let keys = "[trust]\nkeys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\n";
    fs::write(host.root().join("tenure.toml"), format!("name = \"emqx\"\n{keys}")).unwrap();
    fs::write(host.root().join("releases/emqx-5.0.1.zip.sha256"), "0".repeat(64)).unwrap();
    assert_run!(host, "check 5.0.1", @"
    exit 2
    --- stdout
    ok      lock: no other command is running
    ok      links: 5.0.0 is current
    ok      trial: no release is on trial
    ok      owner: [USER], as of 5.0.0
    FAILED  digest: [ROOT]/releases/emqx-5.0.1.zip does not match the digest in [ROOT]/releases/emqx-5.0.1.zip.sha256: expected [SHA256], found [SHA256]
            hint: the archive is damaged or is a different one: get both files again from the vendor
    FAILED  signature: [ROOT]/releases/emqx-5.0.1.zip is not signed: its signature [ROOT]/releases/emqx-5.0.1.zip.minisig is missing
            hint: tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor
    2 checks failed for 5.0.1.
    ");
    assert_run!(host, "upgrade 5.0.1", @"
    exit 2
    --- stderr
    error: cannot switch to 5.0.1: 2 checks failed
    caused by: [ROOT]/releases/emqx-5.0.1.zip does not match the digest in [ROOT]/releases/emqx-5.0.1.zip.sha256: expected [SHA256], found [SHA256]
    caused by: [ROOT]/releases/emqx-5.0.1.zip is not signed: its signature [ROOT]/releases/emqx-5.0.1.zip.minisig is missing
    hint: the archive is damaged or is a different one: get both files again from the vendor
    hint: tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor
    ");
    assert_eq!(kept(&host), before, "something is left");
}

#[test]
fn running_trial_fails_check() {
    let host = host("");
    host.archive("5.0.2");
    fs::write(host.root().join("releases/emqx-5.0.2.zip.sha256"), "0".repeat(64)).unwrap();
    host.run(["upgrade", "--confirm-within", "1h", "5.0.1"]).ok();
    assert_run!(host, "check 5.0.2", @"
    exit 2
    --- stdout
    ok      lock: no other command is running
    ok      links: 5.0.1 is current
    FAILED  trial: 5.0.1 is on trial, to be confirmed within 1h, until [TIME]
            hint: run `tenure confirm` to make it permanent, or `tenure revert` to end the trial
    ok      owner: [USER], as of 5.0.1
    FAILED  digest: [ROOT]/releases/emqx-5.0.2.zip does not match the digest in [ROOT]/releases/emqx-5.0.2.zip.sha256: expected [SHA256], found [SHA256]
            hint: the archive is damaged or is a different one: get both files again from the vendor
    2 checks failed for 5.0.2.
    ");
    // The upgrade reports both problems, although the archive is unusable.
    assert_run!(host, "upgrade 5.0.2", @"
    exit 2
    --- stderr
    error: cannot switch to 5.0.2: 2 checks failed
    caused by: 5.0.1 is on trial, to be confirmed within 1h, until [TIME]
    caused by: [ROOT]/releases/emqx-5.0.2.zip does not match the digest in [ROOT]/releases/emqx-5.0.2.zip.sha256: expected [SHA256], found [SHA256]
    hint: run `tenure confirm` to make it permanent, or `tenure revert` to end the trial
    hint: the archive is damaged or is a different one: get both files again from the vendor
    ");
    host.run(["check", "5.0.1"])
        .ok()
        .stdout_has("ok      trial: 5.0.1 is on trial, to be confirmed within 1h, until ");
    host.run(["check", "--restart", "5.0.0"]).ok();
    host.run(["revert"]).ok();
    host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    host.run(["check", "5.0.2"])
        .code(2)
        .stdout_has("ok      trial: 5.0.1 is on trial; the next start runs 5.0.0\n");
}

#[test]
fn check_reports_lock_user_and_owner() {
    let host = host("");
    host.run(["check", "5.0.1"])
        .ok()
        .stdout_has("ok      lock: no other command is running\nok      links: ");
    let lock = fs::File::open(host.root().join(".tenure/lock")).unwrap();
    lock.lock().unwrap();
    assert_run!(host, "check 5.0.1", @"
    exit 2
    --- stdout
    FAILED  lock: another Tenure command is running on [ROOT]
            hint: use `--wait 60` to wait up to a minute for it to end
    ok      links: 5.0.0 is current
    ok      trial: no release is on trial
    ok      owner: [USER], as of 5.0.0
    ok      archive: would unpack releases/emqx-5.0.1.zip into releases/5.0.1
    ok      digest: SHA-256 [SHA256]; a digest file to compare it with is missing
    ok      signature: not needed: tenure.toml names no trusted keys
    ok      space: it takes up to [SIZE] in 12 files; [FREE] free, 0 B in reserve
    ok      path: 5.0.1 can be reached from 5.0.0
    ok      data: no release declares its format
    ok      service: no service is moved
    One check failed for 5.0.1.
    ");
    drop(lock);
    let settings = "name = \"emqx\"\nuser = \"nobody-of-this-name\"\n[space]\nreserve = \"0 B\"\n";
    fs::write(host.root().join("tenure.toml"), settings).unwrap();
    let run = host.run(["check", "5.0.1"]).code(2);
    run.stdout_has("FAILED  user: the user nobody-of-this-name does not exist\n");
    assert_run!(host, "upgrade 5.0.1", @"
    exit 2
    --- stderr
    error: the user nobody-of-this-name does not exist
    hint: correct `user` in tenure.toml, or create the user
    ");
    if nix::unistd::geteuid().is_root() {
        fs::write(host.root().join("tenure.toml"), settings.replace("nobody-of-this-name", "nobody"))
            .unwrap();
        host.run(["check", "5.0.1"]).ok().stdout_has("ok      user: programs of releases run as nobody\n");
        std::os::unix::fs::chown(host.root(), Some(65_534), None).unwrap();
        let run = host.run(["--root", ".", "check", "5.0.1"]).code(2);
        run.stdout_has(
            "FAILED  owner: the root belongs to nobody (group 0), and the running release 5.0.0 to root (group 0)",
        )
        .stdout_has("        hint: give both to one owner with `chown -R`\n");
    }
}

#[test]
fn check_allows_release_that_ran_before() {
    let host = host("");
    host.run(["upgrade", "5.0.1"]).ok();
    let manifest = "name = \"emqx\"\nversion = \"5.0.0\"\n[requires]\nfree-space = '1 EiB'\n";
    fs::write(host.root().join("releases/5.0.0/release.toml"), manifest).unwrap();
    host.run(["check", "5.0.0"]).ok();
    host.run(["downgrade", "5.0.0"]).ok();
}

#[test]
fn check_evaluates_another_system() {
    let (id, version) = os();
    let host = host(&format!("os = ['{id} >= {version}', 'debian >= 11']"));
    host.run(["check", "--os", "debian 13"]).ok().stdout("* 5.0.0\tpermanent\tdoes not say\n");
    host.run(["upgrade", "5.0.1"]).ok();
    host.run(["check", "--os", "debian 13"]).ok().stdout_has("5.0.1\tpermanent\truns on debian 13\n");
    let run = host.run(["check", "--os", "debian 10"]).code(2);
    run.stdout_has("* 5.0.1\tpermanent\tdoes not run on debian 10\n");
    let json = host.run(["check", "--os", "plan9 4", "--json"]).code(2).json();
    assert_eq!((&json["os"], &json["releases"][0]["runs"]), (&"plan9 4".into(), &false.into()));
}

#[test]
fn check_reports_service_method() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    let run = serving.host.run(["check", "5.0.1"]).ok();
    run.stdout_has("ok      service: the service moves hot, by its hook\n");
    serving.pack(&Greeter { manifest: "[requires]\narch = ['sparc']\n", ..Greeter::well("5.1.0") });
    assert_run!(serving.host, "check 5.1.0", @"
    exit 2
    --- stdout
    ok      lock: no other command is running
    ok      links: 5.0.0 is current
    ok      trial: no release is on trial
    ok      owner: [USER], as of 5.0.0
    ok      archive: would unpack releases/greeter-5.1.0.tar.gz into releases/5.1.0
    ok      digest: SHA-256 [SHA256]; a digest file to compare it with is missing
    ok      signature: not needed: tenure.toml names no trusted keys
    ok      space: it takes up to [SIZE] in 6 files; [FREE] free, 0 B in reserve
    ok      path: 5.1.0 can be reached from 5.0.0
    FAILED  arch: this host has [HOST], and the release needs sparc
            hint: get the archive for this architecture from the vendor
    ok      data: no release declares its format
    FAILED  service: cannot move hot from 5.0.0 to 5.1.0: only a patch of the same major and minor version is a hot upgrade
            hint: use `--restart` to stop the service and start it in 5.1.0
    2 checks failed for 5.1.0.
    ");
    let run = serving.host.run(["check", "--restart", "5.1.0"]).code(2);
    run.stdout_has(
        "ok      service: the service moves by a restart\nok      health: the service is not failing\n\
         One check failed for 5.1.0.\n",
    );
    assert_run!(serving.host, "upgrade --restart 5.1.0", @"
    exit 2
    --- stderr
    error: this host has [HOST], and the release needs sparc
    hint: get the archive for this architecture from the vendor
    ");
}

#[test]
fn invalid_requirement_is_refused() {
    for (requires, why) in [
        ("os = ['debian >= twelve']", "\"twelve\" is not a version of a system"),
        ("os = ['debian 12']", "\"debian 12\" does not name a system"),
        ("arhc = ['x86_64']", "the nearest known key is `arch`"),
        ("free-space = 'much'", "release.toml in releases/emqx-5.0.1.zip, line 4"),
    ] {
        let host = host(requires);
        host.run(["upgrade", "5.0.1"]).code(2).stderr_has(why);
    }
}
