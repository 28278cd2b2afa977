//! `lint` reports all faults of a release to its vendor at once, each with a code, a place and a hint.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use crate::support::{Build, Host, Run, assert_run, hex};
use nix::sys::stat::Mode;
use tar::{EntryType, Header};

const FORMATS: [&str; 6] = ["zip", "tar", "tar.gz", "tgz", "tar.zst", "tar.xz"];

/// A working directory with a release as a directory in it.
struct Vendor {
    host: Host,
}

impl Vendor {
    fn new() -> Self {
        Self { host: Host::new() }
    }

    fn dir(&self) -> PathBuf {
        self.host.root().join("build")
    }

    fn build(&self) -> Build {
        Build::new(self.host.root().to_owned(), "5.0.1")
    }

    fn lint(&self, what: &str) -> Run {
        self.host.run(["lint", what])
    }

    /// Returns the codes and places of the faults in `what`.
    fn faults(&self, what: &str) -> Vec<(String, String)> {
        let told = self.host.run(["lint", "--json", what]).json();
        let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let faults = told["findings"].as_array().unwrap();
        assert!(faults.iter().all(|fault| !text(fault, "hint").is_empty()), "{faults:?}");
        faults.iter().map(|fault| (text(fault, "code"), text(fault, "place"))).collect()
    }
}

fn fault(code: &str, place: &str) -> (String, String) {
    (code.to_owned(), place.to_owned())
}

#[test]
fn valid_release_has_no_faults() {
    let vendor = Vendor::new();
    vendor.build().spread(&vendor.dir());
    let before = vendor.host.tree();
    vendor.lint("build").ok().stdout("No fault was found in build.\n").stderr("");
    let here = vendor.host.run_in(&vendor.dir(), ["lint", "."]);
    here.ok().stdout("No fault was found in the working directory.\n");
    assert_eq!(vendor.host.tree(), before, "nothing is written");
    for format in FORMATS {
        let file = format!("emqx-5.0.1.{format}");
        vendor.build().format(format).write();
        vendor.lint(&file).ok().stdout(&format!("No fault was found in {file}.\n")).stderr("");
        vendor.build().format(format).flat().write();
        vendor.lint(&file).ok();
    }
}

/// Returns a release with a fault of every kind that both a directory and an archive can have.
fn faulty(build: Build) -> Build {
    let manifest = "name = \"emqx\"\nversion = \"5.0.1\"\n[upgrade]\nhot-form = [\"~5.0\"]\nfrom = [\"~5.1\"]\n\
                    [requires]\narch = [\"amd64\", \"x86_64\"]\n[hooks]\nhot-upgrade = [\"bin/up\"]\n\
                    hot-downgrade = [\"lib/version\"]\n";
    build
        .file("release.toml", manifest)
        .executable("bin/tool", "#!/usr/bin/env ruby\n")
        .file("lib/nif.so", "\x7fELF\x02\x01..........\x03\0\x28\0")
        .file("lib/Version", "")
        .file("data/seed", "")
        .file("data/other", "")
        .file("lib/x.pid", "")
        .symlink("lib/out", "../../x")
        .symlink("lib/absolute", "/etc/passwd")
}

const FAULTS: &str = "\
lib/absolute: links to \"/etc/passwd\", which is absolute [link-absolute]
  hint: link to it by a path relative to the link, inside the release
lib/out: links to \"../../x\", which leaves the release [link-unsafe]
  hint: point it to a file in the release, or remove it
release.toml:4: unknown field `hot-form`, expected `hot-from` or `from` [manifest-unknown]
  hint: the nearest known key is `hot-from`
release.toml:5: no version in `~5.1` is lower than 5.0.1 [range-never]
  hint: correct the range, or remove it
release.toml:7: \"amd64\" is not an architecture that a host reports [arch-unknown]
  hint: write \"x86_64\"
release.toml:9: `hot-upgrade` runs \"bin/up\", which is not in the release [hook-missing]
  hint: ship the program, or remove the hook; paths begin at the top of the release
release.toml:10: `hot-downgrade` runs \"lib/version\", which is not executable [hook-not-executable]
  hint: set its executable bit: `chmod 755`
bin/tool: is run by \"ruby\", which is neither in the release nor on every host [interpreter-missing]
  hint: ship the interpreter and name it in the shebang, or write the script for /bin/sh
lib/nif.so: is for armv7l, but the manifest requires amd64 or x86_64 [arch-differs]
  hint: ship the binary for the release's architecture, or name its own in [requires] arch
data: contains 2 files, where services usually write [file-written]
  hint: write it to a directory that tenure.toml lists in [shared] directories, which outlives releases
lib/x.pid: is named like a file that a service writes [file-written]
  hint: write it to a directory that tenure.toml lists in [shared] directories, which outlives releases
";

