//! Collects the findings about a release for its vendor: broken rules, and the types of its programs.

use std::collections::BTreeMap;

use super::layout::{Layout, PathUse, Survey};
use super::rules::{Entry, shown};
use super::source::{EntryType, RawEntry};
use crate::error::{Error, Kind, Result};
use crate::lint::{Code, Finding};
use crate::manifest::MANIFEST;
use crate::tree::TreeEntry;

pub use crate::lint::FileMagic;

/// The maximum number of findings. More findings are usually one mistake made many times.
const FINDINGS_MAX: usize = 1_000;
/// The setuid and setgid bits, which no release keeps.
const PRIVILEGE: u32 = 0o6000;

/// The findings so far, by the names in the archive.
#[derive(Default)]
pub struct Notes {
    /// The file magic of files, by path.
    pub heads: Vec<(String, FileMagic)>,
    findings: Vec<Finding>,
}

/// The findings about a release.
#[derive(Debug)]
pub struct LintReport {
    /// The violations of the rules for unpacking.
    pub findings: Vec<Finding>,
    /// The release; `None` if it could not be read to its end.
    pub whole: Option<Whole>,
}

/// A release that was read to its end.
#[derive(Debug)]
pub struct Whole {
    /// The summary of the release.
    pub survey: Survey,
    /// The file magic of the release's programs, by path.
    pub heads: Vec<(String, FileMagic)>,
    layout: Layout,
}

impl Whole {
    /// Returns the entries of the release, sorted by path and without valid digests.
    pub fn tree(&self) -> impl Iterator<Item = TreeEntry> {
        self.layout.entries(self.survey.top.as_deref())
    }
}

impl Notes {
    /// Notes the mode bits that an admitted entry loses.
    pub fn admitted(&mut self, raw: &RawEntry<'_>, entry: &Entry) {
        if raw.mode & PRIVILEGE != 0 && raw.kind == EntryType::File {
            let message = "is setuid or setgid, and unpacking removes these bits";
            self.findings.push(Finding::new(Code::ModeLost, &entry.path, message));
        }
    }

    /// Notes an entry that breaks a rule. Returns `None`, so that the caller skips its data.
    ///
    /// # Errors
    /// Returns `error` if there are too many findings.
    pub fn violation<T>(&mut self, raw: &RawEntry<'_>, error: Error) -> Result<Option<T>> {
        let code = match raw.kind {
            EntryType::Symlink if raw.target.starts_with(b"/") => Code::LinkAbsolute,
            EntryType::Symlink | EntryType::Hardlink => Code::LinkUnsafe,
            EntryType::Unfit(_) => Code::EntrySpecial,
            EntryType::Directory | EntryType::File => Code::EntryUnsafe,
        };
        self.note(code, &String::from_utf8_lossy(raw.name), error).map(|()| None)
    }

    /// Notes a link that leads out of the release.
    ///
    /// # Errors
    /// Returns `error` if there are too many findings.
    pub fn stray(&mut self, path: &str, error: Error) -> Result<()> {
        self.note(Code::LinkUnsafe, path, error)
    }

    /// Notes a manifest that cannot be read. Returns `None`: the release is checked as if it had no manifest.
    ///
    /// # Errors
    /// Returns `error` if there are too many findings.
    pub fn no_manifest(&mut self, error: Error) -> Result<Option<String>> {
        self.note(Code::ManifestSyntax, MANIFEST, error).map(|()| None)
    }

    fn note(&mut self, code: Code, path: &str, error: Error) -> Result<()> {
        if self.findings.len() >= FINDINGS_MAX {
            return Err(error);
        }
        let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
        let (text, named) = (error.to_string(), format!("entry {} ", shown(path.as_bytes())));
        self.findings.push(Finding::new(code, path, text.strip_prefix(&named).unwrap_or(&text)));
        Ok(())
    }

    /// Returns the report. Its paths are relative to the release, which is everything below `top`.
    ///
    /// # Errors
    /// Returns the error of `read` unless its kind is `Refused`.
    pub fn report(self, read: Result<(Survey, Layout)>, top: Option<&str>) -> Result<LintReport> {
        let Self { mut heads, mut findings } = self;
        let whole = match read {
            Err(error) if error.kind() == Kind::Refused => {
                findings.push(Finding::new(Code::ArchiveUnfit, "", error.in_one_line()));
                None
            }
            read => Some(read?),
        };
        if let Some((_, layout)) = &whole {
            heads.extend(of_hard_links(&heads, layout));
        }
        let below = |path: &mut String| {
            let rest = top.and_then(|top| path.strip_prefix(top)?.strip_prefix('/'));
            if let Some(rest) = rest {
                *path = rest.to_owned();
            }
        };
        findings.iter_mut().for_each(|finding| below(&mut finding.place));
        heads.iter_mut().for_each(|(path, _)| below(path));
        Ok(LintReport { findings, whole: whole.map(|(survey, layout)| Whole { survey, heads, layout }) })
    }
}

/// Returns the file magic of the hard links, whose data is read under another name.
fn of_hard_links(heads: &[(String, FileMagic)], layout: &Layout) -> Vec<(String, FileMagic)> {
    let heads: BTreeMap<&str, &FileMagic> = heads.iter().map(|(path, head)| (path.as_str(), head)).collect();
    let head = |(path, place): (&str, &PathUse)| match place {
        PathUse::Hardlink { first } => Some((path.to_owned(), (*heads.get(&**first)?).clone())),
        _ => None,
    };
    layout.iter().filter_map(head).collect()
}
