//! What a record says, before it has a form.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::Level;
use tracing::field::{Field, Visit};

/// The longest text in a record, in bytes: one that is longer says no more and takes others' room.
const TEXT_LIMIT: usize = 32 << 10;

/// See the file's text.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) at: SystemTime,
    pub(super) level: Level,
    /// Which part says it.
    pub(super) target: &'a str,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// What a field is.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    /// A number, or true or false, as JSON has it.
    Bare(String),
}

impl<'a> Record<'a> {
    pub(super) fn new(at: SystemTime, level: Level, target: &'a str) -> Record<'a> {
        Record {
            at,
            level,
            target,
            message: String::new(),
            fields: Vec::new(),
        }
    }

    fn text(&mut self, field: &Field, text: impl fmt::Display) {
        let mut kept = Kept::default();
        // What doesn't fit, or can't be shown, is left out.
        let _ = write!(kept, "{text}");
        let text = kept.end();
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.push((field.name(), Value::Text(text)));
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.fields.push((field.name(), Value::Bare(value.to_string())));
    }
}

impl Visit for Record<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.bare(field, value),
            false => self.text(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.bare(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format_args!("{value:?}"));
    }
}

/// The beginning of a text, without ever having had all of it.
#[derive(Default)]
struct Kept {
    text: String,
    more: usize,
}

impl Write for Kept {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = if self.more > 0 { 0 } else { TEXT_LIMIT - self.text.len() };
        let fits = part.floor_char_boundary(room);
        self.text.push_str(&part[..fits]);
        self.more += part.len() - fits;
        Ok(())
    }
}

impl Kept {
    fn end(mut self) -> String {
        if self.more > 0 {
            let _ = write!(self.text, "... (and {} bytes more)", self.more);
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_a_limit_and_says_what_is_missing() {
        let mut kept = Kept::default();
        write!(kept, "{}üy", "x".repeat(TEXT_LIMIT - 1)).unwrap();
        let text = kept.end();
        assert!(text.ends_with("x... (and 3 bytes more)"), "{}", &text[TEXT_LIMIT - 9..]);
        let mut kept = Kept::default();
        write!(kept, "short{}", 5).unwrap();
        assert_eq!(kept.end(), "short5");
    }
}
