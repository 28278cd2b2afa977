#![no_main]
//! Fuzzes release.toml, tenure.toml, version ranges, versions and archive names.

mod ground;

use libfuzzer_sys::fuzz_target;
use tenure::manifest::Manifest;
use tenure::naming::{self, ArchiveFormat};
use tenure::settings::Settings;
use tenure::version::{Range, Version};

fuzz_target!(|text: &str| {
    let _ = ground::told(Manifest::parse("release.toml", text));
    let _ = ground::told(Settings::parse("tenure.toml", text));
    let _ = text.parse::<Range>();
    if let Ok(version) = text.parse::<Version>() {
        assert_eq!(version.to_string().parse::<Version>().ok().as_ref(), Some(&version));
        assert!(!version.to_string().contains('/'));
    }
    if let Some(version) = naming::version_of(text, None) {
        let (_, format) = ArchiveFormat::split(text).expect("a name with a version has an ending");
        let _ = format;
        assert!(naming::holds(text, None, &version), "{text:?} holds {version}");
    }
});
