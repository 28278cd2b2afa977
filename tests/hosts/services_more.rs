//! Services that start, move or show their release in less common ways.

use std::fs;
use std::path::Path;

use crate::services::everywhere;
use crate::services::{NEW, OLD, Served};
use crate::services_kinds::{self as kinds, Fault, Kind, Manager, Tree, answers_version};
use crate::services_load::ask;

/// A program of the release that writes its version into a file and does not listen.
const WORKER: Kind = Kind {
    name: "worker",
    debian: kinds::BOOKWORM,
    start: "/srv/worker/current/bin/python /srv/worker/current/app.py",
    forks: false,
    unit: "Type=simple",
    hot: "",
    options: "--restart",
    health: "",
    lossless: false,
    moves: 10,
    managers: kinds::BOTH,
    ask: told_in_a_file,
    build: |tree| {
        with_python(tree, "worker", TELLS);
    },
    faults: &[Fault::Exits, Fault::ExitsLater, Fault::BadConfig, Fault::LosesParent],
};

const TELLS: &str = "
import os, sys, time
fault = 'FAULT'
if fault == 'Exits':
    sys.exit(1)
if fault == 'BadConfig':
    raise ValueError('no configuration')
if fault == 'LosesParent' and os.fork():
    os._exit(0)
end = time.monotonic() + (5 if fault == 'ExitsLater' else 1e9)
while time.monotonic() < end:
    new = f'/run/worker/new.{os.getpid()}'
    with open(new, 'w') as file:
        file.write('VERSION')
    os.rename(new, '/run/worker/told')
    time.sleep(0.02)
";

/// Returns the version from the file, which the program rewrites continuously.
fn told_in_a_file(files: &Path) -> Option<String> {
    let file = files.join("run/worker/told");
    let age = fs::metadata(&file).ok()?.modified().ok()?.elapsed().unwrap_or_default();
    (age.as_millis() < 300).then(|| fs::read_to_string(file).ok()).flatten()
}

/// Adds Python as a program of the release.
fn with_python(tree: &Tree<'_>, name: &str, app: &str) {
    tree.program("/usr/bin/python3.11", "bin/python", "not changed", &kinds::UNWRAPPED);
    tree.put("app.py", app, 0o644);
    tree.manifest(name, "");
}

/// A server that inherits its socket from systemd, or creates the socket and stores it in systemd.
const SOCKETS: &str = "
import array, http.server, os, signal, socket, sys, threading, time
fault = 'FAULT'
if fault == 'Exits':
    sys.exit(1)
if fault == 'BadConfig':
    raise ValueError('no configuration')
while fault == 'Hangs':
    time.sleep(1)
