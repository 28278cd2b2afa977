//! Finds the sockets on which processes listen, from procfs (proc_pid_net(5), proc_pid_fd(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The state of a listening TCP socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// The flag of a listening Unix socket in /proc/net/unix.
const ACCEPTS: u32 = 0x10000;

/// An address that accepts connections, in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The network namespace, as the target of `/proc/PID/ns/net`.
    namespace: PathBuf,
    socket: Socket,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Socket {
    /// A TCP port, on any address of the host.
    Port(u16),
    Path(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Socket::Port(port) => write!(f, "port {port}"),
            Socket::Path(path) => write!(f, "{}", path.escape_debug()),
        }
    }
}

/// The listening sockets of the host. Each network namespace is read once.
#[derive(Debug, Default)]
pub struct Listeners {
    namespaces: BTreeMap<PathBuf, BTreeMap<u64, Socket>>,
}

impl Listeners {
    /// Returns the addresses of the listening sockets that a process holds open, whether or not it accepts
    /// connections at present. Returns an empty set if this user may not inspect the process.
    pub fn of(&mut self, pid: u32) -> BTreeSet<Address> {
        let proc = Path::new("/proc").join(pid.to_string());
        let held = held(&proc);
        let Ok(namespace) = fs::read_link(proc.join("ns/net")) else { return BTreeSet::new() };
        if held.is_empty() {
            return BTreeSet::new();
        }
        let sockets =
            self.namespaces.entry(namespace.clone()).or_insert_with(|| listening(&proc.join("net")));
        let address = |inode| {
            Some(Address { namespace: namespace.clone(), socket: Socket::clone(sockets.get(inode)?) })
        };
        held.iter().filter_map(address).collect()
    }
}

/// Returns the inodes of the sockets that a process holds open.
fn held(proc: &Path) -> Vec<u64> {
    let entries = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
    let inode = |fd: fs::DirEntry| {
        let target = fs::read_link(fd.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(inode).collect()
}

fn listening(net: &Path) -> BTreeMap<u64, Socket> {
    let lines = |file: &str| {
        let lines = fs::File::open(net.join(file)).into_iter().flat_map(|file| BufReader::new(file).lines());
        lines.map_while(Result::ok).skip(1)
    };
    // The kernel lists listening sockets first. Thousands of other sockets may follow, which take long to read.
    let tcp = ["tcp", "tcp6"].into_iter().flat_map(|file| lines(file).map_while(|line| tcp_listener(&line)));
    tcp.chain(lines("unix").filter_map(|line| unix_listener(&line))).collect()
}

/// Parses a line of /proc/net/tcp: number, local address, remote address, state, ..., inode as the tenth field.
fn tcp_listener(line: &str) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    let is_listening = *fields.get(3)? == LISTEN;
    let socket = Socket::Port(u16::from_str_radix(port, 16).ok()?);
    is_listening.then_some((fields.get(9)?.parse().ok()?, socket))
}

/// Parses a line of /proc/net/unix: number, references, protocol, flags, type, state, inode, path.
fn unix_listener(line: &str) -> Option<(u64, Socket)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    let path = fields.get(7)?;
    (flags & ACCEPTS != 0).then_some((fields.get(6)?.parse().ok()?, Socket::Path((*path).to_owned())))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_listening_sockets_are_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let shown = || -> Vec<String> {
            let own = Listeners::default().of(std::process::id());
            own.iter().map(ToString::to_string).collect()
        };
        let (port, path) = (format!("port {port}"), path.display().to_string());
        assert!(shown().contains(&port) && shown().contains(&path), "{:?}", shown());
        let client = format!("port {}", client.local_addr().unwrap().port());
        assert!(!shown().contains(&client), "{:?}", shown());
        drop((tcp, unix));
        assert!(!shown().contains(&port) && !shown().contains(&path), "{:?}", shown());
    }

    #[test]
    fn kernel_socket_lines_are_parsed() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 123 1 0 100";
        assert_eq!(tcp_listener(line), Some((123, Socket::Port(8080))));
        assert_eq!(tcp_listener(&line.replace(" 0A ", " 01 ")), None);
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 456 /run/x.sock";
        assert_eq!(unix_listener(line), Some((456, Socket::Path("/run/x.sock".into()))));
        assert_eq!(unix_listener(&line.replace("00010000", "00000000")), None);
        assert_eq!(unix_listener("0: 00000002 00000000 00010000 0001 01 456"), None);
    }
}
