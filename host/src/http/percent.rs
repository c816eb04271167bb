//! Percent-encoded text in paths and queries, read strictly: a `%` stands before two hex digits, and what comes out is UTF-8.
//!
//! Passing over a wrong one would give one grain two names, `100%` and `100%25`, and leave it to the next reader which.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

/// What is wrong with a text; completes a sentence that begins with what the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A `%` isn't followed by two hex digits.
    Digits,
    /// The bytes aren't UTF-8.
    Utf8,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::Digits => "has a `%` without two hex digits behind it; a `%` itself is written %25",
            Wrong::Utf8 => "is not UTF-8 once its %XX are decoded",
        })
    }
}

/// Decodes a text.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Wrong> {
    let escapes = text.split('%').skip(1);
    let are_whole = escapes
        .map(str::as_bytes)
        .all(|rest| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit));
    if !are_whole {
        return Err(Wrong::Digits);
    }
    percent_decode_str(text).decode_utf8().map_err(|_| Wrong::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_strictly() {
        for (text, expect) in [
            ("", Ok("")),
            ("a+b", Ok("a+b")),
            ("%41%4a%4A", Ok("AJJ")),
            ("%25", Ok("%")),
            ("%2541", Ok("%41")),
            ("%c3%bc", Ok("ü")),
            ("ü", Ok("ü")),
            ("%", Err(Wrong::Digits)),
            ("%4", Err(Wrong::Digits)),
            ("%%41", Err(Wrong::Digits)),
            ("%+1", Err(Wrong::Digits)),
            ("%g0", Err(Wrong::Digits)),
            ("%ü", Err(Wrong::Digits)),
            ("%ff", Err(Wrong::Utf8)),
            ("%ed%a0%80", Err(Wrong::Utf8)),
            ("%c0%80", Err(Wrong::Utf8)),
        ] {
            assert_eq!(decode(text).as_deref(), expect.as_ref().copied(), "{text}");
        }
    }
}
