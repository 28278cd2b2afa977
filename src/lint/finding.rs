//! The kinds of faults, each with its code and its hint, and the fault that `lint` reports.

use serde::Serialize;

use crate::manifest::printable;

/// The kinds of faults. Their words must not change, because scripts match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The archive is damaged, empty, or cannot be read to its end.
    ArchiveUnfit,
    /// The digest file beside the archive does not contain the digest of the archive.
    DigestDiffers,
    /// The file name of the archive does not match the manifest, or it does not contain the version that a missing
    /// manifest would give.
    NameDiffers,
    /// A name that is not safe, or occurs twice.
    EntryUnsafe,
    /// A device, pipe or socket.
    EntrySpecial,
    /// A symlink to an absolute path.
    LinkAbsolute,
    /// A link that leads out of the release, or to nothing.
    LinkUnsafe,
    /// A mode that unpacking does not keep.
    ModeLost,
    /// The manifest is not TOML, or cannot be read.
    ManifestSyntax,
    /// A key that is not known.
    ManifestUnknown,
    /// A required key that is missing.
    ManifestMissing,
    /// A value that cannot be used.
    ManifestValue,
    /// A range that contains no lower version, or an empty list of ranges.
    RangeNever,
    /// A word for an architecture that is not one of uname's.
    ArchUnknown,
    /// A hook whose program is not in the release.
    HookMissing,
    /// A hook whose program cannot be executed.
    HookNotExecutable,
    /// A script whose interpreter may be missing.
    InterpreterMissing,
    /// A binary for another architecture than the release's.
    ArchDiffers,
    /// A file in a place, or with a name, that services usually write to.
    FileWritten,
    /// No way to determine whether a process belongs to this release.
    VersionUntold,
}

impl Code {
    /// Returns the word for this kind in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ArchiveUnfit => "archive-unfit",
            Self::DigestDiffers => "digest-differs",
            Self::NameDiffers => "name-differs",
            Self::EntryUnsafe => "entry-unsafe",
            Self::EntrySpecial => "entry-special",
            Self::LinkAbsolute => "link-absolute",
            Self::LinkUnsafe => "link-unsafe",
            Self::ModeLost => "mode-lost",
            Self::ManifestSyntax => "manifest-syntax",
            Self::ManifestUnknown => "manifest-unknown",
            Self::ManifestMissing => "manifest-missing",
            Self::ManifestValue => "manifest-value",
            Self::RangeNever => "range-never",
            Self::ArchUnknown => "arch-unknown",
            Self::HookMissing => "hook-missing",
            Self::HookNotExecutable => "hook-not-executable",
            Self::InterpreterMissing => "interpreter-missing",
            Self::ArchDiffers => "arch-differs",
            Self::FileWritten => "file-written",
            Self::VersionUntold => "version-untold",
        }
    }

    /// Returns the hint for a fault without a more specific one.
    fn hint(self) -> &'static str {
        match self {
            Self::ArchiveUnfit => "pack it again: `tenure pack DIR`",
            Self::DigestDiffers => "check the archive, then run `sha256sum ARCHIVE >ARCHIVE.sha256`",
            Self::NameDiffers => {
                "name the archive NAME-VERSION as its manifest says, or correct the manifest"
            }
            Self::EntryUnsafe => "rename it; an entry with this name is not unpacked",
            Self::EntrySpecial => "remove it, and let the service create it when it starts",
            Self::LinkAbsolute => "link to it by a path relative to the link, inside the release",
            Self::LinkUnsafe => "point it to a file in the release, or remove it",
            Self::ModeLost => {
                "give the privilege by the service manager, or by a program outside the release"
            }
            Self::ManifestSyntax | Self::ManifestUnknown | Self::ManifestValue | Self::ManifestMissing => {
                "run `tenure manifest --example` to see every key"
            }
            Self::RangeNever => "correct the range, or remove it",
            Self::ArchUnknown => "write what `uname -m` prints",
            Self::HookMissing => {
                "ship the program, or remove the hook; paths begin at the top of the release"
            }
            Self::HookNotExecutable => "set its executable bit: `chmod 755`",
            Self::InterpreterMissing => {
                "ship the interpreter and name it in the shebang, or write the script for /bin/sh"
            }
            Self::ArchDiffers => {
                "ship the binary for the release's architecture, or name its own in [requires] arch"
            }
            Self::FileWritten => {
                "write it to a directory that tenure.toml lists in [shared] directories, which outlives releases"
            }
            Self::VersionUntold => {
                "add a hook `running-version`, which prints the version that the service runs"
            }
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of fault.
    pub code: Code,
    /// A path in the release, or `release.toml:LINE`; empty for the archive as a whole.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// How to correct the fault.
    pub hint: String,
}

impl Finding {
    /// Creates a fault with the hint of its kind. Control characters in the place are escaped.
    pub fn new(code: Code, place: &str, message: impl Into<String>) -> Self {
        let place = place.chars().map(printable).collect();
        Self { code, place, message: message.into(), hint: code.hint().to_owned() }
    }

    /// Replaces the hint with a more specific one.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_serialize_as_their_words() {
        for code in [Code::ArchiveUnfit, Code::ModeLost, Code::HookNotExecutable, Code::FileWritten] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.word());
        }
    }
}