if fault == 'ExitsLater':
    threading.Timer(5, lambda: os._exit(1)).start()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if fault == 'Answers500' else 200)
        self.end_headers()
        self.wfile.write(b'VERSION\\n')
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
server = Server(('127.0.0.1', 8080), Answer, bind_and_activate=False)
server.socket.close()
def notify(text, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        to.sendmsg([text.encode()], rights, 0, os.environ['NOTIFY_SOCKET'].replace('@', '\\0'))
if os.environ.get('LISTEN_FDS'):
    server.socket = socket.socket(fileno=3)
else:
    server.socket = socket.socket()
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.socket.bind(('127.0.0.1', 8080))
    server.socket.listen(128)
    notify('FDSTORE=1\\nFDNAME=web', [server.socket.fileno()])
signal.signal(signal.SIGTERM, lambda *args: threading.Thread(target=server.shutdown).start())
notify('READY=1')
server.serve_forever(poll_interval=0.01)
server.server_close()
";

const FD_STORE: Kind = Kind {
    name: "stored",
    debian: kinds::BOOKWORM,
    start: "/srv/stored/current/bin/python /srv/stored/current/app.py",
    forks: false,
    unit: "Type=notify\nFileDescriptorStoreMax=2",
    hot: "",
    options: "--restart",
    health: "http = \"http://127.0.0.1:8080/healthz\"",
    lossless: true,
    moves: 10,
    managers: &[Manager::Systemd],
    ask: answers_version,
    build: |tree| {
        with_python(tree, "stored", SOCKETS);
    },
    faults: &[Fault::Exits, Fault::ExitsLater, Fault::BadConfig, Fault::Answers500, Fault::Hangs],
};

const ACTIVATED: Kind = Kind {
    name: "activated",
    start: "/srv/activated/current/bin/python /srv/activated/current/app.py",
    unit: "Type=notify\nSockets=served.socket",
    build: |tree| {
        with_python(tree, "activated", SOCKETS);
    },
    ..FD_STORE
};

/// The new process listens on the same port as the old one. The hook then ends the old process.
const REUSE_PORT: Kind = Kind {
    name: "reuse",
    debian: kinds::BOOKWORM,
    start: "/srv/reuse/current/bin/python /srv/reuse/current/app.py",
    forks: false,
    unit: "",
    hot: "hot = \"hook\"",
    options: "",
    health: "http = \"http://127.0.0.1:8080/healthz\"",
    lossless: false,
    moves: 10,
    managers: &[Manager::Command],
    ask: answers_version,
    build: reuse_port,
    faults: &[Fault::Exits, Fault::BadConfig, Fault::Answers500, Fault::IgnoresSignal],
};

const BESIDE: &str = "
import http.server, os, socket, sys
fault = 'FAULT'
if fault == 'Exits':
    sys.exit(1)
if fault == 'BadConfig':
    raise ValueError('no configuration')
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if fault == 'Answers500' else 200)
        self.end_headers()
        self.wfile.write(b'VERSION\\n')
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 8080), Answer, bind_and_activate=False)
server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.server_bind()
server.server_activate()
open('/run/reuse/ready.VERSION', 'w').close()
server.serve_forever()
";

const BESIDE_HOT: &str = "#!/bin/sh
cd $TENURE_ROOT
old=$(cat /run/reuse/pid)
rm -f /run/reuse/ready.*
setsid /srv/reuse/current/bin/python /srv/reuse/current/app.py >>/run/reuse/log 2>&1 </dev/null &
new=$!
for _ in $(seq 200); do
  [ -e /run/reuse/ready.$TENURE_NEW_VERSION ] && break
  kill -0 $new || exit 1
  sleep 0.02
done
echo $new >/run/reuse/pid
STOP
";

fn reuse_port(tree: &Tree<'_>) {
    with_python(tree, "reuse", BESIDE);
    let stop = if tree.fault == Fault::IgnoresSignal { "exit 0" } else { "kill $old 2>/dev/null || :" };
    tree.put("hot", &BESIDE_HOT.replace("STOP", stop), 0o755);
    tree.manifest("reuse", "[hooks]\nhot-upgrade = [\"hot\"]\nhot-downgrade = [\"hot\"]\n");
}

/// The main process is the first process of its own PID namespace.
const PID_NAMESPACE: Kind = Kind {
    start: "/usr/bin/unshare --fork --pid --mount-proc --kill-child /srv/redis/current/bin/redis-server \
            /srv/redis/current/etc/redis.conf",
    unit: "Type=simple",
    moves: 4,
    faults: &[Fault::Exits, Fault::BadConfig, Fault::Answers500],
    ..kinds::REDIS
};

/// The old master starts the new one. The hook then ends the old master.
const GUNICORN_USR2: Kind = Kind {
    name: "guni2",
    start: "/srv/guni2/current/bin/python /srv/guni2/current/bin/gunicorn -c /srv/guni2/current/gunicorn.conf.py app:app",
    forks: true,
    unit: "Type=forking",
    hot: "hot = \"hook\"",
    build: gunicorn_usr2,
    // Between the end of the old master and the promotion of the new one, the pid file names no process. systemd ends
    // the unit at that point.
    managers: &[Manager::Command],
    ..kinds::GUNICORN
};

const USR2_HOT: &str = "#!/bin/sh
pid=/run/guni2/pid
old=$(cat $pid) || exit 1
kill -USR2 $old
for _ in $(seq 200); do
  new=$(cat $pid.2 2>/dev/null) && case $(readlink /proc/$new/cwd) in $TENURE_NEW_DIR*) break ;; esac
  sleep 0.02
