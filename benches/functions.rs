//! Benchmarks of reading, unpacking and comparing a release, beside public crates that do the same without checks.
//!
//! Run with `cargo bench`. Files are in /dev/shm if it exists, so that the disk is not measured.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench may")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use tenure::archive::{Archive, Excess, Limits, Target};
use tenure::error::Error;
use tenure::naming::ArchiveFormat;
use tenure::plan::{DeclaredPaths, Map};
use tenure::policy::{PathRule, Paths};
use tenure::progress::NoProgress;
use tenure::tree::{TreeEntry, compare, scan};
use tenure::version::{Range, Version};
use zip::write::SimpleFileOptions;

const FILES: usize = 2_000;
const FORMATS: [&str; 3] = ["tar.gz", "tar.zst", "zip"];

fn main() {
    divan::main();
}

fn room() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A release of 2,000 files and 32 MB, packed in each format. Half of its bytes are text.
struct Release {
    dir: TempDir,
    bytes: u64,
}

static RELEASE: LazyLock<Release> = LazyLock::new(|| {
    let dir = room();
    let files: Vec<(String, Vec<u8>)> = (0..FILES).map(file).collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (path, contents) in &files {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, contents.as_slice()).unwrap();
        zip.start_file(path, SimpleFileOptions::default()).unwrap();
        zip.write_all(contents).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&tar).unwrap();
    fs::write(dir.path().join("tar.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(dir.path().join("tar.zst"), zstd::encode_all(tar.as_slice(), 3).unwrap()).unwrap();
    fs::write(dir.path().join("zip"), zip.finish().unwrap().into_inner()).unwrap();
    let bytes = files.iter().map(|(_, contents)| contents.len() as u64).sum();
    Release { dir, bytes }
});

fn file(n: usize) -> (String, Vec<u8>) {
    let mut state = n as u64 + 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let piece = |_| [noise(), noise(), noise(), noise(), b'w', b'o', b'r', b'd'];
    (format!("{}/d{}/file-{n}", ["bin", "lib"][n % 2], n % 31), (0..2_000).flat_map(piece).collect())
}

impl Release {
    fn path(&self, format: &str) -> PathBuf {
        self.dir.path().join(format)
    }

    fn archive(&self, format: &str) -> Archive {
        let known = [ArchiveFormat::TarGz, ArchiveFormat::TarZst, ArchiveFormat::Zip];
        let at = FORMATS.iter().position(|name| *name == format).unwrap();
        Archive::open(&self.path(format), known[at]).unwrap()
    }
}

fn limits() -> Limits<'static> {
    fn excess(excess: Excess) -> Error {
        Error::refused(format!("{excess:?}"))
    }
    Limits { entries: 1_000_000, bytes: 1 << 30, block: 1, each: 0, refuse: &excess }
}

fn unpack(format: &str, dir: &Path) -> Vec<TreeEntry> {
    let fd = File::open(dir).unwrap();
    let into = Target { dir: fd.as_fd(), owner: None, twins: None };
    let archive = RELEASE.archive(format);
    archive.unpack(into, &limits(), &mut |_| {}, &mut NoProgress).unwrap().tree().collect()
}

#[divan::bench_group(sample_count = 20, sample_size = 1)]
mod a_release {
    use super::*;

    #[divan::bench(args = FORMATS)]
    fn is_surveyed(bencher: Bencher, format: &str) {
        bencher.counter(BytesCount::new(RELEASE.bytes)).bench(|| {
            RELEASE.archive(format).survey(&limits(), &mut |_| {}, &mut NoProgress).unwrap().sha256
        });
    }

    #[divan::bench(args = FORMATS)]
    fn is_unpacked(bencher: Bencher, format: &str) {
        bencher.counter(BytesCount::new(RELEASE.bytes)).with_inputs(room).bench_refs(|dir| {
            unpack(format, dir.path());
        });
    }

