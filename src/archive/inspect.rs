//! The rules that the entries of an archive must obey together, checked one by one as they come.

use std::collections::HashMap;

use super::entry::{Entry, EntryKind};
use super::path::{Checked, PATH_MAX, breach, shown, stays_inside};
use crate::error::{Error, Result};

/// Real releases have some ten thousand.
pub const ENTRIES_MAX: u64 = 1_000_000;
/// Bounds the memory that names and link targets take.
const TEXT_MAX: usize = 128 * 1024 * 1024;
/// The kernel follows no more links in one path (MAXSYMLINKS).
const LINKS_MAX: usize = 40;
/// Bounds the work for one link, whatever the others are; twice the depth that a name may have, and some.
const STEPS_MAX: usize = 500;

/// Admits entries in the order of the archive and remembers what stands where.
#[derive(Default)]
pub struct Inspector {
    nodes: HashMap<String, Node>,
    tops: Tops,
    seen: u64,
    text: usize,
    files: u64,
}

/// What the archive holds as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The directory that everything lies in, which is not part of the release.
    pub top: Option<String>,
    /// Files, directories and links of the release, directories that are only implied included.
    pub entries: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File,
    Symlink(String),
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
    /// Refuses what clashes with an earlier entry, and more entries than there may be.
    pub fn admit(&mut self, entry: &Entry) -> Result<()> {
        self.count(entry)?;
        let path = entry.path.as_str();
        if path.is_empty() {
            return Ok(());
        }
        self.note_top(path);
        self.admit_parents(path, path)?;
        match (&entry.kind, self.nodes.get(path)) {
            (EntryKind::Directory, Some(Node::Directory)) => return Ok(()),
            (EntryKind::Directory, Some(_)) | (_, Some(Node::Directory)) => {
                return Err(breach(path.as_bytes(), "is there both as a directory and as something else"));
            }
            (_, Some(_)) => return Err(breach(path.as_bytes(), "is there twice")),
            (_, None) => {}
        }
        let node = self.node(entry)?;
        self.files += u64::from(node == Node::File);
        self.insert(path, node);
        Ok(())
    }

    /// The directory that everything lies in so far.
    pub fn top_so_far(&self) -> Option<&str> {
        match &self.tops {
            Tops::One(top) => Some(top),
            _ => None,
        }
    }

    /// Decides about the whole once every entry is admitted.
    ///
    /// # Errors
    /// Refuses an archive without files, and links that lead out of the release.
    pub fn finish(self) -> Result<Verdict> {
        if self.files == 0 {
            return Err(Error::refused("the archive is empty"));
        }
        let top = self.top_so_far().filter(|top| self.nodes.get(*top) == Some(&Node::Directory));
        for (path, node) in &self.nodes {
            if let Node::Symlink(target) = node {
                self.follow(top.unwrap_or_default(), path, target).map_err(|why| leads(path, target, why))?;
            }
        }
        let entries = self.nodes.len() as u64 - u64::from(top.is_some());
        Ok(Verdict { top: top.map(String::from), entries })
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.seen += 1;
        self.text += match &entry.kind {
            EntryKind::Symlink { target } => target.len(),
            _ => 0,
        };
        if self.seen > ENTRIES_MAX || self.nodes.len() as u64 > ENTRIES_MAX {
            return Err(too_many());
        }
        if self.text > TEXT_MAX {
            return Err(Error::refused("the names in the archive are longer than 128 MiB together"));
        }
        Ok(())
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
            breach(entry.as_bytes(), format!("lies under the {what} {}", shown(parent.as_bytes())))
        };
        match self.nodes.get(parent) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File) => Err(through("file")),
            Some(Node::Symlink(_)) => Err(through("symlink")),
            None => {
                self.admit_parents(parent, entry)?;
                self.insert(parent, Node::Directory);
                Ok(())
            }
        }
    }

    fn insert(&mut self, path: &str, node: Node) {
        self.text += path.len();
        self.nodes.insert(path.to_owned(), node);
    }

    fn node(&self, entry: &Entry) -> Result<Node> {
        match &entry.kind {
            EntryKind::Directory => Ok(Node::Directory),
            EntryKind::File { .. } => Ok(Node::File),
            EntryKind::Symlink { target } => Ok(Node::Symlink(target.clone())),
            EntryKind::Hardlink { first } if self.nodes.get(first.as_str()) == Some(&Node::File) => {
                Ok(Node::File)
            }
            EntryKind::Hardlink { first } => Err(breach(
                entry.path.as_str().as_bytes(),
                format!("is a hard link to {}, which is no earlier file", shown(first.as_str().as_bytes())),
            )),
        }
    }

    /// Walks where a link leads, as the kernel would with all links of the archive in place.
    fn follow(&self, top: &str, link: &str, target: &str) -> Checked<()> {
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
                    if let Some(Node::Symlink(next)) = self.nodes.get(&at) {
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
        Err("leads through too many links")
    }
}

