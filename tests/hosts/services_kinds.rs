//! The tested services: how each one starts, moves and reports its version, and how its releases fail.

use std::fs;
use std::path::Path;

use crate::services_load::{Ask, exchange, get};
use crate::support::booted::Booted;

/// How a release fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The process exits at once.
    Exits,
    /// The release serves, and exits 5 s later.
    ExitsLater,
    /// The release cannot load its configuration.
    BadConfig,
    /// The release answers every request with 500, including the first health check.
    Answers500,
    /// The process starts but never listens.
    Hangs,
    /// The release accepts requests but never answers them.
    NeverAnswers,
    /// The main process forks the serving process and exits.
    LosesParent,
    /// The process does not listen, and ignores SIGTERM.
    IgnoresTerm,
    /// The running release ignores the signal or the hook that should move it.
    IgnoresSignal,
}

/// The manager that starts and stops a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    Command,
}

pub const BOTH: &[Manager] = &[Manager::Systemd, Manager::Command];

/// A system: a suite of Debian, and the packages that are installed.
#[derive(Clone, Copy)]
pub struct Debian {
    pub suite: &'static str,
    pub packages: &'static str,
}

pub const BOOKWORM: Debian = Debian {
    suite: "bookworm",
    packages: "systemd,systemd-sysv,dbus,nginx-light,haproxy,gunicorn,redis-server,prometheus,nodejs,python3",
};

/// The first suite whose systemd supports Type=notify-reload.
pub const TRIXIE: Debian = Debian { suite: "trixie", packages: "systemd,systemd-sysv,dbus,haproxy" };

/// A service to test.
pub struct Kind {
    pub name: &'static str,
    /// The Debian release of the host.
    pub debian: Debian,
    /// The command line for the unit and for the command manager.
    pub start: &'static str,
    /// Whether the service daemonizes and writes its own pid file.
    pub forks: bool,
    /// The type of the unit, and further lines of its section.
    pub unit: &'static str,
    /// The hot method, as in the settings.
    pub hot: &'static str,
    /// Further options of an upgrade or a downgrade.
    pub options: &'static str,
    /// The table `[health]` of the settings.
    pub health: &'static str,
    /// Whether good moves must not lose a request.
    pub lossless: bool,
    /// The number of good moves.
    pub moves: usize,
    pub managers: &'static [Manager],
    pub ask: Ask,
    pub build: fn(&Tree<'_>),
    pub faults: &'static [Fault],
}

/// The files of a future release on the host.
pub struct Tree<'a> {
    pub host: &'a Booted,
    pub dir: String,
    pub version: String,
    pub fault: Fault,
}

impl Tree<'_> {
    pub fn put(&self, path: &str, text: &str, mode: u32) {
        let text = text.replace("VERSION", &self.version).replace("FAULT", &format!("{:?}", self.fault));
        self.host.put(&format!("{}/{path}", self.dir), text, mode);
    }

    pub fn manifest(&self, name: &str, more: &str) {
        self.put("release.toml", &format!("name = \"{name}\"\nversion = \"VERSION\"\n{more}"), 0o644);
    }

    /// Copies a program from Debian and replaces the version `own` by the version of the release, which has the same
    /// length. A release that fails runs the program through a script.
    pub fn program(&self, from: &str, to: &str, own: &str, wrapped: &Wrapped<'_>) {
        let dir = &self.dir;
        let name = Path::new(to).file_name().unwrap().to_str().unwrap();
        let real = format!("{dir}/real/{name}");
        // All failing releases share one copy.
        let version = if self.fault == Fault::None { &self.version } else { "5.0.12" };
        let cache = format!("/srv/cache/{name}-{version}");
        let owned = own.replace('.', "\\.");
        self.host.ok(&format!(
            "mkdir -p $(dirname {dir}/{to}) {dir}/real /srv/cache
             [ -e {cache} ] || {{ sed 's/{owned}/{version}/g' {from} >{cache}; chmod 755 {cache}; }}
             ln -f {cache} {real}"
        ));
        match wrapped.script(self) {
            Some(script) => self.put(to, &script, 0o755),
            None => drop(self.host.ok(&format!("mv {real} {dir}/{to}; rmdir {dir}/real"))),
        }
    }
}

