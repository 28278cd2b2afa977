//! Checks each entry of an archive against earlier entries, and the archive as a whole.

use super::layout::{Layout, PathUse};
use super::rules::{Entry, EntryResult, PATH_MAX, shown, stays_inside, violation};
use crate::error::{Error, Result};

/// The maximum number of links that the kernel follows in one path (MAXSYMLINKS).
const LINKS_MAX: usize = 40;
/// The maximum number of steps to follow one link, to bound the work. It exceeds twice the maximum depth of a name.
const STEPS_MAX: usize = 500;

/// A checker that admits entries in the order of the archive and records them by path.
#[derive(Default)]
pub struct Inspector {
    /// The admitted entries.
    pub layout: Layout,
    tops: Tops,
    has_files: bool,
}

#[derive(Default)]
enum Tops {
    #[default]
    None,
    One(String),
    Several,
}

impl Inspector {
    /// Admits one entry.
    ///
    /// # Errors
    /// Returns a `Refused` error if the entry conflicts with an earlier entry.
    pub fn admit(&mut self, entry: &Entry) -> Result<()> {
        let path = entry.path.as_str();
        if path.is_empty() {
            return Ok(());
        }
        self.note_top(path);
        self.admit_parents(path, path)?;
        match (&entry.node, self.layout.get_mut(path)) {
            (PathUse::Directory { mode, .. }, Some(PathUse::Directory { mode: earlier, .. })) => {
                *earlier = *mode;
                return Ok(());
            }
            (PathUse::Directory { .. }, Some(_)) | (_, Some(PathUse::Directory { .. })) => {
                return Err(violation(path.as_bytes(), "appears both as a directory and as something else"));
            }
            (_, Some(_)) => return Err(violation(path.as_bytes(), "appears twice")),
            (_, None) => {}
        }
        let place = self.place(entry)?;
        self.has_files |= place.is_file();
        self.layout.insert(path, place)
    }

    /// Returns the top directory, which contains all entries and is not part of the release, or `None`. Call it after
    /// all entries are admitted.
    pub fn top(&self) -> Option<String> {
        match &self.tops {
            Tops::One(top) if self.layout.get(top).is_some_and(PathUse::is_directory) => Some(top.clone()),
            _ => None,
        }
    }

    /// Checks that the archive contains a file. Call it after all entries are admitted.
    ///
    /// # Errors
    /// Returns a `Refused` error if it contains no file.
    pub fn refuse_empty(&self) -> Result<()> {
        if self.has_files { Ok(()) } else { Err(Error::refused("it contains no file")) }
    }

    /// Returns the symlinks that leave the release or lead through too many links, each with its error. The release
    /// is everything below `top`.
    pub fn stray<'a>(&'a self, top: Option<&'a str>) -> impl Iterator<Item = (&'a str, Error)> {
        self.layout.iter().filter_map(move |(path, place)| match place {
            PathUse::Symlink { target } => {
                let why = self.follow(top.unwrap_or_default(), path, target).err()?;
                Some((path, leads(path, target, why)))
            }
            _ => None,
        })
    }

    fn note_top(&mut self, path: &str) {
        let first = path.split('/').next().unwrap_or_default();
        match &self.tops {
            Tops::None => self.tops = Tops::One(first.to_owned()),
            Tops::One(top) if top != first => self.tops = Tops::Several,
            _ => {}
        }
    }

    fn admit_parents(&mut self, path: &str, entry: &str) -> Result<()> {
        let Some((parent, _)) = path.rsplit_once('/') else { return Ok(()) };
        let through = |what: &str| {
            violation(entry.as_bytes(), format!("is below the {what} {}", shown(parent.as_bytes())))
        };
        match self.layout.get(parent) {
            Some(PathUse::Directory { .. }) => Ok(()),
            Some(PathUse::File { .. } | PathUse::Hardlink { .. }) => Err(through("file")),
            Some(PathUse::Symlink { .. }) => Err(through("symlink")),
            None => {
                self.admit_parents(parent, entry)?;
                self.layout.insert(parent, PathUse::DIRECTORY)
            }
        }
    }

    fn place(&self, entry: &Entry) -> Result<PathUse> {
        match &entry.node {
            PathUse::Hardlink { first } if self.layout.get(first).is_some_and(PathUse::is_file) => {
                Ok(PathUse::Hardlink { first: self.layout.first_name(first).into() })
            }
            PathUse::Hardlink { first } => Err(violation(
                entry.path.as_bytes(),
                format!("is a hard link to {}, which is not an earlier file", shown(first.as_bytes())),
            )),
            node => Ok(node.clone()),
        }
    }

    /// Follows a link as the kernel would with all links of the archive in place.
    fn follow(&self, top: &str, link: &str, target: &str) -> EntryResult<()> {
        let dir = parent(link);
        if !stays_inside(depth(dir) - depth(top), target) {
            return Err("leaves the release");
        }
        let mut at = dir.to_owned();
        let mut ahead: Vec<&str> = target.split('/').rev().collect();
        let mut links = 0;
        for _ in 0..STEPS_MAX {
            match ahead.pop() {
                None => return Ok(()),
                Some("" | ".") => {}
                Some("..") if at == top => return Err("leaves the release"),
                Some("..") => at.truncate(parent(&at).len()),
                Some(name) => {
                    let here = at.len();
                    push(&mut at, name);
                    if let Some(PathUse::Symlink { target: next }) = self.layout.get(&at) {
                        at.truncate(here);
                        links += 1;
                        ahead.extend(next.split('/').rev());
                    }
                }
            }
            if links > LINKS_MAX || at.len() > PATH_MAX {
                break;
            }
        }
        Err("passes through too many symlinks")
    }
}

