//! `granary logs`: what guests wrote, on all hosts.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, Iso8601, TimePrecision};
use time::{OffsetDateTime, UtcDateTime};

use crate::address::segment;
use crate::client::Client;
use crate::output::{note, out};
use crate::{Failure, Target};

/// How long a host that is followed may be away.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows what guests wrote
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Only of one type, or of one grain
    #[arg(value_name = "TYPE[/KEY]")]
    of: Option<String>,
    /// Goes on with what they write next
    #[arg(short, long)]
    follow: bool,
    /// So many of the last records
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
    /// Prints a JSON object a record
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Logs {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.target);
        let mut path = format!("/v1/logs?limit={}", self.last);
        if let Some(of) = &self.of {
            path += &filter(of);
        }
        if self.follow {
            return Following::new(&client, path + "&follow=true", self.json).run();
        }
        let page = client.value(&path)?;
        for host in page["silent"].as_array().into_iter().flatten() {
            away(host);
        }
        for record in page["records"].as_array().into_iter().flatten() {
            print(record, self.json);
        }
        Ok(())
    }
}

fn filter(of: &str) -> String {
    match of.split_once('/') {
        Some((kind, key)) => format!("&type={}&key={}", segment(kind), segment(key)),
        None => format!("&type={}", segment(of)),
    }
}

/// One stream after the other, each from where the one before ended.
struct Following<'a> {
    client: &'a Client,
    path: String,
    as_json: bool,
    /// Of the last event that had an id.
    last_id: Option<String>,
    /// When the host was heard last.
    heard: Instant,
}

impl Following<'_> {
    fn new(client: &Client, path: String, as_json: bool) -> Following<'_> {
        Following {
            client,
            path,
            as_json,
            last_id: None,
            heard: Instant::now(),
        }
    }

    /// Until the host is away for too long, or refuses.
    fn run(mut self) -> Result<(), Failure> {
        let mut is_first = true;
        loop {
            match self.client.stream(&self.path, self.last_id.as_deref()) {
                Ok(lines) => {
                    self.read(BufReader::new(lines));
                    is_first = false;
                }
                Err(Failure::Unreachable(_) | Failure::NotNow(_)) if !is_first && self.heard.elapsed() < PATIENCE => {}
                Err(failure) => return Err(failure),
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Prints a stream's events to its end, or to where the connection breaks.
    fn read(&mut self, lines: impl BufRead) {
        // What comes before an id would come again if the connection broke there.
        let mut events: Vec<(String, String)> = Vec::new();
        let mut name = String::new();
        for line in lines.lines() {
            let Ok(line) = line else { return };
            self.heard = Instant::now();
            match line.split_once(": ") {
                Some(("event", event)) => name = event.to_owned(),
                Some(("data", data)) => events.push((std::mem::take(&mut name), data.to_owned())),
                Some(("id", id)) => {
                    self.last_id = Some(id.to_owned());
                    for (name, data) in events.drain(..) {
                        show(&name, &data, self.as_json);
                    }
                }
                // The end of an event, or a comment that keeps the connection.
                _ => {}
            }
        }
    }
}

fn show(name: &str, data: &str, as_json: bool) {
    let Ok(value) = serde_json::from_str::<Value>(data) else {
        return;
    };
    match name {
        "record" => print(&value, as_json),
        "lost" => note!(
            "granary: {} records were gone before they could be read",
            value["records"]
        ),
        "silent" => value["hosts"].as_array().into_iter().flatten().for_each(away),
        _ => {}
    }
}

fn away(host: &Value) {
    let host = host.as_str().unwrap_or_default();
    note!("granary: host {host} doesn't answer; its records are missing");
}

fn print(record: &Value, as_json: bool) {
    if as_json {
        out!("{record}");
    } else {
        out!("{}", line(record));
    }
}

/// A record for people: when, how bad, whose, what.
fn line(record: &Value) -> String {
    let word = |name: &str| record[name].as_str().unwrap_or_default();
    let at = record["at_ms"].as_u64().map(moment).unwrap_or_default();
    let level = word("level").to_uppercase();
    let grain = shown(&format!("{}/{}", word("type"), word("key")));
    format!("{at} {level:<5} {grain}  {}", shown(word("message")))
}

/// A text that does nothing to a terminal: a guest may write what it likes.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Milliseconds since 1970 as people write a moment, in UTC.
fn moment(millis: u64) -> String {
    const FORMAT: EncodedConfig = Config::DEFAULT
        .set_time_precision(TimePrecision::Second {
            decimal_digits: std::num::NonZeroU8::new(3),
        })
        .encode();
    let moment = UtcDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    let written = moment
        .ok()
        .and_then(|moment| OffsetDateTime::from(moment).format(&Iso8601::<FORMAT>).ok());
    written.unwrap_or_else(|| millis.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_a_line_whatever_a_guest_wrote() {
        let record = json!({
            "at_ms": 1_764_005_563_007_u64, "type": "counter", "key": "a/b", "level": "warn",
            "message": "two\nlines, \u{1b}[31mred\u{1b}[0m and grün",
        });
        let says = r"2025-11-24T17:32:43.007Z WARN  counter/a/b  two\nlines, \u{1b}[31mred\u{1b}[0m and grün";
        assert_eq!(line(&record), says);
    }

    #[test]
    fn a_type_or_a_grain_is_asked_for() {
        assert_eq!(filter("counter"), "&type=counter");
        assert_eq!(filter("counter/a/b c"), "&type=counter&key=a%2Fb%20c");
    }

    #[test]
    fn what_a_broken_stream_did_not_finish_is_left_for_the_next() {
        let client = Client::new(&Target {
            host: "http://127.0.0.1:1".into(),
            token: None,
            data: None,
        });
        let mut following = Following::new(&client, String::new(), true);
        following
            .read(&b"event: record\ndata: {}\n\nevent: record\ndata: {}\nid: x:2\n\nevent: record\ndata: {}\n\n"[..]);
        assert_eq!(following.last_id.as_deref(), Some("x:2"));
    }
}
