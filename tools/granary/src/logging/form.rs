//! The two forms of a record: a line for people, or a JSON object on a line.
//!
//! ```text
//! 2026-03-01T12:00:00.000007Z  INFO granary_host::host: started address=127.0.0.1:7777
//! {"time":"2026-03-01T12:00:00.000007Z","level":"info","target":"granary_host::host","message":"started","fields":{"address":"127.0.0.1:7777"}}
//! ```
//!
//! In the first, what isn't plainly one word is in quotes; texts of guests always are, since they could look like fields of ours.

use std::fmt::Write;
use std::time::SystemTime;

use serde_json::Value as Json;
use time::UtcDateTime;
use tracing::Level;

use super::escape::{is_unseen, plain, quoted};
use super::record::{Record, Value};

/// Records of this target are what guests wrote.
const OF_GUESTS: &str = "granary::guest";

/// See the file's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text { is_coloured: bool },
    Json,
}

impl Form {
    /// For people, without colours.
    pub(crate) const PLAIN: Form = Form::Text { is_coloured: false };

    /// Reads the word of a flag.
    pub(crate) fn of(word: Option<&str>) -> Result<Form, String> {
        match word {
            None | Some("text") => Ok(Form::PLAIN),
            Some("json") => Ok(Form::Json),
            Some(other) => Err(format!("the log has no form `{other}`: it is text or json")),
        }
    }

    /// The same in colours, for a terminal, if it's one for people.
    pub(super) fn coloured(self, is_coloured: bool) -> Form {
        match self {
            Form::Text { .. } => Form::Text { is_coloured },
            Form::Json => Form::Json,
        }
    }

    /// A record's line, without its end.
    pub(super) fn line(self, record: &Record<'_>) -> String {
        match self {
            Form::Text { is_coloured } => text(record, is_coloured),
            Form::Json => as_json(record),
        }
    }
}

fn text(record: &Record<'_>, is_coloured: bool) -> String {
    let colour = match record.level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    let level = format!("{:>5}", record.level);
    let level = match is_coloured {
        true => format!("\u{1b}[{colour}m{level}\u{1b}[0m"),
        false => level,
    };
    let mut line = format!("{} {level} {}:", moment(record.at), record.target);
    if !record.message.is_empty() {
        line.push(' ');
        match record.target {
            OF_GUESTS => quoted(&record.message, &mut line),
            _ => plain(&record.message, &mut line),
        }
    }
    for (name, value) in &record.fields {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        match value {
            Value::Text(text) if is_word(text) => line.push_str(text),
            Value::Text(text) => quoted(text, &mut line),
            Value::Bare(bare) => line.push_str(bare),
        }
    }
    line
}

/// Whether a text can be taken for nothing else, without quotes.
fn is_word(text: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !is_unseen(c) && !matches!(c, '"' | '\\' | '=');
    !text.is_empty() && text.chars().all(is_plain)
}

fn as_json(record: &Record<'_>) -> String {
    let level = record.level.as_str().to_ascii_lowercase();
    let mut line = format!("{{\"time\":\"{}\",\"level\":\"{level}\",\"target\":", moment(record.at));
    string(record.target, &mut line);
    line.push_str(",\"message\":");
    string(&record.message, &mut line);
    line.push_str(",\"fields\":{");
    for (index, (name, value)) in record.fields.iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        string(name, &mut line);
        line.push(':');
        match value {
            Value::Text(text) => string(text, &mut line),
            Value::Bare(bare) => line.push_str(bare),
        }
    }
    line.push_str("}}");
    line
}

/// A string in JSON. JSON lets some characters stand as they are that end a line for some readers: those are escaped, too.
fn string(text: &str, to: &mut String) {
    for c in Json::from(text).to_string().chars() {
        match is_unseen(c) {
            true => write!(to, "\\u{:04x}", u32::from(c)).expect("a string takes all"),
            false => to.push(c),
        }
    }
}

fn moment(at: SystemTime) -> String {
    let at = UtcDateTime::from(at);
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(target: &str) -> Record<'_> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_772_366_400_000_007);
        let mut record = Record::new(at, Level::WARN, target);
        record.message = "it failed".to_owned();
        record
    }

    fn with_fields(target: &str) -> Record<'_> {
        let mut record = record(target);
        record.fields = vec![
            ("count", Value::Bare("18446744073709551616".to_owned())),
            ("path", Value::Text("/v1/grains".to_owned())),
            (
                "key",
                Value::Text("a\n2026-03-01T12:00:00.000007Z ERROR granary_host: \"x\"".to_owned()),
            ),
            ("none", Value::Text(String::new())),
        ];
        record
    }

    #[test]
    fn a_record_for_people_reads_like_this() {
        assert_eq!(
            Form::PLAIN.line(&with_fields("granary_host::http")),
            r#"2026-03-01T12:00:00.000007Z  WARN granary_host::http: it failed count=18446744073709551616 path=/v1/grains key="a\n2026-03-01T12:00:00.000007Z ERROR granary_host: \"x\"" none="""#
        );
        let coloured = Form::PLAIN.coloured(true).line(&record("x"));
        assert!(
            coloured.contains("\u{1b}[33m WARN\u{1b}[0m x: it failed"),
            "{coloured:?}"
        );
    }

    #[test]
    fn a_record_for_programs_reads_like_this() {
        let line = Form::Json.coloured(true).line(&with_fields("granary_host::http"));
        let read: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(read["time"], "2026-03-01T12:00:00.000007Z");
        assert_eq!(
            (&read["level"], &read["message"]),
            (&Json::from("warn"), &Json::from("it failed"))
        );
        assert!(line.contains(r#""count":18446744073709551616,"#), "{line}");
        assert_eq!(read["fields"]["path"], "/v1/grains");
        assert!(read["fields"]["key"].as_str().unwrap().starts_with("a\n2026"));
        assert!(!line.contains('\n'));
    }

    #[test]
    fn whatever_a_guest_wrote_is_one_record_and_no_field_of_it() {
        let mut forged = record(OF_GUESTS);
        forged.message =
            "done key=b\u{85}\u{2028}\n2026-03-01T12:00:00.000007Z  INFO granary_host: \"all\" is well".to_owned();
        forged.fields = vec![("key", Value::Text("a".to_owned()))];
        assert_eq!(
            Form::PLAIN.line(&forged),
            r#"2026-03-01T12:00:00.000007Z  WARN granary::guest: "done key=b\u{85}\u{2028}\n2026-03-01T12:00:00.000007Z  INFO granary_host: \"all\" is well" key=a"#
        );
        let line = Form::Json.line(&forged);
        assert!(!line.contains(is_unseen), "{line:?}");
        let read: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], forged.message.as_str());
    }

    #[test]
    fn a_form_is_text_or_json() {
        assert_eq!(Form::of(None), Ok(Form::PLAIN));
        assert_eq!(Form::of(Some("json")), Ok(Form::Json));
        assert!(Form::of(Some("xml")).unwrap_err().contains("text or json"));
    }
}
