//! The example manifest for vendors.

use std::path::Path;

use crate::support::{Host, assert_run};

#[test]
fn manifest_example_is_printed() {
    let host = Host::new();
    let example = host.run_in(Path::new("/"), ["manifest", "--example"]).ok().stderr("").stdout;
    assert!(example.starts_with("# release.toml") && example.contains("\n[hooks]\n"), "{example}");
    assert_eq!(host.run(["--json", "manifest", "--example"]).ok().json()["example"], example.as_str());
    assert_run!(host, "manifest", @"
    exit 64
    --- stderr
    error: the following required arguments were not provided:
      --example

    Usage: tenure manifest --example

    For more information, try '--help'.
    ");
}
