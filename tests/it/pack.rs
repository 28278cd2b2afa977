//! Archives that a vendor makes: reproducible, and intact after Tenure unpacks them.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::support::{Build, Host, Run, copy_tree, hex};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

const FORMATS: [&str; 3] = ["tar.zst", "tar.gz", "zip"];

/// A root with a working directory of a vendor.
struct Vendor {
    host: Host,
}

impl Vendor {
    fn new() -> Self {
        let vendor = Self { host: Host::in_memory() };
        fs::create_dir(vendor.dir()).unwrap();
        vendor.build().spread(&vendor.path("build"));
        vendor
    }

    /// Returns a release with every kind of entry that a release may contain.
    fn build(&self) -> Build {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        Build::new(self.host.root().to_owned(), "5.0.1")
            .file("lib/caf\u{e9}/na\u{ef}ve \u{1f980}", "unicode")
            .file(&format!("lib/{long}"), "a long name")
            .symlink("lib/link to a long name", &long)
            .symlink("lib/link word for word", "..//bin/.//emqx")
            .symlink("lib/long link word for word", &long.replace('/', "/.//"))
            .file("a-/x", "sorted")
            .file("a/x", "sorted")
    }

    fn dir(&self) -> PathBuf {
        self.host.root().join("vendor")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.host.command(args);
        command.current_dir(self.dir());
        command
    }

    fn pack(&self, args: &[&str]) -> Run {
        let mut command = self.command(&[&["pack"], args].concat());
        Run::of(command.output().unwrap(), &command)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Returns the names in the vendor's directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Asserts that packing is refused with these words and leaves nothing.
    fn refused(&self, args: &[&str], words: &str) {
        let before = self.names();
        self.pack(args).code(2).stdout("").stderr_has(words).stderr_has("hint: ");
        assert_eq!(self.names(), before, "{args:?}");
    }
}

#[test]
fn verbose_pack_reports_each_step() {
    let vendor = Vendor::new();
    for known in ["does not exist yet", "exists already"] {
        let run = vendor.pack(&["--verbose", "build"]).ok();
        let told = [
            "check: directory: all entries pass the unpacking rules: ",
            "check: release: emqx 5.0.1, by release.toml",
            "step: pack into a temporary file; emqx-5.0.1.tar.zst ",
            "step: read emqx-5.0.1.tar.zst back and check it by the rules of unpacking",
            "check: archive: its contents match the directory; ",
        ];
        let is_told = run.stderr.lines().zip(told).all(|(line, begin)| line.starts_with(begin));
        assert!(is_told && run.stderr.lines().count() == told.len(), "{run:?}");
        run.stderr_has(known);
    }
}

#[test]
fn packed_release_unpacks_and_verifies() {
    for format in FORMATS {
        let vendor = Vendor::new();
        let file = format!("emqx-5.0.1.{format}");
        let run = vendor.pack(&["build", "--format", format]).ok().stderr("");
        let (archive, sum) = (vendor.bytes(&file), hex(&vendor.bytes(&file)));
        let entries = walkdir(&vendor.path("build")).len();
        let told = format!("Packed emqx 5.0.1: {file}, {entries} entries, 11.8 KiB in ");
        run.stdout_has(&told).stdout_has(&format!("\nSHA-256: {sum}\n"));
        assert_eq!(vendor.names(), ["build", &file, &format!("{file}.sha256")], "nothing else is left");
        assert_eq!(vendor.bytes(&format!("{file}.sha256")), format!("{sum}  {file}\n").into_bytes());
        assert!(archive.len() < 5_000, "{} bytes", archive.len());
        let mut sum = Command::new("sha256sum");
        sum.args(["-c", &format!("{file}.sha256")]).current_dir(vendor.dir());
        assert!(sum.output().unwrap().status.success());
        vendor.host.run(["lint", vendor.path(&file).to_str().unwrap()]).ok();
        for ending in ["", ".sha256"] {
            let name = format!("{file}{ending}");
            fs::rename(vendor.path(&name), vendor.host.root().join("releases").join(&name)).unwrap();
        }
        vendor.host.run(["install", "5.0.1"]).ok();
        vendor.host.run(["verify"]).ok().stdout("Release 5.0.1 is unchanged since it was unpacked.\n");
        assert_eq!(
            walkdir(&vendor.host.root().join("releases/5.0.1")),
            walkdir(&vendor.path("build")),
            "{format}"
        );
    }
}

/// Lists everything below a directory: path, mode, and contents or target.
fn walkdir(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let data = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_dir() {
                waiting.push(path);
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            // The umask does not matter.
            found.push((name, meta.mode() & !0o022, data));
        }
    }
    found.sort();
    found
}

