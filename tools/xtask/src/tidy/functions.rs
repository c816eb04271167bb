//! Functions: how long they may be.
//!
//! Reads the shape that rustfmt gives: a function ends at the first line that is its own indentation and a brace.

use super::code::strip;
use super::{Finding, Source};

/// What fits a screen. Longer ones hide a second function.
const LINES_LIMIT: usize = 70;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    sources
        .iter()
        .flat_map(|source| too_long(&source.path, &source.text))
        .collect()
}

fn too_long(path: &str, text: &str) -> Vec<Finding> {
    let stripped = strip(text);
    let lines: Vec<&str> = stripped.lines().collect();
    let mut findings = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let closes = |line: &&str| line.trim_end().len() == indent + 1 && line.trim_start().starts_with('}');
        // A declaration or a one-liner ends on a line of its own with `;` or `}` before any body.
        let is_short =
            |line: &&str| line.trim_end().ends_with([';', '}']) && line.len() - line.trim_start().len() <= indent;
        let Some(length) = lines[start..].iter().position(|line| closes(line) || is_short(line)) else {
            continue;
        };
        if length + 1 > LINES_LIMIT {
            let message = format!(
                "`{name}` has {} lines; a function has at most {LINES_LIMIT}",
                length + 1
            );
            findings.push(Finding::new(format!("{path}:{}", start + 1), message));
        }
    }
    findings
}

/// The name, if a function begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    loop {
        let word = words.next()?;
        match word {
            "fn" => return words.next()?.split(['(', '<']).next(),
            "pub" | "const" | "async" | "unsafe" | "extern" | "in" | "default" => {}
            _ if word.starts_with("pub(") || word.ends_with(')') => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!(
            "impl X {{\n    pub(crate) async fn f<T>(t: T) -> T\n    where\n        T: X,\n    {{\n{}    }}\n}}\n",
            "        x();\n".repeat(lines - 5)
        )
    }

    #[test]
    fn a_function_of_70_lines_passes_and_one_of_71_does_not() {
        assert_eq!(too_long("a.rs", &function(70)), []);
        let found = too_long("a.rs", &function(71));
        assert_eq!(
            found,
            [Finding::new("a.rs:2", "`f` has 71 lines; a function has at most 70")]
        );
    }

    #[test]
    fn what_only_looks_like_a_function_is_none() {
        assert_eq!(function_name("/// fn in a comment"), None);
        assert_eq!(function_name("    let fn_name = 1;"), None);
        assert_eq!(function_name("extern fn f();"), Some("f"));
        assert_eq!(function_name("    pub(super) const unsafe fn f<T>() {"), Some("f"));
    }

    #[test]
    fn declarations_and_one_liners_end_where_they_stand() {
        let body = "x();\n".repeat(100);
        assert_eq!(
            too_long("a.rs", &format!("trait T {{\n    fn f();\n    fn g() {{}}\n}}\n{body}")),
            []
        );
    }
}
