//! Signatures: with a trusted key, nothing is unpacked that its owner did not sign.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unused_must_use, reason = "a test may")]

mod support;

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use minisign::KeyPair;
use support::Host;

/// A host that trusts one key, with an archive of 5.0.1 that nobody has signed yet.
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

    fn refused(&self, words: &str) {
        let before = self.host.tree();
        self.host.run(["upgrade", "5.0.1"]).code(2).stdout("").stderr_has(words).stderr_has("hint: ");
        assert_eq!(self.host.tree(), before);
    }
}

#[test]
fn what_is_signed_is_installed() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.1.zip\thashed");
    vendor.host.run(["upgrade", "5.0.1"]).ok();
    vendor.host.complete("5.0.1");
    // The signature goes with its archive.
    vendor.host.run(["install", "5.0.0"]).ok();
    vendor.host.archive("5.0.2");
    vendor.trust(&[]);
    vendor.host.run(["install", "5.0.2"]).ok();
    vendor.host.run(["prune", "--keep", "0"]).ok();
    assert!(!vendor.archive().exists());
    assert!(!vendor.archive().with_extension("zip.minisig").exists());
}

#[test]
fn any_of_the_keys_will_do() {
    let vendor = Vendor::new();
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    vendor.trust(&[&other.pk.to_base64(), &vendor.keys.pk.to_base64()]);
    vendor.sign(&vendor.keys, "any words");
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn what_is_not_signed_is_refused() {
    let vendor = Vendor::new();
    vendor.refused("is not signed: there is no");
    // Nothing lifts the rule.
    vendor.host.run(["upgrade", "--replace", "--restart", "5.0.1"]).code(2).stderr_has("is not signed");
    vendor.host.run(["unpack", "releases/emqx-5.0.1.zip"]).code(2).stderr_has("is not signed");
    vendor.host.run(["upgrade", "--insecure", "5.0.1"]).code(64);
}

#[test]
fn what_another_signed_is_refused() {
    let vendor = Vendor::new();
    vendor.sign(&KeyPair::generate_unencrypted_keypair().unwrap(), "timestamp:1");
    vendor.refused("by a key that tenure.toml does not name");
    // Another key that claims to be the trusted one.
    let mut forged = KeyPair::generate_unencrypted_keypair().unwrap();
    let mut bytes = forged.sk.to_bytes();
    let trusted = vendor.keys.sk.to_bytes();
    let id = trusted.len() - 8 - 64 - 32..trusted.len() - 64 - 32;
    bytes[id.clone()].copy_from_slice(&trusted[id]);
    forged.sk = minisign::SecretKey::from_bytes(&bytes).unwrap();
    vendor.sign(&forged, "timestamp:1");
    vendor.refused("is not of this archive");
}

#[test]
fn every_changed_byte_is_noticed() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.1.zip");
    let (archive, signature) = (vendor.archive(), vendor.archive().with_extension("zip.minisig"));
    let (whole, signed) = (fs::read(&archive).unwrap(), fs::read_to_string(&signature).unwrap());
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&archive, changed).unwrap();
        vendor.refused("is not of this archive");
    }
    fs::write(&archive, &whole).unwrap();
    fs::write(&signature, signed.replace("5.0.1", "5.0.2")).unwrap();
    vendor.refused("is not of this archive");
    for text in ["", "banana\n", &signed[..signed.len() / 2]] {
        fs::write(&signature, text).unwrap();
        vendor.refused("is no minisign signature");
    }
    fs::write(&signature, &signed).unwrap();
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

#[test]
fn a_signed_archive_under_another_name_is_refused() {
    let vendor = Vendor::new();
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.0.zip\thashed");
    vendor.refused("was signed as emqx-5.0.0.zip, which is not 5.0.1");
    vendor.sign(&vendor.keys, "timestamp:1\tfile:emqx-5.0.1-el9.zip\thashed");
    vendor.host.run(["upgrade", "5.0.1"]).ok();
}

/// Made by minisign 0.10 with `-l`, over the words "old kind".
#[test]
fn a_signature_of_the_old_kind_is_refused() {
    let vendor = Vendor::new();
    vendor.trust(&["RWQXsmJXI0GQ4xM4CJCUwPrpKwfSAQKDHVzIg+x9rBQSp+kaVx25Y9Jb"]);
    fs::write(vendor.archive(), "old kind").unwrap();
    let signature = "untrusted comment: signature from minisign secret key\n\
        RWQXsmJXI0GQ42iCFRi9qWDfcXY3xjyvRhRRnt6uqYTHg/qjjAWq30AqmLBpaWZlb9YLu9XdqBaM5qCxX01tEdwLR9fz/x7DzAM=\n\
        trusted comment: timestamp:1 file:emqx-5.0.9.zip\n\
        BdxMt/TjxMk24Z5KNabfw4jlWRKbm4Im1ujqWCarnA3qNv/Tbd9pfBWHBBaqblJ8DOEttBrzsOIIHC6Sx7kbAw==\n";
    fs::write(vendor.archive().with_extension("zip.minisig"), signature).unwrap();
    vendor.refused("is of the old kind");
}
