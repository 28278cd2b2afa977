//! Breaks lines of text at the width of a terminal.

/// A continuation line is indented by no more than this.
const LABEL_MAX: usize = 24;

/// Returns the text with lines of at most `width` columns, broken between words. A continuation line is aligned with the
/// text behind the label of its line, as behind `hint: `. A word that is wider stays whole, for copying.
pub fn wrapped(text: &str, width: usize) -> String {
    text.split_inclusive('\n').map(|line| wrapped_line(line, width)).collect()
}

fn wrapped_line(line: &str, width: usize) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        let short = "Current: 5.0.1\n* 5.0.1\tpermanent\n";
        assert_eq!(wrapped(short, 60), short);
        let long = format!("  hint: {}\n", "word ".repeat(12).trim_end());
        let expected = "  hint: word word word word word word word word\n        word word word word\n";
        assert_eq!(wrapped(&long, 48), expected);
        assert_eq!(wrapped(&long, 20), long, "a terminal that is too narrow");
        let word = format!("Root: {}\n", "x".repeat(60));
        assert_eq!(wrapped(&word, 50), word, "a long word is not broken");
    }
}