/// Copies a tree with other modes, times and directory order, and with another owner if the user is root.
fn another(from: &Path, to: &Path) {
    copy_tree(from, to);
    let all: Vec<_> = walkdir(to).into_iter().map(|(name, mode, _)| (to.join(name), mode)).collect();
    for (path, mode) in all.iter().filter(|(path, _)| !path.is_symlink()).rev() {
        let older = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(path).unwrap().set_times(FileTimes::new().set_modified(older)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700 | 0o020)).unwrap();
    }
    if nix::unistd::geteuid().is_root() {
        for (path, _) in &all {
            std::os::unix::fs::lchown(path, Some(12), Some(34)).unwrap();
        }
    }
    // The renames change the order of the directory entries.
    let (moved, again) = (to.join("none"), to.join("none-"));
    fs::rename(&moved, &again).unwrap();
    fs::rename(&again, &moved).unwrap();
}

#[test]
fn pack_is_reproducible() {
    let vendor = Vendor::new();
    another(&vendor.path("build"), &vendor.path("other"));
    for format in FORMATS {
        let file = format!("emqx-5.0.1.{format}");
        vendor.pack(&["build", "--format", format]).ok();
        let bytes = vendor.bytes(&file);
        fs::remove_file(vendor.path(&file)).unwrap();
        let script = "umask 077; exec \"$0\" pack --format \"$1\" other";
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_tenure"), format]).current_dir(vendor.dir());
        command.env("TZ", "Asia/Kathmandu").env("LC_ALL", "tr_TR.UTF-8").env("HOME", "/nowhere");
        Run::of(command.output().unwrap(), &command).ok();
        assert_eq!(vendor.bytes(&file), bytes, "{format}");
        assert_eq!(fs::metadata(vendor.path(&file)).unwrap().mode() & 0o777, 0o644);
        // An identical archive is not written again.
        let kept = fs::metadata(vendor.path(&file)).unwrap().ino();
        vendor.pack(&["build", "--format", format]).ok().stdout_has("Already packed emqx 5.0.1: ");
        assert_eq!(fs::metadata(vendor.path(&file)).unwrap().ino(), kept, "{format}");
    }
}

#[test]
fn source_date_epoch_sets_entry_times() {
    let vendor = Vendor::new();
    let packed_at = |time: &str, format: &str| {
        let mut command = vendor.command(&["pack", "build", "--force", "--format", format]);
        let run = Run::of(command.env("SOURCE_DATE_EPOCH", time).output().unwrap(), &command);
        (run, fs::read(vendor.path(&format!("emqx-5.0.1.{format}"))).unwrap_or_default())
    };
    for format in FORMATS {
        let (plain, told) = (packed_at("", format).1, packed_at("1700000000", format).1);
        assert_ne!(plain, told, "{format}");
        assert_eq!(packed_at("1700000000", format).1, told);
        assert_eq!(packed_at("315532800", format).1, plain, "the default time");
    }
    let packed = packed_at("1700000000", "tar.zst").1;
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed.as_slice()).unwrap());
    for entry in archive.entries().unwrap() {
        let header = entry.unwrap().header().clone();
        assert_eq!(
            (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
            (1_700_000_000, 0, 0)
        );
    }
    for wrong in ["soon", "-1", "1.5"] {
        packed_at(wrong, "zip").0.code(64).stderr_has("SOURCE_DATE_EPOCH is ");
    }
}