#[test]
fn lint_reports_all_faults_at_once() {
    let vendor = Vendor::new();
    faulty(vendor.build()).spread(&vendor.dir());
    vendor.lint("build").code(2).stdout(&format!("{FAULTS}11 faults were found in build.\n")).stderr("");
    for format in FORMATS {
        let file = format!("emqx-5.0.1.{format}");
        faulty(vendor.build()).format(format).write();
        let expected = format!("{FAULTS}11 faults were found in {file}.\n");
        vendor.lint(&file).code(2).stdout(&expected).stderr("");
    }
}

#[test]
fn json_contains_all_faults() {
    let vendor = Vendor::new();
    vendor.build().symlink("out", "..").spread(&vendor.dir());
    assert_run!(vendor.host, "--json lint build", @r#"
    exit 2
    --- stdout
    {
      "schema": 1,
      "subject": "build",
      "findings": [
        {
          "code": "link-unsafe",
          "place": "out",
          "message": "links to \"..\", which leaves the release",
          "hint": "point it to a file in the release, or remove it"
        }
      ]
    }
    "#);
}

#[test]
fn forbidden_entries_are_reported() {
    let vendor = Vendor::new();
    vendor.build().spread(&vendor.dir());
    nix::unistd::mkfifo(&vendor.dir().join("lib/pipe"), Mode::S_IRWXU).unwrap();
    fs::write(vendor.dir().join("a\\b"), "").unwrap();
    fs::write(vendor.dir().join("bin/root"), "").unwrap();
    fs::set_permissions(vendor.dir().join("bin/root"), fs::Permissions::from_mode(0o4755)).unwrap();
    let expected =
        [fault("entry-unsafe", "a\\b"), fault("mode-lost", "bin/root"), fault("entry-special", "lib/pipe")];
    assert_eq!(vendor.faults("build"), expected);
}

/// Returns a tar of these entries, each with its type, name and data.
fn tar(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, name, data) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, data.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The kernel runs hooks without a shell, and it recognizes scripts by their first line.
#[test]
fn hook_must_be_executable_by_kernel() {
    let vendor = Vendor::new();
    let manifest = "name = 'emqx'\nversion = '5.0.1'\n[hooks]\ncheck = ['bin/second']\n";
    let told = |script: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in [("release.toml", manifest), ("bin/first", script)] {
            let mut header = Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, name, data.as_bytes()).unwrap();
        }
        let mut second = Header::new_gnu();
        second.set_entry_type(EntryType::Link);
        second.set_mode(0o755);
        second.set_size(0);
        tar.append_link(&mut second, "bin/second", "bin/first").unwrap();
        fs::write(vendor.host.root().join("emqx-5.0.1.tar"), tar.into_inner().unwrap()).unwrap();
        vendor.faults("emqx-5.0.1.tar")
    };
    assert_eq!(told("#!/bin/sh\n"), []);
    let not_run = || fault("hook-not-executable", "release.toml:4");
    assert_eq!(told("exit 0\n"), [not_run()]);
    assert_eq!(told(""), [not_run()]);
    assert_eq!(told("#!/bin/ruby\n").len(), 2, "under either name");
}

#[test]
fn lint_continues_after_refused_entries() {
    let vendor = Vendor::new();
    let manifest = "name = 'emqx'\nversion = '5.0.1'\nbanana = 1\n";
    let long = "x".repeat(100_000);
    let bytes = tar(&[
        (EntryType::Regular, "emqx/../evil", &long),
        (EntryType::Char, "emqx/null", ""),
        (EntryType::Regular, "emqx/twice", "1"),
        (EntryType::Regular, "emqx/twice", &long),
        (EntryType::Regular, "emqx/release.toml", manifest),
    ]);
    fs::write(vendor.host.root().join("emqx-5.0.1.tar"), bytes).unwrap();
    let expected = [
        fault("entry-unsafe", "../evil"),
        fault("entry-special", "null"),
        fault("entry-unsafe", "twice"),
        fault("manifest-unknown", "release.toml:3"),
    ];
    assert_eq!(vendor.faults("emqx-5.0.1.tar"), expected);
}

#[test]
fn lint_reads_zip_after_refused_entries() {
    let vendor = Vendor::new();
    let long = "x".repeat(100_000);
    vendor.build().file("lib/back\\slash", &long).file("lib/none", &long).symlink("z", "/").write();
    let expected = [fault("entry-unsafe", "lib/back\\slash"), fault("link-absolute", "z")];
    assert_eq!(vendor.faults("emqx-5.0.1.zip"), expected);
}

#[test]
fn damaged_archive_is_a_fault() {
    let vendor = Vendor::new();
    for format in FORMATS {
        let path = vendor.build().format(format).write();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() * 2 / 3]).unwrap();
        let faults = vendor.faults(&format!("emqx-5.0.1.{format}"));
        assert_eq!(faults, [fault("archive-unfit", "")], "{format}");
    }
}

