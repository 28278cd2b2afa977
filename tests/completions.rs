//! Completions, as somebody at a terminal sees them: each shell runs in a terminal of its own, and keys are pressed.
//!
//! Needs bash, bash-completion, zsh, fish and tmux.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unused_must_use, reason = "a test may")]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::Host;

/// What is waited for in vain fails the test after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal, in which a shell runs in a root; gone when it is dropped.
struct Terminal {
    socket: String,
    host: Host,
}

impl Terminal {
    fn open(shell: &str, load: &str) -> Self {
        let host = Host::new();
        ["5.0.0", "5.0.1", "5.1.0"].iter().for_each(|version| host.archive(version));
        host.run(["install", "5.0.0"]).ok();
        let socket = host.root().parent().unwrap().join("tmux").display().to_string();
        let terminal = Self { socket, host };
        let bin = Path::new(env!("CARGO_BIN_EXE_tenure")).parent().unwrap().display();
        let home = terminal.host.root().parent().unwrap().display();
        let start = format!("env -i HOME={home} TERM=screen PATH={bin}:/usr/bin:/bin LANG=C.UTF-8 {shell}");
        let root = terminal.host.root().to_str().unwrap().to_owned();
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "50",
            "-c",
            &root,
            &start,
        ]);
        terminal.keys(&["PS1='> '", "Enter"]);
        terminal.keys(&[load, "Enter", "clear", "Enter"]);
        terminal.until("it is ready", |screen| screen.lines().count() < 4);
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .args(["-S", &self.socket])
            .args(words);
        let out = tmux.output().expect("tmux is needed");
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn until(&self, what: &str, so: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if so(&screen) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: the terminal shows\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until nothing changes any more: a shell that is still at it would take what is typed for something else.
    fn settle(&self) {
        let mut seen = (String::new(), 0);
        while seen.1 < 5 {
            std::thread::sleep(Duration::from_millis(100));
            let screen = self.tmux(&["capture-pane", "-p"]);
            seen = if screen == seen.0 { (screen, seen.1 + 1) } else { (screen, 0) };
        }
    }

    /// What is typed, with the tabulator key behind it, comes to show this.
    fn completes(&self, typed: &str, shows: &[&str]) {
        self.keys(&["-l", typed]);
        self.until(typed, |screen| screen.contains(typed));
        self.keys(&["Tab"]);
        self.settle();
        // Several ways to go on are shown at the second time.
        if shows.len() > 1 {
            self.keys(&["Tab"]);
        }
        self.until(typed, |screen| shows.iter().all(|word| screen.contains(word)));
        self.settle();
        self.keys(&["C-c"]);
        self.settle();
        self.keys(&["clear", "Enter"]);
        self.until("it is clear", |screen| screen.lines().count() < 4 && !screen.contains("tenure"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-S", &self.socket, "kill-server"]).output();
    }
}

fn completes_in(terminal: &Terminal) {
    terminal.completes("tenure upg", &["tenure upgrade"]);
    terminal.completes("tenure root-d", &["tenure root-dir"]);
    terminal.completes("tenure upgrade --no-p", &["tenure upgrade --no-permanent"]);
    terminal.completes("tenure upgrade --multi", &["tenure upgrade --multi-hop"]);
    // The releases that are here, installed or not; and of those only what may be removed.
    terminal.completes("tenure upgrade 5.1", &["tenure upgrade 5.1.0"]);
    terminal.completes("tenure upgrade 5.0.", &["5.0.0", "5.0.1"]);
    terminal.host.run(["upgrade", "5.0.1"]).ok();
    terminal.completes("tenure uninstall 5.", &["tenure uninstall 5.0.0"]);
    terminal.completes("tenure completions z", &["tenure completions zsh"]);
}

#[test]
#[ignore = "needs bash and tmux"]
fn bash_completes() {
    completes_in(&Terminal::open("bash --norc", "source <(tenure completions bash)"));
}

#[test]
#[ignore = "needs zsh and tmux"]
fn zsh_completes() {
    let load = "autoload -U compinit && compinit -u && source <(tenure completions zsh)";
    completes_in(&Terminal::open("zsh -f", load));
}

#[test]
#[ignore = "needs fish and tmux"]
fn fish_completes() {
    completes_in(&Terminal::open("fish --no-config", "tenure completions fish | source"));
}

#[test]
#[ignore = "needs bash, bash-completion, zsh, fish and tmux"]
fn a_package_s_files_are_found_by_each_shell_at_the_first_key() {
    let bash = "mkdir -p ~/c/completions && tenure completions bash >~/c/completions/tenure && \
                BASH_COMPLETION_USER_DIR=~/c && source /usr/share/bash-completion/bash_completion";
    let zsh = "mkdir ~/c && tenure completions zsh >~/c/_tenure && fpath=(~/c $fpath) && autoload -U compinit && compinit -u";
    let fish = "mkdir ~/c; tenure completions fish >~/c/tenure.fish; set -p fish_complete_path ~/c";
    for (shell, load) in [("bash --norc", bash), ("zsh -f", zsh), ("fish --no-config", fish)] {
        completes_in(&Terminal::open(shell, load));
    }
}

#[test]
fn a_script_is_for_a_shell_that_is_known() {
    let host = Host::new();
    for (shell, has) in [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --keep-order")] {
        host.run(["completions", shell]).ok().stdout_has(has);
    }
    host.run(["completions", "tcsh"]).code(64).stderr_has("[possible values: bash, zsh, fish]");
    host.run(["completions"]).code(64);
    // Without a root there are no releases to offer, and nothing goes wrong.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = host.command(["--", "tenure", "upgrade", "--res"]);
    let out = command.current_dir(elsewhere.path()).env("_TENURE_COMPLETE", "fish").output().unwrap();
    assert!(out.status.success() && String::from_utf8(out.stdout).unwrap().starts_with("--restart"));
}
