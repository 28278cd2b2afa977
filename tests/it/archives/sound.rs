//! Valid archives. They unpack to their contents, except for modes that a release must not have.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tenure::archive::{Archive, Owner};
use tenure::error::{Kind, Result};
use tenure::naming::ArchiveFormat;
use tenure::progress::{NoProgress, Progress};

use super::bench::{Bench, limits, survey};
use super::make::{
    Piece, dir, every_format, file, global, gz, hard, link, open_tar, pax, tar, typed, xz, zip, zst,
};

const RELEASE: [&str; 9] = [
    "bin/ 755",
    "bin/run 755 #!/bin/sh and more than twenty bytes",
    "bin/start -> run",
    "copy 755 #!/bin/sh and more than twenty bytes",
    "empty/ 700",
    "lib/ 755",
    "lib/read-only/ 555",
    "lib/read-only/data 444 data",
    "release.toml 644 name = \"x\"",
];

/// Returns entries with implied directories, unusual modes, and links to earlier and to later entries.
fn release(top: &str) -> Vec<Piece> {
    let at = |path: &str| format!("{top}{path}");
    vec![
        file(at("release.toml"), "name = \"x\""),
        link(at("bin/start"), "run"),
        file(at("bin/run"), "#!/bin/sh and more than twenty bytes").mode(0o6777),
        dir(at("lib/read-only/")).mode(0o1577),
        file(at("lib/read-only/data"), "data").mode(0o466),
        dir(at("empty")).mode(0o720),
        hard(at("copy"), at("bin/run")),
    ]
}

#[test]
fn every_format_unpacks_to_the_same_release() {
    for (top, stripped) in [("", None), ("emqx/", Some("emqx")), ("./", None), ("./emqx/", Some("emqx"))] {
        for (name, bytes) in every_format(&release(top)) {
            let bench = Bench::new();
            let (survey, listing) = bench.unpacked(&bench.archive(name, &bytes));
            assert_eq!(listing, RELEASE, "{name}");
            assert_eq!(survey.top.as_deref(), stripped, "{name}");
            assert_eq!(survey.manifest.as_deref(), Some("name = \"x\""), "{name}");
            assert_eq!(fs::metadata(bench.target()).unwrap().mode() & 0o7777, 0o755, "{name}");
        }
    }
}

#[test]
fn survey_counts_entries_and_space() {
    for (name, bytes) in
        every_format(&[dir("x"), file("x/a", [7; 5000]), file("x/b/c", ""), link("x/l", "a")])
    {
        let bench = Bench::new();
        let survey = survey(&bench.archive(name, &bytes)).unwrap().survey;
        // The entries are a, b, b/c and l. The file a takes two blocks of 4096 bytes; the empty file takes none.
        assert_eq!((survey.entries(), survey.bytes(), survey.space(4096)), (4, 5000, 4 * 4096), "{name}");
    }
}

#[test]
fn hard_links_and_times_are_preserved() {
    let bench = Bench::new();
    let pieces = [file("a", "1"), hard("d/b", "a"), hard("c", "d/b"), file("z", "")];
    bench.unpacked(&bench.archive("x.tar", &tar(&pieces)));
    let [a, b, c] = ["a", "d/b", "c"].map(|name| fs::metadata(bench.target().join(name)).unwrap());
    assert!(a.ino() == b.ino() && b.ino() == c.ino());
    assert_eq!(a.mtime(), 1_600_000_000);
}

#[test]
fn only_single_top_directory_is_stripped() {
    let table = [
        (vec![file("run", "")], None, vec!["run 644 "]),
        (vec![file("a/x", ""), file("b", "")], None, vec!["a/ 755", "a/x 644 ", "b 644 "]),
        (vec![dir("a"), file("a/b/x", "")], Some("a"), vec!["b/ 755", "b/x 644 "]),
    ];
    for (pieces, top, expected) in table {
        for (name, bytes) in every_format(&pieces) {
            let bench = Bench::new();
            let (survey, listing) = bench.unpacked(&bench.archive(name, &bytes));
            assert_eq!(
                (survey.top.as_deref(), &listing),
                (top, &expected.iter().map(ToString::to_string).collect())
            );
            assert_eq!(survey.manifest, None);
        }
    }
}

#[test]
fn manifest_is_read_from_release_top() {
    let nested = [file("a/release.toml", "nested"), file("release.toml", "top")];
    let deeper = [file("a/b/release.toml", "deeper"), file("a/release.toml", "top")];
    for pieces in [nested.to_vec(), deeper.to_vec()] {
        for (name, bytes) in every_format(&pieces) {
            let survey = survey(&Bench::new().archive(name, &bytes)).unwrap().survey;
            assert_eq!(survey.manifest.as_deref(), Some("top"), "{name}");
        }
    }
}

