//! Archives that GNU tar and gzip make.

use std::process::Command;

use super::bench::{Bench, listing};

/// Packs a directory with every kind of entry that a release may contain, and returns its listing.
fn packed(bench: &Bench, options: &[&str], name: &str) -> Vec<String> {
    let long = "l".repeat(99);
    let script = format!(
        "umask 022; mkdir emqx emqx/bin emqx/empty emqx/fixed && cd emqx && echo run >bin/run && chmod 4775 bin/run \
         && ln -s ../bin/run fixed/run && ln bin/run copy && echo x >fixed/x && chmod 555 fixed && \
         mkdir -p {long}/deep && echo long >{long}/deep/f"
    );
    sh(bench, &script);
    let status = Command::new("tar")
        .args(options)
        .args(["-cf", name, "emqx"])
        .current_dir(bench.path())
        .status()
        .unwrap();
    assert!(status.success());
    sh(bench, "chmod 755 emqx/bin/run emqx/copy");
    listing(&bench.path().join("emqx"))
}

fn sh(bench: &Bench, script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).current_dir(bench.path()).status().unwrap().success());
}

#[test]
fn gnu_tar_formats_are_read() {
    for (format, name) in [("gnu", "x.tar"), ("pax", "x.tar"), ("ustar", "x.tar"), ("gnu", "x.tar.gz")] {
        let bench = Bench::new();
        let format = format!("--format={format}");
        let options: &[&str] = if name == "x.tar.gz" { &[&format, "-z"] } else { &[&format] };
        let expected = packed(&bench, options, name);
        let (survey, found) = bench.unpacked(&bench.open(name));
        assert_eq!(found, expected, "{format}");
        assert_eq!(survey.top.as_deref(), Some("emqx"));
    }
}

#[test]
fn long_tar_name_is_read() {
    for format in ["--format=gnu", "--format=pax"] {
        let bench = Bench::new();
        let dirs = vec!["d".repeat(90); 4].join("/");
        sh(&bench, &format!("mkdir -p emqx/{dirs} && echo x >emqx/{dirs}/f && ln -s {dirs}/f emqx/l"));
        sh(&bench, &format!("tar {format} -cf x.tar emqx"));
        let (_, found) = bench.unpacked(&bench.open("x.tar"));
        assert_eq!(found, listing(&bench.path().join("emqx")), "{format}");
    }
}

#[test]
fn sparse_files_and_pipes_are_refused() {
    for format in ["--format=gnu", "--format=pax"] {
        let bench = Bench::new();
        sh(
            &bench,
            &format!("mkdir s && truncate -s 1M s/hole && echo x >>s/hole && tar {format} -S -cf s.tar s"),
        );
        let refusal = bench.refusal("x.tar", &std::fs::read(bench.path().join("s.tar")).unwrap());
        assert!(refusal.contains("sparse"), "{format}: {refusal}");
        sh(&bench, &format!("rm -r s; mkdir s; mkfifo s/pipe; tar {format} -cf s.tar s; rm s/pipe"));
        let refusal = bench.refusal("x.tar", &std::fs::read(bench.path().join("s.tar")).unwrap());
        assert!(refusal.contains(r#"entry "s/pipe" is a named pipe"#), "{format}: {refusal}");
    }
}

#[test]
fn gzip_archive_is_read_and_checked() {
    let bench = Bench::new();
    sh(&bench, "mkdir a && echo 1 >a/x && echo 2 >a/y && tar -cf x.tar a && gzip x.tar");
    let bytes = std::fs::read(bench.path().join("x.tar.gz")).unwrap();
    assert_eq!(bench.unpacked(&bench.open("x.tar.gz")).1, ["x 644 1\n", "y 644 2\n"]);
    let mut crc = bytes.clone();
    let at = crc.len() - 8;
    crc[at] ^= 1;
    let refusal = Bench::new().refusal("x.tar.gz", &crc);
    assert!(refusal.contains("the archive is damaged: corrupt gzip stream"), "{refusal}");
}
