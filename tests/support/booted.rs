//! A separate host, booted by a real init in a container. It can be restarted, and its power can be cut.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Run;

/// The time limit of a wait; after it, the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The init system of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    Systemd,
    Sysv,
    OpenRc,
}

impl Init {
    fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Sysv => "sysv",
            Self::OpenRc => "openrc",
        }
    }

    fn packages(self) -> &'static str {
        match self {
            Self::Systemd => "systemd,systemd-sysv,dbus,nginx-light,erlang-base,libfaketime,rpm",
            Self::Sysv => "sysvinit-core,initscripts,sysv-rc",
            Self::OpenRc => "sysvinit-core,openrc,initscripts",
        }
    }

    /// Returns the tree of a Debian system with these packages. It is installed once and kept next to the test
    /// binaries.
    fn base(self, suite: &str, packages: &str) -> PathBuf {
        let bases = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hosts");
        fs::create_dir_all(&bases).unwrap();
        let include = format!("--include={packages},procps,curl,wrk");
        let packages = blake3::hash(packages.as_bytes()).to_hex();
        let name = format!("{}-{suite}-{}", self.name(), &packages[..8]);
        let base = bases.join(&name);
        let lock = File::create(bases.join(format!("{name}.lock"))).unwrap();
        lock.lock().unwrap();
        if !base.exists() {
            let making = bases.join(format!("{name}.making"));
            let _ = fs::remove_dir_all(&making);
            let mut debian = Command::new("mmdebstrap");
            debian.args(["--variant=minbase", "--format=directory"]);
            debian.args(["man", "locale", "doc"].map(|d| format!("--dpkgopt=path-exclude=/usr/share/{d}/*")));
            debian.arg(include);
            let out = debian.arg(suite).arg(&making).output().expect("mmdebstrap is needed");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            self.tame(&making);
            fs::rename(making, &base).unwrap();
        }
        base
    }

    /// Disables everything that a test does not start.
    fn tame(self, base: &Path) {
        if self != Self::Systemd {
            let inittab = base.join("etc/inittab");
            let text = fs::read_to_string(&inittab).unwrap();
            let quiet: Vec<&str> =
                text.lines().filter(|l| !l.contains("getty") && !l.contains("sulogin")).collect();
            // init runs the last line once the change of the run level is complete.
            fs::write(inittab, quiet.join("\n") + "\nup:2345:once:/usr/bin/touch /run/is-up\n").unwrap();
            return;
        }
        for unit in ["nginx.service", "getty@tty1.service", "console-getty.service", "apt-daily.timer"]
            .into_iter()
            .chain(["apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"])
            .chain(["epmd.service", "epmd.socket", "systemd-networkd.service"])
            .chain(["haproxy.service", "redis-server.service", "prometheus.service"])
            .chain(["prometheus-node-exporter.service", "ifupdown-wait-online.service"])
        {
            let _ = fs::remove_file(base.join("etc/systemd/system").join(unit));
            symlink("/dev/null", base.join("etc/systemd/system").join(unit)).unwrap();
        }
        fs::write(base.join("etc/machine-id"), "").unwrap();
    }
}

/// A host, which is switched off and removed on drop.
pub struct Booted {
    init: Init,
    suite: &'static str,
    packages: &'static str,
    name: String,
    dir: tempfile::TempDir,
    keeper: Option<Child>,
}

impl Booted {
    /// Returns a host that is off, with Tenure installed.
    pub fn off(init: Init) -> Self {
        let host = Self::without_tenure(init);
        let tenure = fs::read(env!("CARGO_BIN_EXE_tenure")).unwrap();
        host.put("/usr/bin/tenure", tenure, 0o755);
        host
    }

    /// Returns a host that is off, with Tenure and with these packages of this Debian suite, which must include
    /// `systemd-sysv`.
    pub fn with_packages(suite: &'static str, packages: &'static str) -> Self {
        let mut host = Self::off(Init::Systemd);
        (host.suite, host.packages) = (suite, packages);
        host
    }

    /// Returns a host that is off, without Tenure.
    pub fn without_tenure(init: Init) -> Self {
        let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().replace('.', "-");
        Self { init, suite: "bookworm", packages: init.packages(), name, dir, keeper: None }
    }