/// The parts of the script through which a failing release runs its program.
pub struct Wrapped<'a> {
    /// The ID of the main process, as a shell expression.
    pub pid: &'a str,
    /// A shell command that succeeds if the script has to exit 0 at once.
    pub check: &'a str,
    /// An argument that makes the health check fail.
    pub unwell: &'a str,
}

pub const PLAIN: Wrapped<'_> = Wrapped { pid: "$$", check: "false", unwell: "" };

/// No script: the file that the program interprets contains the fault.
pub const UNWRAPPED: Wrapped<'_> = Wrapped { pid: "", ..PLAIN };

impl Wrapped<'_> {
    fn script(&self, tree: &Tree<'_>) -> Option<String> {
        let Self { pid, check, unwell } = self;
        if pid.is_empty() {
            return None;
        }
        let real = "real=$(readlink -f \"$0\"); real=${real%/*/*}/real/${0##*/}";
        let close = "for fd in /proc/self/fd/*; do fd=${fd##*/}; [ $fd -le 2 ] || eval \"exec $fd>&-\"; done";
        let script = match tree.fault {
            Fault::Exits => "exit 1".to_owned(),
            Fault::ExitsLater => {
                format!("( {close} 2>/dev/null; sleep 5; kill {pid} ) &\nexec -a \"$0\" $real \"$@\"")
            }
            Fault::Hangs => "while :; do sleep 0.2; done".to_owned(),
            Fault::IgnoresTerm => "trap '' TERM QUIT INT; while :; do sleep 0.2; done".to_owned(),
            Fault::LosesParent => "exec -a \"$0\" $real \"$@\" &\nexit 0".to_owned(),
            Fault::Answers500 if !unwell.is_empty() => format!("exec -a \"$0\" $real \"$@\" {unwell}"),
            _ => return None,
        };
        Some(format!("#!/bin/bash\n{real}\nif {check}; then exit 0; fi\n{script}\n"))
    }
}

pub fn answers_version(_: &Path) -> Option<String> {
    get("/version")
}

pub const NGINX: Kind = Kind {
    name: "nginx",
    debian: BOOKWORM,
    start: "/srv/nginx/current/sbin/nginx -p /srv/nginx/current/ -c conf/nginx.conf",
    forks: true,
    unit: "Type=forking",
    hot: "hot = \"hook\"",
    options: "",
    health: "http = \"http://127.0.0.1:8080/healthz\"",
    lossless: true,
    moves: 10,
    managers: BOTH,
    ask: answers_version,
    build: nginx,
    faults: &[
        Fault::Exits,
        Fault::ExitsLater,
        Fault::BadConfig,
        Fault::Answers500,
        Fault::Hangs,
        Fault::LosesParent,
        Fault::IgnoresSignal,
    ],
};

fn nginx(tree: &Tree<'_>) {
    let server = match tree.fault {
        Fault::BadConfig => "no_such_directive on;",
        Fault::Answers500 => "return 500;",
        _ => "location = /healthz { return 200 well; } location = /version { return 200 VERSION; }",
    };
    let conf = format!(
        "pid /run/nginx/pid; error_log /run/nginx/error.log notice; worker_processes 2; user root;
events {{ worker_connections 512; }}
http {{ access_log off; server {{ listen 127.0.0.1:8080 backlog=4096; {server} }} }}\n"
    );
    tree.put("conf/nginx.conf", &conf, 0o644);
    let hot = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/nginx-hot");
    let hot = fs::read_to_string(hot)
        .unwrap()
        .replace("pidfile=$TENURE_ROOT/run/nginx.pid", "pidfile=/run/nginx/pid");
    // A wrapped program has another path in its release.
    let hot = hot.replace(
        r#"[ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$1/sbin/nginx" ] && echo "$pid" && return"#,
        r#"case $(readlink "/proc/$pid/exe" 2>/dev/null) in "$1"/*) echo "$pid"; return ;; esac"#,
    );
    tree.host.put(&format!("{}/hot", tree.dir), hot, 0o755);
    if tree.fault == Fault::IgnoresSignal {
        tree.put("hot", "#!/bin/sh\nexit 0\n", 0o755);
    }
    let wrapped = Wrapped {
        pid: "$(cat /run/nginx/pid)",
        check: "case \" $* \" in *' -t '*) : ;; *) false ;; esac",
        ..PLAIN
    };
    tree.program("/usr/sbin/nginx", "sbin/nginx", "1.22.1", &wrapped);
    tree.manifest("nginx", "[hooks]\nhot-upgrade = [\"hot\"]\nhot-downgrade = [\"hot\"]\n");
}