fn leads(link: &str, target: &str, why: &str) -> Error {
    violation(link.as_bytes(), format!("links to {}, which {why}", shown(target.as_bytes())))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn push(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(name);
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::super::source::{EntryType, RawEntry};
    use super::*;

    fn entry(kind: EntryType, name: &str, target: &str) -> Entry {
        let raw = RawEntry {
            name: name.as_bytes(),
            kind,
            target: target.as_bytes(),
            size: 0,
            mode: 0,
            mtime: None,
        };
        Entry::parse(&raw).unwrap()
    }

    fn file(name: &str) -> Entry {
        entry(EntryType::File, name, "")
    }

    fn link(name: &str, target: &str) -> Entry {
        entry(EntryType::Symlink, name, target)
    }

    /// Returns the stripped top directory and the number of other entries.
    fn inspect(entries: &[Entry]) -> Result<(Option<String>, u64)> {
        let mut inspector = Inspector::default();
        entries.iter().try_for_each(|entry| inspector.admit(entry))?;
        inspector.refuse_empty()?;
        let top = inspector.top();
        if let Some((_, error)) = inspector.stray(top.as_deref()).next() {
            return Err(error);
        }
        let entries = inspector.layout.entries(top.as_deref()).count() as u64;
        Ok((top, entries))
    }

    #[test]
    fn implied_directories_are_counted_except_the_top() {
        let verdict = |top: Option<&str>, entries: u64| (top.map(String::from), entries);
        let dir = |name| entry(EntryType::Directory, name, "");
        assert_eq!(inspect(&[file("a/b/c")]).unwrap(), verdict(Some("a"), 2));
        assert_eq!(
            inspect(&[dir("./"), dir("a"), file("a/b/c"), dir("a/b"), dir("a")]).unwrap(),
            verdict(Some("a"), 2)
        );
        assert_eq!(inspect(&[file("a/b"), file("c")]).unwrap(), verdict(None, 3));
        assert_eq!(inspect(&[file("a")]).unwrap(), verdict(None, 1));
        assert_eq!(inspect(&[file("a"), entry(EntryType::Hardlink, "b", "a")]).unwrap(), verdict(None, 2));
    }

    #[test]
    fn links_are_followed_through_other_links() {
        let table: [(&[(&str, &str)], bool); 13] = [
            (&[("l", "absent")], true),
            (&[("l", ".")], true),
            (&[("d/l", "../f")], true),
            (&[("d/e/l", "../../d/../f")], true),
            (&[("d/up", ".."), ("l", "d/up/f")], true),
            (&[("d/up", ".."), ("l", "d/up/..")], false),
            (&[("d/up", ".."), ("l", "d/up/../f")], false),
            (&[("d/e/up", "../.."), ("m", "d/e/up"), ("l", "m/d/../../f")], false),
            (&[("d/e/up", ".."), ("l", "d/e/up/..")], true),
            (&[("l", "l")], false),
            (&[("a", "b/x"), ("b", "a/y")], false),
            (&[("l", "f/../..")], false),
            (&[("deep", "d/e"), ("l", "deep/../..")], false),
        ];
        for (links, sound) in table {
            for top in ["", "top/"] {
                let links = links.iter().map(|(name, target)| link(&format!("{top}{name}"), target));
                let entries: Vec<Entry> =
                    links.chain([file(&format!("{top}f")), file(&format!("{top}d/f"))]).collect();
                assert_eq!(inspect(&entries).is_ok(), sound, "{entries:?}");
            }
        }
    }

    #[test]
    fn long_link_chains_are_refused() {
        let chain = |length: usize| {
            let links = (0..length).map(|n| link(&format!("l{n}"), &format!("l{}", n + 1)));
            inspect(&links.chain([file("f")]).collect::<Vec<_>>())
        };
        assert!(chain(41).is_ok());
        assert!(chain(42).unwrap_err().to_string().ends_with("passes through too many symlinks"));
        let long = vec!["d/.."; 300].join("/");
        assert!(inspect(&[file("d/f"), link("l", &long)]).is_err());
    }
}
