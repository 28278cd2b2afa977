//! Tenure run by root on a root that another user prepared or owns. No program may run with more privilege than the
//! owners of the files that lead to it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::support::canary::give;
use crate::support::{Host, Run};

/// The user who prepares roots; the host has no name for this user.
const EVE: u32 = 12345;
const NOBODY: u32 = 65534;

/// Creates a file named after the action and the user, then prints the current release.
const TELL: &str = "#!/bin/sh\n: >\"$TENURE_ROOT/../ran/$TENURE_ACTION.$(id -u)\"\nreadlink \"$TENURE_ROOT/current\" | sed s=releases/==\n";

/// Hooks that all run this program.
const HOOKS: &str = "[hooks]\ncheck = ['bin/tell']\nprepare = ['bin/tell']\nrunning-version = ['bin/tell']\n";

const SERVICE: &str = r#"
[service]
manager = "command"
pid-file = "ROOT/pid"
start = ["sh", "-c", ": >../ran/start.$(id -u); current/bin/serve 1000 >/dev/null 2>&1 & echo $! >pid"]
stop = ["sh", "-c", ": >../ran/stop.$(id -u); p=$(cat pid); kill $p; while grep -qs ' [RSD] ' /proc/$p/stat; do sleep 0.01; done"]
[health]
command = ["bin/tell"]
interval = "20ms"
[timeouts]
health = "20s"
"#;

/// A root with two handmade releases: 1.0.0, which is permanent, and 1.0.1.
struct Prepared {
    host: Host,
}

impl Prepared {
    /// Prepares a root that belongs to this user, with a running service.
    fn by(owner: u32) -> Self {
        let prepared = Self { host: Host::new() };
        let root = prepared.root();
        ["1.0.0", "1.0.1"].iter().for_each(|version| prepared.release(version));
        for link in ["current", "permanent"] {
            symlink("releases/1.0.0", root.join(link)).unwrap();
        }
        prepared.settings("");
        let ran = prepared.around().join("ran");
        fs::create_dir(&ran).unwrap();
        mode(&ran, 0o777);
        mode(prepared.around(), 0o755);
        give(root, owner);
        prepared.serve(owner, "current/bin/serve");
        prepared
    }

    fn release(&self, version: &str) {
        let release = self.root().join("releases").join(version);
        fs::create_dir_all(release.join("bin")).unwrap();
        let manifest = format!("name = 'emqx'\nversion = '{version}'\n{HOOKS}");
        fs::write(release.join("release.toml"), manifest).unwrap();
        fs::write(release.join("bin/tell"), TELL).unwrap();
        fs::copy("/bin/sleep", release.join("bin/serve")).unwrap();
        mode(&release.join("bin/tell"), 0o755);
    }

    /// Writes the settings, with these lines at the top.
    fn settings(&self, top: &str) {
        let service = SERVICE.replace("ROOT", self.root().to_str().unwrap());
        let file = self.root().join("tenure.toml");
        fs::write(file, format!("{top}name = 'emqx'\n[space]\nreserve = '0 B'\n{service}")).unwrap();
    }

    /// Starts the service as a process of this user.
    fn serve(&self, owner: u32, program: &str) {
        let start = format!("{program} 1000 >/dev/null 2>&1 & echo $! >pid");
        let mut sh = Command::new("sh");
        sh.args(["-c", &start]).current_dir(self.root()).uid(owner).gid(owner);
        assert!(sh.status().unwrap().success());
    }

    /// Moves the pid file to a new directory beside the root, and returns that directory.
    fn move_pid_file(&self, name: &str) -> PathBuf {
        let dir = self.around().join(name);
        fs::create_dir(&dir).unwrap();
        fs::rename(self.root().join("pid"), dir.join("pid")).unwrap();
        let settings = self.root().join("tenure.toml");
        let text = fs::read_to_string(&settings).unwrap().replace("/root/pid", &format!("/{name}/pid"));
        let text =
            text.replace("pid)", &format!("../{name}/pid)")).replace(">pid", &format!(">../{name}/pid"));
        fs::write(settings, text).unwrap();
        dir
    }

    fn root(&self) -> &Path {
        self.host.root()
    }

    fn around(&self) -> &Path {
        self.root().parent().unwrap()
    }

    /// Runs a command with the root named on the command line.
    fn named(&self, args: &[&str]) -> Run {
        let root = self.root().to_str().unwrap();
        self.host.run_in(Path::new("/"), ["--root", root].iter().chain(args))
    }

