//! Checks the files of a release: scripts that cannot run, binaries for another architecture, files that services
//! write to.

use std::collections::{BTreeMap, BTreeSet};

use crate::version::Version;

use super::binaries;
use super::finding::{Code, Finding};
use super::release::{FileMagic, FileType, Interpreter, Release, Shebang};

/// The interpreters on every host, in /bin or /usr/bin: those of the packages that Debian calls essential.
const STANDARD: [&str; 9] = ["sh", "bash", "env", "awk", "sed", "perl", "cat", "false", "true"];

/// The interpreters of service scripts, which exist wherever their service manager is in use.
const MANAGERS: [&str; 2] = ["/sbin/openrc-run", "/lib/init/init-d-script"];

/// The directories at the top of a release that services write to.
const WRITTEN: [&str; 7] = ["cache", "data", "log", "logs", "run", "tmp", "var"];

/// The endings of files that services write to, in any directory.
const WRITTEN_ENDINGS: [&str; 6] = [".db", ".log", ".pid", ".sock", ".sqlite", ".sqlite3"];

/// Reports the faults of the files. `arch` holds the architectures of the release; if empty, that of most binaries
/// counts. The programs in `hooks` count as executable, whatever their modes are.
pub fn check<'a>(
    release: &Release,
    version: Option<&Version>,
    arch: &[String],
    hooks: impl Iterator<Item = &'a str>,
) -> Vec<Finding> {
    let hooks: BTreeSet<String> =
        hooks.filter_map(|hook| release.resolve(hook)).map(|(path, _)| path).collect();
    let is_run = |path: &String| is_executable(release, path) || hooks.contains(path);
    let scripts = release.programs.iter().filter_map(|(path, head)| match head {
        FileMagic::Script(shebang) if is_run(path) => {
            interpreter(release, version, shebang, !hooks.contains(path)).map(|(message, hint)| {
                let finding = Finding::new(Code::InterpreterMissing, path, message);
                hint.into_iter().fold(finding, Finding::hint)
            })
        }
        _ => None,
    });
    scripts.chain(binaries::check(release, arch)).chain(check_written(release)).collect()
}

fn is_executable(release: &Release, path: &str) -> bool {
    matches!(release.entries.get(path), Some(FileType::File { executable: true }))
}

/// Returns why a script cannot run, and a hint if there is a specific one. The PATH of the service may contain
/// directories of the release; the PATH of hooks does not.
fn interpreter(
    release: &Release,
    version: Option<&Version>,
    shebang: &Shebang,
    has_path: bool,
) -> Option<(String, Option<String>)> {
    let absent = |program: &str| {
        Some((format!("is run by {program:?}, which is neither in the release nor on every host"), None))
    };
    match shebang.runner() {
        Interpreter::CarriageReturn => Some((
            "has a carriage return at the end of its first line".to_owned(),
            Some("convert its line endings: `sed -i 's/\\r$//'`".to_owned()),
        )),
        Interpreter::Nothing => Some(("is run by env without a program".to_owned(), None)),
        Interpreter::OneWord(words) => Some((
            format!("is run by env, which reads {words:?} as one word"),
            Some(format!("have env split the line: `#!{} -S {words}`", shebang.interpreter)),
        )),
        Interpreter::Named(program) if STANDARD.contains(&program) => None,
        Interpreter::Named(program) => match (has_program(release, program), has_path) {
            (true, true) => None,
            (true, false) => {
                Some((format!("is run by {program:?}, which is not on the PATH of hooks"), None))
            }
            (false, _) => absent(program),
        },
        Interpreter::Path(program) if is_standard(program) => None,
        Interpreter::Path(program) => {
            match path_in_release(program, version).and_then(|inside| release.resolve(inside)) {
                Some((_, FileType::File { executable: true })) => None,
                Some(_) => Some((
                    format!("is run by {program:?}, which is not an executable file"),
                    Some("ship it as a file, and set its executable bit: `chmod 755`".to_owned()),
                )),
                None => absent(program),
            }
        }
    }
}

fn is_standard(path: &str) -> bool {
    let name = ["/bin/", "/usr/bin/"].iter().find_map(|dir| path.strip_prefix(dir));
    name.is_some_and(|name| STANDARD.contains(&name)) || MANAGERS.contains(&path)
}

/// Returns the path in the release of an interpreter that is named by a relative path, through a link of a root, or
/// through `releases/` and this version. Hooks run in the directory of their release.
fn path_in_release<'a>(interpreter: &'a str, version: Option<&Version>) -> Option<&'a str> {
    if !interpreter.starts_with('/') {
        return Some(interpreter).filter(|path| !path.is_empty());
    }
    let by_link =
        || ["/current/", "/permanent/"].iter().find_map(|link| Some(interpreter.split_once(link)?.1));
    let by_version = || {
        let (dir, path) = interpreter.split_once("/releases/")?.1.split_once('/')?;
        let is_this = |there: Version| version.is_none_or(|version| *version == there);
        Version::of_directory(dir).is_some_and(is_this).then_some(path)
    };
    by_link().or_else(by_version)
}

/// Returns whether the release contains a program of this name, which the service may find on its PATH.
fn has_program(release: &Release, program: &str) -> bool {
    let named = |path: &&String| path.rsplit('/').next() == Some(program);
    let is_program =
        |path: &String| matches!(release.resolve(path), Some((_, FileType::File { executable: true })));
    release.entries.keys().filter(named).any(is_program)
}