pub const HAPROXY: Kind = Kind {
    name: "haproxy",
    debian: BOOKWORM,
    start: "/srv/haproxy/current/sbin/haproxy -Ws -f /srv/haproxy/current/etc/haproxy.cfg",
    forks: false,
    unit: "Type=notify",
    hot: "hot = \"signal:USR2\"",
    options: "",
    health: "http = \"http://127.0.0.1:8080/healthz\"",
    lossless: true,
    moves: 10,
    managers: BOTH,
    ask: answers_version,
    build: |tree| haproxy(tree, "2.6.12"),
    faults: &[
        Fault::Exits,
        Fault::ExitsLater,
        Fault::BadConfig,
        Fault::Answers500,
        Fault::Hangs,
        Fault::LosesParent,
        Fault::IgnoresSignal,
    ],
};

pub fn haproxy(tree: &Tree<'_>, version: &str) {
    let answer = match tree.fault {
        Fault::BadConfig => "no-such-directive",
        Fault::Answers500 => "http-request return status 500",
        _ => "http-request return status 200 content-type text/plain string VERSION",
    };
    let conf = format!(
        "global
  stats socket /run/haproxy/admin.sock mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend web
  bind 127.0.0.1:8080
  {answer}
"
    );
    tree.put("etc/haproxy.cfg", &conf, 0o644);
    tree.program("/usr/sbin/haproxy", "sbin/haproxy", version, &PLAIN);
    tree.manifest("haproxy", "");
}

pub const GUNICORN: Kind = Kind {
    name: "gunicorn",
    debian: BOOKWORM,
    start: "/usr/bin/env PYTHONDONTWRITEBYTECODE=1 /usr/bin/gunicorn -c /srv/gunicorn/current/gunicorn.conf.py app:app",
    forks: false,
    unit: "Type=notify",
    hot: "hot = \"signal:HUP\"",
    options: "",
    health: "http = \"http://127.0.0.1:8080/healthz\"",
    lossless: true,
    moves: 10,
    managers: BOTH,
    ask: answers_version,
    build: gunicorn,
    faults: &[
        Fault::Exits,
        Fault::ExitsLater,
        Fault::BadConfig,
        Fault::Answers500,
        Fault::NeverAnswers,
        Fault::LosesParent,
        Fault::IgnoresSignal,
    ],
};

const APP: &str = "
import os, signal, sys, threading, time
fault = 'FAULT'
master = os.getppid()
def later():
    time.sleep(5)
    os.kill(master, signal.SIGTERM)
if fault == 'Exits':
    os._exit(1)
if fault == 'LosesParent':
    os.kill(master, signal.SIGKILL)
if fault == 'ExitsLater':
    threading.Thread(target=later, daemon=True).start()
def app(environ, start):
    if fault == 'NeverAnswers':
        time.sleep(600)
    start('500 Broken' if fault == 'Answers500' else '200 OK', [('Content-Type', 'text/plain')])
    return [b'VERSION\\n']
";

fn gunicorn(tree: &Tree<'_>) {
    gunicorn_app(tree, "/srv/gunicorn/current", "");
    tree.manifest("gunicorn", "");
}

