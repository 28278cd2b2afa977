//! Sound archives: what is unpacked is what was packed, less what no release may bring along.

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

/// Directories that others imply, odd modes, and links in both directions of the archive's order.
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
fn a_survey_tells_what_a_release_takes() {
    for (name, bytes) in
        every_format(&[dir("x"), file("x/a", [7; 5000]), file("x/b/c", ""), link("x/l", "a")])
    {
        let bench = Bench::new();
        let survey = survey(&bench.archive(name, &bytes)).unwrap().survey;
        // a, b, b/c and l; of them a takes two blocks of 4096 and the empty file none.
        assert_eq!((survey.entries(), survey.bytes(), survey.space(4096)), (4, 5000, 4 * 4096), "{name}");
    }
}

#[test]
fn hard_links_stay_one_file_and_times_are_kept() {
    let bench = Bench::new();
    let pieces = [file("a", "1"), hard("d/b", "a"), hard("c", "d/b"), file("z", "")];
    bench.unpacked(&bench.archive("x.tar", &tar(&pieces)));
    let [a, b, c] = ["a", "d/b", "c"].map(|name| fs::metadata(bench.target().join(name)).unwrap());
    assert!(a.ino() == b.ino() && b.ino() == c.ino());
    assert_eq!(a.mtime(), 1_600_000_000);
}

#[test]
fn a_lone_file_at_the_top_is_not_stripped_and_neither_is_one_of_two_directories() {
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
fn the_manifest_is_the_one_at_the_top_of_the_release() {
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
fn what_cannot_be_a_manifest_is_refused() {
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
fn thousands_of_files_and_long_names() {
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
fn pax_records_name_entries_and_unknown_ones_say_nothing() {
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
fn archives_may_consist_of_several_streams() {
    let tar = tar(&[file("a", "1"), file("b", "2")]);
    let halves = tar.split_at(700);
    let twice = |pack: fn(&[u8]) -> Vec<u8>| [pack(halves.0), pack(halves.1)].concat();
    for (name, bytes) in [("x.tar.gz", twice(gz)), ("x.tar.zst", twice(zst)), ("x.tar.xz", twice(xz))] {
        let bench = Bench::new();
        assert_eq!(bench.unpacked(&bench.archive(name, &bytes)).1, ["a 644 1", "b 644 2"], "{name}");
    }
}

/// One raw block in a frame that asks for a window of this many bytes, as a power of two.
fn windowed(log: u8, data: &[u8]) -> Vec<u8> {
    let block = (data.len() << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3], &block[..3], data].concat()
}

#[test]
fn a_zstd_frame_may_ask_for_128_mib_and_no_more() {
    let tar = tar(&[file("a", "1")]);
    let bench = Bench::new();
    assert_eq!(bench.unpacked(&bench.archive("x.tar.zst", &windowed(27, &tar))).1, ["a 644 1"]);
    let refusal = Bench::new().refusal("x.tar.zst", &windowed(28, &tar));
    assert!(refusal.contains("the archive needs more than 128 MiB of memory to be decoded"), "{refusal}");
}

#[test]
fn what_is_no_file_is_not_opened() {
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
fn an_archive_that_changes_meanwhile_is_not_unpacked() {
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

/// As on a file system that does not tell upper from lower case.
#[test]
fn a_target_that_is_not_empty_is_not_written_over() {
    for existing in ["file", "link"] {
        let bench = Bench::new();
        let at = bench.target().join(existing);
        match existing {
            "file" => fs::write(&at, "old").unwrap(),
            _ => std::os::unix::fs::symlink("../outside", &at).unwrap(),
        }
        for pieces in [vec![file(existing, "new")], vec![file(format!("{existing}/x"), "")]] {
            let error = bench.unpack(&bench.archive("x.tar", &tar(&pieces))).unwrap_err();
            let expected =
                format!("entry {existing:?} is there already, by a name that is the same to this file");
            assert!(error.to_string().contains(&expected), "{error:?}");
        }
        assert!(!bench.path().join("outside").exists());
        assert!(existing == "link" || fs::read(at).unwrap() == b"old");
    }
}

#[test]
fn everything_is_given_to_the_owner() {
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

/// Interrupts after so many questions, and notes what it is told.
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
fn progress_is_told_in_bytes_of_the_archive_and_any_pass_can_be_interrupted() {
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
fn types_and_ends_that_old_tools_write_are_read() {
    let bench = Bench::new();
    let pieces = [typed(0, "old", "1"), typed(b'7', "contiguous", "2")];
    let bytes = [open_tar(&pieces), vec![0; 10240]].concat();
    assert_eq!(bench.unpacked(&bench.archive("x.tar", &bytes)).1, ["contiguous 644 2", "old 644 1"]);
    let bench = Bench::new();
    let pieces = [file("plain", "").mode(0), dir("d").mode(0), file("d/x", "")];
    let (_, listing) = bench.unpacked(&bench.archive("x.zip", &zip(&pieces)));
    assert_eq!(listing, ["d/ 755", "d/x 644 ", "plain 644 "]);
}