#[test]
fn output_option_sets_path_and_name() {
    let vendor = Vendor::new();
    fs::create_dir(vendor.path("dist")).unwrap();
    vendor.pack(&["build", "--output", "dist"]).ok().stdout_has(": dist/emqx-5.0.1.tar.zst, ");
    vendor.pack(&["build", "--output", "dist/emqx-5.0.1-el9.zip"]).ok();
    assert!(vendor.bytes("dist/emqx-5.0.1-el9.zip").starts_with(b"PK"));
    let sum = String::from_utf8(vendor.bytes("dist/emqx-5.0.1-el9.zip.sha256")).unwrap();
    assert!(sum.ends_with("  emqx-5.0.1-el9.zip\n"), "{sum}");
    vendor.pack(&["--output", "x-1.0.0.tgz", "dist", "--name", "x", "--release", "1.0.0"]).ok();
    for (args, words) in [
        (&["--output", "emqx-5.0.2.zip"][..], "is not the name of an archive of emqx 5.0.1"),
        (&["--output", "other-5.0.1.zip"], "is not the name of an archive of emqx 5.0.1"),
        (&["--output", "emqx-5.0.1.rar"], "is not a name for an archive"),
        (&["--output", "emqx-5.0.1.tar.xz"], "is not a name for an archive that `pack` creates"),
        (&["--output", "absent/"], "is not a name for an archive"),
        (&["--output", "emqx-5.0.1.zip", "--format", "tar.gz"], "does not match the requested format"),
        (&["--output", "build"], "is in the directory that is packed"),
        (&["--name", "other"], "declares another name"),
        (&["--release", "5.0.2"], "declares another version"),
    ] {
        vendor.refused(&[&["build"], args].concat(), words);
    }
    vendor.pack(&["build", "--release", "banana"]).code(64);
    vendor.refused(&["dist"], "cannot determine which release dist is");
    vendor.refused(&["dist", "--name", "a b", "--release", "1.0.0"], "is not a product name");
    let read_as = |name: &str, version: &str, read: &str| {
        let words = format!("is parsed as {read}, not as {version}");
        vendor.refused(&["dist", "--name", name, "--release", version], &words);
    };
    read_as("x", "2.0.0-hotfix.1", "2.0.0");
    read_as("x-2.0.0", "1.0.0", "2.0.0-1.0.0");
}

#[test]
fn pack_replaces_archive_only_with_force() {
    let vendor = Vendor::new();
    vendor.pack(&["build"]).ok();
    fs::write(vendor.path("emqx-5.0.1.tar.zst.minisig"), "of the archive before").unwrap();
    fs::write(vendor.path("build/none"), "more").unwrap();
    let before = vendor.bytes("emqx-5.0.1.tar.zst");
    vendor.refused(&["build"], "emqx-5.0.1.tar.zst exists already and is different");
    assert_eq!(vendor.bytes("emqx-5.0.1.tar.zst"), before);
    vendor.pack(&["build", "--force"]).ok();
    assert_ne!(vendor.bytes("emqx-5.0.1.tar.zst"), before);
    assert_eq!(vendor.names(), ["build", "emqx-5.0.1.tar.zst", "emqx-5.0.1.tar.zst.sha256"]);
    fs::write(vendor.path("emqx-5.0.1.tar.zst.sha256"), "another").unwrap();
    vendor.refused(&["build"], "emqx-5.0.1.tar.zst.sha256 exists already");
    fs::remove_file(vendor.path("emqx-5.0.1.tar.zst.sha256")).unwrap();
    vendor.pack(&["build"]).ok().stdout_has("Already packed");
    vendor.host.run(["lint", vendor.path("emqx-5.0.1.tar.zst").to_str().unwrap()]).ok();
}

#[test]
fn invalid_release_is_not_packed() {
    for (name, make, words) in faults() {
        let vendor = Vendor::new();
        make(&vendor.path("build"));
        vendor.refused(&["build"], words);
        assert_eq!(vendor.names(), ["build"], "{name}");
    }
    let vendor = Vendor::new();
    fs::create_dir(vendor.path("empty")).unwrap();
    vendor.refused(
        &["empty", "--name", "a", "--release", "1.0.0"],
        "it contains no file\nhint: name a directory",
    );
    fs::write(vendor.path("file"), "").unwrap();
    vendor.pack(&["file"]).code(2).stderr_has("it is not a directory");
    vendor.pack(&["absent"]).code(2).stderr_has("cannot find absent");
}

type Fault = (&'static str, fn(&Path), &'static str);

