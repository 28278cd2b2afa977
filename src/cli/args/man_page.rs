//! Writes the options of tenure(1) from the definitions of the command line.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use clap::{Arg, Command, Subcommand};
use clap_mangen::Man;

use super::{Operate, command};

const COMMENT: &str = ".\\\" Written from the help of the commands: see CONTRIBUTING.md.\n";

/// The commands that share their options, which come first.
const SWITCHING: [&str; 3] = ["install", "upgrade", "downgrade"];

/// An option, and the commands that have it.
struct OptionEntry {
    arg: Arg,
    commands: Vec<String>,
}

/// Returns the visible options of all commands.
fn entries() -> Vec<OptionEntry> {
    let mut entries: Vec<OptionEntry> = Vec::new();
    let command = command();
    let mut commands: Vec<&Command> = command.get_subcommands().filter(|it| !it.is_hide_set()).collect();
    commands.sort_by_key(|it| !SWITCHING.contains(&it.get_name()));
    for command in commands {
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let is_same = |it: &&mut OptionEntry| {
                let values = |arg: &Arg| arg.get_possible_values();
                it.arg.get_long() == arg.get_long()
                    && prose(&it.arg) == prose(arg)
                    && values(&it.arg) == values(arg)
            };
            let name = command.get_name().to_owned();
            match entries.iter_mut().find(is_same) {
                Some(entry) => entry.commands.push(name),
                None => entries.push(OptionEntry { arg: arg.clone(), commands: vec![name] }),
            }
        }
    }
    entries
}

/// Returns the title of the section of an option, and the commands that have the option but are not in the title.
fn title(OptionEntry { arg, commands }: &OptionEntry) -> (String, Vec<&String>) {
    if commands.iter().all(|name| Operate::has_subcommand(name)) && commands.len() > 2 * SWITCHING.len() {
        return ("Every command that changes a root".to_owned(), Vec::new());
    }
    if !commands.iter().any(|name| SWITCHING.contains(&name.as_str())) {
        return (commands.join(", "), Vec::new());
    }
    let title = match arg.get_help_heading() {
        Some(heading) => format!("{heading} ({})", SWITCHING.join(", ")),
        None => SWITCHING.join(", "),
    };
    (title, commands.iter().filter(|name| !SWITCHING.contains(&name.as_str())).collect())
}

/// Returns the sections of the options of all commands.
fn sections() -> String {
    let mut sections: Vec<(String, Vec<Arg>)> = Vec::new();
    for entry in entries() {
        let (title, others) = title(&entry);
        let mut text = prose(&entry.arg);
        others.iter().for_each(|other| text += &format!("\nAlso for `{other}`."));
        let arg = described(&entry.arg, text);
        match sections.iter_mut().find(|(known, _)| *known == title) {
            Some((_, args)) => args.push(arg),
            None => sections.push((title, vec![arg])),
        }
    }
    sections.sort_by_key(|(title, _)| title.starts_with("Every"));
    sections.into_iter().fold(String::new(), |mut text, (title, args)| {
        write!(text, ".SS {title}\n{}", roff(args)).unwrap();
        text
    })
}

/// Returns the long help as whole sentences, each on its own line.
fn prose(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help()).unwrap().to_string();
    let paragraphs = help.split("\n\n").map(|text| format!("{}.", text.trim().trim_end_matches('.')));
    paragraphs.collect::<Vec<_>>().join(" ").replace(". ", ".\n")
}

/// Returns an option with this help, without its relations to options in other sections.
fn described(arg: &Arg, help: String) -> Arg {
    let names = arg.get_value_names().unwrap_or_default().to_vec();
    let long: &'static str = arg.get_long().unwrap().to_owned().leak();
    let described = Arg::new(long)
        .long(long)
        .short(arg.get_short())
        .action(arg.get_action().clone())
        .value_parser(arg.get_value_parser().clone())
        .default_values(arg.get_default_values().to_vec())
        .long_help(help);
    if names.is_empty() { described } else { described.value_names(names) }
}

/// Returns the options in the language of man pages.
fn roff(args: Vec<Arg>) -> String {
    let command =
        Command::new("tenure").version("").disable_help_flag(true).disable_version_flag(true).args(args);
    let mut roff = Vec::new();
    Man::new(command).render_options_section(&mut roff).unwrap();
    let roff = String::from_utf8(roff).unwrap();
    let (_, roff) = roff.split_once(".SH OPTIONS\n").unwrap();
    let roff = roff.replace("\\*(Aq", "\\(aq").replace("\\fI<", "\\fI").replace(">\\fR", "\\fR");
    // The values stand right below the text of their option.
    let roff = roff.replace(".br\n\n.br\n\\fIPossible values:\\fR\n.RS 14\n", ".RS 7\n.PD 0\n");
    let roff = roff.replace(".RE\n", ".PD\n.RE\n");
    let mut is_code = false;
    roff.split('`').fold(String::new(), |text, part| {
        let font = if text.is_empty() {
            ""
        } else if is_code {
            "\\fR"
        } else {
            "\\fB"
        };
        is_code = font == "\\fB";
        text + font + part
    })
}

/// Returns the page with another text in a section.
fn with_section(page: &str, title: &str, text: &str) -> String {
    let (before, rest) = page.split_once(&format!("\n.SH {title}\n")).unwrap();
    let (_, after) = rest.split_once("\n.SH ").unwrap();
    format!("{before}\n.SH {title}\n{COMMENT}{text}.SH {after}")
}

#[test]
fn man_page_has_options_of_help() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/tenure.1");
    let page = fs::read_to_string(&path).unwrap();
    let mut command = command();
    command.build();
    let global = command.get_arguments().map(|arg| described(arg, prose(arg))).collect();
    let updated = with_section(&page, "GLOBAL OPTIONS", &roff(global));
    let updated = with_section(&updated, "OPTIONS", &sections());
    if env::var_os("UPDATE_MAN").is_some() {
        fs::write(&path, updated).unwrap();
    } else {
        assert!(page == updated, "man/tenure.1 is out of date: run `UPDATE_MAN=1 cargo test --bin tenure`");
    }
}