    /// Runs a command with the root named in the environment.
    fn environment(&self, args: &[&str]) -> Run {
        let mut command = self.host.command(args);
        command.env("TENURE_ROOT", self.root()).current_dir("/");
        Run::of(command.output().unwrap(), &command)
    }

    /// Returns the programs that ran since the last call, each with its user ID.
    fn ran(&self) -> BTreeSet<String> {
        let ran = self.around().join("ran");
        let files: Vec<PathBuf> = fs::read_dir(&ran).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn ran_nothing(&self, at: &str) {
        assert_eq!(self.ran(), BTreeSet::new(), "{at}");
    }

    /// Asserts that exactly these programs ran since the last call, all as this user.
    fn ran_as(&self, user: u32, what: &[&str], at: &str) {
        let expected: BTreeSet<String> = what.iter().map(|what| format!("{what}.{user}")).collect();
        assert_eq!(self.ran(), expected, "{at}");
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = Command::new("sh")
            .args(["-c", "kill -9 $(cat pid ../run/pid)"])
            .current_dir(self.root())
            .output();
    }
}

/// A process that is killed when the value is dropped.
struct Process(Child);

impl Process {
    fn of(user: u32) -> Self {
        Self(Command::new("sleep").arg("1000").uid(user).gid(user).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).unwrap();
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Commands that only read, and commands that change something.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["status", "--format", "prometheus"],
    &["check", "1.0.1"],
    &["check", "--restart", "1.0.1"],
    &["versions"],
    &["history"],
    &["root-dir"],
    &["verify"],
    &["plan", "1.0.1"],
    &["upgrade", "1.0.1"],
    &["upgrade", "--restart", "1.0.1"],
    &["install", "--dry-run", "1.0.1"],
    &["boot"],
    &["revert"],
    &["confirm"],
    &["migrate"],
    &["prune"],
];

#[test]
#[ignore = "needs root; run by .ci/run"]
fn foreign_root_is_not_used_from_working_directory() {
    let eve = Prepared::by(EVE);
    for top in ["", "user = 'root'\n"] {
        eve.settings(top);
        let before = eve.host.tree();
        let words = "it was found from the working directory and belongs to 12345";
        let hint =
            format!("hint: if you trust that user, name the root: `--root {}`\n", eve.root().display());
        for below in ["", "releases/1.0.0/bin"] {
            for args in COMMANDS {
                let run = eve.host.run_in(&eve.root().join(below), *args).code(2);
                run.stdout("").stderr_has(words).stderr_has(&hint);
                eve.ran_nothing(&format!("{args:?}"));
            }
        }
        for args in [&["init"][..], &["adopt", "/etc/skel", "1.0.2"]] {
            eve.host.run(args).code(2).stderr_has(words);
        }
        let mut complete = eve.host.command(["--", "tenure", "install", "1"]);
        complete.envs([("_TENURE_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "2"), ("_CLAP_IFS", "\n")]);
        assert_eq!(String::from_utf8(complete.output().unwrap().stdout).unwrap(), "");
        eve.ran_nothing("completions");
        assert_eq!(eve.host.tree(), before);
    }
    // The owner need not name the root, nor must root in a root of its own.
    let out = eve.host.command(["versions"]).uid(EVE).gid(EVE).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    give(eve.root(), 0);
    eve.host.run(["versions"]).ok();
    let out = eve.host.command(["versions"]).uid(EVE).gid(EVE).output().unwrap();
    assert!(out.status.success(), "root's root is used by all: {out:?}");
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn programs_run_as_the_owner_of_the_root() {
    let eve = Prepared::by(EVE);
    let named = |args: &[&str]| eve.named(args);
    let environment = |args: &[&str]| eve.environment(args);
    for (at, run) in [("--root", &named as &dyn Fn(&[&str]) -> Run), ("TENURE_ROOT", &environment)] {
        run(&["status"]).ok().stdout_has("Service: the service runs 1.0.0, healthy\n");
        eve.ran_as(EVE, &["status", "health"], at);
        run(&["status", "--format", "prometheus"]).ok();
        eve.ran_as(EVE, &["status", "health"], at);
        run(&["check", "--restart", "1.0.1"]).ok();
        eve.ran_as(EVE, &["check", "health"], at);
        run(&["upgrade", "--no-permanent", "--restart", "1.0.1"]).ok();
        eve.ran_as(EVE, &["check", "prepare", "stop", "start", "status", "health"][..], at);
        run(&["revert"]).ok();
        eve.ran_as(EVE, &["stop", "start", "status", "health"], at);
        run(&["boot"]).ok();
        eve.ran_nothing(at);
        fs::remove_dir_all(eve.root().join(".tenure/receipts")).unwrap();
    }
    let pid = fs::read_to_string(eve.root().join("pid")).unwrap();
    assert_eq!(fs::metadata(format!("/proc/{}", pid.trim())).unwrap().uid(), EVE);
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn programs_run_as_root_or_configured_user() {
    let root = Prepared::by(0);
    root.host.run(["status"]).ok();
    root.ran_as(0, &["status", "health"], "no user");
    root.settings("user = 'root'\n");
    root.host.run(["status"]).ok();
    root.ran_as(0, &["status", "health"], "root");
    root.settings("user = 'nobody'\n");
    root.host.run(["upgrade", "--restart", "1.0.1"]).ok();
    let ran: Vec<String> = root.ran().into_iter().collect();
    // `user` applies to the programs of releases, but not to the operator's own commands.
    let expected = ["check", "health", "prepare", "start.0", "status", "stop.0"];
    let user = |what: &&str| what.split_once('.').map_or(format!("{what}.{NOBODY}"), |_| (*what).to_owned());
    assert_eq!(ran, expected.iter().map(user).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn user_setting_does_not_raise_privilege() {
    let eve = Prepared::by(EVE);
    let refused = |who: &str, whose: &str| {
        let words = format!("names the user {who}, but {whose} belongs to 12345");
        eve.named(&["check", "--restart", "1.0.1"]).code(2).stdout_has("FAILED  user: ").stdout_has(&words);
        eve.named(&["status"]).stdout_has("cannot determine").stdout_has(&words);
        eve.named(&["upgrade", "--restart", "1.0.1"])
            .code(2)
            .stderr_has(&words)
            .stderr_has("hint: remove `user`");
        eve.ran_nothing(who);
    };
    let root = eve.root().display().to_string();
    for who in ["root", "nobody"] {
        eve.settings(&format!("user = '{who}'\n"));
        refused(who, &root);
    }
    // Settings of root in another place do not help while another user can replace the link to them.
    let elsewhere = eve.around().join("etc");
    fs::create_dir(&elsewhere).unwrap();
    eve.settings("user = 'root'\n");
    fs::rename(eve.root().join("tenure.toml"), elsewhere.join("emqx.toml")).unwrap();
    symlink(elsewhere.join("emqx.toml"), eve.root().join("tenure.toml")).unwrap();
    give(&elsewhere, 0);
    refused("root", &root);
    // A root of root does not help either while one release belongs to Eve.
    give(eve.root(), 0);
    let release = eve.root().join("releases/1.0.0");
    give(&release, EVE);
    let words = format!("names the user root, but {} belongs to 12345", release.display());
    eve.host.run(["status"]).stdout_has("cannot determine").stdout_has(&words);
    eve.ran_nothing("a release of eve's");
    // Settings that Eve owns count as hers, independent of the path that leads to them.
    give(eve.root(), 0);
    for (link, target) in [("etc/emqx.toml", "etc/emqx.toml"), ("etc/emqx.toml", "etc")] {
        give(&elsewhere, 0);
        give(&eve.around().join(target), EVE);
        eve.host.run(["status"]).stdout_has("names the user root, but ");
        eve.ran_nothing(link);
    }
    give(&elsewhere, 0);
    eve.host.run(["status"]).ok();
    eve.ran_as(0, &["status", "health"], "all of it is root's");
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn all_owners_on_program_path_count() {
    let root = Prepared::by(0);
    let release = root.root().join("releases/1.0.0");
    let status = |user: u32, at: &str| {
        root.host.run(["status"]).ok();
        root.ran_as(user, &["status", "health"], at);
    };
    for owned in ["", "bin", "bin/tell", "release.toml"] {
        give(root.root(), 0);
        give(&release.join(owned), EVE);
        status(EVE, owned);
    }
    give(root.root(), 0);
    std::os::unix::fs::chown(root.root().join("releases"), Some(EVE), None).unwrap();
    status(EVE, "releases");
    // Two different owners are refused.
    give(&release.join("bin"), NOBODY);
    let run = root.host.run(["status"]).stdout_has("releases belongs to 12345, and ");
    run.stdout_has("bin belongs to nobody");
    root.ran_nothing("two owners");
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn links_on_program_path_count() {
    let root = Prepared::by(0);
    let release = root.root().join("releases/1.0.0");
    let status = |user: u32, at: &str| {
        root.host.run(["status"]).ok();
        root.ran_as(user, &["status", "health"], at);
    };
    // One of the links is in a directory that other users can write.
    let shared = root.around().join("shared");
    fs::create_dir(&shared).unwrap();
    mode(&shared, 0o1777);
    fs::rename(release.join("bin/tell"), root.around().join("tell")).unwrap();
    symlink(shared.join("tell"), release.join("bin/tell")).unwrap();
    symlink("../tell", shared.join("tell")).unwrap();
    status(0, "a link of root's");
    std::os::unix::fs::lchown(shared.join("tell"), Some(EVE), Some(EVE)).unwrap();
    status(EVE, "a link of eve's");
    mode(&shared, 0o777);
    root.host.run(["status"]).stdout_has(&format!("other users can write {} (mode 0777", shared.display()));
    root.ran_nothing("a directory that all can write");
    mode(&shared, 0o1777);
    give(&root.around().join("tell"), EVE);
    status(EVE, "a program of eve's");
    std::os::unix::fs::lchown(shared.join("tell"), Some(NOBODY), Some(NOBODY)).unwrap();
    root.host.run(["status"]).stdout_has("belongs to nobody, and ");
    give(&root.around().join("tell"), 0);
    mode(&root.around().join("tell"), 0o775);
    std::os::unix::fs::chown(root.around().join("tell"), None, Some(100)).unwrap();
    std::os::unix::fs::lchown(shared.join("tell"), Some(0), Some(0)).unwrap();
    root.host.run(["status"]).stdout_has("(mode 0775, group 100)");
    root.ran_nothing("a program that a group can write");
    mode(&root.around().join("tell"), 0o755);
    status(0, "all is root's again");
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn writable_root_is_only_listed() {
    for (dir, bits) in [("", 0o1777), ("", 0o777), ("releases", 0o777), (".tenure", 0o1777), ("", 0o775)] {
        let shared = Prepared::by(0);
        let root = shared.root();
        fs::create_dir(root.join(".tenure")).unwrap();
        // As in /tmp, only the directory itself belongs to root.
        give(&root.join("releases/1.0.0"), EVE);
        give(&root.join("tenure.toml"), EVE);
        std::os::unix::fs::chown(root.join(dir), None, Some(100)).unwrap();
        mode(&root.join(dir), bits);
        let path = root.join(dir).canonicalize().unwrap();
        let words = format!("other users can write {} (mode {bits:04o}, group 100)", path.display());
        let hint = format!("run `chmod go-w {}`", path.display());
        let before = shared.host.tree();
        let run = shared.host.run(["status"]).code(1);
        run.stdout_has(&format!("Problem: {words}\n  hint: {hint}")).stdout_has("* 1.0.0\tpermanent\n");
        shared.host.run(["status", "--format", "prometheus"]).ok().stdout_has("tenure_problems");
        shared.host.run(["versions"]).ok().stdout_has("* 1.0.0\tpermanent\n").stderr_has(&words);
        shared.host.run(["history"]).ok().stderr_has(&words).stderr_has(&hint);
        let run = shared.host.run(["check", "--restart", "1.0.1"]).code(2);
        run.stdout_has(&format!("FAILED  permissions: {words}\n        hint: {hint}"));
        for args in [
            &["upgrade", "--restart", "1.0.1"][..],
            &["install", "--dry-run", "--restart", "1.0.1"],
            &["revert"],
            &["prune"],
            &["uninstall", "1.0.1"],
            &["adopt", "/etc/skel", "1.0.2"],
        ] {
            shared.host.run(args).code(2).stderr_has(&words).stderr_has(&format!("hint: {hint}"));
        }
        assert_eq!(shared.host.tree(), before, "{dir} {bits:o}");
        shared.ran_nothing(&words);
        // `boot` always succeeds, and `current` then points to the permanent release.
        fs::remove_file(root.join("current")).unwrap();
        symlink("releases/1.0.1", root.join("current")).unwrap();
        shared.host.run(["boot"]).ok().stderr_has(&words);
        assert_eq!(shared.host.link("current").unwrap(), "releases/1.0.0");
        shared.ran_nothing("boot");
    }
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn command_in_journal_runs_as_journal_owner() {
    let eve = Prepared::by(EVE);
    let command = ": >../ran/backup.$(id -u)";
    let journal = |steps: &str| {
        let record = format!(
            r#"{{"transaction":"t","command":"upgrade 1.0.1","by":"root","started":"2026-01-01T00:00:00Z","plan":{{"from":"1.0.1","to":"1.0.0","steps":[{steps}]}}}}"#
        );
        fs::create_dir_all(eve.root().join(".tenure")).unwrap();
        fs::write(eve.root().join(".tenure/journal"), record + "\n{\"begun\":1}\n").unwrap();
    };
    let step = format!(r#"{{"step":"backup","version":"1.0.0","command":"{command}"}}"#);
    journal(&step);
    give(&eve.root().join(".tenure"), EVE);
    eve.named(&["revert"]).ok();
    eve.ran_as(EVE, &["backup"], "eve's journal");
    // In a root of root, the command counts as root's own.
    give(eve.root(), 0);
    journal(&step);
    eve.named(&["revert"]).ok();
    eve.ran_as(0, &["backup"], "root's journal");
    // A command that root passes on the command line runs as root.
    give(eve.root(), EVE);
    eve.named(&["upgrade", "--restart", "--backup-command", command, "1.0.1"]).ok();
    assert!(eve.ran().contains("backup.0"));
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn pid_file_accepts_only_process_of_its_owner() {
    let eve = Prepared::by(EVE);
    let file = eve.root().join("pid");
    let mine = fs::read_to_string(&file).unwrap();
    let of_root = Process::of(0);
    let point = |pid: &str| fs::write(&file, pid).unwrap();
    point(&of_root.0.id().to_string());
    let settings = eve.root().join("tenure.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("[service]\n", "[service]\nhot = 'signal:TERM'\n")).unwrap();
    let words = format!(
        "cannot use the pid file {}: {} belongs to 12345, and process {} to root",
        file.display(),
        eve.root().display(),
        of_root.0.id()
    );
    let run = eve
        .named(&["status"])
        .code(1)
        .stdout_has(&format!("up: {words}\n  hint: write the pid file as root "));
    assert!(!run.stdout.contains("a restart of the service"), "{run:#?}");
    eve.named(&["upgrade", "1.0.1"]).code(2).stderr_has("hint: write the pid file as root");
    eve.named(&["revert"]).ok();
    assert!(fs::read_to_string(format!("/proc/{}/stat", of_root.0.id())).unwrap().contains(" S "));
    // Accepted: Eve's processes, any owner's process of a release, and any process if root owns the pid file.
    let of_eve = Process::of(EVE);
    point(&of_eve.0.id().to_string());
    eve.named(&["status"]).ok();
    point(mine.trim());
    eve.named(&["status"]).ok();
    eve.serve(0, "current/bin/serve");
    eve.named(&["status"]).ok();
    Command::new("kill").arg(fs::read_to_string(&file).unwrap().trim()).status().unwrap();
    give(eve.root(), 0);
    for pid in [of_root.0.id(), of_eve.0.id()] {
        point(&pid.to_string());
        eve.named(&["status"]).ok();
    }
    fs::write(&file, mine).unwrap();
}

/// The directory of the pid file belongs to the user that the service switches to, as with /run/haproxy. The process
/// of the service first runs the interpreter of a script, which is not a program of a release.
#[test]
#[ignore = "needs root; run by .ci/run"]
fn service_user_pid_file_allows_start_script() {
    let root = Prepared::by(0);
    give(&root.move_pid_file("run"), EVE);
    root.release("1.0.2");
    let script = |version: &str, text: &str| {
        let bin = root.root().join("releases").join(version).join("bin");
        fs::rename(bin.join("serve"), bin.join("served")).unwrap();
        fs::write(bin.join("serve"), format!("#!/bin/sh\n{text}\n")).unwrap();
        mode(&bin.join("serve"), 0o755);
    };
    script("1.0.1", "sleep 0.3; exec current/bin/served \"$@\"");
    script("1.0.2", "while :; do sleep 0.1; done");
    root.named(&["upgrade", "--restart", "1.0.1"]).ok();
    let run = root.named(&["upgrade", "--restart", "1.0.2"]).code(3);
    run.stderr_has("the service ended: cannot use the pid file ").stderr_has("1.0.1 is running");
    root.named(&["status"]).ok();
    // A service that was down is down again, although the process of the bad release cannot be told from others.
    let pid = || fs::read_to_string(root.around().join("run/pid")).unwrap().trim().to_owned();
    let is_alive = |pid: &str| Path::new("/proc").join(pid).join("exe").exists();
    Command::new("kill").arg(pid()).status().unwrap();
    let retry = ["upgrade", "--restart", "--start", "--retry", "1.0.2"];
    root.named(&retry).code(1).stderr_has("the service is down, as before");
    assert!(!is_alive(&pid()), "{}", pid());
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn writable_pid_file_is_not_used() {
    let root = Prepared::by(0);
    let open = root.move_pid_file("open");
    root.named(&["status"]).ok();
    mode(&open, 0o777);
    let run = root.named(&["status"]).code(1).stdout_has("cannot use the pid file ");
    run.stdout_has(&format!("other users can write {} (mode 0777", open.display()));
    mode(&open, 0o1777);
    root.named(&["status"]).ok();
    fs::rename(open.join("pid"), root.root().join("pid")).unwrap();
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn archive_of_another_user_is_not_installed() {
    let host = Host::new();
    mode(host.root().parent().unwrap(), 0o755);
    host.archive("5.0.0");
    let archive = host.root().join("releases/emqx-5.0.0.zip");
    let digest = host.root().join("releases/emqx-5.0.0.zip.sha256");
    fs::write(&digest, host.sha256("releases/emqx-5.0.0.zip")).unwrap();
    let before = host.tree();
    for path in [&archive, &digest] {
        give(path, EVE);
        let shown = path.display();
        let words = format!("cannot install {shown} as root: it belongs to 12345, who is neither root nor ");
        let hint = format!("hint: check that this is the file to install, then run `chown root {shown}`\n");
        for args in [&["install", "5.0.0"][..], &["unpack", "5.0.0"], &["install", "--dry-run", "5.0.0"]] {
            host.run(args).code(2).stdout("").stderr_has(&words).stderr_has(&hint);
        }
        host.run(["unpack", archive.to_str().unwrap()]).code(2).stderr_has(&words);
        host.run(["check", "5.0.0"]).code(2).stdout_has(&format!("FAILED  archive: {words}"));
        give(path, 0);
        mode(path, 0o666);
        let words =
            format!("cannot install {shown} as root\ncaused by: other users can write {shown} (mode 0666");
        host.run(["install", "5.0.0"]).code(2).stderr_has(&words);
        mode(path, 0o644);
    }
    let mut after = host.tree();
    after.retain(|path, _| !path.starts_with(".tenure"));
    assert_eq!(after, before);
    // The owner of the root may supply archives. An installed release stays usable if its archive gets another owner.
    give(host.root(), EVE);
    let root = host.root().to_str().unwrap().to_owned();
    host.run(["--root", &root, "install", "5.0.0"]).ok();
    give(&archive, NOBODY);
    host.run(["--root", &root, "install", "5.0.0"]).ok();
}

#[test]
#[ignore = "needs root; run by .ci/run"]
fn init_script_must_belong_to_root() {
    let eve = Prepared::by(0);
    let scripts = eve.around().join("init.d");
    fs::create_dir(&scripts).unwrap();
    let script = scripts.join("emqx");
    fs::write(
        &script,
        "#!/bin/sh\n: >/tmp/../$RAN/$1.$(id -u)\n"
            .replace("/tmp/../$RAN", &format!("{}/ran", eve.around().display())),
    )
    .unwrap();
    mode(&script, 0o755);
    let settings = "name = 'emqx'\n[service]\nmanager = 'sysv'\nunit = 'emqx'\n";
    fs::write(eve.root().join("tenure.toml"), settings).unwrap();
    let status = || {
        let mut command = Command::new("unshare");
        let mount = "mount --bind \"$1\" /etc/init.d && shift && exec \"$@\"";
        command.args(["-m", "sh", "-c", mount, "sh"]).arg(&scripts).arg(env!("CARGO_BIN_EXE_tenure"));
        Run::of(command.args(["status"]).current_dir(eve.root()).output().unwrap(), &command)
    };
    status();
    assert!(eve.ran().contains("status.0"));
    give(&script, EVE);
    let run =
        status().code(1).stdout_has("cannot run /etc/init.d/emqx as root: /etc/init.d/emqx belongs to 12345");
    drop(run);
    eve.ran_nothing("a script of eve's");
}