    /// Unpacks the same files with the public crates: on one thread, without hashes or checks.
    #[divan::bench(args = FORMATS)]
    fn is_unpacked_by_the_crates(bencher: Bencher, format: &str) {
        bencher.counter(BytesCount::new(RELEASE.bytes)).with_inputs(room).bench_refs(|dir| {
            let packed = File::open(RELEASE.path(format)).unwrap();
            match format {
                "zip" => zip::ZipArchive::new(packed).unwrap().extract(dir.path()).unwrap(),
                "tar.gz" => tar::Archive::new(GzDecoder::new(packed)).unpack(dir.path()).unwrap(),
                _ => tar::Archive::new(zstd::Decoder::new(packed).unwrap()).unpack(dir.path()).unwrap(),
            }
        });
    }

    /// A lower bound for the time to unpack a .tar.gz.
    #[divan::bench]
    fn is_inflated(bencher: Bencher) {
        bencher.counter(BytesCount::new(RELEASE.bytes)).bench(|| {
            let packed = File::open(RELEASE.path("tar.gz")).unwrap();
            io::copy(&mut GzDecoder::new(packed), &mut io::sink()).unwrap()
        });
    }

    #[divan::bench]
    fn is_compared(bencher: Bencher) {
        let dir = room();
        let told = unpack("zip", dir.path());
        bencher.counter(BytesCount::new(RELEASE.bytes)).bench_local(|| {
            let top = File::open(dir.path()).unwrap().into();
            let told = told.iter().cloned().map(Ok);
            assert!(compare(told, top, dir.path(), &mut |_| Ok(())).unwrap().is_empty());
        });
    }

    #[divan::bench]
    fn is_scanned(bencher: Bencher) {
        let dir = room();
        unpack("zip", dir.path());
        bencher.counter(BytesCount::new(RELEASE.bytes)).bench_local(|| scan(dir.path()).unwrap());
    }

    /// A lower bound for the time to compare.
    #[divan::bench]
    fn is_read(bencher: Bencher) {
        let dir = room();
        let told = unpack("zip", dir.path());
        bencher.counter(BytesCount::new(RELEASE.bytes)).bench_local(|| {
            let mut bytes = Vec::new();
            for entry in &told {
                bytes.clear();
                let path = dir.path().join(&entry.path);
                if path.is_file() {
                    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
                }
            }
        });
    }
}

#[divan::bench_group]
mod a_thousand_versions {
    use super::*;

    fn texts() -> Vec<String> {
        (0..1_000).map(|n| format!("{}.{}.{}-rc.{}", n % 7, n % 13, n % 29, n % 5)).collect()
    }

    #[divan::bench]
    fn are_parsed_and_sorted(bencher: Bencher) {
        bencher.counter(ItemsCount::new(1_000_usize)).with_inputs(texts).bench_refs(|texts| {
            let mut versions: Vec<Version> = texts.iter().map(|text| text.parse().unwrap()).collect();
            versions.sort();
            versions
        });
    }

    #[divan::bench]
    fn are_held_against_a_range(bencher: Bencher) {
        let range: Range = ">=2.3.1, <5".parse().unwrap();
        let versions: Vec<Version> = texts().iter().map(|text| text.parse().unwrap()).collect();
        bencher
            .counter(ItemsCount::new(1_000_usize))
            .bench(|| versions.iter().filter(|v| range.contains(v)).count());
    }
}

/// A route over 1,000 releases by 200 rules. Each minor version is reached from the one before.
#[divan::bench]
fn route(bencher: Bencher<'_, '_>) {
    let version =
        |at: usize| format!("{}.{}.{}", 1 + at / 200, at / 5 % 40, at % 5).parse::<Version>().unwrap();
    let declared: BTreeMap<Version, DeclaredPaths> =
        (0..1000).map(|at| (version(at), DeclaredPaths::default())).collect();
    let range = |text: String| text.parse::<Range>().unwrap();
    let rules = (0..200).map(|minor| {
        let (major, minor) = (1 + minor / 40, minor % 40);
        let before =
            if minor == 0 { format!("~{}.39", major - 1) } else { format!("~{major}.{}", minor - 1) };
        PathRule { to: range(format!("~{major}.{minor}")), from: vec![range(before)], latest: minor % 3 == 0 }
    });
    let paths = Paths { rules: rules.collect() };
    let (first, last) = (version(0), version(999));
    let hops = || Map::new(&paths, &declared).route(&first, &last).unwrap().len();
    assert_eq!(hops(), 199);
    bencher.bench(hops);
}
