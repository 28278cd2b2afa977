//! The structure of the sources: which module may use which, which modules may have effects, circles, and the
//! length of files.

mod circles;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The maximum length of a file, in lines.
const LONGEST_FILE: usize = 400;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the modules in the order of lib.rs, each with its floor and its rank.
fn floors() -> BTreeMap<String, (usize, usize)> {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let (mut floor, mut floors) = (None, BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("// Floor ") {
            floor = rest[..1].parse().ok();
        } else if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            floors.insert(name.to_owned(), (floor.expect("a module stands on a floor"), floors.len()));
        }
    }
    floors
}

/// Returns the module that a source file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(src()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Returns the modules of the crate that a text names as `crate::NAME`.
fn uses(text: &str) -> Vec<String> {
    let name = |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned();
    text.split("crate::").skip(1).map(name).collect()
}

#[test]
fn modules_use_only_modules_above() {
    let floors = floors();
    assert!(floors.len() > 15, "lib.rs lists the modules: {floors:?}");
    let mut seen = 0;
    for path in sources(&src()) {
        let Some((_, rank)) = floors.get(&module(&path)) else { continue };
        for used in uses(&fs::read_to_string(&path).unwrap()) {
            let (_, above) =
                floors.get(&used).unwrap_or_else(|| panic!("{}: crate::{used}?", path.display()));
            assert!(above <= rank, "{} may not use crate::{used}, which stands below it", path.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} uses were found: the search is broken");
}

#[test]
fn only_floors_2_and_3_have_effects() {
    let text = fs::read_to_string(src().join("lib.rs")).unwrap();
    let floors = floors();
    let lifted: Vec<&str> = text
        .split("#[allow(clippy::disallowed_methods")
        .skip(1)
        .map(|rest| rest.split("pub mod ").nth(1).unwrap().split(';').next().unwrap())
        .collect();
    assert!(lifted.contains(&"host_path"), "{lifted:?}");
    assert!(
        !lifted.contains(&"fs") && !lifted.contains(&"root"),
        "what a root holds is reached by way of open directories"
    );
    for name in lifted {
        assert!(matches!(floors[name].0, 2 | 3), "{name} may have no effects");
    }
    for path in sources(&src()).iter().filter(|path| !path.ends_with("lib.rs") && !path.ends_with("main.rs"))
    {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("disallowed_methods"), "{} lifts the lint by itself", path.display());
    }
}

#[test]
fn only_the_command_line_prints() {
    for path in sources(&src()).iter().filter(|path| module(path) != "cli") {
        let text = fs::read_to_string(path).unwrap();
        for word in ["println!", "print!", "stdout()", "stderr()"] {
            assert!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn only_the_clock_sleeps() {
    for path in sources(&src()).iter().filter(|path| module(path) != "clock") {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("thread::sleep"), "{} polls without clock::poll", path.display());
    }
}

#[test]
fn files_are_short_and_start_with_a_doc() {
    for path in sources(&src()) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines: which idea is missing?", path.display());
        assert!(text.starts_with("//! "), "{} does not say its duty", path.display());
    }
}

#[test]
fn type_names_are_unique() {
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in sources(&src()) {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let rest = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
                Some(rest) => rest.split_once(") ").map_or("", |(_, rest)| rest),
                None => rest.trim_start(),
            });
            let name =
                ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| rest.strip_prefix(kind));
            if let Some(name) = name {
                let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                places.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
    }
    assert!(places.len() > 200, "only {} types were found", places.len());
    places.retain(|_, paths| paths.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

/// Returns the texts of the files of the library and the command line, by their paths in `src`.
fn texts() -> BTreeMap<String, String> {
    let name = |path: &Path| path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
    let text = |path: PathBuf| (name(&path), fs::read_to_string(&path).unwrap());
    sources(&src()).into_iter().filter(|path| !path.ends_with("main.rs")).map(text).collect()
}

#[test]
fn files_form_no_circle() {
    let found: Vec<String> = circles::circles(&texts()).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn pure_modules_name_nothing_with_effects() {
    let effects = ["std::fs", "std::process", "std::time::Instant", "std::time::SystemTime", "crate::clock"];
    let floors = floors();
    let mut seen = 0;
    for path in sources(&src()) {
        let is_pure = floors.get(&module(&path)).is_some_and(|(floor, _)| *floor < 2);
        for named in circles::paths(&fs::read_to_string(&path).unwrap()).iter().filter(|_| is_pure) {
            let effect =
                effects.iter().find(|effect| named == *effect || named.starts_with(&format!("{effect}::")));
            assert_eq!(effect, None, "{} names {named}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} paths were found: the search is broken");
}
