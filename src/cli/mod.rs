//! Runs the command line: parses arguments and prints text or JSON. Only this module prints.

mod args;
mod caller;
mod completions;
mod console;
mod progress_bar;
mod prometheus;
mod view;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{FromArgMatches, Subcommand};

use tenure::error::{Error, Kind};

use args::{Cli, Operate};
use caller::Caller;
use console::{Console, Loudness, known_as};
use view::{Style, escape_controls};

/// Runs the command line and returns the exit code.
pub fn run(words: &[OsString]) -> u8 {
    if completions::answer(words, args::command) {
        return 0;
    }
    let style = if words.iter().any(|word| word == "--json") { Style::Json } else { Style::Human };
    let (cli, name) = match parse(words) {
        Ok(parsed) => parsed,
        Err(error) => return show_clap_error(error, style),
    };
    let loudness = match (cli.verbose, cli.quiet) {
        (true, _) => Loudness::Verbose,
        (_, true) => Loudness::Quiet,
        _ => Loudness::Normal,
    };
    let mut console = Console::new(style, loudness, name);
    let caller = Caller::new(words, cli.root, style);
    match caller.and_then(|caller| cli.command.run(&caller, &mut console)) {
        Ok(shown) => console.show(&shown),
        Err(error) => console.fail(&error),
    }
}

/// Parses the words. Returns the name of the command as well. The usage names the product's own command if there is one.
fn parse(words: &[OsString]) -> std::result::Result<(Cli, String), clap::Error> {
    let command = args::command();
    let mut command = match known_as() {
        Some(name) => command.bin_name(name),
        None => command,
    };
    let matches = command.try_get_matches_from_mut(words)?;
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((cli, name))
}

/// Prints the message of clap and returns the exit code: 0 for help and version, else that of wrong usage.
fn show_clap_error(mut error: clap::Error, style: Style) -> u8 {
    filter_suggestions(&mut error);
    match (error.kind(), style) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => {
            // A caller that closed stdout does not need the error.
            let _ = error.print();
            0
        }
        (_, Style::Human) => {
            let text = error.to_string().replace("\n\n  tip: ", "\nhint: ").replace("\n  tip: ", "\nhint: ");
            // A removed suggestion leaves its line.
            let text = text.replace("\n\n\n", "\n\n");
            let _ = io::stderr().write_all(escape_controls(&text, style).as_bytes());
            Kind::Usage.code()
        }
        (_, Style::Json) => {
            let error = usage_error(&error.to_string()).hint("`tenure --help` shows the usage");
            Console::new(style, Loudness::Normal, String::new()).fail(&error)
        }
    }
}

/// Turns a message of clap into an error: its first paragraph, with the list in it, and its tips as hints.
fn usage_error(text: &str) -> Error {
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = first.trim_start_matches("error: ").lines().map(str::trim);
    let (head, list) = (lines.next().unwrap_or_default(), lines.collect::<Vec<_>>().join(", "));
    let tips = rest.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    tips.fold(Error::new(Kind::Usage, format!("{head} {list}").trim()), Error::hint)
}

/// Removes hidden commands from clap's lists, and all suggestions except the nearest. A command that changes something is
/// never suggested, because a suggestion is easily run without a second look.
fn filter_suggestions(error: &mut clap::Error) {
    let command = args::command();
    let is_shown =
        |name: &String| command.find_subcommand(name).is_some_and(|command| !command.is_hide_set());
    let mut take = |kind| match error.remove(kind) {
        Some(ContextValue::Strings(names)) => names.into_iter().filter(is_shown).collect::<Vec<_>>(),
        Some(ContextValue::String(name)) => Some(name).filter(is_shown).into_iter().collect(),
        _ => Vec::new(),
    };
    let (all, mut meant) = (take(ContextKind::ValidSubcommand), take(ContextKind::SuggestedSubcommand));
    if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) {
        let far = |name: &String| strsim::osa_distance(given, name);
        let nearest = meant.iter().map(far).min();
        meant.retain(|name| Some(far(name)) == nearest && !Operate::has_subcommand(name));
    }
    for (kind, names) in [(ContextKind::ValidSubcommand, all), (ContextKind::SuggestedSubcommand, meant)] {
        if !names.is_empty() {
            error.insert(kind, ContextValue::Strings(names));
        }
    }
}
