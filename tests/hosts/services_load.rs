//! Clients of a service on a host. They record the answers, the lost requests and the longest outage.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::support::booted::Booted;

/// The maximum time that a client waits for a response.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns the version from a good response. The path is the root of the host's files.
pub type Ask = fn(&Path) -> Option<String>;

/// Runs `work` in a thread within this network namespace.
fn in_network<T: Send + 'static>(net: File, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        setns(net, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Sends `count` requests one after the other and returns the answers.
pub fn ask(host: &Booted, ask: Ask, count: usize) -> Vec<Option<String>> {
    let files = host.path("/");
    in_network(host.network(), move || (0..count).map(|_| ask(&files)).collect()).join().unwrap()
}

/// The requests and answers of all clients.
#[derive(Clone, Debug)]
pub struct Seen {
    pub asked: usize,
    pub lost: usize,
    /// The longest time without a good answer.
    pub outage: Duration,
    /// The versions that answered, in order; consecutive equal versions count once.
    pub versions: Vec<String>,
    good_at: Instant,
}

impl Seen {
    fn take(&mut self, answer: Option<String>) {
        self.asked += 1;
        let Some(version) = answer else {
            self.lost += 1;
            return;
        };
        self.outage = self.outage.max(self.good_at.elapsed());
        self.good_at = Instant::now();
        if self.versions.last() != Some(&version) {
            self.versions.push(version);
        }
    }
}

/// Running clients; each request uses its own connection.
pub struct Clients {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub fn start(host: &Booted, ask: Ask) -> Self {
        let now = Instant::now();
        let none = Seen { asked: 0, lost: 0, outage: Duration::ZERO, versions: Vec::new(), good_at: now };
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(none)));
        let client = |_| {
            let (stop, seen, files) = (Arc::clone(&stop), Arc::clone(&seen), host.path("/"));
            in_network(host.network(), move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask(&files);
                    seen.lock().unwrap().take(answer);
                    thread::sleep(Duration::from_millis(20));
                }
            })
        };
        let threads = (0..2).map(client).collect();
        Self { stop, seen, threads }
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut seen = self.seen.lock().unwrap().clone();
        if seen.lost > 0 {
            seen.outage = seen.outage.max(seen.good_at.elapsed());
        }
        seen
    }
}

/// Sends a request to a port of the host and returns the response up to the end of the connection.
pub fn exchange(port: u16, request: &str) -> Option<String> {
    let address = ([127, 0, 0, 1], port).into();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Returns the body of a response with status 200.
pub fn get(path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let answer = exchange(8080, &request)?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.0 200 ")).then(|| body.trim().to_owned())
}
