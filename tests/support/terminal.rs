//! A terminal in which a command runs, as its user sees it. Needs tmux.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, PATIENCE};

/// A terminal that runs a shell command in a root, closed on drop.
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

    /// Opens a terminal in which a command of Tenure has started and is stopped until [`Self::comes_by`] continues
    /// it.
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

    /// Returns the process that the terminal was opened for.
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

    /// Sends keys to the terminal.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Returns the text on the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Returns the screen with its escape sequences for colors.
    pub fn coloured_screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Changes the width of the terminal.
    pub fn resize(&self, columns: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string()]);
    }

    /// Waits until the screen satisfies `so`.
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

    /// Waits for a screen that is visible only for a short time. The command of the shell is stopped whenever the
    /// screen is read, runs for a moment in between, and is stopped at the end.
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

    /// Continues the command.
    pub fn go_on(&self) {
        child(&self.shell()).map(|command| kill(command, Signal::SIGCONT));
    }
}

/// Returns the process that a shell waits for.
fn child(shell: &str) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
    children.trim().parse().ok().map(Pid::from_raw)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.server().arg("kill-server").output();
    }
}