/// The archive has more entries than there may be.
pub fn too_many() -> Error {
    Error::refused(format!("the archive has more than {ENTRIES_MAX} entries"))
}

fn leads(link: &str, target: &str, why: &str) -> Error {
    breach(link.as_bytes(), format!("links to {}, which {why}", shown(target.as_bytes())))
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
    use super::super::entry::{Raw, Shape};
    use super::*;

    fn entry(shape: Shape, name: &str, target: &str) -> Entry {
        let raw =
            Raw { name: name.as_bytes(), shape, target: target.as_bytes(), size: 0, mode: 0, mtime: None };
        Entry::parse(&raw).unwrap()
    }

    fn file(name: &str) -> Entry {
        entry(Shape::File, name, "")
    }

    fn link(name: &str, target: &str) -> Entry {
        entry(Shape::Symlink, name, target)
    }

    fn inspect(entries: &[Entry]) -> Result<Verdict> {
        let mut inspector = Inspector::default();
        entries.iter().try_for_each(|entry| inspector.admit(entry))?;
        inspector.finish()
    }

    #[test]
    fn implied_directories_count_and_the_stripped_one_does_not() {
        let verdict = |top: Option<&str>, entries| Verdict { top: top.map(String::from), entries };
        let dir = |name| entry(Shape::Directory, name, "");
        assert_eq!(inspect(&[file("a/b/c")]).unwrap(), verdict(Some("a"), 2));
        assert_eq!(
            inspect(&[dir("./"), dir("a"), file("a/b/c"), dir("a/b"), dir("a")]).unwrap(),
            verdict(Some("a"), 2)
        );
        assert_eq!(inspect(&[file("a/b"), file("c")]).unwrap(), verdict(None, 3));
        assert_eq!(inspect(&[file("a")]).unwrap(), verdict(None, 1));
        assert_eq!(inspect(&[file("a"), entry(Shape::Hardlink, "b", "a")]).unwrap(), verdict(None, 2));
    }

    #[test]
    fn links_are_followed_through_each_other() {
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
    fn a_chain_of_links_is_as_long_as_the_kernel_allows() {
        let chain = |length: usize| {
            let links = (0..length).map(|n| link(&format!("l{n}"), &format!("l{}", n + 1)));
            inspect(&links.chain([file("f")]).collect::<Vec<_>>())
        };
        assert!(chain(41).is_ok());
        assert!(chain(42).unwrap_err().to_string().ends_with("leads through too many links"));
        let long = vec!["d/.."; 300].join("/");
        assert!(inspect(&[file("d/f"), link("l", &long)]).is_err());
    }

    #[test]
    fn neither_entries_nor_their_names_are_without_limit() {
        let mut inspector = Inspector { seen: ENTRIES_MAX - 1, ..Inspector::default() };
        inspector.admit(&file("a")).unwrap();
        assert!(inspector.admit(&file("b")).unwrap_err().to_string().contains("more than 1000000 entries"));
        let mut inspector = Inspector { text: TEXT_MAX - 1, ..Inspector::default() };
        inspector.admit(&file("a")).unwrap();
        assert!(inspector.admit(&link("b", "c")).unwrap_err().to_string().contains("longer than 128 MiB"));
    }
}
