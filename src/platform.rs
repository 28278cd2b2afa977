//! Detects the architecture, operating system and C library of this host.

use std::path::Path;
use std::time::Duration;

use crate::error::{Context, Result};
use crate::host_path;
use crate::process;
use crate::requires::{Named, Platform};

/// The paths of os-release(5). The first file that can be read is used.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The largest os-release file that is read, in bytes.
const LIMIT: u64 = 1 << 16;

/// How long a program may take to print the version of the C library.
const GETCONF_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a description of this host, with `free` bytes of free space.
///
/// # Errors
/// Returns an error if the system does not report its architecture.
pub fn this(free: u64) -> Result<Platform> {
    let arch = arch()?;
    let text = OS_RELEASE.iter().find_map(|file| host_path::read_text(Path::new(file), LIMIT).ok().flatten());
    let libc = libc(&arch);
    Ok(Platform { arch, os: os(&text.unwrap_or_default()), libc, free })
}

/// Returns the architecture of this host, as uname(2) names it.
///
/// # Errors
/// Returns an error if the system does not report it.
pub fn arch() -> Result<String> {
    let uname = nix::sys::utsname::uname().context(|| "cannot determine the architecture")?;
    Ok(uname.machine().to_string_lossy().into_owned())
}

/// Returns whether systemd booted this host (sd_booted(3)); `false` while a container image is built.
#[must_use]
pub fn is_under_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn os(text: &str) -> Named {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let id = Some(value("ID")).filter(|id| !id.is_empty()).unwrap_or_else(|| "linux".to_owned());
    let like = value("ID_LIKE");
    Named {
        names: std::iter::once(id).chain(like.split_whitespace().map(str::to_owned)).collect(),
        version: value("VERSION_ID").parse().ok(),
    }
}

/// Asks getconf(1) for the version of glibc. musl does not know this variable, and is detected by its loader.
fn libc(arch: &str) -> Option<Named> {
    let named = |text: &str| text.parse::<Named>().ok();
    let asked = process::ask(Path::new("getconf"), &["GNU_LIBC_VERSION".to_owned()], GETCONF_TIMEOUT);
    let said = asked.unwrap_or_default();
    named(&said).filter(|named| named.version.is_some()).or_else(|| {
        let loader = format!("/lib/ld-musl-{arch}.so.1");
        host_path::resolve(Path::new(&loader)).ok().and_then(|_| named("musl"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_is_read_from_os_release() {
        let rocky =
            os("NAME=\"Rocky Linux\"\nVERSION_ID=\"8.10\"\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
        assert_eq!((rocky.to_string().as_str(), rocky.names.len()), ("rocky 8.10", 4));
        assert_eq!(os("ID=arch\n").to_string(), "arch");
        assert_eq!(os("").to_string(), "linux");
    }

    #[test]
    fn this_host_has_arch_and_os() {
        let host = this(0).unwrap();
        assert!(!host.arch.is_empty() && !host.os.names.is_empty());
    }
}