pub fn gunicorn_app(tree: &Tree<'_>, dir: &str, more: &str) {
    let broken = if tree.fault == Fault::BadConfig { "this is no configuration" } else { "" };
    let conf = format!(
        "chdir = '{dir}'\n{more}bind = '127.0.0.1:8080'\nworkers = 2\ngraceful_timeout = 2\ntimeout = 60\n{broken}\n"
    );
    tree.put("gunicorn.conf.py", &conf, 0o644);
    tree.put("app.py", APP, 0o644);
}

pub const REDIS: Kind = Kind {
    name: "redis",
    debian: BOOKWORM,
    start: "/srv/redis/current/bin/redis-server /srv/redis/current/etc/redis.conf",
    forks: false,
    unit: "Type=notify",
    hot: "",
    options: "--restart",
    health: "command = [\"bin/ping\"]",
    lossless: false,
    moves: 10,
    managers: BOTH,
    ask: redis_version,
    build: redis,
    faults: &[
        Fault::Exits,
        Fault::ExitsLater,
        Fault::BadConfig,
        Fault::Answers500,
        Fault::Hangs,
        Fault::LosesParent,
        Fault::IgnoresTerm,
    ],
};

fn redis_version(_: &Path) -> Option<String> {
    let answer = exchange(6379, "PING\r\nINFO server\r\nQUIT\r\n")?;
    let told = answer.lines().find_map(|line| line.strip_prefix("redis_version:"));
    told.filter(|_| answer.starts_with("+PONG")).map(|version| version.trim().to_owned())
}

fn redis(tree: &Tree<'_>) {
    let more = match tree.fault {
        Fault::BadConfig => "no-such-directive 1",
        Fault::Answers500 => "rename-command PING \"\"",
        _ => "",
    };
    let conf = format!("bind 127.0.0.1\nport 6379\nsupervised auto\ndaemonize no\ndir /run/redis\n{more}\n");
    tree.put("etc/redis.conf", &conf, 0o644);
    tree.put("bin/ping", "#!/bin/sh\ntimeout 1 redis-cli PING | grep -x PONG\n", 0o755);
    tree.program("/usr/bin/redis-server", "bin/redis-server", "7.0.15", &PLAIN);
    tree.manifest("redis", "");
}

pub const PROMETHEUS: Kind = Kind {
    name: "prometheus",
    debian: BOOKWORM,
    start: "/srv/prometheus/current/bin/prometheus --config.file=/srv/prometheus/current/etc/prometheus.yml \
            --storage.tsdb.path=/run/prometheus/data --web.listen-address=127.0.0.1:8080",
    forks: false,
    unit: "Type=simple",
    hot: "",
    options: "--restart",
    health: "http = \"http://127.0.0.1:8080/-/ready\"",
    lossless: false,
    moves: 10,
    managers: BOTH,
    ask: prometheus_version,
    build: prometheus,
    faults: &[
        Fault::Exits,
        Fault::ExitsLater,
        Fault::BadConfig,
        Fault::Answers500,
        Fault::Hangs,
        Fault::LosesParent,
        Fault::IgnoresTerm,
    ],
};

fn prometheus_version(_: &Path) -> Option<String> {
    let body = get("/api/v1/status/buildinfo")?;
    let told = body.split("\"version\":\"").nth(1)?.split('"').next()?;
    Some(told.trim_end_matches("+ds").to_owned())
}

fn prometheus(tree: &Tree<'_>) {
    let more = if tree.fault == Fault::BadConfig { "no_such_key: 1\n" } else { "" };
    tree.put("etc/prometheus.yml", &format!("global:\n  scrape_interval: 1h\n{more}"), 0o644);
    let wrapped = Wrapped { unwell: "--web.route-prefix=/elsewhere", ..PLAIN };
    tree.program("/usr/bin/prometheus", "bin/prometheus", "2.42.0", &wrapped);
    tree.manifest("prometheus", "");
}

pub const NODE: Kind = Kind {
    name: "node",
    debian: BOOKWORM,
    start: "/usr/bin/node /srv/node/current/master.js",
    forks: false,
    unit: "Type=simple",
    hot: "hot = \"signal:USR2\"",
    options: "",
    health: "http = \"http://127.0.0.1:8080/healthz\"",
    lossless: true,
    moves: 10,
    managers: BOTH,
    ask: answers_version,
    build: node,
    faults: &[
        Fault::Exits,
        Fault::ExitsLater,
        Fault::BadConfig,
        Fault::Answers500,
        Fault::NeverAnswers,
        Fault::LosesParent,
        Fault::IgnoresSignal,
    ],
};