#[test]
fn invalid_manifest_is_refused() {
    let table = [
        (vec![file("release.toml", vec![b'#'; 65537])], "is longer than 64 KiB"),
        (vec![file("x/release.toml", [0xff])], "is not UTF-8"),
        (vec![file("x", ""), link("release.toml", "x")], "is not a regular file"),
    ];
    for (pieces, text) in table {
        for (name, bytes) in every_format(&pieces) {
            let refused = survey(&Bench::new().archive(name, &bytes)).unwrap_err();
            let expected = format!("cannot unpack {name}: entry \"release.toml\" {text}");
            assert_eq!((refused.kind(), refused.to_string()), (Kind::Refused, expected));
        }
    }
}

#[test]
fn many_files_and_long_names_unpack() {
    let mut pieces: Vec<Piece> =
        (0..3000).map(|n| file(format!("emqx/{}/{n}", n % 50), n.to_string())).collect();
    let long = format!("emqx/{}/{}", "d".repeat(200), "f".repeat(255));
    pieces.push(file(&long, "long"));
    pieces.push(link("emqx/to-long", &long["emqx/".len()..]));
    for (name, bytes) in every_format(&pieces) {
        let bench = Bench::new();
        let (survey, listing) = bench.unpacked(&bench.archive(name, &bytes));
        assert_eq!((survey.entries(), listing.len()), (3000 + 50 + 3, 3053), "{name}");
        assert_eq!(fs::read(bench.release(&survey).join("to-long")).unwrap(), b"long", "{name}");
    }
}

#[test]
fn unknown_pax_records_are_ignored() {
    let bench = Bench::new();
    let pieces = [
        global(&[("comment", b"a commit"), ("mtime", b"1.5")]),
        pax(&[("path", "caf\u{e9}/\u{fc}".as_bytes()), ("size", b"2"), ("SCHILY.xattr.user.x", b"a\nb=c")]),
        file("short", "ab"),
        pax(&[("linkpath", b"caf\xc3\xa9/\xc3\xbc")]),
        link("l", "short"),
    ];
    let (_, listing) = bench.unpacked(&bench.archive("x.tar", &tar(&pieces)));
    assert_eq!(listing, ["caf\u{e9}/ 755", "caf\u{e9}/\u{fc} 644 ab", "l -> caf\u{e9}/\u{fc}"]);
}

#[test]
fn archive_of_several_streams_unpacks() {
    let tar = tar(&[file("a", "1"), file("b", "2")]);
    let halves = tar.split_at(700);
    let twice = |pack: fn(&[u8]) -> Vec<u8>| [pack(halves.0), pack(halves.1)].concat();
    for (name, bytes) in [("x.tar.gz", twice(gz)), ("x.tar.zst", twice(zst)), ("x.tar.xz", twice(xz))] {
        let bench = Bench::new();
        assert_eq!(bench.unpacked(&bench.archive(name, &bytes)).1, ["a 644 1", "b 644 2"], "{name}");
    }
}

/// Returns one raw block in a frame that needs a window of 2^`log` bytes.
fn windowed(log: u8, data: &[u8]) -> Vec<u8> {
    let block = (data.len() << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3], &block[..3], data].concat()
}

#[test]
fn zstd_window_over_128_mib_is_refused() {
    let tar = tar(&[file("a", "1")]);
    let bench = Bench::new();
    assert_eq!(bench.unpacked(&bench.archive("x.tar.zst", &windowed(27, &tar))).1, ["a 644 1"]);
    let refusal = Bench::new().refusal("x.tar.zst", &windowed(28, &tar));
    assert!(refusal.contains("the archive needs more than 128 MiB of memory to be decoded"), "{refusal}");
}

#[test]
fn only_regular_files_are_opened() {
    let bench = Bench::new();
    let fifo = bench.path().join("x.tar");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, kind, text) in [
        (fifo, Kind::Refused, "x.tar is not a regular file"),
        (bench.target(), Kind::Refused, "target is not a regular file"),
        (bench.path().join("absent.tar"), Kind::Failed, "cannot open"),
    ] {
        let error = Archive::open(&path, ArchiveFormat::Tar).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn changed_archive_is_not_unpacked() {
    for (name, bytes) in every_format(&[file("a", "1"), file("b", "2")]) {
        let bench = Bench::new();
        let archive = bench.archive(name, &bytes);
        fs::write(bench.path().join(name), &every_format(&[file("evil", "")])[5].1).unwrap();
        let error = archive.sha256(&mut |_| {}, &mut NoProgress).unwrap_err();
        assert!(error.to_string().ends_with("was changed while it was read"), "{error}");
        let error = bench.unpack(&archive).unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.causes()[0].ends_with("was changed while it was read"), "{:?}", error.causes());
    }
}

