//! A host for tests of Tenure: a root in a temporary directory, releases in archives, and the real binary.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "for tests, not all of which need all"
)]

pub mod attacker;
pub mod booted;
pub mod build;
pub mod canary;
pub mod case;
pub mod dice;
pub mod disk;
pub mod schema;
pub mod serving;
pub mod snapshot;
pub mod stepper;
pub mod terminal;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

pub use build::Build;
pub(crate) use snapshot::assert_run;

/// A root of the product emqx, removed with everything around it on drop.
pub struct Host {
    /// The temporary directory; `None` for a view of another root.
    dir: Option<tempfile::TempDir>,
    root: PathBuf,
}

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
        Self::make(dir.path().canonicalize().unwrap().join("root"), dir)
    }

    /// Returns a root in memory if possible, for tests that run many commands and do not cut the power.
    pub fn in_memory() -> Self {
        let Ok(dir) = tempfile::Builder::new().prefix("tenure-test.").tempdir_in("/dev/shm") else {
            return Self::new();
        };
        Self::make(dir.path().canonicalize().unwrap().join("root"), dir)
    }

    /// Returns a root on the file system mounted at `place`.
    pub fn on(place: &Path) -> Self {
        Self::make(place.join("root"), tempfile::tempdir_in(place).unwrap())
    }

    fn make(root: PathBuf, dir: tempfile::TempDir) -> Self {
        fs::create_dir_all(root.join("releases")).unwrap();
        fs::write(root.join("tenure.toml"), "name = \"emqx\"\n[space]\nreserve = \"0 B\"\n").unwrap();
        Self { dir: Some(dir), root }
    }

    /// Returns a view of an existing root, which stays on drop.
    pub fn at(root: PathBuf) -> Self {
        Self { dir: None, root }
    }

    /// Returns a copy of this host in its current state, next to it.
    pub fn copy(&self) -> Self {
        let beside = self.dir.as_ref().and_then(|dir| dir.path().parent()).unwrap_or(Path::new("/tmp"));
        let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir_in(beside).unwrap();
        let root = dir.path().canonicalize().unwrap().join("root");
        copy_tree(&self.root, &root);
        Self { dir: Some(dir), root }
    }

    /// Opens the root by the library.
    pub fn opened(&self) -> tenure::root::Root {
        tenure::root::Root::find(Some(self.root()), self.root()).unwrap()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Packs a small release into releases/, as a zip with one directory at the top.
    pub fn archive(&self, version: &str) {
        self.build(version).write();
    }

    /// Packs a small release of each of these versions.
    pub fn archives(&self, versions: &[&str]) {
        versions.iter().for_each(|version| self.archive(version));
    }

    /// Returns an archive to write into releases/.
    pub fn build(&self, version: &str) -> Build {
        Build::new(self.root.join("releases"), version)
    }

    /// Creates a release by hand.
    pub fn release(&self, version: &str) {
        let bin = self.root.join("releases").join(version).join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("emqx"), version).unwrap();
    }

    /// Returns the command, which runs in the root with an empty environment.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command.args(args).current_dir(&self.root).env_clear().env("PATH", "/usr/bin:/bin");
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        self.run_in(&self.root, args)
    }

    pub fn run_in<A: AsRef<OsStr>>(&self, dir: &Path, args: impl IntoIterator<Item = A>) -> Run {
        let mut command = self.command(args);
        Run::of(command.current_dir(dir).output().unwrap(), &command)
    }

    /// Runs a command that must be refused. Asserts exit code 2, a hint, no output on stdout, and that nothing changed.
    pub fn refused<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        let before = self.tree();
        let run = self.run(args).code(2).stdout("").stderr_has("hint: ");
        assert_eq!(self.tree(), before, "{} changed something", run.command);
        run
    }

    /// Returns the target of a link, which need not exist.
    pub fn link(&self, name: &str) -> Option<String> {
        fs::read_link(self.root.join(name)).ok().map(|target| target.to_str().unwrap().to_owned())
    }

    /// Returns each release that `versions` lists, with its state: "5.0.0 permanent". `versions` must succeed.
    pub fn states(&self) -> Vec<String> {
        self.run(["versions"]).ok().states()
    }

    /// Returns everything in the root except for files that contain times and processes.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        list(&self.root, &self.root, &mut tree);
        tree.retain(|path, _| path != ".tenure/lock" && path != ".tenure/history");
        tree
    }

    /// Asserts that the release on disk equals exactly the release that its archive was built from.
    pub fn complete(&self, version: &str) {
        let mut found = BTreeMap::new();
        let release = self.root.join("releases").join(version);
        list(&release, &release, &mut found);
        let expected = self.build(version).tree();
        assert_eq!(found, expected, "release {version} is not complete");
    }

    /// Asserts that all listed releases are complete.
    pub fn all_complete(&self) {
        for state in self.states() {
            self.complete(state.split(' ').next().unwrap());
        }
    }

    pub fn sha256(&self, file: &str) -> String {
        hex(&fs::read(self.root.join(file)).unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.dir.is_some() {
            make_writable(&self.root);
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// The time limit of a wait; after it, the test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `so` returns true. Panics with `what` and `state` if that takes too long.
pub fn until(what: &str, so: impl Fn() -> bool, state: impl FnOnce() -> String) {
    let begun = Instant::now();
    while !so() {
        if begun.elapsed() > PATIENCE {
            panic!("{what}: not within {PATIENCE:?}; {}", state());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the living guards of a root.
pub fn guards(host: &Host) -> Vec<i32> {
    let root = host.root().to_str().unwrap().as_bytes().to_vec();
    let is_guard = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        words.contains(&root.as_slice()) && words.contains(&b"guard".as_slice())
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(is_guard).collect()
}

/// Kills all guards of a root, and the guards that replace them meanwhile.
pub fn kill_guards(host: &Host) {
    loop {
        let guards = guards(host);
        if guards.is_empty() {
            return;
        }
        for pid in guards {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Returns a shell that runs `first` and then executes the command.
pub fn in_shell(first: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{first} && exec \"$0\" \"$@\"")]).arg(command.get_program());
    shell.args(command.get_args()).current_dir(command.get_current_dir().unwrap());
    shell.env_clear().env("PATH", "/usr/bin:/bin");
    shell
}

/// The result of a command.
#[derive(Debug)]
#[must_use = "look at how it ended"]
pub struct Run {
    command: String,
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Run {
    /// Returns the result of a command. Validates the document of a `--json` command that exited against the schema.
    pub fn of(out: Output, command: &Command) -> Self {
        let run = Self {
            command: format!("{:?}", command.get_args().collect::<Vec<_>>()),
            stdout: String::from_utf8(out.stdout).unwrap(),
            stderr: String::from_utf8(out.stderr).unwrap(),
            code: out.status.code(),
        };
        let words = command.get_args().flat_map(|arg| arg.to_str().unwrap_or_default().split_whitespace());
        let words: Vec<String> = words.map(str::to_owned).collect();
        if words.iter().any(|word| word == "--json") && run.code.is_some() {
            schema::hold(&words, &run.stdout);
        }
        run
    }

    pub fn ok(self) -> Self {
        self.code(0)
    }

    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    pub fn stdout(self, text: &str) -> Self {
        assert_eq!(self.stdout, text, "{self:#?}");
        self
    }

    pub fn stderr(self, text: &str) -> Self {
        assert_eq!(self.stderr, text, "{self:#?}");
        self
    }

    pub fn stdout_has(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "{text:?} is not in stdout: {self:#?}");
        self
    }

    pub fn stderr_has(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in stderr: {self:#?}");
        self
    }

    /// Returns the releases in the output of `versions`, each with its state.
    pub fn states(&self) -> Vec<String> {
        states(&self.stdout)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// Returns the releases in the output of `versions`, each with its state: "5.0.0 permanent".
pub fn states(output: &str) -> Vec<String> {
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("Installed versions:"), "{output}");
    let state = |line: &str| line.strip_prefix("* ").expect("a release").replacen('\t', " ", 1);
    lines.map(state).collect()
}

fn list(top: &Path, dir: &Path, tree: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.mode() & 0o7777;
        let what = if meta.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if meta.is_dir() {
            list(top, &path, tree);
            format!("{mode:o} directory")
        } else {
            format!("{mode:o} {}", hex(&fs::read(&path).unwrap()))
        };
        tree.insert(name, what);
    }
}

/// Panics with the paths that differ. Ignores `tenured` marks: that a release has been permanent stays true, whatever
/// the outcome of the command that was about to replace it.
pub fn assert_same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>, at: &str) {
    let paths: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let differing: Vec<_> = paths
        .into_iter()
        .filter(|path| found.get(*path) != expected.get(*path) && !path.ends_with("/tenured"))
        .map(|path| (path, found.get(path), expected.get(path)))
        .collect();
    assert!(differing.is_empty(), "{at}: found and expected differ: {differing:#?}");
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path).unwrap(), target).unwrap();
        } else if meta.is_dir() {
            copy_tree(&path, &target);
            fs::set_permissions(&target, meta.permissions()).unwrap();
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Makes directories writable, because a release may contain directories that its owner cannot write.
fn make_writable(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}