fn check_written(release: &Release) -> Vec<Finding> {
    let files = || {
        let is_file = |(_, thing): &(&String, &FileType)| matches!(thing, FileType::File { .. });
        release.entries.iter().filter(is_file).map(|(path, _)| path.as_str())
    };
    let mut directories: BTreeMap<&str, usize> = BTreeMap::new();
    files().filter_map(written_dir).for_each(|top| *directories.entry(top).or_default() += 1);
    let directories = directories.into_iter().map(|(top, count)| {
        let files = if count == 1 { "a file".to_owned() } else { format!("{count} files") };
        Finding::new(Code::FileWritten, top, format!("contains {files}, where services usually write"))
    });
    let named = |path: &&str| {
        written_dir(path).is_none() && WRITTEN_ENDINGS.iter().any(|ending| path.ends_with(ending))
    };
    let by_name = files()
        .filter(named)
        .map(|path| Finding::new(Code::FileWritten, path, "is named like a file that a service writes"));
    directories.chain(by_name).collect()
}

/// Returns the directory at the top of the release that contains a file, if services write to that directory.
fn written_dir(path: &str) -> Option<&str> {
    path.split_once('/').map(|(top, _)| top).filter(|top| WRITTEN.contains(top))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(paths: &[(&str, bool)], programs: &[(&str, FileMagic)]) -> Release {
        let file = |(path, executable): &(&str, bool)| {
            ((*path).to_owned(), FileType::File { executable: *executable })
        };
        Release {
            entries: paths.iter().map(file).collect(),
            programs: programs.iter().map(|(path, head)| ((*path).to_owned(), head.clone())).collect(),
            ..Release::default()
        }
    }

    fn told(findings: &[Finding]) -> Vec<(&str, &str)> {
        findings.iter().map(|finding| (finding.code.word(), finding.place.as_str())).collect()
    }

    fn checked(release: &Release, arch: &[String]) -> Vec<Finding> {
        check(release, Some(&"1.0.0".parse().unwrap()), arch, std::iter::empty())
    }

    #[test]
    fn script_needs_an_interpreter() {
        for (line, fine) in [
            ("#!/bin/sh -e", true),
            ("#!/usr/bin/env bash", true),
            ("#!/usr/bin/env -S FOO=1 bash --x", true),
            ("#!/usr/bin/env FOO=1 bash", false),
            ("#!bin/node", true),
            ("#!/usr/bin/env bin/node", true),
            ("#!bin/data", false),
            ("#!bin", false),
            ("#!/srv/app/current/bin/node", true),
            ("#!/srv/app/releases/1.0.0/bin/node", true),
            ("#!/srv/app/releases/1.0.0/bin/ruby", false),
            ("#!/srv/app/releases/node", false),
            ("#!/sbin/openrc-run", true),
            ("#!/usr/bin/env -S -u FOO bash", true),
            ("#!/usr/bin/python3", false),
            ("#!/usr/bin/env ruby", false),
            ("#!/usr/bin/env", false),
            ("#!/usr/local/bin/sh", false),
            ("#!/bin/sh\r", false),
            ("#!/srv/app/current/bin/ruby", false),
            ("#!", false),
        ] {
            let head = FileMagic::of(line.as_bytes()).unwrap();
            let files = |x| [("bin/data", false), ("bin/node", true), ("x", x)];
            let told = checked(&release(&files(true), &[("x", head.clone())]), &[]);
            assert_eq!(told.is_empty(), fine, "{line}: {told:?}");
            let plain = release(&files(false), &[("x", head)]);
            assert_eq!(checked(&plain, &[]), [], "it is not executable");
            assert_eq!(check(&plain, None, &[], ["./x"].into_iter()).is_empty(), fine, "{line}: a hook");
        }
    }

    #[test]
    fn interpreter_of_other_version_is_reported() {
        let head = FileMagic::of(b"#!/srv/app/releases/1.0.1/bin/node").unwrap();
        let release = release(&[("bin/node", true), ("x", true)], &[("x", head)]);
        assert_eq!(told(&checked(&release, &[])), [("interpreter-missing", "x")]);
        assert_eq!(check(&release, None, &[], std::iter::empty()), []);
    }

    #[test]
    fn path_of_hooks_excludes_the_release() {
        let files = [("bin/node", true), ("bin/ruby", false), ("x", true)];
        let by = |program: &str| FileMagic::of(format!("#!/usr/bin/env {program}").as_bytes()).unwrap();
        let run = |program: &str, hook: Option<&str>| {
            check(&release(&files, &[("x", by(program))]), None, &[], hook.into_iter())
                .pop()
                .map(|it| it.message)
        };
        assert_eq!(run("node", None), None, "the service may set its own PATH");
        let told = run("node", Some("x")).unwrap();
        assert!(told.ends_with("which is not on the PATH of hooks"), "{told}");
        assert!(run("ruby", None).is_some(), "bin/ruby is not executable");
    }

    #[test]
    fn usually_written_files_are_reported() {
        let files = [
            ("bin/X", false),
            ("bin/x", false),
            ("data/a.db", false),
            ("data/b", false),
            ("lib/data/x", false),
            ("lib/x.pid", false),
            ("log", false),
        ];
        let expected = [("file-written", "data"), ("file-written", "lib/x.pid")];
        assert_eq!(told(&checked(&release(&files, &[]), &[])), expected);
    }
}
