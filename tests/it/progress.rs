//! The progress of long operations, at terminals of several widths and while a terminal is resized.
//!
//! The tests need tmux.

use crate::support::Host;
use crate::support::serving::{Greeter, Serving};
use crate::support::terminal::Terminal;

/// Returns a root with a release that takes a while to unpack: random text in files of 4 MiB.
fn slow() -> Host {
    let host = Host::new();
    let mut state = 88_172_645_463_325_252_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    let mut build = host.build("5.0.0").format("tar.zst");
    for file in 0..48 {
        let text: String = (0..1 << 18).map(|_| word()).collect();
        build = build.file(&format!("lib/{file}"), &text);
    }
    build.write();
    host
}

/// Returns the progress line if the screen shows exactly one.
fn progress<'a>(screen: &'a str, about: &str) -> Option<&'a str> {
    let mut lines = screen.lines().filter(|line| line.starts_with(about) && line.ends_with(" left"));
    lines.next().filter(|_| lines.next().is_none())
}

/// Returns whether a line has the content for this width: the amount, the speed and the remaining time.
fn is_right(line: &str, columns: usize) -> bool {
    let has_bar = line.contains("[=") || line.contains("[>");
    let tells = match columns {
        40 => !has_bar && line.contains("%, "),
        60 => has_bar && line.contains("%, "),
        _ => has_bar && line.contains("iB of "),
    };
    let is_whole = !has_bar || line.chars().count() == columns;
    tells && is_whole && line.chars().count() <= columns && line.contains("iB/s, ")
}

/// The final line, which does not depend on the width.
const DONE: &str = "Unpacked successfully: \"5.0.0\"";

#[test]
#[ignore = "needs tmux"]
fn progress_follows_terminal_width() {
    for (columns, then) in [(40, 200), (200, 60), (80, 40)] {
        let terminal = Terminal::halted(slow(), columns, "unpack 5.0.0");
        let shows = |columns: u16| {
            terminal.comes_by(&format!("a progress at {columns} columns"), |screen| {
                progress(screen, "Unpacking ").is_some_and(|line| is_right(line, columns.into()))
            });
        };
        shows(columns);
        terminal.resize(then);
        shows(then);
        terminal.go_on();
        terminal.until("it is done", |screen| screen.contains(DONE));
        let screen = terminal.screen();
        assert!(!screen.contains("left") && screen.ends_with(DONE), "the progress is still shown:\n{screen}");
    }
}

#[test]
#[ignore = "needs tmux"]
fn verify_and_prune_show_progress() {
    let host = slow();
    host.archive("5.0.1");
    host.run(["install", "5.0.1"]).ok();
    host.run(["unpack", "5.0.0"]).ok();
    for (command, about) in [("verify", "Checking "), ("prune --keep 0", "Deleting ")] {
        let host = Host::at(host.root().to_owned());
        let terminal = Terminal::halted(host, 200, command);
        terminal.comes_by(about, |screen| progress(screen, about).is_some());
        terminal.go_on();
        terminal
            .until("it is done", |screen| screen.contains("Release 5.0.1 is") || screen.contains("Removed "));
    }
}

#[test]
#[ignore = "needs tmux"]
fn remaining_time_is_visible_at_any_width() {
    let serving = Serving::start("");
    serving.pack(&Greeter::well("5.0.1"));
    for columns in [40, 200] {
        let host = Host::at(serving.host.root().to_owned());
        let terminal = Terminal::open(host, columns, "sh -c 'tenure upgrade --watch 8s 5.0.1; sleep 1000'");
        let is_seen =
            |line: &str| line.ends_with("s left") && line.contains("Watching the health of 5.0.1, ");
        terminal.until("how long it is watched", |screen| screen.lines().any(is_seen));
        terminal.until("it is permanent", |screen| screen.contains("Made release permanent"));
        assert!(!terminal.screen().contains(" left"), "{}", terminal.screen());
        serving.host.run(["downgrade", "5.0.0"]).ok();
    }
    // While Tenure waits for an unhealthy release, the remaining time stays visible at the end of a narrow line.
    serving.pack(&Greeter { conf: "sick-after-ms = 1\n", ..Greeter::well("5.0.2") });
    let host = Host::at(serving.host.root().to_owned());
    let terminal =
        Terminal::open(host, 40, "sh -c 'tenure upgrade --restart --health-timeout 3s 5.0.2; sleep 1000'");
    let is_seen =
        |line: &str| line.contains("Waiting for 5.0.2") && line.ends_with("s left") && line.contains('…');
    terminal.until("how long it is waited for", |screen| screen.lines().any(is_seen));
}

#[test]
#[ignore = "needs tmux"]
fn no_color_disables_colors() {
    let shown = |environment: &str| {
        let command =
            format!("{environment} sh -c 'tenure upgrade --help; tenure upgrade --nonsense; sleep 1000'");
        let terminal = Terminal::open(Host::new(), 80, &command);
        terminal.until("both are shown", |screen| screen.contains("'--nonsense'"));
        terminal.coloured_screen()
    };
    assert!(shown("").contains('\u{1b}'));
    assert!(!shown("NO_COLOR=1").contains('\u{1b}'));
}

#[test]
#[ignore = "needs tmux"]
fn results_break_between_words_at_the_width_of_the_terminal() {
    let host = Host::new();
    host.archive("5.0.0");
    let told = host.run(["check", "5.0.0"]).stdout;
    assert!(told.lines().any(|line| line.chars().count() > 90), "{told}");
    let terminal = Terminal::open(host, 90, "sh -c 'tenure check 5.0.0; sleep 1000'");
    terminal.until("the checks", |screen| screen.contains("for 5.0.0."));
    let screen = terminal.screen();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // The free space may differ.
    let is_fixed = |word: &&String| !word.starts_with(|c: char| c.is_ascii_digit());
    let [shown, told] = [words(&screen), words(&told)];
    let fixed = |words: &[String]| words.iter().filter(is_fixed).cloned().collect::<Vec<_>>();
    assert_eq!(fixed(&shown), fixed(&told), "{screen}");
}
