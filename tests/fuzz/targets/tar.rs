#![no_main]
//! Fuzzes the tar parser, without compression and with every decoder.

mod ground;

use libfuzzer_sys::fuzz_target;
use tenure::naming::ArchiveFormat;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let _ = match kind % 5 {
        0 => ground::survey(bytes, ArchiveFormat::TarGz),
        1 => ground::survey(bytes, ArchiveFormat::TarZst),
        2 => ground::survey(bytes, ArchiveFormat::TarXz),
        3 => ground::survey(bytes, ArchiveFormat::Tar),
        _ => ground::survey(&ground::summed(bytes), ArchiveFormat::Tar),
    };
});
