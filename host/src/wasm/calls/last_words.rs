//! What a guest said before it trapped.
//!
//! A panic's message is lost to the trap that follows it. Languages write it before: the SDK as a record of level error, others on
//! standard error, where the first line says what happened and many more say where.

use super::{LogLevel, LogSource};
use crate::wasm::trace::escaped;

/// The longest of it that goes into an error, in characters. The whole is a log record.
const LENGTH: usize = 1_000;
/// How lines begin by which programs in other languages end.
const ENDINGS: [&str; 6] = [
    "panic: ",
    "fatal error: ",
    "Assertion failed",
    "terminating ",
    "terminate called",
    "memory allocation of ",
];

/// A panic's message, or what a guest wrote last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::wasm) enum Words {
    /// It says itself that it's a panic.
    Panic(String),
    /// A line on standard error; whether it has to do with the trap isn't sure.
    Line(String),
}

impl Words {
    /// What was said.
    pub(in crate::wasm) fn text(&self) -> &str {
        match self {
            Words::Panic(said) | Words::Line(said) => said,
        }
    }
}

/// Listens to a turn's records, also to those that are dropped because there are too many.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    words: Option<Words>,
    /// The line said that the message is on the next one.
    is_continued: bool,
}

impl LastWords {
    /// One record or line.
    pub(super) fn hear(&mut self, level: LogLevel, source: LogSource, message: &str) {
        match source {
            LogSource::Log if level == LogLevel::Error && message.starts_with("panicked") => {
                self.words = Some(Words::Panic(escaped(message, LENGTH)));
                self.is_continued = false;
            }
            LogSource::Stderr => self.hear_line(message),
            LogSource::Log | LogSource::Stdout => {}
        }
    }

    /// What counts.
    pub(super) fn words(&self) -> Option<Words> {
        self.words.clone()
    }

    fn hear_line(&mut self, line: &str) {
        // Rust's own hook: `thread 'main' panicked at src/lib.rs:5:9:`, and the message on the next line.
        let is_ending = ENDINGS.iter().any(|start| line.starts_with(start)) || line.contains(" panicked at ");
        if is_ending {
            self.words = Some(Words::Panic(escaped(line, LENGTH)));
            self.is_continued = line.ends_with(':');
            return;
        }
        match &mut self.words {
            Some(Words::Panic(first)) if self.is_continued => {
                first.push(' ');
                first.push_str(&escaped(line, LENGTH));
                self.is_continued = false;
            }
            Some(Words::Panic(_)) => {}
            _ if line.trim().is_empty() => {}
            _ => self.words = Some(Words::Line(escaped(line, LENGTH))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(records: &[(LogLevel, LogSource, &str)]) -> Option<Words> {
        let mut words = LastWords::default();
        for (level, source, message) in records {
            words.hear(*level, *source, message);
        }
        words.words()
    }

    fn stderr(lines: &[&str]) -> Option<Words> {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| (LogLevel::Warn, LogSource::Stderr, *line))
            .collect();
        heard(&lines)
    }

    fn panic(said: &str) -> Option<Words> {
        Some(Words::Panic(said.to_owned()))
    }

    #[test]
    fn a_panic_is_what_was_said_last_whatever_else_was_written() {
        let records = [
            (LogLevel::Error, LogSource::Log, "something failed"),
            (LogLevel::Warn, LogSource::Stderr, "a note"),
            (
                LogLevel::Error,
                LogSource::Log,
                "panicked at src/lib.rs:9:5: two\nlines",
            ),
            (LogLevel::Info, LogSource::Stdout, "5 added"),
        ];
        assert_eq!(heard(&records), panic("panicked at src/lib.rs:9:5: two\\nlines"));
        assert_eq!(heard(&records[..2]), Some(Words::Line("a note".to_owned())));
        assert_eq!(heard(&records[..1]), None);
        let by_level = [(LogLevel::Info, LogSource::Log, "panicked customers: 3")];
        assert_eq!(heard(&by_level), None);
    }

    #[test]
    fn other_languages_say_it_in_the_first_line_on_standard_error() {
        let go = ["panic: no shelf", "", "goroutine 1 [running]:", "main.take(...)"];
        assert_eq!(stderr(&go), panic("panic: no shelf"));
        let rust = [
            "",
            "thread 'main' (1) panicked at src/lib.rs:5:9:",
            "no shelf",
            "note: run with",
        ];
        assert_eq!(
            stderr(&rust),
            panic("thread 'main' (1) panicked at src/lib.rs:5:9: no shelf")
        );
        assert_eq!(
            stderr(&["first", "no shelf", " "]),
            Some(Words::Line("no shelf".to_owned()))
        );
    }

    #[test]
    fn words_are_bounded() {
        let long = format!("panicked at x: {}", "ü".repeat(10_000));
        let Some(Words::Panic(said)) = heard(&[(LogLevel::Error, LogSource::Log, &long)]) else {
            panic!("it said so")
        };
        assert!(said.chars().count() < 1_010 && said.ends_with("..."));
    }
}
