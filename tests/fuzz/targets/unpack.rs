#![no_main]
//! Fuzzes unpacking into a directory. Nothing outside the directory may change, and an unpacked release must verify.

mod ground;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tenure::archive::{Archive, Target};
use tenure::tree::{self, Node, TreeEntry};
use tenure::progress::NoProgress;

fuzz_target!(|data: &[u8]| {
    let Some((bytes, format)) = ground::render(data) else { return };
    let dir = ground::place();
    let path = ground::write(dir.path(), &bytes);
    let target = dir.path().join("below/target");
    fs::create_dir_all(&target).expect("a directory can be made");
    fs::write(dir.path().join("below/canary"), "alive").expect("a file can be written");
    let before = outside(dir.path(), &target);
    let archive = Archive::open(&path, format).expect("the archive is a file");
    let fd = fs::File::open(&target).expect("the target can be opened");
    let into = Target { dir: fd.as_fd(), owner: None, twins: None };
    let unpacked =
        ground::told(archive.unpack(into, &ground::limits(&ground::excess), &mut |_| {}, &mut NoProgress));
    assert_eq!(outside(dir.path(), &target), before, "something outside was changed");
    let Ok(reading) = unpacked else { return };
    let root = reading.survey.top.as_ref().map_or(target.clone(), |top| target.join(top));
    let told: Vec<TreeEntry> = reading.tree().collect();
    told.iter().for_each(is_harmless);
    let top = fs::File::open(&root).expect("what was unpacked can be opened").into();
    let differences = tree::compare(told.into_iter().map(Ok), top, &root, &mut |_| Ok(()));
    let differences = differences.expect("what was unpacked can be read");
    assert!(differences.is_empty(), "{differences:?}");
    let surveyed = archive.survey(&ground::limits(&ground::excess), &mut |_| {}, &mut NoProgress);
    assert_eq!(surveyed.expect("it was sound before").sha256, reading.sha256);
});

/// Returns the mode, size and modification time of all files except the target.
fn outside(dir: &Path, target: &Path) -> BTreeMap<String, (u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("the ground can be read") {
        let path = entry.expect("the ground can be read").path();
        let meta = fs::symlink_metadata(&path).expect("nothing goes away");
        let state = (meta.mode(), meta.size(), meta.mtime(), meta.mtime_nsec());
        if path != target {
            found.insert(path.display().to_string(), state);
            if meta.is_dir() {
                found.extend(outside(&path, target));
            }
        }
    }
    found
}

fn is_harmless(entry: &TreeEntry) {
    assert_eq!(entry.mode & 0o7022, 0, "{entry:?}");
    if let Node::Symlink { target } = &entry.node {
        assert!(!target.starts_with('/'), "{entry:?}");
        let mut depth = entry.path.matches('/').count();
        for part in target.split('/') {
            match part {
                ".." => depth = depth.checked_sub(1).unwrap_or_else(|| panic!("{entry:?} leads outside")),
                "" | "." => {}
                _ => depth += 1,
            }
        }
    }
}
