//! Completions in a terminal: each shell runs in its own terminal, and the tests send keys.
//!
//! The tests need bash, bash-completion, zsh, fish and tmux.

use std::time::Duration;

use crate::support::Host;
use crate::support::terminal::Terminal;

/// A shell at its prompt.
struct Shell(Terminal);

impl Shell {
    fn start(shell: &str, load: &str) -> Self {
        let host = Host::new();
        host.archives(&["5.0.0", "5.0.1", "5.1.0"]);
        host.run(["install", "5.0.0"]).ok();
        let terminal = Terminal::open(host, 120, shell);
        terminal.keys(&["PS1='> '", "Enter"]);
        terminal.keys(&[load, "Enter", "clear", "Enter"]);
        terminal.until("it is ready", |screen| screen.lines().count() < 4);
        Self(terminal)
    }

    /// Waits until the screen stops changing, because a busy shell would misinterpret the next keys.
    fn settle(&self) {
        let mut seen = (String::new(), 0);
        while seen.1 < 5 {
            std::thread::sleep(Duration::from_millis(100));
            let screen = self.0.screen();
            seen = if screen == seen.0 { (screen, seen.1 + 1) } else { (screen, 0) };
        }
    }

    /// Types text and the tab key, and waits until the screen shows these words.
    fn completes(&self, typed: &str, shows: &[&str]) {
        self.0.keys(&["-l", typed]);
        self.0.until(typed, |screen| screen.contains(typed));
        self.0.keys(&["Tab"]);
        self.settle();
        // The second tab lists several candidates.
        if shows.len() > 1 {
            self.0.keys(&["Tab"]);
        }
        self.0.until(typed, |screen| shows.iter().all(|word| screen.contains(word)));
        self.settle();
        self.0.keys(&["C-c"]);
        self.settle();
        self.0.keys(&["clear", "Enter"]);
        self.0.until("it is clear", |screen| screen.lines().count() < 4 && !screen.contains("tenure"));
    }
}

fn completes_in(shell: &Shell) {
    shell.completes("tenure upg", &["tenure upgrade"]);
    shell.completes("tenure root-d", &["tenure root-dir"]);
    shell.completes("tenure upgrade --no-p", &["tenure upgrade --no-permanent"]);
    shell.completes("tenure upgrade --multi", &["tenure upgrade --multi-hop"]);
    // `upgrade` offers all available releases, and `uninstall` only the removable ones.
    shell.completes("tenure upgrade 5.1", &["tenure upgrade 5.1.0"]);
    shell.completes("tenure upgrade 5.0.", &["5.0.0", "5.0.1"]);
    shell.0.host.run(["upgrade", "5.0.1"]).ok();
    shell.completes("tenure uninstall 5.", &["tenure uninstall 5.0.0"]);
    shell.completes("tenure completions z", &["tenure completions zsh"]);
    // A value after an equals sign, and a word after such an option.
    shell.completes("tenure status --format=pro", &["tenure status --format=prometheus"]);
    shell.0.keys(&["cd ..", "Enter"]);
    let root = shell.0.host.root().file_name().unwrap().to_str().unwrap().to_owned();
    shell.completes(&format!("tenure --root={root} uninstall 5."), &["uninstall 5.0.0"]);
}

#[test]
#[ignore = "needs bash and tmux"]
fn bash_completes() {
    completes_in(&Shell::start("bash --norc", "source <(tenure completions bash)"));
}

#[test]
#[ignore = "needs zsh and tmux"]
fn zsh_completes() {
    let load = "autoload -U compinit && compinit -u && source <(tenure completions zsh)";
    completes_in(&Shell::start("zsh -f", load));
}

#[test]
#[ignore = "needs fish and tmux"]
fn fish_completes() {
    completes_in(&Shell::start("fish --no-config", "tenure completions fish | source"));
}

#[test]
#[ignore = "needs bash, bash-completion, zsh, fish and tmux"]
fn package_completions_load_on_first_tab() {
    let bash = "mkdir -p ~/c/completions && tenure completions bash >~/c/completions/tenure && \
                BASH_COMPLETION_USER_DIR=~/c && source /usr/share/bash-completion/bash_completion";
    let zsh = "mkdir ~/c && tenure completions zsh >~/c/_tenure && fpath=(~/c $fpath) && autoload -U compinit && compinit -u";
    let fish = "mkdir ~/c; tenure completions fish >~/c/tenure.fish; set -p fish_complete_path ~/c";
    for (shell, load) in [("bash --norc", bash), ("zsh -f", zsh), ("fish --no-config", fish)] {
        completes_in(&Shell::start(shell, load));
    }
}

#[test]
fn completions_accept_known_shells() {
    let host = Host::new();
    for (shell, has) in [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --keep-order")] {
        host.run(["completions", shell]).ok().stdout_has(has);
    }
    host.run(["completions", "tcsh"]).code(64).stderr_has("[possible values: bash, zsh, fish]");
    host.run(["completions"]).code(64);
    // Without a root, no releases are offered, and the completion still succeeds.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = host.command(["--", "tenure", "upgrade", "--res"]);
    let out = command.current_dir(elsewhere.path()).env("_TENURE_COMPLETE", "fish").output().unwrap();
    assert!(out.status.success() && String::from_utf8(out.stdout).unwrap().starts_with("--restart"));
}
