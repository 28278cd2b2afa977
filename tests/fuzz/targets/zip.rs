#![no_main]
//! Fuzzes the zip reader with arbitrary bytes, and with valid zips in which some bytes are changed.

mod ground;

use libfuzzer_sys::fuzz_target;
use tenure::naming::ArchiveFormat;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let zip = if kind % 2 == 0 { bytes.to_vec() } else { ground::zip(bytes) };
    let _ = ground::survey(&zip, ArchiveFormat::Zip);
});
