//! Archives that would write outside the release, or that different programs read differently.

use super::bench::Bench;
use super::make::{Fields, Piece, Zip, dir, file, global, hard, link, open_tar, pax, tar, typed, zip};

/// Returns entries that both tar and zip can express, each with the expected message.
fn shared() -> Vec<(Vec<Piece>, &'static str)> {
    let long = "n".repeat(256);
    let longest = vec!["d".repeat(200); 21].join("/");
    let deep = vec!["d"; 201].join("/");
    vec![
        (vec![file("../x", "")], r#"entry "../x" leaves the release"#),
        (vec![file("a/../../x", "")], r#"entry "a/../../x" leaves the release"#),
        (vec![dir("a/..")], r#" leaves the release"#),
        (vec![file("/etc/x", "")], r#"entry "/etc/x" is absolute"#),
        (vec![file("//x", "")], r#"entry "//x" is absolute"#),
        (vec![file("C:/x", "")], r#"entry "C:/x" begins with a drive letter"#),
        (vec![file("a\\..\\x", "")], r#"entry "a\\..\\x" contains a backslash"#),
        (vec![file("a//x", "")], r#"entry "a//x" has an empty component"#),
        (vec![file("a/./x", "")], r#"entry "a/./x" has an empty component"#),
        (vec![file("a\x1b[2Jx", "")], r#"entry "a\u{1b}[2Jx" contains a control character"#),
        (vec![file(b"a\xffx", "")], "is not UTF-8"),
        (vec![file(&long, "")], "has a component longer than 255 bytes"),
        (vec![file(&longest, "")], "is longer than 4096 bytes"),
        (vec![file(&deep, "")], "is deeper than 200 directories"),
        (vec![file("a", "1"), file("a", "2")], r#"entry "a" appears twice"#),
        (vec![file("a", "1"), file("./a", "2")], r#"entry "a" appears twice"#),
        (vec![file("a", ""), link("a", "b")], r#"entry "a" appears twice"#),
        (vec![link("a", "b"), file("a", "")], r#"entry "a" appears twice"#),
        (vec![file("a", ""), dir("a")], r#"entry "a" appears both as a directory"#),
        (vec![file("a/b", ""), file("a", "")], r#"entry "a" appears both as a directory"#),
        (vec![file("a/b", ""), link("a", "c")], r#"entry "a" appears both as a directory"#),
        (vec![file("a", ""), file("a/b", "")], r#"entry "a/b" is below the file "a""#),
        (vec![link("a", "b"), file("a/c/d", "")], r#"entry "a/c/d" is below the symlink "a""#),
        (vec![link("l", "/etc")], r#"entry "l" links to "/etc", which is absolute"#),
        (vec![link("l", "")], r#"entry "l" links to "", which is empty"#),
        (vec![link("l", "a\nb")], r#"entry "l" links to "a\nb", which contains a control character"#),
        (vec![link("l", "..")], r#"entry "l" links to "..", which leaves the release"#),
        (vec![link("d/l", "../d/../../x")], r#"entry "d/l" links to "../d/../../x", which leaves"#),
        (vec![link("l", "d/../../x"), dir("d")], r#"entry "l" links to "d/../../x", which leaves"#),
        (vec![link("d/up", ".."), link("l", "d/up/..")], r#"entry "l" links to "d/up/..", which leaves"#),
        (vec![link("a", "b"), link("b", "a")], "which passes through too many symlinks"),
        (vec![link("a", "b")], "it contains no file"),
        (vec![dir("a")], "it contains no file"),
        (vec![], "it contains no file"),
    ]
}

/// Adds a valid file, because an archive without files is refused for that reason. Cases that test this reason stay
/// empty.
fn not_empty(mut pieces: Vec<Piece>, text: &str) -> Vec<Piece> {
    if !text.starts_with("it contains no file") {
        pieces.push(file("beside", ""));
    }
    pieces
}

#[test]
fn every_format_refuses_hostile_entries() {
    for (pieces, text) in shared() {
        let pieces = not_empty(pieces, text);
        for (name, bytes) in [("x.tar", tar(&pieces)), ("x.zip", zip(&pieces))] {
            let refusal = Bench::new().refusal(name, &bytes);
            assert!(refusal.contains(text), "{name}: expected {text}, found {refusal}");
        }
    }
}

#[test]
fn link_to_stripped_directory_is_refused() {
    let pieces = [file("emqx/a", ""), link("emqx/l", "../emqx/a")];
    for (name, bytes) in [("x.tar", tar(&pieces)), ("x.zip", zip(&pieces))] {
        let refusal = Bench::new().refusal(name, &bytes);
        assert!(refusal.contains(r#"entry "emqx/l" links to "../emqx/a", which leaves"#), "{refusal}");
    }
}

/// Returns links and types that a zip cannot express.
fn types() -> Vec<(Vec<Piece>, &'static str)> {
    let ok = || file("a", "1");
    vec![
        (vec![hard("h", "a"), ok()], r#"entry "h" is a hard link to "a", which is not an earlier file"#),
        (vec![ok(), hard("h", "h")], r#"entry "h" is a hard link to "h", which is not an earlier file"#),
        (
            vec![ok(), link("l", "a"), hard("h", "l")],
            r#"entry "h" is a hard link to "l", which is not an earlier"#,
        ),
        (
            vec![ok(), dir("d"), hard("h", "d")],
            r#"entry "h" is a hard link to "d", which is not an earlier file"#,
        ),
        (
            vec![ok(), hard("h", "../a")],
            r#"entry "h" is a hard link to "../a", which is not a file in the archive"#,
        ),
        (vec![ok(), hard("h", "/etc/passwd")], r#"entry "h" is a hard link to "/etc/passwd""#),
        (
            vec![ok(), Piece { data: vec![1], ..hard("h", "a") }],
            r#"entry "h" contains data but is not a file"#,
        ),
        (vec![ok(), Piece { data: vec![1], ..dir("d") }], r#"entry "d" contains data but is not a file"#),
        (vec![ok(), file("f/", "")], r#"entry "f/" has the name of a directory but is not one"#),
        (vec![ok(), typed(b'3', "d", "")], r#"entry "d" is a device"#),
        (vec![ok(), typed(b'4', "d", "")], r#"entry "d" is a device"#),
        (vec![ok(), typed(b'6', "p", "")], r#"entry "p" is a named pipe"#),
        (vec![ok(), typed(b'S', "s", "")], r#"entry "s" is a sparse file"#),
        (vec![ok(), typed(b'M', "m", "")], r#"entry "m" is part of a file from another volume"#),
        (vec![ok(), typed(b'D', "d", "")], r#"entry "d" is a directory of an incremental dump"#),
        (vec![ok(), typed(b'Z', "z", "")], r#"entry "z" is of the unknown type 'Z'"#),
        (vec![ok(), typed(7, "z", "")], r#"entry "z" is of the unknown type '\u{7}'"#),
    ]
}

/// Returns extension headers of a tar.
fn extensions() -> Vec<(Vec<Piece>, &'static str)> {
    let big = vec![b'n'; 65537];
    let ok = || file("a", "1");
    vec![
        (vec![pax(&[("GNU.sparse.major", b"1")]), ok()], r#"entry "a" has the extension "GNU.sparse.major""#),
        (vec![pax(&[("GNU.dumpdir", b"")]), ok()], r#"entry "a" has the extension "GNU.dumpdir""#),
        (vec![pax(&[("path", b"../x")]), ok()], r#"entry "../x" leaves the release"#),
        (vec![pax(&[("path", b"a\0b")]), ok()], r#"entry "a\0b" contains a control character"#),
        (vec![pax(&[("path", b"")]), ok()], r#"entry "" is empty"#),
        (vec![ok(), pax(&[("linkpath", b"/etc")]), link("l", "a")], r#"entry "l" links to "/etc""#),
        (vec![pax(&[("size", b"2")]), ok()], r#"entry "a" has two sizes"#),
        (vec![pax(&[("size", b"2")]), file("a", "")], r#"entry "a" has two sizes"#),
        (vec![pax(&[("size", b"8589934592")]), file("a", "")], r#"entry "a" is truncated"#),
        (vec![pax(&[("size", b"-1")]), ok()], "a size is not a number"),
        (vec![pax(&[("path", b"b"), ("path", b"c")]), ok()], "a name or size appears twice"),
        (vec![pax(&[("path", b"b")]), typed(b'L', "l", "c\0"), ok()], "a name or size appears twice"),
        (vec![pax(&[]), pax(&[]), ok()], "an extension header appears twice"),
        (vec![typed(b'x', "p", "12 path=b"), ok()], "a pax record is malformed"),
        (vec![typed(b'x', "p", "x path=b\n"), ok()], "a pax record is malformed"),
        (vec![typed(b'x', "p", "2 path=b\n"), ok()], "a pax record is malformed"),
        (vec![typed(b'x', "p", "9 pathbb\n"), ok()], "a pax record is malformed"),
        (vec![global(&[("path", b"b")]), ok()], r#""path" applies to all entries"#),
        (vec![global(&[("size", b"1")]), ok()], r#""size" applies to all entries"#),
        (vec![global(&[("linkpath", b"b")]), ok()], r#""linkpath" applies to all entries"#),
        (vec![typed(b'L', "l", &big), ok()], "the data is larger than 64 KiB"),
        (vec![typed(b'K', "l", "a\0"), typed(b'K', "l", "b\0"), ok()], "an extension header appears twice"),
        (vec![ok(), typed(b'L', "l", "b\0")], "ends after an extension header"),
    ]
}

#[test]
fn hostile_tars_are_refused() {
    for (pieces, text) in types().into_iter().chain(extensions()) {
        let refusal = Bench::new().refusal("x.tar", &tar(&pieces));
        assert!(refusal.contains(text), "expected {text}, found {refusal}");
    }
}

#[test]
fn tar_without_valid_end_is_refused() {
    let open = open_tar(&[file("a", "1"), file("b", "2")]);
    let end = |tail: &[&[u8]]| [&[open.as_slice()], tail].concat().concat();
    let table = [
        (end(&[]), "the archive is truncated"),
        (end(&[&[0; 512]]), "the archive is truncated"),
        (end(&[&[0; 1023]]), "the archive is truncated"),
        (end(&[&[0; 512], &open]), "it has data after its end"),
        (end(&[&[0; 512], &[1; 512], &[0; 1024]]), "it has data after its end"),
        (end(&[&[0; 1024], &open]), "it has data after its end"),
        (end(&[&[0; 9000], b"x"]), "it has data after its end"),
    ];
    for (bytes, text) in table {
        let refusal = Bench::new().refusal("x.tar", &bytes);
        assert!(refusal.contains(text), "{refusal}");
    }
}

#[test]
fn hostile_zips_are_refused() {
    type Twist = fn(&mut Fields);
    let table: [(Twist, &str); 13] = [
        (|f| f.flags |= 1, r#"entry "e" is encrypted"#),
        (|f| f.method = 12, r#"entry "e" uses the unsupported compression method"#),
        (|f| f.method = 99, r#"entry "e" uses the unsupported compression method"#),
        (|f| f.crc ^= 1, r#"entry "e" is damaged: its checksum is wrong"#),
        (|f| f.size += 1, r#"entry "e" is truncated"#),
        (|f| f.size -= 1, r#"entry "e" is longer than its header says"#),
        (|f| f.local_name = b"x".to_vec(), "entry \"e\" has a header that differs"),
        (|f| f.local_name = b"../../x".to_vec(), "entry \"e\" has a header that differs"),
        (|f| f.at += 1, "is followed by bytes that belong to no entry"),
        (|f| f.mode = 0o10644, r#"entry "e" is a device, pipe or socket"#),
        (|f| f.mode = 0o40755, r#"entry "e" has a type that does not match its name"#),
        (
            |f| f.local_extra = b"up\x09\0\x01\0\0\0\0\x1b[2J".to_vec(),
            "entry \"e\" has another name in an extra field",
        ),
        (|f| f.mode = 0o120777, r#"entry "e" links to"#),
    ];
    for (twist, text) in table {
        let mut zip = Zip::default();
        zip.add(&file("a", "1"), |_| {})
            .add(&file("e", "/etc with a hole, and longer than twenty bytes"), twist);
        let refusal = Bench::new().refusal("x.zip", &zip.finish());
        assert!(refusal.contains(text), "expected {text}, found {refusal}");
    }
    let refusal = Bench::new().refusal("x.zip", &zip(&[file("a", "1"), link("l", "t".repeat(4097))]));
    assert!(refusal.contains(r#"entry "l" links to more than 4096 bytes"#), "{refusal}");
    let refusal =
        Bench::new().refusal("x.zip", &zip(&[file("a", "1"), Piece { data: vec![1], ..dir("d/") }]));
    assert!(refusal.contains(r#"entry "d/" contains data but is not a file"#), "{refusal}");
    let refusal = Bench::new().refusal("x.zip", &zip(&[file("a", "1"), file("b\0c", "")]));
    assert!(refusal.contains(r#"entry "b\0c" contains a control character"#), "{refusal}");
}

#[test]
fn overlapping_zip_entries_are_refused() {
    let mut zip = Zip::default();
    zip.add(&file("a", "data"), |_| {}).add(&file("a", "data"), |f| f.at = 0);
    let refusal = Bench::new().refusal("x.zip", &zip.finish());
    assert!(refusal.contains("its entries overlap"), "{refusal}");
}
