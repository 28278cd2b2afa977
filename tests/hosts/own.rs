//! Tenure's own packages, and the greeter's rpm, as far as Debian's rpm can test it.

use std::fs;
use std::path::Path;

use crate::greeter::{URL, installed};
use crate::installed::Installed;
use crate::packages::{
    apt, careless_rpm, package, publish, release, tenure, unpack_by_hand, with_repository,
};
use crate::support::booted::{Booted, Init};

/// Returns the installed files of Tenure. The host's dpkg omits manual pages and documentation.
fn left(host: &Booted) -> String {
    host.ok("find /usr /var/lib/dpkg/info -name '*tenure*' | sort")
}

#[test]
#[ignore = "needs root and a host of its own"]
fn package_removal_keeps_roots() {
    let host = installed(with_repository(Init::Systemd));
    publish(&host, &[release("5.0.0"), release("5.0.1")]);
    apt(&host, "install tenure greeter=5.0.0").ok();
    host.answers("5.0.0");
    let files = host.ok("dpkg -L tenure");
    for file in [
        "/usr/share/man/man1/tenure.1.gz",
        "/usr/share/man/man5/tenure.toml.5.gz",
        "/usr/share/man/man5/tenure-release.5.gz",
    ] {
        assert!(files.contains(file), "{files}");
    }
    let asks = "source /usr/share/bash-completion/completions/tenure && COMP_WORDS=(tenure upg) COMP_CWORD=1 COMP_TYPE=9 &&
                _clap_complete_tenure tenure upg tenure && echo ${COMPREPLY[@]}";
    assert_eq!(host.ok(&format!("bash -c '{asks}'")), "upgrade");
    unpack_by_hand(&host, "5.0.1");
    host.ok("cd /tmp && dpkg-deb -R /srv/repository/tenure_*.deb n && sed -i 's/^Version: .*/Version: 9.0/' n/DEBIAN/control && dpkg-deb -b n next.deb");
    // Tenure is upgraded in the middle of a trial, and its guard has to start again.
    host.try_out("--confirm-within 8s", "5.0.1", "5.0.0");
    host.ok("dpkg -i /tmp/next.deb && systemctl kill --signal=KILL 'tenure-guard-*'");
    host.is_back("5.0.1", "5.0.0");
    // Tenure is upgraded again, and the guard continues with the replaced program.
    host.try_out("--confirm-within 8s", "5.0.1", "5.0.0");
    host.ok("dpkg -i /tmp/next.deb");
    host.is_back("5.0.1", "5.0.0");
    // While Tenure is not installed, roots and the service do not change.
    let load = host.load(URL);
    host.try_out("--confirm-within 8s", "5.0.1", "5.0.0");
    let roots = host.ok("find /srv/greeter -path '*/.tenure' -prune -o -print | sort");
    host.ok("dpkg -r --force-depends tenure");
    host.answers("5.0.0");
    assert_eq!(host.ok("readlink /srv/greeter/current"), "releases/5.0.0", "its guard has seen to that");
    host.ok("dpkg -i /tmp/next.deb");
    host.until("the guards have left", || host.guards().is_empty());
    load.lost_none("the greeter, while Tenure is removed and installed");
    assert_eq!(host.ok("find /srv/greeter -path '*/.tenure' -prune -o -print | sort"), roots);
    host.tenure("status");
    apt(&host, "purge tenure greeter").ok();
    assert_eq!(left(&host), "");
}

fn put(host: &Installed, version: &str, file: &Path) {
    host.put(&format!("/srv/{version}.rpm"), fs::read(file).unwrap(), 0o644);
}

/// Returns a host with Tenure from its rpm, and with rpms of these releases in /srv.
fn with_rpms(releases: &[&str]) -> Installed {
    let host = installed(with_repository(Init::Systemd));
    put(&host, "tenure", tenure("rpm"));
    for version in releases {
        let (_dir, file) = package("rpm", &release(version));
        put(&host, version, &file);
    }
    host.ok("rpm --nodeps -i /srv/tenure.rpm 2>&1");
    host
}

#[test]
#[ignore = "needs root and a host of its own"]
fn failed_rpm_upgrade_leaves_no_kept_files() {
    let host = with_rpms(&["5.0.0", "5.0.1"]);
    host.ok("sed -i 's/^USERGROUPS_ENAB.*/USERGROUPS_ENAB no/' /etc/login.defs");
    host.ok("rpm --nodeps -i /srv/5.0.0.rpm 2>&1");
    assert_eq!(host.ok("id -gn greeter"), "greeter");
    let page = "/usr/share/man/man1/greeter.1.gz";
    host.ok(&format!("rm {page} && mkdir -p {page}/x"));
    assert_ne!(host.sh("rpm --nodeps -U /srv/5.0.1.rpm").code, Some(0));
    assert_eq!(host.ok("ls -A /srv | grep kept; true"), "");
    host.ok(&format!("rm -r {page}; rpm --nodeps -U /srv/5.0.1.rpm"));
    assert_eq!(host.states(), ["5.0.1 permanent", "5.0.0 old"]);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn rpms_install_upgrade_and_remove() {
    let host = with_rpms(&["5.0.1", "5.1.0"]);
    let (_dir, careless) = careless_rpm();
    put(&host, "5.0.0", &careless);
    let rpm = |words: &str| host.ok(&format!("rpm --nodeps {words} 2>&1"));
    assert!(host.ok("rpm -ql tenure").contains("/usr/share/zsh/site-functions/_tenure"));
    rpm("-i /srv/5.0.0.rpm");
    host.ok("systemctl enable -q --now greeter");
    host.answers("5.0.0");
    let load = host.load(URL);
    println!("{}", rpm("-U /srv/5.0.1.rpm"));
    assert_eq!(
        (host.answer(), host.ok("rpm -q --qf '%{VERSION}' greeter")),
        ("5.0.1".into(), "5.0.1".into())
    );
    assert_eq!(host.states(), ["5.0.1 permanent", "5.0.0 old"]);
    load.lost_none("the greeter's rpm, over one whose scripts delete links and releases");
    host.ok("greeter verify && greeter status");
    rpm("-U /srv/5.1.0.rpm");
    assert_eq!(host.answer(), "5.1.0");
    rpm("-e greeter");
    assert_eq!(
        (host.answer(), host.has("/srv/greeter/releases"), host.has("/srv/greeter/shared/data")),
        (String::new(), false, true)
    );
    rpm("-e tenure");
    assert_eq!(left(&host), "");
}
