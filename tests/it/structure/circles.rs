//! The search for circles: a file that uses another one, which uses the first, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::iter::Peekable;

use proc_macro2::{Delimiter, TokenStream, TokenTree, token_stream};

/// A path in a source file, or a module of the crate: its segments.
type Names = Vec<String>;

/// Returns the path of each `use` and of each inline path of a text. Ignores `#[cfg(test)]` items.
pub fn paths(text: &str) -> Vec<String> {
    let source = Source::read(text);
    let named = source.used.iter().chain(source.exported.values());
    named.map(|names| source.expand(names).join("::")).collect()
}

/// What a source file names. An inline module counts as part of its file.
#[derive(Default)]
struct Source {
    /// The imported paths and the inline paths.
    used: Vec<Names>,
    /// The path of each name that the file imports.
    imported: BTreeMap<String, Names>,
    /// The path of each name that the file re-exports.
    exported: BTreeMap<String, Names>,
}

type Tokens = Peekable<token_stream::IntoIter>;

impl Source {
    fn read(text: &str) -> Self {
        let mut source = Self::default();
        source.tokens(text.parse().expect("Rust"));
        source
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        // Whether the item that begins here has a visibility.
        let mut is_public = false;
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => skip_test(&mut tokens),
                TokenTree::Ident(name) if name == "pub" => {
                    is_public = true;
                    tokens.next_if(|next| matches!(next, TokenTree::Group(_)));
                    continue;
                }
                TokenTree::Ident(name) if name == "use" => self.import(&mut tokens, is_public),
                TokenTree::Ident(name) => {
                    let names = path(name.to_string(), &mut tokens);
                    if names.len() > 1 {
                        self.used.push(names);
                    }
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => {}
            }
            is_public = false;
        }
    }

    /// Replaces an imported name at the beginning of a path by its own path.
    fn expand(&self, path: &[String]) -> Names {
        match path.split_first().and_then(|(first, rest)| Some((self.imported.get(first)?, rest))) {
            Some((imported, rest)) => [imported, rest].concat(),
            None => path.to_vec(),
        }
    }

    fn import(&mut self, tokens: &mut Tokens, is_public: bool) {
        for (name, names) in tree(&Names::new(), tokens) {
            if is_public {
                self.exported.insert(name, names);
            } else {
                self.imported.insert(name, names.clone());
                self.used.push(names);
            }
        }
    }
}

/// Takes the rest of an attribute, and the item after it if that is `#[cfg(test)]`.
fn skip_test(tokens: &mut Tokens) {
    let attribute = tokens.next().map(|attribute| attribute.to_string().replace(' ', ""));
    if attribute.as_deref() == Some("[cfg(test)]") {
        let is_end = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        tokens.find(is_end);
    }
}

/// Takes the rest of a path whose first segment is `first`.
fn path(first: String, tokens: &mut Tokens) -> Names {
    let mut names = vec![first];
    while is_colons(tokens) {
        let Some(TokenTree::Ident(name)) = tokens.next_if(|next| matches!(next, TokenTree::Ident(_))) else {
            break;
        };
        names.push(name.to_string());
    }
    names
}

/// Takes `::`, if it comes next.
fn is_colons(tokens: &mut Tokens) -> bool {
    let is_colon = |next: &TokenTree| matches!(next, TokenTree::Punct(punct) if punct.as_char() == ':');
    tokens.next_if(is_colon).is_some() && tokens.next_if(is_colon).is_some()
}

/// Takes a tree of imports up to its `,` or `;`. Returns each name that it imports, with its path.
fn tree(prefix: &Names, tokens: &mut Tokens) -> Vec<(String, Names)> {
    let mut names = prefix.clone();
    let mut alias = None;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => break,
            TokenTree::Ident(name) if name == "as" => alias = tokens.next().map(|name| name.to_string()),
            TokenTree::Ident(name) => names.push(name.to_string()),
            TokenTree::Group(group) => {
                let mut inner = group.stream().into_iter().peekable();
                let mut found = Vec::new();
                while inner.peek().is_some() {
                    found.extend(tree(&names, &mut inner));
                }
                tokens.next_if(|next| matches!(next, TokenTree::Punct(punct) if punct.as_char() == ','));
                return found;
            }
            // `::`, and `*`, which imports the names of the module before it.
            _ => {}
        }
    }
    if names.len() > 1 && names.last().is_some_and(|last| last == "self") {
        names.pop();
    }
    match names.last() {
        Some(last) => vec![(alias.unwrap_or_else(|| last.clone()), names)],
        None => Vec::new(),
    }
}

/// The files of a crate and what they name.
struct Crate {
    /// The file of each module, for example `fs/links.rs` of `[fs, links]`.
    files: BTreeMap<Names, (String, Source)>,
}

impl Crate {
    fn read(texts: &BTreeMap<String, String>) -> Self {
        let module = |file: &str| {
            let mut names: Names = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            names.pop_if(|last| *last == "mod" || *last == "lib");
            names
        };
        let read = |(file, text): (&String, &String)| (module(file), (file.clone(), Source::read(text)));
        Self { files: texts.iter().map(read).collect() }
    }

    /// Returns the files that each file uses. A re-export by a `mod.rs` or `lib.rs` is not a use.
    fn uses(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let of = |module: &Names, file: &str, source: &Source| -> BTreeSet<&str> {
            let exports = !file.ends_with("mod.rs") && !file.ends_with("lib.rs");
            let exported = source.exported.values().filter(|_| exports);
            let used = source.used.iter().chain(exported).filter_map(|path| self.target(module, path));
            used.filter(|used| *used != file).collect()
        };
        self.files.iter().map(|(module, (file, source))| (file.as_str(), of(module, file, source))).collect()
    }