done
[ -n \"$new\" ] || { echo 'the new master has not begun'; exit 1; }
for _ in $(seq 200); do
  [ -d /proc/$new ] || { echo 'the new master has exited'; exit 1; }
  [ $(pgrep -c -P $new) -ge 2 ] && break
  sleep 0.02
done
sleep 0.3
kill -TERM $old
for _ in $(seq 500); do [ \"$(cat $pid 2>/dev/null)\" = $new ] && exit 0; sleep 0.02; done
echo 'the old master has not left'
exit 1
";

fn gunicorn_usr2(tree: &Tree<'_>) {
    let conf = "pidfile = '/run/guni2/pid'\ndaemon = True\nerrorlog = '/run/guni2/log'\n\
                raw_env = ['PYTHONDONTWRITEBYTECODE=1']\n";
    kinds::gunicorn_app(tree, "/srv/guni2/current", conf);
    tree.program("/usr/bin/python3.11", "bin/python", "not changed", &kinds::UNWRAPPED);
    tree.host.ok(&format!("cp /usr/bin/gunicorn {}/bin/gunicorn", tree.dir));
    tree.put("hot", if tree.fault == Fault::IgnoresSignal { "#!/bin/sh\nexit 0\n" } else { USR2_HOT }, 0o755);
    tree.manifest("guni2", "[hooks]\nhot-upgrade = [\"hot\"]\nhot-downgrade = [\"hot\"]\n");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn socketless_service_survives_bad_releases() {
    everywhere(&WORKER);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn fd_store_service_survives_bad_releases() {
    everywhere(&FD_STORE);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn socket_activated_service_survives_bad_releases() {
    everywhere(&ACTIVATED);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn listener_on_shared_port_is_evidence() {
    everywhere(&REUSE_PORT);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn pid_namespace_service_survives_bad_releases() {
    everywhere(&PID_NAMESPACE);
}

#[test]
#[ignore = "needs root and a host of its own"]
fn gunicorn_usr2_survives_bad_releases() {
    everywhere(&GUNICORN_USR2);
}

/// systemd sends the signal and waits until the service reports that it has reloaded.
const NOTIFY_RELOAD: Kind = Kind {
    debian: kinds::TRIXIE,
    unit: "Type=notify-reload\nReloadSignal=SIGUSR2",
    hot: "hot = \"reload\"",
    managers: &[Manager::Systemd],
    build: |tree| kinds::haproxy(tree, "3.0.11"),
    ..kinds::HAPROXY
};

#[test]
#[ignore = "needs root and a host of its own"]
fn notify_reload_unit_survives_bad_releases() {
    everywhere(&NOTIFY_RELOAD);
}

/// Asserts that an impossible move is refused or rolled back, while the old release answers all requests.
fn cannot_move(kind: &Kind, codes: &[i32], says: &str) {
    for manager in kind.managers {
        let served = Served::start(kind, *manager);
        let clients = crate::services_load::Clients::start(&served.on.host, kind.ask);
        let run = served.tenure(&format!("upgrade {} {NEW}", kind.options));
        let answered = ask(&served.on.host, kind.ask, 5);
        let seen = clients.stop();
        served.print("cannot move", run.code, std::time::Duration::ZERO, &answered, &seen);
        println!("{}", run.stderr);
        assert!(run.code.is_some_and(|code| codes.contains(&code)), "{run:#?}");
        assert_eq!(seen.versions, [OLD], "{run:#?}");
        assert_eq!(seen.lost, 0, "{run:#?}");
        run.stderr_has(says);
    }
}

#[test]
#[ignore = "needs root and a host of its own"]
fn reload_without_exec_suggests_restart() {
    let kind = Kind { hot: "hot = \"signal:HUP\"", options: "", ..kinds::PROMETHEUS };
    cannot_move(&kind, &[2, 3], "--restart");
}

#[test]
#[ignore = "needs root and a host of its own"]
fn interpreter_without_hook_is_refused() {
    let kind = Kind { build: kinds::python_without_hook, ..kinds::PYTHON };
    cannot_move(&kind, &[2], "running-version");
}
