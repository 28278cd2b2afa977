#![no_main]
//! Fuzzes names and link targets. Each is put into a tar and into a zip that are otherwise valid; both must give the
//! same result.

mod ground;

use libfuzzer_sys::fuzz_target;
use tenure::naming::ArchiveFormat;

fuzz_target!(|name: &[u8]| {
    // A plain tar header cannot hold an empty name, a longer name or a NUL. The description of the zip cannot hold a
    // space or a newline.
    if name.is_empty() || name.len() > 100 || name.iter().any(|byte| matches!(byte, b' ' | b'\n' | 0)) {
        return;
    }
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[124..136].copy_from_slice(b"00000000000\0");
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = if name.ends_with(b"/") { b'5' } else { b'0' };
    let tar = ground::survey(&ground::summed(&header), ArchiveFormat::Tar);
    let zip = ground::survey(&ground::zip(&[name, b"\n"].concat()), ArchiveFormat::Zip);
    assert_eq!(tar.is_ok(), zip.is_ok(), "{tar:?} {zip:?}");
    if let Ok(reading) = tar {
        for entry in reading.tree() {
            let sound = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
            assert!(entry.path.split('/').all(sound), "{entry:?}");
            assert!(!entry.path.contains(['\\', '\0']) && !entry.path.chars().any(char::is_control));
        }
    }
});