    /// Returns the file that defines what a module names, or `None` if it is not of this crate.
    fn target(&self, module: &Names, path: &[String]) -> Option<&str> {
        let path = self.files[module].1.expand(path);
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Names::new(),
            "self" => module.clone(),
            "super" => {
                let supers = path.iter().take_while(|name| *name == "super").count();
                rest = &path[supers..];
                module[..module.len().checked_sub(supers)?].to_vec()
            }
            name => {
                let child = [module.as_slice(), &[name.to_owned()]].concat();
                self.files.contains_key(&child).then_some(child)?
            }
        };
        while let Some((name, others)) = rest.split_first() {
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            if self.files.contains_key(&child) {
                at = child;
            } else if let Some(exported) = self.files[&at].1.exported.get(name) {
                return self.target(&at, &[exported, others].concat());
            } else {
                break;
            }
            rest = others;
        }
        Some(&self.files[&at].0)
    }
}

/// Files each of which uses all others, directly or by way of others, with what they use of each other.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Circle(pub BTreeMap<String, BTreeSet<String>>);

impl Display for Circle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "a circle of {} files:", self.0.len())?;
        for (file, used) in &self.0 {
            writeln!(f, "  {file} uses {}", used.iter().cloned().collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

/// Returns the circles in a crate, given the text of each file under its path in `src`.
pub fn circles(texts: &BTreeMap<String, String>) -> BTreeSet<Circle> {
    let files = Crate::read(texts);
    let uses = files.uses();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        uses.keys().map(|file| (*file, reach(&uses, file))).collect();
    let circle = |file: &&str| {
        let members: BTreeSet<&str> =
            reached[file].iter().copied().filter(|other| reached[other].contains(file)).collect();
        let inside = |member: &&str| {
            let used = uses[member].intersection(&members).map(|used| (*used).to_owned());
            ((*member).to_owned(), used.collect())
        };
        Circle(members.iter().map(inside).collect())
    };
    uses.keys().map(circle).filter(|circle| !circle.0.is_empty()).collect()
}

/// Returns the files that a file uses directly or by way of others.
fn reach<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>, file: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = uses[file].iter().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(&uses[file]);
        }
    }
    reached
}

/// Returns the circles of these files, each as text.
fn found(texts: &[(&str, &str)]) -> Vec<String> {
    let texts = texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    circles(&texts).iter().map(ToString::to_string).collect()
}

const LIB: (&str, &str) = ("lib.rs", "pub mod a; pub mod b; pub mod c;");

#[test]
fn paths_of_trees_and_macros_are_found() {
    let text = "use std::{fs as files, time::{self, Duration}, io}; #[cfg(test)] mod tests { use std::env; }
                fn f() { assert!(std::process::id() > 0, \"std::env\"); files::read(); time::Instant::now() }";
    let expected = [
        "std::fs",
        "std::time",
        "std::time::Duration",
        "std::io",
        "std::process::id",
        "std::fs::read",
        "std::time::Instant::now",
    ];
    assert_eq!(paths(text), expected);
}

#[test]
fn circle_is_found_and_printed() {
    let files = [
        LIB,
        ("a.rs", "use std::fs; use crate::{c, b::{self, B as Other}};"),
        ("b.rs", "pub struct B; fn f() { println!(\"{}\", crate::c::g()) }"),
        ("c.rs", "fn g(a: super::a::A) {}"),
    ];
    let circle = "a circle of 3 files:\n  a.rs uses b.rs, c.rs\n  b.rs uses c.rs\n  c.rs uses a.rs\n";
    assert_eq!(found(&files), [circle]);
    assert_eq!(found(&[files[0], files[1], files[2], ("c.rs", "")]), [""; 0]);
}

#[test]
fn tests_and_reexports_are_not_uses() {
    let module = ("a/mod.rs", "mod x; mod y; pub use x::{X, f as g}; pub(crate) use self::y::Y;");
    let x = ("a/x.rs", "use super::Y; #[cfg(test)] mod tests { use crate::a::g; }");
    assert_eq!(found(&[LIB, module, x, ("a/y.rs", "#[cfg(test)] use super::X; struct Z;")]), [""; 0]);
    // A re-exported name is used from the file that defines it.
    let circle = "a circle of 2 files:\n  a/x.rs uses a/y.rs\n  a/y.rs uses a/x.rs\n";
    assert_eq!(found(&[LIB, module, x, ("a/y.rs", "use crate::a::g;")]), [circle]);
    // A private import is a use.
    let module = ("a/mod.rs", "mod x; use x::X; pub struct A;");
    let circle = "a circle of 2 files:\n  a/mod.rs uses a/x.rs\n  a/x.rs uses a/mod.rs\n";
    assert_eq!(found(&[LIB, module, ("a/x.rs", "use super::*;")]), [circle]);
}

#[test]
fn inline_paths_are_uses() {
    let module = ("a/mod.rs", "mod x; fn f() { x::f() }");
    let circle = "a circle of 2 files:\n  a/mod.rs uses a/x.rs\n  a/x.rs uses a/mod.rs\n";
    assert_eq!(found(&[LIB, module, ("a/x.rs", "use crate::a; fn f() { a::f() }")]), [circle]);
    assert_eq!(found(&[LIB, module, ("a/x.rs", "fn f() { super::f() }")]), [circle]);
    assert_eq!(
        found(&[LIB, module, ("a/x.rs", "fn f() { super::super::b::f(); std::fs::read(); }")]),
        [""; 0]
    );
}
