//! A terminal in which something runs, as somebody who sits at it sees it. Needs tmux.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Host;

/// What is waited for in vain fails the test after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal that a shell command runs in, in a root; gone when it is dropped.
pub struct Terminal {
    dir: tempfile::TempDir,
    pub host: Host,
}

impl Terminal {
    pub fn open(host: Host, columns: u16, command: &str) -> Self {
        let beside = host.root().parent().unwrap().to_owned();
        let dir = tempfile::Builder::new().prefix("tenure-test.").tempdir().unwrap();
        let terminal = Self { dir, host };
        let bin = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().unwrap().display();
        let home = beside.display();
        let start = format!("env -i HOME={home} TERM=screen PATH={bin}:/usr/bin:/bin LANG=C.UTF-8 {command}");
        let root = terminal.host.root().to_str().unwrap().to_owned();
        let size = ["-x", &columns.to_string(), "-y", "50"];
        terminal
            .tmux(&[&["-f", "/dev/null", "new-session", "-d", "-c", &root], &size[..], &[&start]].concat());
        terminal
    }

    /// One in which a command of Tenure's has begun and stands still, until it is looked at by [`Self::comes_by`].
    pub fn halted(host: Host, columns: u16, command: &str) -> Self {
        let terminal = Self::open(host, columns, &format!("sh -c 'read _; tenure {command}; sleep 1000'"));
        let shell = terminal.shell();
        terminal.keys(&["Enter"]);
        let begun = Instant::now();
        while child(&shell).is_none_or(|command| kill(command, Signal::SIGSTOP).is_err()) {
            assert!(begun.elapsed() < PATIENCE, "{command} has not begun: {}", terminal.screen());
        }
        terminal
    }

    /// The process that the terminal was opened for.
    fn shell(&self) -> String {
        self.tmux(&["display-message", "-p", "#{pane_pid}"])
    }

    fn server(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
        tmux.arg("-S").arg(self.dir.path().join("tmux"));
        tmux
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = self.server();
        let out = tmux.args(words).output().expect("tmux is needed");
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    /// Presses keys.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// What it shows.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with the sequences that have it in colours.
    pub fn coloured_screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Changes how wide it is.
    pub fn resize(&self, columns: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string()]);
    }

    /// Waits until it shows something.
    pub fn until(&self, what: &str, so: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if so(&screen) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: the terminal shows\n{screen}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The same for what passes quickly: the command that the shell waits for stands still whenever it is looked at, goes on
    /// for a moment in between, and stands still in the end.
    pub fn comes_by(&self, what: &str, so: impl Fn(&str) -> bool) {
        let shell = self.shell();
        let begun = Instant::now();
        loop {
            let Some(command) = child(&shell) else { continue };
            let tell = |signal| kill(command, signal).is_ok();
            tell(Signal::SIGCONT);
            std::thread::sleep(Duration::from_millis(2));
            tell(Signal::SIGSTOP);
            std::thread::sleep(Duration::from_millis(20));
            let screen = self.screen();
            if so(&screen) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: the terminal shows\n{screen}");
        }
    }

    /// Lets the command go on.
    pub fn go_on(&self) {
        child(&self.shell()).map(|command| kill(command, Signal::SIGCONT));
    }
}

/// What a shell waits for.
fn child(shell: &str) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
    children.trim().parse().ok().map(Pid::from_raw)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.server().arg("kill-server").output();
    }
}
