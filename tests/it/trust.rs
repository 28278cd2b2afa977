//! Signatures: with a trusted key, Tenure unpacks only archives that the owner of the key signed.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::build::Build;
use crate::support::stepper::{self, Ended};
use crate::support::{Host, Run, assert_run};
use minisign::KeyPair;

/// A host that trusts one key, with an unsigned archive of 5.0.1.
struct Vendor {
    host: Host,
    keys: KeyPair,
}

impl Vendor {
    fn new() -> Self {
        let vendor = Self { host: Host::new(), keys: KeyPair::generate_unencrypted_keypair().unwrap() };
        vendor.host.archive("5.0.0");
        vendor.host.run(["install", "5.0.0"]).ok();
        vendor.host.archive("5.0.1");
        vendor.trust(&[&vendor.keys.pk.to_base64()]);
        vendor
    }

    fn trust(&self, keys: &[&str]) {
        let settings = format!("name = 'emqx'\n[space]\nreserve = '0 B'\n[trust]\nkeys = {keys:?}\n");
        fs::write(self.host.root().join("tenure.toml"), settings).unwrap();
    }

    fn archive(&self) -> PathBuf {
        self.host.root().join("releases/emqx-5.0.1.zip")
    }

    fn sign(&self, keys: &KeyPair, comment: &str) {
        let data = Cursor::new(fs::read(self.archive()).unwrap());
        let signature = minisign::sign(None, &keys.sk, data, Some(comment), None).unwrap();
        fs::write(self.archive().with_extension("zip.minisig"), signature.into_string()).unwrap();
    }

    fn refused(&self) -> Run {
        self.host.refused(["upgrade", "5.0.1"])
    }
}

#[test]
fn signed_archive_is_installed() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.1.zip\thashed");
    vendor.host.run(["upgrade", "5.0.1"]).ok();
    vendor.host.complete("5.0.1");
    // The signature is removed with its archive.
    vendor.trust(&[]);
    vendor.host.run(["install", "5.0.0"]).ok();
    vendor.host.archive("5.0.2");
    vendor.host.run(["install", "5.0.2"]).ok();
    vendor.host.run(["prune", "--keep", "0"]).ok();
    assert!(!vendor.archive().exists());
    assert!(!vendor.archive().with_extension("zip.minisig").exists());
}

