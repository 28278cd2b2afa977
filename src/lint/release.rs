//! The facts about a release that linting needs: its entries, and the kinds of its programs by their first bytes.

use std::collections::BTreeMap;
use std::iter;

/// The type of an entry in a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Whether the owner may execute the file.
        executable: bool,
    },
    /// A symlink and its target.
    Link(String),
}

/// The facts about a release that linting needs, without the contents of all files.
#[derive(Clone, Debug, Default)]
pub struct Release {
    /// The file name of the archive, or `None` for a directory.
    pub archive: Option<String>,
    /// The text of the manifest.
    pub manifest: Option<String>,
    /// All entries by path.
    pub entries: BTreeMap<String, FileType>,
    /// The kinds of the programs, according to their first bytes, by path.
    pub programs: BTreeMap<String, FileMagic>,
}

/// The maximum number of path components, including those of symlinks, that are followed for one path.
const STEPS_MAX: usize = 500;

impl Release {
    /// Returns the path and the type of the entry that a path leads to, following symlinks. Returns `None` if the
    /// path leads out of the release or to nothing.
    pub(super) fn resolve(&self, path: &str) -> Option<(String, &FileType)> {
        let mut at = String::new();
        let mut ahead: Vec<&str> = path.split('/').rev().collect();
        for _ in 0..STEPS_MAX {
            match ahead.pop() {
                None => {
                    let thing = self.entries.get(&at)?;
                    return Some((at, thing));
                }
                Some("" | ".") => {}
                Some("..") if at.is_empty() => return None,
                Some("..") => at.truncate(at.rfind('/').unwrap_or(0)),
                Some(name) => {
                    let here = at.len();
                    if here > 0 {
                        at.push('/');
                    }
                    at.push_str(name);
                    if let Some(FileType::Link(target)) = self.entries.get(&at) {
                        at.truncate(here);
                        ahead.extend(target.split('/').rev());
                    }
                }
            }
        }
        None
    }
}

/// The kind of a program, according to its first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileMagic {
    /// A script.
    Script(Shebang),
    /// An executable or a library, with uname's word for its architecture.
    Binary(String),
}

/// The first line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shebang {
    /// The interpreter, as the line names it.
    pub interpreter: String,
    /// The argument of the interpreter, or an empty string.
    pub argument: String,
}

/// The program that runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpreter<'a> {
    /// The program at this path.
    Path(&'a str),
    /// The program of this name that env finds on the PATH.
    Named(&'a str),
    /// No program: env takes all these words as one, because the kernel passes them as one argument.
    OneWord(&'a str),
    /// No program: the line does not name a program for env to run.
    Nothing,
    /// No program: the line ends with a carriage return, which becomes part of the last word.
    CarriageReturn,
}

/// Executables and libraries (`e_type` of elf(5)). An object file does not run anywhere.
const LOADED: [u16; 2] = [2, 3];

impl FileMagic {
    /// The number of bytes that are read, as many as the kernel reads (BINPRM_BUF_SIZE).
    pub const BYTES: usize = 256;

    /// Returns the kind of program that begins with these bytes, or `None` if they are not those of a program.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'#', b'!', line @ ..] => Some(Self::Script(Shebang::of(line))),
            [0x7f, b'E', b'L', b'F', class, order, ..] => {
                let number = |at: usize| {
                    let pair: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
                    Some(if *order == 2 { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
                };
                LOADED.contains(&number(16)?).then_some(())?;
                Some(Self::Binary(arch(number(18)?, *class == 2, *order == 2)))
            }
            _ => None,
        }
    }
}

impl Shebang {
    /// Splits the line as the kernel does: blanks, the interpreter, blanks, and one argument to the end of the line.
    fn of(line: &[u8]) -> Self {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        let blank = |c: char| matches!(c, ' ' | '\t');
        let text = text.trim_matches(blank);
        let (interpreter, argument) = text.split_once(blank).unwrap_or((text, ""));
        Self { interpreter: interpreter.to_owned(), argument: argument.trim_start_matches(blank).to_owned() }
    }

    /// Returns the program that runs the script.
    #[must_use]
    pub fn runner(&self) -> Interpreter<'_> {
        let Self { interpreter, argument } = self;
        match interpreter.as_str() {
            _ if interpreter.ends_with('\r') || argument.ends_with('\r') => Interpreter::CarriageReturn,
            "/bin/env" | "/usr/bin/env" => by_env(argument),
            path => Interpreter::Path(path),
        }
    }
}

/// The options of env that take the next word.
const TAKING: [&str; 6] = ["-u", "--unset", "-C", "--chdir", "-a", "--argv0"];

/// Returns the program that env runs for its one argument. Only `-S` makes env split that argument (env(1)).
fn by_env(argument: &str) -> Interpreter<'_> {
    let split = argument.strip_prefix("--split-string=").or_else(|| {
        let (flags, words) = argument.strip_prefix('-')?.split_once('S')?;
        flags.chars().all(|flag| "i0v".contains(flag)).then_some(words)
    });
    let is_program = |word: &&str| !word.starts_with('-') && !word.contains('=');
    let words = argument.split_whitespace().count();
    let program = match split {
        Some(words) => {
            let before = iter::once("").chain(words.split_whitespace());
            let mut words = before.zip(words.split_whitespace());
            words.find(|(before, word)| is_program(word) && !TAKING.contains(before)).map(|(_, word)| word)
        }
        None if words > 1 => return Interpreter::OneWord(argument),
        None => Some(argument).filter(|word| !word.is_empty() && is_program(word)),
    };
    match program {
        Some(path) if path.contains('/') => Interpreter::Path(path),
        Some(name) => Interpreter::Named(name),
        None => Interpreter::Nothing,
    }
}