fn faults() -> Vec<Fault> {
    vec![
        (
            "pipe",
            |dir| nix::unistd::mkfifo(&dir.join("p"), Mode::S_IRWXU).unwrap(),
            "p is a device, pipe or socket",
        ),
        ("absolute", |dir| symlink("/etc", dir.join("l")).unwrap(), "l links to \"/etc\", which is absolute"),
        ("out", |dir| symlink("..", dir.join("l")).unwrap(), "l links to \"..\", which leaves the release"),
        (
            "loop",
            |dir| symlink("l", dir.join("l")).unwrap(),
            "l links to \"l\", which passes through too many",
        ),
        ("name", |dir| fs::write(dir.join("a\nb"), "").unwrap(), "contains a control character"),
        (
            "manifest",
            |dir| fs::write(dir.join("release.toml"), "name = 1\n").unwrap(),
            "release.toml, line 1",
        ),
        (
            "several",
            |dir| ["l", "m"].iter().for_each(|name| symlink("/etc", dir.join(name)).unwrap()),
            "which is absolute, and 1 more",
        ),
    ]
}

#[test]
fn pack_warns_about_lost_modes() {
    let vendor = Vendor::new();
    let file = vendor.path("build/bin/emqx");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let warning = "warning: bin/emqx is setuid or setgid, and unpacking removes these bits\n";
    vendor.pack(&["build"]).ok().stderr(warning);
}

#[test]
fn dry_run_writes_nothing() {
    let vendor = Vendor::new();
    let run = vendor.pack(&["build", "--dry-run", "--format", "zip"]).ok().stderr("");
    run.stdout_has("Would pack emqx 5.0.1: emqx-5.0.1.zip, ").stdout_has("\nNothing was changed.\n");
    assert_eq!(vendor.names(), ["build"]);
    let told = vendor.pack(&["build", "--json"]).ok().json();
    let sum = hex(&vendor.bytes("emqx-5.0.1.tar.zst"));
    for (key, value) in
        [("name", "emqx"), ("version", "5.0.1"), ("archive", "emqx-5.0.1.tar.zst"), ("sha256", &sum)]
    {
        assert_eq!(told[key], *value, "{told}");
    }
    assert_eq!((&told["changed"], &told["dry_run"]), (&true.into(), &false.into()));
    let before = vendor.names();
    vendor.pack(&["build", "--dry-run"]).ok().stdout_has("Already packed emqx 5.0.1: emqx-5.0.1.tar.zst, ");
    assert_eq!(vendor.pack(&["build", "--dry-run", "--json"]).ok().json()["changed"], false);
    fs::write(vendor.path("build/none"), "more").unwrap();
    vendor.refused(&["build", "--dry-run"], "exists already and is different");
    vendor.pack(&["build", "--dry-run", "--force"]).ok().stdout_has("Would pack emqx 5.0.1: ");
    assert_eq!(vendor.names(), before);
    assert_eq!(hex(&vendor.bytes("emqx-5.0.1.tar.zst")), sum, "nothing was changed");
}

#[test]
fn pack_refuses_links_and_directories_as_output() {
    let vendor = Vendor::new();
    vendor.pack(&["build"]).ok();
    for ending in ["", ".sha256", ".minisig"] {
        let name = format!("emqx-5.0.1.tar.zst{ending}");
        let _ = fs::remove_file(vendor.path(&name));
        symlink("absent", vendor.path(&name)).unwrap();
        for args in [&["build"][..], &["build", "--force"], &["build", "--dry-run"]] {
            vendor.refused(args, &format!("{name} exists already and is a link"));
        }
        fs::remove_file(vendor.path(&name)).unwrap();
        fs::create_dir(vendor.path(&name)).unwrap();
        vendor.refused(&["build"], &format!("{name} exists already and is a directory"));
        fs::remove_dir(vendor.path(&name)).unwrap();
    }
}

#[test]
fn single_directory_release_keeps_directory() {
    let vendor = Vendor::new();
    fs::create_dir_all(vendor.path("one/bin")).unwrap();
    fs::write(vendor.path("one/bin/run"), "").unwrap();
    for format in FORMATS {
        let args = ["one", "--name", "emqx", "--release", "5.0.2", "--format", format];
        vendor.pack(&args).ok();
        let archive = vendor.path(&format!("emqx-5.0.2.{format}"));
        vendor.host.run(["unpack", "--replace", archive.to_str().unwrap()]).ok();
        assert!(vendor.host.root().join("releases/5.0.2/bin/run").is_file(), "{format}");
    }
}

