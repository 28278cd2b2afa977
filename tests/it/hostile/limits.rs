//! Cases that depend on the host: absolute names of existing files, free space, and default limits.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::corpus::tar::{Piece, dir, file, hard, link, tar};
use super::corpus::zip::{Entry, Parts, zip};
use super::corpus::{ALL, table};
use super::judge::is_refused;
use super::place::{Place, VERSION};

/// Lets the tests with a million entries run one after the other: /dev/shm has room for no more files at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns entries whose absolute names or targets are canaries on this host.
fn absolute(place: &Place) -> Vec<(Vec<Piece>, &'static str)> {
    let canaries = place.around().join("canaries");
    let at = |name: &str| canaries.join(name).to_str().unwrap().to_owned();
    let ok = || file("a", "alpha");
    vec![
        (vec![ok(), file(at("file"), "evil")], "is absolute"),
        (vec![ok(), file(at("dir/new"), "evil")], "is absolute"),
        (vec![ok(), dir(at("dir")).mode(0o777)], "is absolute"),
        (vec![ok(), link(at("link"), "evil")], "is absolute"),
        (vec![ok(), link("l", at("dir")), file("l/new", "evil")], "is absolute"),
        (vec![ok(), link("l", at("file")), file("l", "evil")], "is absolute"),
        (vec![ok(), link("l", at("")), dir("l")], "is absolute"),
    ]
}

#[test]
fn absolute_names_do_not_reach_canaries() {
    for format in ALL {
        let place = Place::empty("", format);
        for (pieces, why) in absolute(&place) {
            let bytes = if *format == "zip" { zip(&pieces) } else { table::pack(format, &tar(&pieces)) };
            place.put(&bytes);
            is_refused(&place, &["install", VERSION], why).unwrap();
        }
        let hardlink = [file("a", ""), hard("h", place.around().join("canaries/file").to_str().unwrap())];
        if *format != "zip" {
            place.put(&table::pack(format, &tar(&hardlink)));
            is_refused(&place, &["install", VERSION], "is a hard link to").unwrap();
        }
    }
}

/// Without settings, the free space is the limit.
#[test]
fn claims_beyond_free_space_are_refused() {
    let size = [0x80, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0];
    let claims = [file("a", "alpha"), file("b", "").patch(super::corpus::tar::SIZE_AT, size)];
    for format in &ALL[..4] {
        let place = Place::with("", format, &table::pack(format, &tar(&claims)));
        let run = place.run(&["unpack", VERSION]).code(2);
        run.stderr_has("not enough space for 1.2.3").stderr_has("it needs more than");
    }
    let bytes = super::corpus::zip::changed(|entry| {
        entry.both(|fields| (fields.size, fields.extra) = (u32::MAX, wide(1 << 60)));
    });
    let place = Place::with("", "zip", &bytes);
    place.run(&["unpack", VERSION]).code(2).stderr_has("not enough space for 1.2.3");
}

/// Returns a zip64 field with one size.
fn wide(size: u64) -> Vec<u8> {
    super::corpus::zip::extra(1, &size.to_le_bytes())
}

/// Writes a zip that lists `count` empty files with names of this length, without holding it in memory. `present`
/// decides whether the files have local headers.
fn large_zip(place: &Place, count: u32, length: usize, present: bool) {
    let path = place.root().join("releases").join(&place.archive);
    let mut out = io::BufWriter::new(File::create(path).unwrap());
    let entry = |n: u32, at: u32| {
        let mut name = format!("{n:07}").into_bytes();
        name.resize(length, b'n');
        Parts::of(&[Entry { present, at: Some(at), ..Entry::of(&file(name, "")) }])
    };
    let each = u32::try_from(entry(0, 0).body.len()).unwrap();
    for n in 0..count {
        out.write_all(&entry(n, 0).body).unwrap();
    }
    let mut size = 0;
    for n in 0..count {
        let listed = entry(n, n * each).directory;
        size += listed.len() as u64;
        out.write_all(&listed).unwrap();
    }
    let (body, count) = (u64::from(each * count), u64::from(count));
    let record = [b"PK\x06\x06".as_slice(), &44u64.to_le_bytes(), &[45, 3, 45, 0], &[0; 8]].concat();
    let figures = [count, count, size, body].map(u64::to_le_bytes).concat();
    let locator =
        [b"PK\x06\x07".as_slice(), &[0; 4], &(body + size).to_le_bytes(), &1u32.to_le_bytes()].concat();
    let end = [b"PK\x05\x06".as_slice(), &[0; 4], &[0xff; 12], &[0; 2]].concat();
    out.write_all(&[record, figures, locator, end].concat()).unwrap();
    out.into_inner().unwrap();
}