    /// Returns the path by which this machine reaches a file of the host.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = match self.leader() {
            Some(leader) => PathBuf::from(format!("/proc/{leader}/root")),
            None => self.dir.path().join("upper"),
        };
        root.join(path.trim_start_matches('/'))
    }

    /// Writes a file on the host.
    pub fn put(&self, path: &str, contents: impl AsRef<[u8]>, mode: u32) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, contents).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Returns the process that is process 1 on the host, or `None` before its init has started.
    fn leader(&self) -> Option<i32> {
        self.keeper.as_ref()?;
        let nspawn = fs::read_to_string(self.dir.path().join("nspawn")).ok()?;
        let nspawn = nspawn.trim();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        let is_init = |pid: &i32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            matches!(comm.trim(), "systemd" | "init")
        };
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_init)
    }

    /// Switches the host on and waits until it is up.
    pub fn boot(&mut self) {
        assert!(self.keeper.is_none(), "it is on");
        let console = File::create(self.dir.path().join("console")).unwrap();
        let mut boot = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hosts/boot"));
        boot.arg(&self.name).arg(self.init.base(self.suite, self.packages)).arg(self.dir.path());
        boot.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        self.keeper = Some(boot.spawn().unwrap());
        self.await_up();
    }

    fn await_up(&self) {
        let up = match self.init {
            Init::Systemd => "systemctl is-system-running | grep -qE 'running|degraded'",
            Init::Sysv | Init::OpenRc => "test -e /run/is-up",
        };
        self.until("it is up", || self.leader().is_some() && self.sh(up).code == Some(0));
    }

    /// Runs a script on the host.
    pub fn sh(&self, script: &str) -> Run {
        let mut command = self.command(script);
        Run::of(command.output().unwrap(), &command)
    }

    /// Runs a script that must succeed and returns its output.
    pub fn ok(&self, script: &str) -> String {
        self.sh(script).ok().stdout.trim_end().to_owned()
    }

    pub fn command(&self, script: &str) -> Command {
        let leader = self.leader().map_or_else(|| "0".to_owned(), |pid| pid.to_string());
        let mut command = Command::new("nsenter");
        command.args(["-t", &leader, "-m", "-p", "-n", "-i", "-u", "-C", "env", "-i", "HOME=/root"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "sh", "-c", script]);
        command.stdin(Stdio::null());
        command
    }

    /// Returns the network namespace of the host, for a thread to enter.
    pub fn network(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.leader().unwrap())).unwrap()
    }

    /// Waits until `so` returns true.
    pub fn until(&self, what: &str, so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !so() {
            let console = || fs::read_to_string(self.dir.path().join("console")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}\n{}", console());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Restarts the host as its operator would, and waits until it is up again.
    pub fn restart(&self) {
        let before = self.leader().unwrap();
        self.sh(if self.init == Init::Systemd { "systemctl reboot" } else { "shutdown -r now" });
        self.until("it goes down", || self.leader() != Some(before));
        self.await_up();
    }

    /// Kills everything on the host at once. The host stays off.
    pub fn cut_power(&mut self) {
        kill(Pid::from_raw(self.leader().unwrap()), Signal::SIGKILL).unwrap();
        self.keeper.take().unwrap().wait().unwrap();
    }

    /// Starts clients that request this URL without a pause, each time over a new connection.
    pub fn load(&self, url: &str) -> Wrk<'_> {
        let script = format!("exec wrk -t1 -c16 -d3600s --timeout 10s -H 'Connection: close' {url}");
        let client = self.command(&script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.until("the load is on", || self.sh("pgrep -x wrk").code == Some(0));
        Wrk { host: self, client }
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let groups = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(|at| Path::new(at).join(&self.name));
        for group in groups.iter().filter(|group| group.exists()) {
            let _ = fs::write(group.join("cgroup.kill"), "1");
            if let Some(mut keeper) = self.keeper.take() {
                let _ = keeper.wait();
            }
            // The processes are reaped a moment later.
            for _ in 0..100 {
                let mut gone = Command::new("find");
                gone.arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
                if gone.stderr(Stdio::null()).status().is_ok() && !group.exists() {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// A running wrk(1).
pub struct Wrk<'a> {
    host: &'a Booted,
    client: Child,
}

impl Wrk<'_> {
    /// Stops wrk and asserts that no request was lost.
    pub fn lost_none(self, at: &str) {
        self.host.ok("pkill -INT -x wrk");
        let out = self.client.wait_with_output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let asked = text.lines().find(|line| line.contains(" requests in "));
        let asked = asked.unwrap_or_else(|| panic!("{at}: wrk said {text}")).trim();
        let lost: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|l| l.starts_with("Socket errors") || l.starts_with("Non-2xx"))
            .collect();
        println!("{at}: {asked}, lost: {lost:?}");
        let count: usize = asked.split_whitespace().next().unwrap().parse().unwrap();
        assert!(count > 100 && lost.is_empty(), "{at}: {text}");
    }
}
