//! Formats results as text or as JSON: one document with the number of its schema.

pub mod changes;
pub mod reports;

use std::collections::BTreeMap;

use serde::Serialize;

use tenure::error::{Context, Error, Result};

/// The format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text.
    Human,
    /// One JSON document.
    Json,
}

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A program for a shell, which is printed without escapes.
    Script,
    /// Lines that are printed as they are, for programs too.
    Lines,
    /// Text for a person. A terminal breaks its lines between words.
    Prose,
}

/// A result that can be formatted as text.
pub trait Human {
    /// The form of the text.
    const FORM: Form = Form::Lines;

    /// Returns the text for stdout, which ends with a newline or is empty.
    fn human(&self) -> String;

    /// Returns the exit code for the result.
    fn code(&self) -> u8 {
        0
    }
}

/// A formatted result.
pub struct Shown {
    pub text: String,
    pub form: Form,
    /// The exit code.
    pub code: u8,
}

impl Shown {
    /// Formats a result in the given style.
    ///
    /// # Errors
    /// Returns an error if the result cannot be serialized, which does not happen for the existing types.
    pub fn of<T: Human + Serialize>(style: Style, result: &T) -> Result<Self> {
        let (text, form) = match style {
            Style::Human => (result.human(), T::FORM),
            Style::Json => (document(result)?, Form::Lines),
        };
        Ok(Self { text, form, code: result.code() })
    }

    /// Formats a text. `key` is its key in a JSON document.
    ///
    /// # Errors
    /// Returns an error if the text cannot be serialized, which does not happen.
    pub fn text(style: Style, key: &'static str, text: String, form: Form) -> Result<Self> {
        let (text, form) = match style {
            Style::Human if text.ends_with('\n') => (text, form),
            Style::Human => (text + "\n", form),
            Style::Json => (document(&BTreeMap::from([(key, text)]))?, Form::Lines),
        };
        Ok(Self { text, form, code: 0 })
    }
}

const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    #[serde(flatten)]
    result: &'a T,
}

#[derive(Serialize)]
struct JsonFailure<'a> {
    error: JsonError<'a>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    kind: &'static str,
    code: u8,
    message: String,
    causes: Vec<String>,
    hints: Vec<&'a str>,
}

/// Formats a result as a document.
fn document<T: Serialize>(result: &T) -> Result<String> {
    let text =
        serde_json::to_string_pretty(&Document { schema: SCHEMA, result }).context(|| "cannot write JSON")?;
    Ok(format!("{text}\n"))
}

/// Formats an error as a document.
///
/// # Errors
/// Returns an error if the document cannot be serialized, which does not happen.
pub fn error_document(error: &Error) -> Result<String> {
    document(&JsonFailure {
        error: JsonError {
            kind: error.kind().word(),
            code: error.kind().code(),
            message: error.to_string(),
            causes: error.causes(),
            hints: error.hints(),
        },
    })
}

/// Escapes all control characters except newline and tab, because a terminal interprets them. In a JSON document they
/// occur only in strings, where the JSON escape means the same text.
pub fn escape_controls(text: &str, style: Style) -> String {
    let shown = |c: char| match style {
        _ if !c.is_control() || matches!(c, '\n' | '\t') => c.to_string(),
        Style::Human => c.escape_default().collect(),
        Style::Json => format!("\\u{:04x}", u32::from(c)),
    };
    text.chars().map(shown).collect()
}

/// A continuation line is indented by no more than this.
const LABEL_MAX: usize = 24;

/// Returns the text with lines of at most `width` columns, broken between words. A continuation line is aligned with the
/// text behind the label of its line, as behind `hint: `. A word that is wider stays whole, for copying.
pub fn wrap(text: &str, width: usize) -> String {
    text.split_inclusive('\n').map(|line| wrap_line(line, width)).collect()
}

fn wrap_line(line: &str, width: usize) -> String {
    let indent = indent(line);
    if line.trim_end().chars().count() <= width || width < 2 * LABEL_MAX {
        return line.to_owned();
    }
    let (mut out, mut column) = (String::new(), 0);
    for piece in line.split_inclusive(' ') {
        let columns = piece.trim_end().chars().count();
        if column > indent && column + columns > width {
            out.truncate(out.trim_end_matches(' ').len());
            out += &format!("\n{:indent$}", "");
            column = indent;
        }
        out += piece;
        column += piece.chars().count();
    }
    out
}

/// The column behind the label of a line; where it has none, a few columns more than the line itself is indented.
fn indent(line: &str) -> usize {
    let own = line.chars().take_while(|c| *c == ' ').count();
    match line.find(": ") {
        Some(at) if at + 2 <= LABEL_MAX => at + 2,
        _ => own + 4,
    }
}

/// Names a number of things: `1 hop`, `2 hops`.
fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        let short = "Current: 5.0.1\n* 5.0.1\tpermanent\n";
        assert_eq!(wrap(short, 60), short);
        let long = format!("  hint: {}\n", "word ".repeat(12).trim_end());
        let expected = "  hint: word word word word word word word word\n        word word word word\n";
        assert_eq!(wrap(&long, 48), expected);
        assert_eq!(wrap(&long, 20), long, "a terminal that is too narrow");
        let word = format!("Root: {}\n", "x".repeat(60));
        assert_eq!(wrap(&word, 50), word, "a long word is not broken");
    }
}