#[test]
#[ignore = "takes long: a directory of 90 MiB"]
fn million_listed_entries_use_little_memory() {
    let _alone = alone();
    let place = Place::empty("", "zip");
    large_zip(&place, 1_000_000, 48, false);
    is_refused(&place, &["unpack", VERSION], "has no header").unwrap();
}

#[test]
#[ignore = "takes long: a directory of 90 MiB"]
fn long_listed_names_use_little_memory() {
    let place = Place::empty("", "zip");
    large_zip(&place, 1_450, 65_000, false);
    is_refused(&place, &["unpack", VERSION], "has no header").unwrap();
}

#[test]
#[ignore = "takes long: a million entries"]
fn million_files_of_tar_use_little_memory() {
    let _alone = alone();
    let place = Place::empty("", "tar.zst");
    long_names(&place, 999_000, 56, '-');
    place.run(&["unpack", "--dry-run", VERSION]).code(0);
    place.run(&["unpack", VERSION]).code(0);
    place.run(&["verify", VERSION]).code(0);
}

#[test]
#[ignore = "takes long: a million entries"]
fn million_files_of_zip_use_little_memory() {
    let _alone = alone();
    let place = Place::empty("", "zip");
    large_zip(&place, 999_000, 54, true);
    place.run(&["unpack", "--dry-run", VERSION]).code(0);
    // The list of entries grows by copying, so it reserves more memory than it uses.
    place.run_within(384, &["unpack", VERSION]).code(0);
    place.run(&["verify", VERSION]).code(0);
}

/// Writes a tar.zst of `count` empty files with long names, without holding it in memory.
fn long_names(place: &Place, count: usize, length: usize, between: char) {
    let path = place.root().join("releases").join(&place.archive);
    let mut packed = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    for n in 0..count {
        let name: String =
            format!("{n:07}{between}").chars().chain(std::iter::repeat_n('n', length)).collect();
        packed.write_all(&file(name, "").tar()).unwrap();
    }
    packed.write_all(&[0; 1024]).unwrap();
    packed.finish().unwrap();
}

#[test]
#[ignore = "takes long: a million entries"]
fn million_entries_are_refused_in_little_memory() {
    let _alone = alone();
    let place = Place::empty("", "tar.zst");
    long_names(&place, 1_000_001, 8, '/');
    is_refused(&place, &["unpack", VERSION], "it has more than 1000000 entries").unwrap();
}

#[test]
#[ignore = "takes long: 80 MB of names"]
fn names_over_64_mib_are_refused() {
    let place = Place::empty("", "tar.zst");
    long_names(&place, 400_000, 200, '/');
    is_refused(&place, &["unpack", VERSION], "the names in the archive are longer than 64 MiB together")
        .unwrap();
}

/// Writes one compressed file of 4 GiB of zeros.
fn zeros(place: &Place) {
    let path = place.root().join("releases").join(&place.archive);
    let mut head = file("zeros", "").claims(4 << 30).tar();
    head.resize(512, 0);
    let tar = head.as_slice().chain(io::repeat(0).take((4 << 30) + 1024));
    let out = File::create(path).unwrap();
    copy(tar, out, &place.archive);
}

fn copy(mut tar: impl Read, out: File, archive: &str) {
    if archive.ends_with("zst") {
        let mut packed = zstd::Encoder::new(out, 1).unwrap();
        io::copy(&mut tar, &mut packed).unwrap();
        packed.finish().unwrap();
    } else {
        let mut packed = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
        io::copy(&mut tar, &mut packed).unwrap();
        packed.finish().unwrap();
    }
}

#[test]
#[ignore = "takes long: bombs of 4 GiB"]
fn four_gib_of_zeros_are_refused() {
    for format in ["tar.gz", "tar.zst"] {
        let place = Place::empty("[limits]\nsize = \"1 GiB\"\n", format);
        zeros(&place);
        is_refused(&place, &["unpack", VERSION], "it has more than 1.0 GiB").unwrap();
    }
}