#[test]
fn any_trusted_key_is_accepted() {
    let vendor = Vendor::new();
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    vendor.trust(&[&other.pk.to_base64(), &vendor.keys.pk.to_base64()]);
    vendor.sign(&vendor.keys, "any words");
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn unsigned_archive_is_refused() {
    let vendor = Vendor::new();
    assert_run!(vendor.refused(), @"
    exit 2
    --- stderr
    error: [ROOT]/releases/emqx-5.0.1.zip is not signed: its signature [ROOT]/releases/emqx-5.0.1.zip.minisig is missing
    hint: tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor
    ");
    // No option lifts the rule.
    assert_run!(vendor.host, "upgrade --replace --restart 5.0.1", @"
    exit 2
    --- stderr
    error: [ROOT]/releases/emqx-5.0.1.zip is not signed: its signature [ROOT]/releases/emqx-5.0.1.zip.minisig is missing
    hint: tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor
    ");
    assert_run!(vendor.host, "unpack releases/emqx-5.0.1.zip", @"
    exit 2
    --- stderr
    error: releases/emqx-5.0.1.zip is not signed: its signature releases/emqx-5.0.1.zip.minisig is missing
    hint: tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor
    ");
    vendor.host.run(["upgrade", "--insecure", "5.0.1"]).code(64);
}

const COMMENT: &str = "timestamp:1\tfile:emqx-5.0.1.zip\thashed";

impl Vendor {
    /// Asserts that an unsigned installed release does not become current.
    fn unsigned(&self, version: &str, why: &str) {
        let (before, host) = (self.host.tree(), &self.host);
        let words = format!("cannot make {version} current: {why}");
        let hint = format!("get the archive of {version} and its .minisig from the vendor into ");
        for args in [
            &["install", version][..],
            &["install", "--no-permanent", "--restart", version],
            &["install", "--dry-run", version],
            &["install", "--prepare-only", version],
        ] {
            host.run(args).code(2).stdout("").stderr_has(&words).stderr_has(&hint);
        }
        let run = host.run(["check", version]).code(2);
        run.stdout_has(&format!("FAILED  signature: {words}\n        hint: {hint}"));
        assert_eq!(host.tree(), before);
    }

    fn replace(&self, args: &[&str]) {
        self.host.run(args).ok().stdout_has("Installed Release: 5.0.1\n");
        self.host.complete("5.0.1");
    }
}

#[test]
fn handmade_release_is_not_made_current() {
    let vendor = Vendor::new();
    std::fs::remove_file(vendor.archive()).unwrap();
    vendor.host.release("5.0.1");
    vendor.unsigned("5.0.1", "it was not unpacked by Tenure");
    assert_run!(vendor.host, "upgrade --multi-hop 5.0.1", @"
    exit 2
    --- stderr
    error: from 5.0.0 to 5.0.1: cannot make 5.0.1 current: it was not unpacked by Tenure
    hint: get the archive of 5.0.1 and its .minisig from the vendor into [ROOT]/releases, then run `tenure install --replace 5.0.1`
    ");
    assert_run!(vendor.host, "upgrade --replace 5.0.1", @"
    exit 2
    --- stderr
    error: cannot make 5.0.1 current: it was not unpacked by Tenure
    hint: get the archive of 5.0.1 and its .minisig from the vendor into [ROOT]/releases, then run `tenure install --replace 5.0.1`
    ");
    // An archive next to the directory does not help until it replaces the directory.
    vendor.host.archive("5.0.1");
    vendor.unsigned("5.0.1", "it was not unpacked by Tenure");
    assert_run!(vendor.host, "upgrade --replace 5.0.1", @"
    exit 2
    --- stderr
    error: [ROOT]/releases/emqx-5.0.1.zip is not signed: its signature [ROOT]/releases/emqx-5.0.1.zip.minisig is missing
    hint: tenure.toml names trusted keys, so every archive needs a signature: get it from the vendor
    ");
    vendor.sign(&vendor.keys, COMMENT);
    vendor.unsigned("5.0.1", "it was not unpacked by Tenure");
    vendor.replace(&["upgrade", "--replace", "5.0.1"]);
    vendor.host.run(["check", "5.0.1"]).ok();
}

#[test]
fn receipt_records_the_key() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, COMMENT);
    vendor.host.run(["unpack", "5.0.1"]).ok();
    let receipt = vendor.host.root().join(".tenure/receipts/5.0.1/receipt.json");
    let key = vendor.keys.pk.to_base64();
    assert!(fs::read_to_string(receipt).unwrap().contains(&format!("\"signed_by\":\"{key}\"")));
    std::fs::remove_file(vendor.archive()).unwrap();
    let words = "ok      signature: it was unpacked from an archive that a trusted key signed\n";
    vendor.host.run(["check", "5.0.1"]).ok().stdout_has(words);
    // A key that is no longer trusted does not count.
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    vendor.trust(&[&other.pk.to_base64()]);
    vendor.unsigned(
        "5.0.1",
        "emqx-5.0.1.zip is not known to be signed by a key in `[trust] keys` of tenure.toml",
    );
    vendor.trust(&[&other.pk.to_base64(), &key]);
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn archive_signature_completes_receipt() {
    let vendor = Vendor::new();
    let key = vendor.keys.pk.to_base64();
    vendor.trust(&[]);
    vendor.host.run(["unpack", "5.0.1"]).ok();
    vendor.trust(&[&key]);
    let unknown = "emqx-5.0.1.zip is not known to be signed by a key in `[trust] keys` of tenure.toml";
    vendor.unsigned("5.0.1", unknown);
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.0.zip\thashed");
    vendor.unsigned("5.0.1", unknown);
    vendor.sign(&KeyPair::generate_unencrypted_keypair().unwrap(), COMMENT);
    vendor.unsigned("5.0.1", unknown);
    vendor.sign(&vendor.keys, COMMENT);
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn rollback_needs_no_signature() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, COMMENT);
    vendor.host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    vendor.host.run(["revert"]).ok();
    vendor.host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    assert_run!(vendor.host, "install 5.0.0", @"
    exit 0
    --- stdout
    Release 5.0.0 is permanent, going back to it.
    Installed Release: 5.0.0
    ");
    vendor.host.run(["upgrade", "--no-permanent", "5.0.1"]).ok();
    vendor.host.run(["boot"]).ok();
    assert_eq!(vendor.host.link("current").unwrap(), "releases/5.0.0");
    // A downgrade is not a rollback: 5.0.0 was installed before keys were trusted.
    vendor.host.run(["upgrade", "5.0.1"]).ok();
    vendor.unsigned(
        "5.0.0",
        "emqx-5.0.0.zip is not known to be signed by a key in `[trust] keys` of tenure.toml",
    );
    assert_run!(vendor.host, "downgrade 5.0.0", @"
    exit 2
    --- stderr
    error: cannot make 5.0.0 current: emqx-5.0.0.zip is not known to be signed by a key in `[trust] keys` of tenure.toml
    hint: get the archive of 5.0.0 and its .minisig from the vendor into [ROOT]/releases, then run `tenure install --replace 5.0.0`
    ");
}

#[test]
fn adopt_is_refused_with_trusted_keys() {
    let vendor = Vendor::new();
    let install = tempfile::tempdir().unwrap();
    fs::write(install.path().join("emqx"), "").unwrap();
    let before = vendor.host.tree();
    let run = vendor.host.run(["adopt", install.path().to_str().unwrap(), "5.0.2"]).code(2);
    run.stderr_has("tenure.toml names trusted keys, and a directory has no signature\n").stderr_has(
        "hint: get the archive of 5.0.2 and its .minisig from the vendor, then run `tenure unpack ARCHIVE`\n",
    );
    assert_eq!(vendor.host.tree(), before);
}

#[test]
fn signature_by_another_key_is_refused() {
    let vendor = Vendor::new();
    vendor.sign(&KeyPair::generate_unencrypted_keypair().unwrap(), "timestamp:1");
    assert_run!(vendor.refused(), @"
    exit 2
    --- stderr
    error: the signature [ROOT]/releases/emqx-5.0.1.zip.minisig is by a key that is not in tenure.toml
    hint: compare the vendor's public key with `[trust] keys`
    ");
    // Another key with the key ID of the trusted one.
    let mut forged = KeyPair::generate_unencrypted_keypair().unwrap();
    let mut bytes = forged.sk.to_bytes();
    let trusted = vendor.keys.sk.to_bytes();
    let id = trusted.len() - 8 - 64 - 32..trusted.len() - 64 - 32;
    bytes[id.clone()].copy_from_slice(&trusted[id]);
    forged.sk = minisign::SecretKey::from_bytes(&bytes).unwrap();
    vendor.sign(&forged, "timestamp:1");
    assert_run!(vendor.refused(), @"
    exit 2
    --- stderr
    error: the signature [ROOT]/releases/emqx-5.0.1.zip.minisig is not of this archive
    hint: the archive or its signature is damaged or forged: get both again from the vendor
    ");
}

#[test]
fn changed_archive_or_signature_is_refused() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.1.zip");
    let (archive, signature) = (vendor.archive(), vendor.archive().with_extension("zip.minisig"));
    let (whole, signed) = (fs::read(&archive).unwrap(), fs::read_to_string(&signature).unwrap());
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&archive, changed).unwrap();
        vendor.refused().stderr_has("is not of this archive");
    }
    fs::write(&archive, &whole).unwrap();
    fs::write(&signature, signed.replace("5.0.1", "5.0.2")).unwrap();
    assert_run!(vendor.refused(), @"
    exit 2
    --- stderr
    error: the signature [ROOT]/releases/emqx-5.0.1.zip.minisig is not of this archive
    hint: the archive or its signature is damaged or forged: get both again from the vendor
    ");
    for text in ["", "banana\n", &signed[..signed.len() / 2]] {
        fs::write(&signature, text).unwrap();
        vendor.refused().stderr_has("is not a minisign signature");
    }
    fs::write(&signature, &signed).unwrap();
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn renamed_signed_archive_is_refused() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.0.zip\thashed");
    assert_run!(vendor.refused(), @"
    exit 2
    --- stderr
    error: releases/emqx-5.0.1.zip was signed as emqx-5.0.0.zip, which is not 5.0.1
    hint: the archive was renamed: get the one of this version from the vendor
    ");
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.1-el9.zip\thashed");
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

/// The signature was made by minisign 0.10 with `-l`, over the words "old kind".
#[test]
fn legacy_signature_is_refused() {
    let vendor = Vendor::new();
    vendor.trust(&["RWQXsmJXI0GQ4xM4CJCUwPrpKwfSAQKDHVzIg+x9rBQSp+kaVx25Y9Jb"]);
    fs::write(vendor.archive(), "old kind").unwrap();
    let signature = "untrusted comment: signature from minisign secret key\n\
        RWQXsmJXI0GQ42iCFRi9qWDfcXY3xjyvRhRRnt6uqYTHg/qjjAWq30AqmLBpaWZlb9YLu9XdqBaM5qCxX01tEdwLR9fz/x7DzAM=\n\
        trusted comment: timestamp:1 file:emqx-5.0.9.zip\n\
        BdxMt/TjxMk24Z5KNabfw4jlWRKbm4Im1ujqWCarnA3qNv/Tbd9pfBWHBBaqblJ8DOEttBrzsOIIHC6Sx7kbAw==\n";
    fs::write(vendor.archive().with_extension("zip.minisig"), signature).unwrap();
    assert_run!(vendor.refused(), @"
    exit 2
    --- stderr
    error: the signature [ROOT]/releases/emqx-5.0.1.zip.minisig is of the legacy type, over the file instead of its hash
    hint: sign it with `minisign -S -H`
    ");
}

/// Packs and signs the directory of a small release into releases/. `key` is the file of the secret key.
fn pack_signed(vendor: &Vendor, key: &str, more: &[&str]) -> Run {
    let archive = vendor.archive();
    fs::remove_file(&archive).unwrap();
    let build = vendor.host.root().join("build");
    if !build.exists() {
        vendor.host.build("5.0.1").spread(&build);
    }
    let output = archive.to_str().unwrap();
    vendor.host.run([&["pack", "build", "--output", output, "--sign", key], more].concat())
}

#[test]
fn packed_and_signed_archive_is_trusted() {
    let vendor = Vendor::new();
    let key = vendor.keys.sk.to_box(None).unwrap().into_string();
    fs::write(vendor.host.root().join("key"), key).unwrap();
    let signature = vendor.archive().with_extension("zip.minisig");
    let told = format!("\nSigned: {}\n", signature.display());
    pack_signed(&vendor, "key", &[]).ok().stdout_has(&told).stderr("");
    let signed = fs::read_to_string(&signature).unwrap();
    assert!(signed.contains("\tfile:emqx-5.0.1.zip\thashed\n"), "{signed}");
    // A good signature is kept.
    let again = ["pack", "build", "--output", "releases/emqx-5.0.1.zip", "--sign", "key"];
    vendor.host.run(again).ok().stdout_has("Already packed");
    assert_eq!(fs::read_to_string(&signature).unwrap(), signed);
    vendor.host.run(["upgrade", "5.0.1"]).ok();
    vendor.host.complete("5.0.1");
    // A signature by another key is replaced only with `--force`.
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    fs::write(vendor.host.root().join("key"), other.sk.to_box(None).unwrap().into_string()).unwrap();
    vendor.host.run(again).code(2).stderr_has("emqx-5.0.1.zip.minisig exists already");
    vendor.host.run([&again[..], &["--force"]].concat()).ok();
    assert_ne!(fs::read_to_string(&signature).unwrap(), signed);
}

#[test]
fn signing_key_may_have_password() {
    let mut vendor = Vendor::new();
    let root = vendor.host.root().to_owned();
    let password = Some("correct horse".to_owned());
    let KeyPair { pk, sk } = KeyPair::generate_encrypted_keypair(password).unwrap();
    fs::write(root.join("key"), sk.to_box(None).unwrap().into_string()).unwrap();
    fs::write(root.join("password"), "correct horse\n").unwrap();
    fs::write(root.join("wrong"), "battery staple\n").unwrap();
    vendor.trust(&[&pk.to_base64()]);
    vendor.keys.pk = pk;
    pack_signed(&vendor, "key", &["--password-file", "wrong"]).code(2).stderr_has("Wrong password");
    vendor.host.archive("5.0.1");
    pack_signed(&vendor, "key", &["--password-file", "absent"])
        .code(2)
        .stderr_has("absent: it does not exist");
    vendor.host.archive("5.0.1");
    pack_signed(&vendor, "key", &["--password-file", "password"]).ok();
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn invalid_key_signs_nothing() {
    let vendor = Vendor::new();
    let root = vendor.host.root().to_owned();
    let whole = vendor.keys.sk.to_box(None).unwrap().into_string();
    let damaged = {
        let at = whole.find('\n').unwrap() + 100;
        let other = if whole.as_bytes()[at] == b'A' { "B" } else { "A" };
        [&whole[..at], other, &whole[at + 1..]].concat()
    };
    for (text, words) in [
        ("", "cannot sign"),
        ("x\nbanana\n", "cannot sign"),
        (&whole[..120], "cannot sign"),
        (&damaged, "Corrupted key"),
    ] {
        fs::write(root.join("key"), text).unwrap();
        pack_signed(&vendor, "key", &[]).code(2).stdout("").stderr_has(words).stderr_has("hint: ");
        assert!(!vendor.archive().exists());
        vendor.host.archive("5.0.1");
    }
    pack_signed(&vendor, "absent", &[]).code(2).stderr_has("absent: it does not exist");
}

/// The public key of a key pair that minisign 0.11 made.
const PUBLIC: &str = "RWQbuUPdHVh6bJ0SSoeU8S+xKL3qahldUXvCFF36Og2KB53eHN0BNrWL";

/// The key is from minisign 0.11. If minisign is installed, it verifies the signature.
#[test]
fn minisign_verifies_signature() {
    let vendor = Vendor::new();
    let root = vendor.host.root().to_owned();
    let minisign = |args: &[&str]| Command::new("minisign").args(args).current_dir(&root).output();
    // Made with `-W`: a key without a password and without its checksum.
    let key = "untrusted comment: minisign encrypted secret key\n\
               RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAG7lD3R1YemzjeZdAd5Vt/dITgJSnUK4CjcHCnQUauNXkDjyuRFBneJ0SSoeU8S+xKL3qahldUXvCFF36Og2KB53eHN0BNrWLAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    fs::write(root.join("key"), key).unwrap();
    vendor.trust(&[PUBLIC]);
    pack_signed(&vendor, "key", &[]).ok();
    vendor.host.run(["upgrade", "5.0.1"]).ok();
    if let Ok(verified) = minisign(&["-Vm", "releases/emqx-5.0.1.zip", "-P", PUBLIC]) {
        let told = String::from_utf8(verified.stdout).unwrap();
        assert!(verified.status.success() && told.contains("file:emqx-5.0.1.zip\thashed"), "{told}");
    }
}

/// Returns an archive of 5.0.1 that is larger than a megabyte in every format.
fn large(host: &Host, format: &'static str) -> Build {
    let noise = |at: u32| blake3::hash(&at.to_le_bytes()).to_hex().to_string();
    host.build("5.0.1").format(format).file("lib/noise", &(0..60_000).map(noise).collect::<String>())
}

/// A fault of an archive, and words of its error.
type Wrong = (fn(&Vendor, &Path, Build), &'static str);

const WRONG: &[Wrong] = &[
    (
        |_, archive, build| {
            build.write();
            fs::write(format!("{}.sha256", archive.display()), "0".repeat(64)).unwrap();
        },
        " does not match the digest in ",
    ),
    (
        |vendor, _, build| {
            build.write();
            vendor.trust(&[&vendor.keys.pk.to_base64()]);
        },
        " is not signed: its signature ",
    ),
    (
        |vendor, archive, build| {
            build.write();
            vendor.trust(&[&vendor.keys.pk.to_base64()]);
            let other = minisign::sign(None, &vendor.keys.sk, Cursor::new(b"other"), None, None).unwrap();
            fs::write(format!("{}.minisig", archive.display()), other.into_string()).unwrap();
        },
        " is not of this archive",
    ),
    (
        |vendor, archive, build| {
            build.write();
            vendor.trust(&[&vendor.keys.pk.to_base64()]);
            let data = Cursor::new(fs::read(archive).unwrap());
            let named = Some("timestamp:1\tfile:emqx-4.9.9.zip");
            let signature = minisign::sign(None, &vendor.keys.sk, data, named, None).unwrap();
            fs::write(format!("{}.minisig", archive.display()), signature.into_string()).unwrap();
        },
        " was signed as emqx-4.9.9.zip, which is not 5.0.1",
    ),
    (|_, _, build| drop(build.symlink("bin/absolute", "/etc/passwd").write()), "bin/absolute"),
    (
        |vendor, _, build| {
            build.write();
            let settings = "name = 'emqx'\n[space]\nreserve = '0 B'\n[limits]\nsize = '1 MiB'\n";
            fs::write(vendor.host.root().join("tenure.toml"), settings).unwrap();
        },
        "it has more than 1",
    ),
    (
        |_, _, build| drop(build.file("release.toml", "name = \"emqx\"\nversion = \"5.0.9\"\n").write()),
        " contains ",
    ),
];

#[test]
fn refused_archive_is_read_once() {
    for format in ["tar.gz", "zip"] {
        for (wrong, words) in WRONG {
            let vendor = Vendor::new();
            vendor.trust(&[]);
            fs::remove_file(vendor.archive()).unwrap();
            let archive = vendor.host.root().join(format!("releases/emqx-5.0.1.{format}"));
            wrong(&vendor, &archive, large(&vendor.host, format));
            let length = fs::metadata(&archive).unwrap().len();
            // The central directory of a zip is read before its entries.
            let most = if format == "zip" { length + (256 << 10) } else { length };
            assert!(length > 1 << 20, "{length}");
            let told = vendor.host.run(["check", "5.0.1"]).code(2);
            told.stdout_has(words);
            for command in ["check", "upgrade", "unpack"] {
                vendor.host.run([command, "5.0.1"]).code(2);
                let (ended, bytes) = stepper::bytes_read(&vendor.host.command([command, "5.0.1"]), &archive);
                let at = format!("{command} of a .{format} that {words}");
                assert!(matches!(ended, Ended::Exited { code: 2, .. }), "{at}: {ended:?}");
                // `unpack` does not even read an unsigned archive, because no other check needs it.
                let unread = command == "unpack" && words.contains("is not signed");
                assert!(bytes <= most && (unread || bytes >= length), "{at}: {bytes} of {length} bytes");
                println!("{at}: {bytes} of {length} bytes");
            }
        }
    }
}