#[test]
fn many_files_are_packed_in_every_format() {
    let vendor = Vendor::new();
    let dir = vendor.path("many");
    for n in 0_u32..2_000 {
        let sub = dir.join(format!("d{}/e{}", n % 7, n % 31));
        fs::create_dir_all(&sub).unwrap();
        let text = format!("{n} ").repeat(usize::try_from(n % 97).unwrap() * 40);
        fs::write(sub.join(format!("f{n}")), text).unwrap();
    }
    fs::write(dir.join("large"), vec![7; 5 << 20]).unwrap();
    let expected = walkdir(&dir);
    for format in FORMATS {
        vendor.pack(&["many", "--name", "emqx", "--release", "6.0.0", "--format", format]).ok();
        let archive = vendor.path(&format!("emqx-6.0.0.{format}"));
        vendor.host.run(["unpack", "--replace", archive.to_str().unwrap()]).ok();
        assert_eq!(walkdir(&vendor.host.root().join("releases/6.0.0")), expected, "{format}");
    }
}

/// An unreadable file leaves no archive.
#[test]
fn unreadable_file_leaves_no_archive() {
    let vendor = Vendor::new();
    fs::set_permissions(vendor.path("build/none"), fs::Permissions::from_mode(0o0)).unwrap();
    if nix::unistd::geteuid().is_root() {
        vendor.pack(&["build"]).ok();
        return;
    }
    vendor.pack(&["build"]).code(1).stdout("").stderr_has("build/none");
    assert_eq!(vendor.names(), ["build"]);
}

/// A full disk is reported once and leaves nothing, independent of the time when it fills up.
#[test]
fn full_disk_leaves_no_archive() {
    let vendor = Vendor::new();
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    for n in 0..20 {
        let bytes: Vec<u8> = (0..100_000).map(|_| noise()).collect();
        fs::write(vendor.path(&format!("build/noise{n}")), bytes).unwrap();
    }
    for format in FORMATS {
        for blocks in [1, 700, 1_900] {
            // Past the limit a write fails, as on a full disk, because the shell ignores the signal.
            let script = "trap '' XFSZ; ulimit -f $1; exec \"$0\" pack build --format $2";
            let mut command = Command::new("sh");
            let blocks = blocks.to_string();
            command
                .args(["-c", script, env!("CARGO_BIN_EXE_tenure"), &blocks, format])
                .current_dir(vendor.dir());
            let run = Run::of(command.output().unwrap(), &command).code(1).stdout("");
            assert!(run.stderr.starts_with("error: cannot "), "{format} {blocks}: {}", run.stderr);
            run.stderr_has("caused by: File too large");
            assert_eq!(vendor.names(), ["build"], "{format} {blocks}");
        }
    }
}

/// A killed `pack` leaves only a draft, and a `pack` ended by SIGTERM leaves nothing.
#[test]
fn interrupted_pack_leaves_no_archive() {
    let vendor = Vendor::new();
    // A sparse file needs no space, but takes long to pack.
    File::create(vendor.path("build/sparse")).unwrap().set_len(64 << 30).unwrap();
    for (signal, left) in
        [(Signal::SIGTERM, &["build"][..]), (Signal::SIGKILL, &[".tenure-draft.0", "build"])]
    {
        let mut command = vendor.command(&["pack", "build"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while !vendor.path(".tenure-draft.0").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::yield_now();
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let ended = child.wait_with_output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), if signal == Signal::SIGTERM { Some(1) } else { None });
        assert!(!told.contains("sparse"), "{told}");
        assert_eq!(vendor.names(), left);
    }
    fs::remove_file(vendor.path("build/sparse")).unwrap();
    // A locked draft stays, and so does a file of another program.
    let others = [".tenure-draft.1", ".new.0"];
    others.iter().for_each(|name| fs::write(vendor.path(name), "").unwrap());
    let held = File::open(vendor.path(others[0])).unwrap();
    held.lock().unwrap();
    vendor.pack(&["build"]).ok();
    let archive = "emqx-5.0.1.tar.zst";
    assert_eq!(vendor.names(), [others[1], others[0], "build", archive, &format!("{archive}.sha256")]);
    vendor.host.run(["lint", vendor.path("emqx-5.0.1.tar.zst").to_str().unwrap()]).ok();
}
