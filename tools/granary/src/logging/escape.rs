//! Texts that others wrote, so that they stay within their line and their quotes, and look like what they are.

use std::fmt::Write;

/// What no text of a record has as it is: whatever ends a line for any reader, moves a terminal's cursor, or turns the direction in which the
/// rest of the line is shown.
pub(super) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Appends a text with what is unseen in it named.
pub(super) fn plain(text: &str, to: &mut String) {
    for c in text.chars() {
        named(c, to);
    }
}

/// Appends a text in quotes.
pub(super) fn quoted(text: &str, to: &mut String) {
    to.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            to.push('\\');
        }
        named(c, to);
    }
    to.push('"');
}

fn named(c: char, to: &mut String) {
    match c {
        '\n' => to.push_str("\\n"),
        '\r' => to.push_str("\\r"),
        '\t' => to.push_str("\\t"),
        c if is_unseen(c) => write!(to, "\\u{{{:x}}}", u32::from(c)).expect("a string takes all"),
        c => to.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_line_or_its_quotes() {
        let nasty = "a\nb\r\n\u{1b}[2Jc\u{85}d\u{2028}e\u{202e}f\u{7f}\" x=\"y\\ ü";
        let (mut bare, mut in_quotes) = (String::new(), String::new());
        plain(nasty, &mut bare);
        quoted(nasty, &mut in_quotes);
        assert_eq!(bare, r#"a\nb\r\n\u{1b}[2Jc\u{85}d\u{2028}e\u{202e}f\u{7f}" x="y\ ü"#);
        assert_eq!(
            in_quotes,
            r#""a\nb\r\n\u{1b}[2Jc\u{85}d\u{2028}e\u{202e}f\u{7f}\" x=\"y\\ ü""#
        );
        assert!(!bare.contains(is_unseen) && !in_quotes.contains(is_unseen));
    }
}
