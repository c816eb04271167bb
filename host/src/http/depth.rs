//! How deep JSON is nested, told before anything reads it.
//!
//! Everybody who reads JSON by recursion has a limit or a stack overflow: here is one limit for all that comes from callers.
//!
//! **Not here:** whether it is JSON at all.

use granary_core::api::CallFailure;

use super::args::bad;
use crate::description::Method;

/// Refuses text with more than `limit` levels of arrays and objects.
pub(super) fn check(method: &Method, text: &str, limit: usize) -> Result<(), CallFailure> {
    // So many brackets are wanted for that many levels: most texts end here.
    if text.len() <= limit || of(text.as_bytes()) <= limit {
        return Ok(());
    }
    let what = format!("JSON is nested deeper than the limit of {limit} levels");
    Err(bad(method, &what))
}

/// The most levels that are open at any place; exact for JSON, a bound on what a reader opens for anything else.
pub(super) fn of(text: &[u8]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                open += 1;
                most = most.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    most
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_outside_of_strings() {
        for (text, levels) in [
            ("", 0),
            ("5", 0),
            ("[]", 1),
            ("[[],{}]", 2),
            (r#"{"a":[{"b":[]}]}"#, 4),
            (r#"["[[[["]"#, 1),
            (r#"["\"[[\\",[]]"#, 2),
            (r#"["\\\\"]"#, 1),
            ("]]][", 1),
            ("[[[", 3),
            ("\"[[", 0),
        ] {
            assert_eq!(of(text.as_bytes()), levels, "{text}");
        }
    }
}
