//! A host with a service: the greeter runs from its root, optionally under load.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::{Host, PATIENCE};

/// The greeter's sources.
const SOURCES: [&str; 2] =
    [include_str!("../../fixtures/greeter/main.rs"), include_str!("../../fixtures/greeter/takeover.rs")];

/// Returns the greeter's binary, which is built once for each version and kept next to the test binaries.
fn binary(version: &str) -> Vec<u8> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let sources = blake3::hash(SOURCES.concat().as_bytes()).to_hex();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("greeter-{}", &sources[..16]));
    let path = dir.join(version);
    if !path.exists() {
        fs::create_dir_all(&dir).unwrap();
        let built = tempfile::tempdir_in(&dir).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/greeter/main.rs");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.env("GREETER_VERSION", version).args(["--edition", "2024", "-o"]);
        rustc.arg(built.path().join("greeter")).arg(source);
        assert!(rustc.status().expect("rustc is needed").success());
        fs::rename(built.path().join("greeter"), &path).unwrap();
    }
    fs::read(&path).unwrap()
}

/// The hook that moves the greeter. It returns once the new release has taken over.
pub const HOT: &str = r#"#!/bin/sh
echo "$TENURE_ACTION from $TENURE_OLD_VERSION to $TENURE_NEW_VERSION"
pid=$(cat "$TENURE_ROOT/../pid")
kill -USR2 "$pid"
for _ in $(seq 300); do
  case $(readlink "/proc/$pid/exe") in "$TENURE_NEW_DIR"/*) exit 0;; esac
  sleep 0.01
done
echo "it did not take over"
exit 1
"#;

/// The settings of the service; `PORT` stands for its port.
const SERVICE: &str = r#"
[service]
manager = "command"
pid-file = "DIR/pid"
start = ["sh", "-c", "current/bin/greeter PORT ../address >>../log 2>&1 & echo $! >../pid"]
stop = ["sh", "-c", "p=$(cat ../pid); kill $p; while grep -qs ' [RSD] ' /proc/$p/stat; do sleep 0.01; done"]
reload = ["sh", "-c", "kill -USR2 $(cat ../pid)"]
HOT
[health]
http = "http://127.0.0.1:PORT/healthz"
interval = "20ms"
healthy-after = 3
unhealthy-after = 3
[timeouts]
health = "20s"
hook = "5s"
stop = "20s"
"#;

/// A root with 5.0.0 installed and the greeter as its service.
pub struct Serving {
    pub host: Host,
    pub port: u16,
    _mine: UnixListener,
}

/// Returns a port that stays reserved while the service is down. It is below the ports that the kernel gives to
/// clients, and marked as taken for the other tests.
fn port() -> (u16, UnixListener) {
    let first = std::process::id().wrapping_mul(97) % 20_000;
    let candidates = (0..20_000).map(|at| u16::try_from(10_000 + (first + at) % 20_000).unwrap());
    let take = |port: u16| {
        let mark = SocketAddr::from_abstract_name(format!("tenure-test-port-{port}")).unwrap();
        let mine = UnixListener::bind_addr(&mark).ok()?;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| (port, mine))
    };
    candidates.into_iter().find_map(take).expect("a free port")
}

/// A release of the greeter to pack.
pub struct Greeter<'a> {
    pub version: &'a str,
    /// Further lines of the manifest.
    pub manifest: &'a str,
    /// The contents of etc/greeter.conf.
    pub conf: &'a str,
    /// The contents of bin/hot.
    pub hot: &'a str,
}

impl<'a> Greeter<'a> {
    /// Returns a healthy release with hooks.
    pub fn well(version: &'a str) -> Self {
        let manifest = "[hooks]\nhot-upgrade = ['bin/hot']\nhot-downgrade = ['bin/hot']\n";
        Self { version, manifest, conf: "", hot: HOT }
    }

    /// Packs the release into a .tar.gz.
    pub fn packed(&self) -> Vec<u8> {
        let Greeter { version, manifest, conf, hot } = self;
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let manifest = format!("name = \"greeter\"\nversion = \"{version}\"\n{manifest}");
        let program = binary(version);
        for (path, mode, contents) in [
            ("bin/greeter", 0o755, program.as_slice()),
            ("bin/hot", 0o755, hot.as_bytes()),
            ("etc/greeter.conf", 0o644, conf.as_bytes()),
            ("release.toml", 0o644, manifest.as_bytes()),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(contents.len() as u64);
            header.set_mode(mode);
            tar.append_data(&mut header, path, contents).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }
}

impl Serving {
    /// Returns a root whose service runs 5.0.0. `hot` contains further lines of the table [service].
    pub fn start(hot: &str) -> Self {
        let serving = Self::down(hot);
        serving.up();
        serving
    }

    /// Returns such a root with a stopped service.
    pub fn down(hot: &str) -> Self {
        let host = Host::new();
        let (port, mine) = port();
        let serving = Self { host, port, _mine: mine };
        serving.settings(&SERVICE.replace("HOT", hot));
        serving.pack(&Greeter::well("5.0.0"));
        serving.host.run(["install", "5.0.0"]).ok();
        serving
    }

    /// Writes the settings, with `text` appended.
    pub fn settings(&self, text: &str) {
        let text = text.replace("PORT", &self.port.to_string()).replace("DIR", self.dir().to_str().unwrap());
        let name = "name = \"greeter\"\n[space]\nreserve = \"0 B\"\n";
        fs::write(self.host.root().join("tenure.toml"), format!("{name}{text}")).unwrap();
    }

    /// Replaces `from` by `to` in the settings.
    pub fn changed(&self, from: &str, to: &str) {
        let file = self.host.root().join("tenure.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).unwrap();
    }

    pub fn dir(&self) -> PathBuf {
        self.host.root().parent().unwrap().to_owned()
    }

    /// Packs a release into releases/.
    pub fn pack(&self, greeter: &Greeter<'_>) {
        let archive = format!("releases/greeter-{}.tar.gz", greeter.version);
        fs::write(self.host.root().join(archive), greeter.packed()).unwrap();
    }

    /// Starts the service as its manager would.
    pub fn up(&self) {
        let start = format!("current/bin/greeter {} ../address >>../log 2>&1 & echo $! >../pid", self.port);
        let mut sh = Command::new("sh");
        assert!(sh.args(["-c", &start]).current_dir(self.host.root()).status().unwrap().success());
        self.until("it answers", || self.get("/version").is_some());
    }

    pub fn pid(&self) -> u32 {
        fs::read_to_string(self.dir().join("pid")).unwrap().trim().parse().unwrap()
    }

    /// Returns the release that answers, or `None` if the service does not answer.
    pub fn answers(&self) -> Option<String> {
        self.get("/version").map(|body| body.trim().to_owned())
    }

    fn get(&self, path: &str) -> Option<String> {
        get(self.port, path)
    }

    /// Waits until `so` returns true.
    pub fn until(&self, what: &str, so: impl Fn() -> bool) {
        super::until(what, so, || self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Starts clients that send requests without a pause until they are stopped.
    pub fn load(&self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (port, told) = (self.port, Arc::clone(&stop));
        let ask = move || {
            let (mut asked, mut lost) = (0, 0);
            while !told.load(Ordering::Relaxed) {
                asked += 1;
                lost += usize::from(get(port, "/version").is_none());
            }
            (asked, lost)
        };
        Load { stop, clients: [thread::spawn(ask.clone()), thread::spawn(ask)] }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", "kill -9 $(cat pid)"]).current_dir(self.dir()).output();
    }
}

/// Running clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: [JoinHandle<(usize, usize)>; 2],
}

impl Load {
    /// Stops the clients. Returns the number of requests, and how many of them had no good answer.
    pub fn stop(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.clients.map(|client| client.join().unwrap());
        counts.into_iter().fold((0, 0), |(asked, lost), (a, l)| (asked + a, lost + l))
    }

    /// Stops the clients and asserts that no request was lost.
    pub fn lost_none(self, at: &str) {
        let (asked, lost) = self.stop();
        println!("{at}: {asked} requests, {lost} lost");
        assert!(asked > 0 && lost == 0, "{at}: {lost} of {asked} requests were lost");
    }
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}