/// Returns uname's word for a machine (`e_machine` of elf(5)).
fn arch(machine: u16, wide: bool, big: bool) -> String {
    match (machine, wide, big) {
        (2 | 18, ..) => "sparc",
        (3, ..) => "i686",
        (4, ..) => "m68k",
        (8, ..) => "mips",
        (20, ..) => "ppc",
        (21, _, false) => "ppc64le",
        (21, _, true) => "ppc64",
        (22, ..) => "s390x",
        (40, ..) => "armv7l",
        (43, ..) => "sparc64",
        (62, ..) => "x86_64",
        (183, _, false) => "aarch64",
        (183, _, true) => "aarch64_be",
        (243, true, _) => "riscv64",
        (243, false, _) => "riscv32",
        (258, ..) => "loongarch64",
        _ => return format!("machine {machine}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_followed_through_links() {
        let entries = [
            ("bin", FileType::Directory),
            ("bin/run", FileType::File { executable: true }),
            ("lib", FileType::Link("bin".into())),
            ("bin/up", FileType::Link("../lib/run".into())),
            ("out", FileType::Link("../x".into())),
            ("loop", FileType::Link("loop".into())),
        ];
        let entries = entries.into_iter().map(|(path, thing)| (path.to_owned(), thing)).collect();
        let release = Release { entries, ..Release::default() };
        for (path, found) in [
            ("bin/run", Some("bin/run")),
            ("./lib/../bin/up", Some("bin/run")),
            ("lib", Some("bin")),
            ("bin/absent", None),
            ("out", None),
            ("loop", None),
        ] {
            assert_eq!(release.resolve(path).map(|(at, _)| at).as_deref(), found, "{path}");
        }
    }
    #[test]
    fn scripts_are_recognised_by_shebang() {
        for (text, interpreter, argument) in [
            ("#!/bin/sh\necho", "/bin/sh", ""),
            ("#! /usr/bin/env  python3 -u \n", "/usr/bin/env", "python3 -u"),
            ("#!/bin/sh\r\n", "/bin/sh\r", ""),
            ("#!", "", ""),
        ] {
            let expected = Shebang { interpreter: interpreter.into(), argument: argument.into() };
            assert_eq!(FileMagic::of(text.as_bytes()), Some(FileMagic::Script(expected)), "{text:?}");
        }
    }

    #[test]
    fn env_gets_one_argument() {
        for (line, runner) in [
            ("#!/usr/bin/env bash", Interpreter::Named("bash")),
            ("#!/usr/bin/env -S bash -e", Interpreter::Named("bash")),
            ("#!/usr/bin/env -Ssh", Interpreter::Named("sh")),
            ("#!/usr/bin/env -iS A=1 sh", Interpreter::Named("sh")),
            ("#!/usr/bin/env -S -u A --chdir / sh", Interpreter::Named("sh")),
            ("#!/usr/bin/env --split-string=sh", Interpreter::Named("sh")),
            ("#!/usr/bin/env bin/node", Interpreter::Path("bin/node")),
            ("#!/usr/bin/env bash -e", Interpreter::OneWord("bash -e")),
            ("#!/bin/env A=1 sh", Interpreter::OneWord("A=1 sh")),
            ("#!/usr/bin/env -i sh", Interpreter::OneWord("-i sh")),
            ("#!/usr/bin/env", Interpreter::Nothing),
            ("#!/usr/bin/env -S A=1", Interpreter::Nothing),
            ("#!/usr/bin/env -i", Interpreter::Nothing),
            ("#!/bin/sh -e\r", Interpreter::CarriageReturn),
            ("#!/bin/sh", Interpreter::Path("/bin/sh")),
        ] {
            let Some(FileMagic::Script(shebang)) = FileMagic::of(line.as_bytes()) else { panic!("{line}") };
            assert_eq!(shebang.runner(), runner, "{line}");
        }
    }

    #[test]
    fn binaries_are_recognised_by_elf_header() {
        let elf = |class, order, kind: [u8; 2], machine: [u8; 2]| {
            let mut bytes = vec![0x7f, b'E', b'L', b'F', class, order];
            bytes.resize(16, 0);
            FileMagic::of(&[bytes.as_slice(), &kind, &machine].concat())
        };
        let binary = |arch: &str| Some(FileMagic::Binary(arch.to_owned()));
        assert_eq!(elf(2, 1, [2, 0], [62, 0]), binary("x86_64"));
        assert_eq!(elf(2, 1, [3, 0], [183, 0]), binary("aarch64"));
        assert_eq!(elf(2, 2, [0, 2], [0, 22]), binary("s390x"));
        assert_eq!(elf(2, 1, [3, 0], [21, 0]), binary("ppc64le"));
        assert_eq!(elf(1, 1, [2, 0], [243, 0]), binary("riscv32"));
        assert_eq!(elf(2, 2, [0, 3], [0, 183]), binary("aarch64_be"));
        assert_eq!(elf(1, 1, [2, 0], [99, 1]), binary("machine 355"));
        assert_eq!(elf(2, 1, [1, 0], [247, 0]), None, "an object file");
        for bytes in [&b""[..], b"\x7fELF", b"\x7fELF\x02\x01", b"text", b"#"] {
            assert_eq!(FileMagic::of(bytes), None, "{bytes:?}");
        }
    }
}
