//! Truncated and corrupted archives.

use super::bench::{Bench, survey};
use super::make::{dir, every_format, file, link};

#[test]
fn truncated_archive_is_refused() {
    let pieces = [dir("x"), file("x/a", "some data that is longer than twenty bytes"), file("x/b", "")];
    for (name, bytes) in every_format(&pieces) {
        let bench = Bench::new();
        for length in
            (0..bytes.len()).step_by(if bytes.len() > 1000 { 37 } else { 1 }).chain([bytes.len() - 1])
        {
            let error = survey(&bench.archive(name, &bytes[..length])).unwrap_err();
            assert_eq!(error.kind(), tenure::error::Kind::Refused, "{name} {length}: {error:?}");
        }
        bench.refusal(name, &bytes[..bytes.len() / 2]);
        survey(&bench.archive(name, &bytes)).unwrap();
    }
}

/// A tar has no checksum of its data; only the compression can detect changed data.
#[test]
fn flipped_bit_does_not_change_contents() {
    let pieces = [file("x/a", "some data that is longer than twenty bytes"), link("x/l", "a")];
    for (name, bytes) in every_format(&pieces).into_iter().filter(|(name, _)| *name != "x.tgz") {
        let sound = Bench::new();
        let (_, expected) = sound.unpacked(&sound.archive(name, &bytes));
        let mut accepted = 0;
        for at in 0..bytes.len() {
            let bench = Bench::new();
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let archive = bench.archive(name, &bytes);
            let Ok(_) = survey(&archive) else { continue };
            accepted += 1;
            let Ok(read) = bench.unpack(&archive) else { panic!("{name}: accepted and not unpacked, {at}") };
            let found = super::bench::listing(&bench.release(&read.survey));
            // A zip has no checksum of its modes either.
            let sound =
                found == expected || name == "x.tar" || name == "x.zip" && found[0].ends_with("bytes");
            assert!(sound, "{name} {at}: {found:?}");
        }
        assert!(
            accepted < bytes.len() / 2 || name == "x.tar",
            "{name}: {accepted} of {} accepted",
            bytes.len()
        );
    }
}

#[test]
fn tar_header_checksum_covers_every_bit() {
    let bytes = every_format(&[file("a", "1")]).pop().unwrap().1;
    for at in (0..512).filter(|at| !(148..156).contains(at)) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let error = survey(&Bench::new().archive("x.tar", &bytes)).unwrap_err();
        assert!(error.to_string().ends_with("the checksum of a header is wrong"), "{at}: {error}");
    }
}

#[test]
fn data_after_compressed_tar_is_refused() {
    for (name, bytes) in every_format(&[file("a", "1"), file("b", "")]) {
        if name != "x.zip" {
            Bench::new().refusal(name, &[bytes.as_slice(), b"something else behind it"].concat());
        }
    }
}