/// An existing name has the same effect as a file system that does not distinguish upper and lower case.
#[test]
fn unpack_does_not_overwrite_existing_file() {
    for existing in ["file", "link"] {
        let bench = Bench::new();
        let at = bench.target().join(existing);
        match existing {
            "file" => fs::write(&at, "old").unwrap(),
            _ => std::os::unix::fs::symlink("../outside", &at).unwrap(),
        }
        for pieces in [vec![file(existing, "new")], vec![file(format!("{existing}/x"), "")]] {
            let error = bench.unpack(&bench.archive("x.tar", &tar(&pieces))).unwrap_err();
            let expected = format!("entry {existing:?} already exists under a name that this file system");
            assert!(error.to_string().contains(&expected), "{error:?}");
        }
        assert!(!bench.path().join("outside").exists());
        assert!(existing == "link" || fs::read(at).unwrap() == b"old");
    }
}

#[test]
fn unpack_sets_owner() {
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) = if root {
        (12345, 54321)
    } else {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    };
    for (name, bytes) in every_format(&release("emqx/")) {
        let bench = Bench::new();
        let read = bench
            .unpack_for(&bench.archive(name, &bytes), Some(Owner { uid, gid }), &mut NoProgress)
            .unwrap();
        for path in ["", "bin", "bin/run", "bin/start", "copy", "empty", "lib", "lib/read-only/data"] {
            let found = fs::symlink_metadata(bench.release(&read.survey).join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (uid, gid), "{path}");
        }
    }
}

/// Interrupts after `left` queries and records the reported progress.
struct Countdown {
    left: std::cell::Cell<u32>,
    told: Vec<(u64, u64)>,
}

impl Progress for Countdown {
    fn advance(&mut self, done: u64, total: u64) {
        self.told.push((done, total));
    }

    fn interrupted(&self) -> bool {
        self.left.set(self.left.get().saturating_sub(1));
        self.left.get() == 0
    }
}

#[test]
fn survey_reports_progress_and_can_be_interrupted() {
    let noise: Vec<u8> =
        (0..3_000_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    for (name, bytes) in every_format(&[file("a", &noise), file("b", "")]) {
        let bench = Bench::new();
        let archive = bench.archive(name, &bytes);
        let run = |left| -> (Result<_>, Countdown) {
            let mut progress = Countdown { left: std::cell::Cell::new(left), told: vec![] };
            (archive.survey(&limits(), &mut |_| {}, &mut progress), progress)
        };
        let (read, progress) = run(1_000_000);
        read.unwrap();
        assert!(
            progress.told.is_sorted() && progress.told.iter().all(|(done, total)| done <= total),
            "{:?}",
            progress.told
        );
        assert_eq!(progress.told.last().unwrap().1, bytes.len() as u64, "{name}");
        let asked = 1_000_000 - progress.left.get();
        assert!(asked > 3, "{name}: asked {asked} times in 3 MB");
        let (interrupted, _) = run(asked / 2);
        assert_eq!(interrupted.unwrap_err().causes(), ["interrupted by a signal"], "{name}");
        let mut progress = Countdown { left: std::cell::Cell::new(asked / 2), told: vec![] };
        let error = bench.unpack_for(&archive, None, &mut progress).unwrap_err();
        assert_eq!((error.kind(), error.causes()), (Kind::Failed, vec!["interrupted by a signal".into()]));
    }
}

#[test]
fn old_tar_types_and_ends_are_read() {
    let bench = Bench::new();
    let pieces = [typed(0, "old", "1"), typed(b'7', "contiguous", "2")];
    let bytes = [open_tar(&pieces), vec![0; 10240]].concat();
    assert_eq!(bench.unpacked(&bench.archive("x.tar", &bytes)).1, ["contiguous 644 2", "old 644 1"]);
    let bench = Bench::new();
    let pieces = [file("plain", "").mode(0), dir("d").mode(0), file("d/x", "")];
    let (_, listing) = bench.unpacked(&bench.archive("x.zip", &zip(&pieces)));
    assert_eq!(listing, ["d/ 755", "d/x 644 ", "plain 644 "]);
}