/// On SIGUSR2, the master forks workers from `current` and disconnects the old workers once the new ones listen.
const MASTER: &str = "
const cluster = require('cluster'), fs = require('fs');
function fork() {
  const old = Object.values(cluster.workers);
  cluster.setupPrimary({ exec: fs.realpathSync('/srv/node/current/worker.js') });
  let ready = 0;
  for (let at = 0; at < 2; at++)
    cluster.fork().on('listening', () => { if (++ready === 2) old.forEach(worker => worker.disconnect()); });
}
process.on('SIGUSR2', fork);
process.on('SIGTERM', () => process.exit(0));
fork();
";

/// One of the two workers listens later than the other, so that old and new workers answer in turn for a while.
const WORKER: &str = "
const cluster = require('cluster'), http = require('http');
const fault = 'FAULT';
if (fault === 'Exits') process.exit(1);
if (fault === 'LosesParent') process.kill(process.ppid, 'SIGKILL');
if (fault === 'ExitsLater') setTimeout(() => process.kill(process.ppid, 'SIGTERM'), 5000);
const server = http.createServer((request, answer) => {
  if (fault === 'NeverAnswers') return;
  answer.writeHead(fault === 'Answers500' ? 500 : 200);
  answer.end('VERSION\\n');
});
setTimeout(() => server.listen(8080, '127.0.0.1'), 300 * (cluster.worker.id % 2));
";

fn node(tree: &Tree<'_>) {
    tree.put("master.js", MASTER, 0o644);
    let broken = if tree.fault == Fault::BadConfig { "const = 1;" } else { "" };
    tree.put("worker.js", &format!("{WORKER}{broken}\n"), 0o644);
    told_by_hook(tree, "node");
}

/// Adds a `running-version` hook that requests the version over HTTP.
pub fn told_by_hook(tree: &Tree<'_>, name: &str) {
    tree.put("bin/version", "#!/bin/sh\nexec curl -sf -m1 http://127.0.0.1:8080/version\n", 0o755);
    tree.manifest(name, "[hooks]\nrunning-version = [\"bin/version\"]\n");
}

pub const PYTHON: Kind = Kind {
    name: "python",
    debian: BOOKWORM,
    start: "/usr/bin/python3 /srv/python/current/app.py",
    forks: false,
    unit: "Type=simple",
    hot: "",
    options: "--restart",
    health: "http = \"http://127.0.0.1:8080/healthz\"",
    lossless: false,
    moves: 10,
    managers: BOTH,
    ask: answers_version,
    build: |tree| {
        python_without_hook(tree);
        told_by_hook(tree, "python");
    },
    faults: &[
        Fault::Exits,
        Fault::ExitsLater,
        Fault::BadConfig,
        Fault::Answers500,
        Fault::Hangs,
        Fault::NeverAnswers,
        Fault::LosesParent,
        Fault::IgnoresTerm,
    ],
};

const SERVER: &str = "
import http.server, os, signal, sys, threading, time
fault = 'FAULT'
if fault == 'Exits':
    sys.exit(1)
if fault == 'BadConfig':
    raise ValueError('no configuration')
if fault == 'LosesParent' and os.fork():
    os._exit(0)
if fault == 'IgnoresTerm':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while fault in ('Hangs', 'IgnoresTerm'):
    time.sleep(1)
if fault == 'ExitsLater':
    threading.Timer(5, lambda: os._exit(1)).start()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if fault == 'NeverAnswers':
            time.sleep(600)
        self.send_response(500 if fault == 'Answers500' else 200)
        self.end_headers()
        self.wfile.write(b'VERSION\\n')
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', 8080), Answer).serve_forever()
";

pub fn python_without_hook(tree: &Tree<'_>) {
    tree.put("app.py", SERVER, 0o644);
    tree.manifest("python", "");
}
