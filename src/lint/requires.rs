//! Finds the faults of what a release requires: words that no host uses for itself.

use crate::manifest::nearest;
use crate::requires::{NamedRequirement, Requires};

use super::finding::{Code, Finding};

/// Common words for architectures, each with uname's word.
const ARCH_WORDS: [(&str, &str); 6] = [
    ("amd64", "x86_64"),
    ("x64", "x86_64"),
    ("x86-64", "x86_64"),
    ("arm64", "aarch64"),
    ("x86", "i686"),
    ("armhf", "armv7l"),
];

/// The words of uname (`UTS_MACHINE` and `utsname.machine` of Linux).
const UNAME: [&str; 24] = [
    "aarch64",
    "aarch64_be",
    "armv5tel",
    "armv5tejl",
    "armv6l",
    "armv7l",
    "armv8l",
    "i386",
    "i486",
    "i586",
    "i686",
    "loongarch64",
    "m68k",
    "mips",
    "mips64",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv32",
    "riscv64",
    "s390x",
    "sparc",
    "sparc64",
    "x86_64",
];

/// The C libraries that hosts have.
const LIBC: [&str; 2] = ["glibc", "musl"];

/// Reports the requirements that no host meets. `at` returns the place of a key.
pub fn check(requires: &Requires, at: &dyn Fn(&str) -> String) -> Vec<Finding> {
    let unknown = |word: &&String| !UNAME.contains(&word.as_str());
    let arch = requires.arch.iter().filter(unknown).map(|word| {
        let message = format!("{word:?} is not an architecture that a host reports");
        let hint = match ARCH_WORDS.iter().find(|(wrong, _)| wrong == word) {
            Some((_, uname)) => format!("write {uname:?}"),
            None => format!(
                "write what `uname -m` prints; the nearest known word is {:?}",
                nearest(word, &UNAME).unwrap_or_default()
            ),
        };
        Finding::new(Code::ArchUnknown, &at("arch"), message).hint(hint)
    });
    let libc = requires.libc.iter().filter_map(|wanted| {
        let (message, hint) = never_met(wanted)?;
        Some(Finding::new(Code::ManifestValue, &at("libc"), message).hint(hint))
    });
    arch.chain(libc).collect()
}

/// Returns why no host has this C library, and what to write instead. Returns `None` if a host may have it.
fn never_met(wanted: &NamedRequirement) -> Option<(String, String)> {
    match wanted.name() {
        name if !LIBC.contains(&name) => {
            let near = nearest(name, &LIBC).unwrap_or_default();
            Some((format!("{name:?} is not a C library"), format!("the nearest known one is {near:?}")))
        }
        "musl" if wanted.is_bound() => Some((
            format!("no host can meet `{wanted}`: musl does not report a version"),
            "write \"musl\"".to_owned(),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the places, codes and hints of the faults of this table.
    fn told(table: &str) -> Vec<String> {
        let requires: Requires = toml::from_str(table).unwrap();
        let findings = check(&requires, &|key| key.to_owned());
        findings.into_iter().map(|it| format!("{} {} {}", it.place, it.code.word(), it.hint)).collect()
    }

    #[test]
    fn architectures_are_those_of_uname() {
        for fine in ["x86_64", "aarch64", "armv7l", "ppc64le", "s390x", "riscv64", "i586"] {
            assert_eq!(told(&format!("arch = ['{fine}']")), [""; 0], "{fine}");
        }
        for (wrong, right) in [("amd64", "x86_64"), ("x68_64", "x86_64"), ("aarch46", "aarch64"), ("", "")] {
            let hint = told(&format!("arch = ['{wrong}']")).concat();
            assert!(hint.starts_with("arch arch-unknown ") && hint.contains(right), "{wrong}: {hint}");
        }
    }

    #[test]
    fn c_library_must_be_known() {
        assert_eq!(told("libc = ['glibc >= 2.36', 'GLIBC', 'musl']"), [""; 0]);
        assert_eq!(
            told("libc = ['gilbc >= 2.36']"),
            ["libc manifest-value the nearest known one is \"glibc\""]
        );
        assert_eq!(told("libc = ['musl >= 1.2']"), ["libc manifest-value write \"musl\""]);
    }
}
