//! The whole result of a command as an inline snapshot.

use std::fmt::Write;

use insta::Settings;

use super::Run;

/// What varies from run to run, and what stands for it in a snapshot.
const FILTERS: &[(&str, &str)] = &[
    (r#"/[^\s"'`:]*/tenure-test\.\w{6}/root"#, "[ROOT]"),
    (r#"/[^\s"'`:]*/tenure-test\.\w{6}"#, "[DIR]"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
    (r"\b[0-9a-f]{64}\b", "[SHA256]"),
    (r"\bpid \d+", "pid [PID]"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
    (r"\bthis host has [^,\n]+,", "this host has [HOST],"),
    (r"\bowner: \S+ \(group \d+\)", "owner: [USER]"),
    (r"\bup to [\d.]+ [KMG]?i?B in (\d+) files", "up to [SIZE] in $1 files"),
    (r"\b[\d.]+ [KMGTE]iB and \d+ files \(inodes\) free", "[FREE] free"),
    (r"  by \S+: ", "  by [USER]: "),
    (r"(?m)\[TIME\] by [^\s:]+( with |:|$)", "[TIME] by [USER]$1"),
    (r"\bin [\d.]+ ?(ms|s)\b( \d+ms)?", "in [DURATION]"),
];

/// Asserts exit code, stdout and stderr of a command.
///
/// `assert_run!(host, "upgrade 5.0.1", @"...")` runs the command on that host, and `assert_run!(run, @"...")` takes a
/// command that ended.
macro_rules! assert_run {
    ($host:expr, $words:expr, @$snapshot:literal) => {
        $crate::support::assert_run!($host.run($words.split_whitespace()), @$snapshot)
    };
    ($run:expr, @$snapshot:literal) => {
        $crate::support::snapshot::settings()
            .bind(|| insta::assert_snapshot!($crate::support::snapshot::text(&$run), @$snapshot))
    };
}
pub(crate) use assert_run;

/// Returns the settings of insta for the result of a command.
pub fn settings() -> Settings {
    let mut settings = Settings::new();
    FILTERS.iter().for_each(|(varying, name)| settings.add_filter(varying, *name));
    settings
}

/// Returns exit code, stdout and stderr in one text. Control characters are escaped, and a text that does not end with
/// exactly one newline is marked.
pub fn text(run: &Run) -> String {
    let mut text = run.code.map_or("killed\n".to_owned(), |code| format!("exit {code}\n"));
    for (name, output) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        if output.is_empty() {
            continue;
        }
        let end = match output.strip_suffix('\n') {
            None => "--- no newline\n",
            Some(lines) if lines.is_empty() || lines.ends_with('\n') => "--- empty line\n",
            Some(_) => "",
        };
        let escape = |c: char| match c {
            '\n' => "\n".to_owned(),
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        };
        let lines: String = output.trim_end_matches('\n').chars().map(escape).collect();
        writeln!(text, "--- {name}\n{lines}").unwrap();
        text += end;
    }
    text
}

#[test]
fn text_shows_code_and_both_outputs() {
    let run = |stdout: &str, stderr: &str| Run {
        command: String::new(),
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        code: Some(2),
    };
    assert_eq!(text(&run("", "")), "exit 2\n");
    assert_eq!(text(&run("a\tb\n", "c\n")), "exit 2\n--- stdout\na\\tb\n--- stderr\nc\n");
    assert_eq!(text(&run("a", "")), "exit 2\n--- stdout\na\n--- no newline\n");
    assert_eq!(text(&run("", "a\n\n")), "exit 2\n--- stderr\na\n--- empty line\n");
}