/// A fault that ends the reading does not hide faults before, after or next to it.
#[test]
fn fatal_fault_hides_no_other() {
    let vendor = Vendor::new();
    let bytes = tar(&[
        (EntryType::Char, "emqx/null", ""),
        (EntryType::Regular, "emqx/release.toml", &"#".repeat(70_000)),
        (EntryType::Regular, "emqx/log/x", ""),
    ]);
    let archive = vendor.host.root().join("emqx-5.0.1.tar");
    let null = fault("entry-special", "null");
    fs::write(&archive, &bytes).unwrap();
    let long = fault("manifest-syntax", "release.toml");
    assert_eq!(vendor.faults("emqx-5.0.1.tar"), [null.clone(), long, fault("file-written", "log")]);
    fs::write(&archive, &bytes[..2_000]).unwrap();
    assert_eq!(vendor.faults("emqx-5.0.1.tar"), [null, fault("archive-unfit", "")]);
    fs::create_dir(vendor.dir()).unwrap();
    assert_run!(vendor.lint("build"), @"
    exit 2
    --- stdout
    build: it contains no file [archive-unfit]
      hint: name a directory that contains only the release
    One fault was found in build.
    ");
    symlink("/etc", vendor.dir().join("l")).unwrap();
    symlink("..", vendor.dir().join("m")).unwrap();
    let expected = [fault("link-absolute", "l"), fault("link-unsafe", "m"), fault("archive-unfit", "")];
    assert_eq!(vendor.faults("build"), expected);
}

#[test]
fn digest_file_must_match_archive() {
    let vendor = Vendor::new();
    let path = vendor.build().write();
    let digest = path.with_extension("zip.sha256");
    fs::write(&digest, hex(&fs::read(&path).unwrap())).unwrap();
    vendor.lint("emqx-5.0.1.zip").ok();
    fs::write(&digest, "0".repeat(64)).unwrap();
    assert_eq!(vendor.faults("emqx-5.0.1.zip"), [fault("digest-differs", "")]);
}

#[test]
fn archive_name_must_match_manifest() {
    let vendor = Vendor::new();
    let path = vendor.build().write();
    for (name, place) in [("emqx-5.0.2.zip", "release.toml"), ("emqx.zip", "release.toml")] {
        fs::copy(&path, vendor.host.root().join(name)).unwrap();
        assert_eq!(vendor.faults(name), [fault("name-differs", place)], "{name}");
    }
    fs::copy(&path, vendor.host.root().join("emqx-5.0.1-el9.zip")).unwrap();
    vendor.lint("emqx-5.0.1-el9.zip").ok();
    let bytes = tar(&[(EntryType::Regular, "a/b", "")]);
    fs::write(vendor.host.root().join("plain.tar"), &bytes).unwrap();
    assert_eq!(vendor.faults("plain.tar"), [fault("name-differs", "")]);
    fs::write(vendor.host.root().join("plain-1.0.0.tar"), &bytes).unwrap();
    vendor.lint("plain-1.0.0.tar").ok();
}

#[test]
fn other_files_are_refused() {
    let vendor = Vendor::new();
    fs::write(vendor.host.root().join("file"), "").unwrap();
    assert_run!(vendor.lint("absent"), @"
    exit 2
    --- stderr
    error: cannot find absent
    caused by: No such file or directory (os error 2)
    ");
    assert_run!(vendor.lint("file"), @"
    exit 2
    --- stderr
    error: file is not an archive: its name must end in .zip, .tar.gz, .tgz, .tar.zst, .tar.xz or .tar
    ");
    vendor.host.run(["lint"]).code(64);
}

#[test]
fn lint_follows_link_inside_root() {
    let vendor = Vendor::new();
    vendor.build().spread(&vendor.dir());
    let elsewhere = vendor.host.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(vendor.dir(), elsewhere.join("link")).unwrap();
    vendor.host.run_in(&elsewhere, ["lint", "link"]).ok();
}

#[test]
fn example_manifest_has_no_faults() {
    let vendor = Vendor::new();
    let example = vendor.host.run(["manifest", "--example"]).ok().stdout;
    let hooks = ["check", "prepare", "backup", "migrate", "hot-upgrade", "hot-downgrade", "ctl"];
    let build = vendor.build().file("release.toml", &example);
    let program = |build: Build, hook: &&str| build.executable(&format!("bin/{hook}"), "#!/bin/sh\n");
    hooks.iter().fold(build, program).spread(&vendor.dir());
    vendor.lint("build").ok();
}

#[test]
fn hot_script_needs_running_version_hook() {
    let vendor = Vendor::new();
    let manifest = "name = \"emqx\"\nversion = \"5.0.1\"\n[hooks]\nhot-upgrade = [\"bin/hot\"]\n";
    vendor.build().file("release.toml", manifest).executable("bin/hot", "#!/bin/sh\n").spread(&vendor.dir());
    assert_run!(vendor.lint("build"), @"
    exit 2
    --- stdout
    release.toml:4: `hot-upgrade` moves a running service, but the release holds scripts only: Tenure cannot determine which release an interpreter runs [version-untold]
      hint: add a hook `running-version`, which prints the version that the service runs
    One fault was found in build.
    ");
}
