//! Source text with comments and literals blanked, so that the other rules see code only. Lines keep their numbers.

/// Blanks comments, string and character literals.
pub(super) fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = literal_len(rest, out.chars().next_back());
        if len == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let (literal, after) = rest.split_at(len);
            out.extend(literal.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    out
}

/// The length of the comment or literal that `text` starts with; 0 when it starts with code.
fn literal_len(text: &str, before: Option<char>) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment_len(text);
    }
    if text.starts_with('"') {
        return escaped_len(text, '"').unwrap_or(text.len());
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && let Some(len) = raw_string_len(text) {
        return len;
    }
    if text.starts_with('\'') {
        return char_len(text);
    }
    0
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn raw_string_len(text: &str) -> Option<usize> {
    let after = text
        .strip_prefix("br")
        .or_else(|| text.strip_prefix("cr"))
        .or_else(|| text.strip_prefix('r'))?;
    let body = after.trim_start_matches('#');
    let hashes = after.len() - body.len();
    let body = body.strip_prefix('"')?;
    let start = text.len() - body.len();
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// A character literal, or 0 for a lifetime.
fn char_len(text: &str) -> usize {
    if text[1..].starts_with('\\') {
        return escaped_len(text, '\'').unwrap_or(0);
    }
    let mut chars = text.char_indices().skip(2);
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}

fn escaped_len(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

/// The words of stripped code with their line numbers.
pub(super) fn words(stripped: &str) -> impl Iterator<Item = (usize, &str)> {
    stripped.lines().enumerate().flat_map(|(number, line)| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .map(move |word| (number + 1, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str) -> Vec<String> {
        words(&strip(text)).map(|(_, word)| word.to_owned()).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(words_of("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(
            words_of(r##"a "b \" c" d r#"e " f"# g 'h' '\'' i b"j" k"##),
            ["a", "d", "g", "i", "b", "k"]
        );
    }

    #[test]
    fn lifetimes_are_code() {
        assert_eq!(
            words_of("fn f<'a>(x: &'a str, y: char) { 'x' }"),
            ["fn", "f", "a", "x", "a", "str", "y", "char"]
        );
    }

    #[test]
    fn lines_keep_their_numbers() {
        assert_eq!(strip("\"a\nb\"\nc").lines().count(), 3);
        assert_eq!(words(&strip("/* a\n b */\nc")).collect::<Vec<_>>(), [(3, "c")]);
    }
}
