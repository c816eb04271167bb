//! Guests' log records: each goes into the host's log with its grain and request, and the last ones stay in memory for those who ask.
//!
//! **Not here:** how many and how long they may be (`wasm`), other hosts' records (`router`).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use granary_core::id::{GrainKey, GrainName, GrainType, RequestId};
use serde::{Deserialize, Serialize};

use crate::clock::wall_millis;
use crate::wasm::{LogLevel, LogSource};

/// Records that are kept.
const KEPT: usize = 10_000;
/// Their bytes: 4 MiB.
const KEPT_BYTES: usize = 4 << 20;
/// What a record takes besides its texts, about.
const RECORD_BYTES: usize = 160;
/// Bytes of records in one answer: 1 MiB, so that it passes between hosts.
const PAGE_BYTES: usize = 1 << 20;

/// What a guest wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// One higher than the record's before it on this host; a host that starts again begins above all that it had before.
    pub number: u64,
    /// When, on the host's wall clock: milliseconds since 1970.
    pub at_ms: u64,
    /// The grain's type.
    pub kind: String,
    /// The grain's key.
    pub key: String,
    /// During which request; zeros when the grain moved to another revision.
    pub request: [u8; 16],
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: Cow<'static, str>,
    /// `log`, `stdout` or `stderr`.
    pub source: Cow<'static, str>,
    /// The text.
    pub message: String,
}

/// Whose records somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Those of one type; of all if `None`.
    pub kind: Option<GrainType>,
    /// Those of one key.
    pub key: Option<GrainKey>,
}

/// Some of a host's records, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordsPage {
    pub(crate) records: Vec<LogRecord>,
    /// Where to go on.
    pub(crate) next: u64,
    /// So many, of all grains, were dropped before they were asked for.
    pub(crate) lost: u64,
}

/// The last records.
#[derive(Debug)]
pub(crate) struct Records {
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    kept: VecDeque<Arc<LogRecord>>,
    bytes: usize,
    /// The first one's number since the host's start.
    first: u64,
    /// The next one's.
    next: u64,
}

impl Records {
    /// None yet.
    pub(crate) fn new() -> Records {
        // Microseconds: guests may write a hundredth of that many records at most, so a later start has higher numbers.
        Records::from(wall_millis().saturating_mul(1000))
    }

    fn from(first: u64) -> Records {
        Records {
            ring: Mutex::new(Ring {
                kept: VecDeque::new(),
                bytes: 0,
                first,
                next: first,
            }),
        }
    }

    /// Writes a guest's record into the host's log, and keeps it.
    pub(super) fn write(
        &self,
        grain: &GrainName,
        request: RequestId,
        level: LogLevel,
        source: LogSource,
        message: &str,
    ) {
        let source = match source {
            LogSource::Log => "log",
            LogSource::Stdout => "stdout",
            LogSource::Stderr => "stderr",
        };
        let level = tell(grain, request, level, source, message);
        self.ring.lock().expect("no panic under this lock").push(LogRecord {
            number: 0,
            at_ms: wall_millis(),
            kind: grain.kind.as_str().to_owned(),
            key: grain.key.as_str().to_owned(),
            request: request.0,
            level: level.into(),
            source: source.into(),
            message: message.to_owned(),
        });
    }

    /// The next `most` records from number `after` on that pass the filter; without a number the last `most`.
    pub(crate) fn page(&self, filter: &LogFilter, after: Option<u64>, most: usize) -> RecordsPage {
        let ring = self.ring.lock().expect("no panic under this lock");
        match after {
            Some(after) => ring.following(filter, after, most),
            None => ring.last(filter, most),
        }
    }

    /// Records that are kept, and their bytes.
    pub(super) fn kept(&self) -> (usize, usize) {
        let ring = self.ring.lock().expect("no panic under this lock");
        (ring.kept.len(), ring.bytes)
    }
}

/// Into the host's log. Returns the level's name.
fn tell(grain: &GrainName, request: RequestId, level: LogLevel, source: &str, message: &str) -> &'static str {
    let (kind, key) = (grain.kind.as_str(), grain.key.as_str());
    macro_rules! record {
        ($level:ident) => {{
            tracing::$level!(target: "granary::guest", kind, key, %request, source, "{message}");
            stringify!($level)
        }};
    }
    match level {
        LogLevel::Trace => record!(trace),
        LogLevel::Debug => record!(debug),
        LogLevel::Info => record!(info),
        LogLevel::Warn => record!(warn),
        LogLevel::Error => record!(error),
    }
}

impl Ring {
    fn push(&mut self, mut record: LogRecord) {
        record.number = self.next;
        self.next += 1;
        self.bytes += record.bytes();
        self.kept.push_back(Arc::new(record));
        while self.kept.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.bytes();
        }
    }

    fn following(&self, filter: &LogFilter, after: u64, most: usize) -> RecordsPage {
        let oldest = self.next - self.kept.len() as u64;
        // A number that isn't of this start of the host is of one before, or the clock was set back: all is new then.
        let after = if (self.first..=self.next).contains(&after) {
            after
        } else {
            self.first
        };
        let lost = oldest.saturating_sub(after);
        let mut page = Gathered::new(most);
        let mut next = after.max(oldest);
        for record in self.kept.range((next - oldest) as usize..) {
            if filter.passes(record) && !page.takes(record) {
                break;
            }
            next = record.number + 1;
        }
        RecordsPage {
            records: page.records,
            next,
            lost,
        }
    }

    fn last(&self, filter: &LogFilter, most: usize) -> RecordsPage {
        let mut page = Gathered::new(most);
        let newest_first = self.kept.iter().rev().filter(|record| filter.passes(record));
        for record in newest_first {
            if !page.takes(record) {
                break;
            }
        }
        page.records.reverse();
        RecordsPage {
            records: page.records,
            next: self.next,
            lost: 0,
        }
    }
}

/// Records until there are enough.
struct Gathered {
    records: Vec<LogRecord>,
    bytes: usize,
    most: usize,
}

impl Gathered {
    fn new(most: usize) -> Gathered {
        Gathered {
            records: Vec::new(),
            bytes: 0,
            most,
        }
    }

    /// Adds a record, if it has room: the first one always has.
    fn takes(&mut self, record: &LogRecord) -> bool {
        let bytes = self.bytes + record.bytes();
        let has_room = self.records.len() < self.most && (bytes <= PAGE_BYTES || self.records.is_empty());
        if has_room {
            self.bytes = bytes;
            self.records.push(record.clone());
        }
        has_room
    }
}

impl LogFilter {
    fn passes(&self, record: &LogRecord) -> bool {
        let is_kind = self.kind.as_ref().is_none_or(|kind| kind.as_str() == record.kind);
        is_kind && self.key.as_ref().is_none_or(|key| key.as_str() == record.key)
    }
}

impl LogRecord {
    fn bytes(&self) -> usize {
        RECORD_BYTES + self.kind.len() + self.key.len() + self.message.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grain(key: &str) -> GrainName {
        GrainName::new(GrainType::new("x").unwrap(), GrainKey::new(key).unwrap())
    }

    fn write(records: &Records, key: &str, message: &str) {
        records.write(
            &grain(key),
            RequestId([7; 16]),
            LogLevel::Warn,
            LogSource::Stdout,
            message,
        );
    }

    fn messages(page: &RecordsPage) -> Vec<&str> {
        page.records.iter().map(|record| record.message.as_str()).collect()
    }

    #[test]
    fn the_last_ones_and_then_what_follows() {
        let records = Records::from(100);
        let all = LogFilter::default();
        assert_eq!(records.page(&all, None, 10).next, 100);
        for (key, message) in [("a", "1"), ("b", "2"), ("a", "3")] {
            write(&records, key, message);
        }
        let page = records.page(&all, None, 2);
        assert_eq!((messages(&page), page.next, page.lost), (vec!["2", "3"], 103, 0));
        assert_eq!((&*page.records[0].level, &*page.records[0].source), ("warn", "stdout"));
        assert!(records.page(&all, Some(103), 2).records.is_empty());
        let page = records.page(&all, Some(100), 2);
        assert_eq!((messages(&page), page.next), (vec!["1", "2"], 102));
        let of_a = LogFilter {
            key: Some(GrainKey::new("a").unwrap()),
            ..all
        };
        let page = records.page(&of_a, Some(100), 1);
        assert_eq!((messages(&page), page.next), (vec!["1"], 102));
        let page = records.page(&of_a, Some(page.next), 1);
        assert_eq!((messages(&page), page.next), (vec!["3"], 103));
        for foreign in [0, 99, 104, u64::MAX] {
            let page = records.page(&of_a, Some(foreign), 10);
            assert_eq!((messages(&page), page.next, page.lost), (vec!["1", "3"], 103, 0));
        }
    }

    #[test]
    fn what_is_dropped_is_counted_and_memory_is_bounded() {
        let records = Records::from(0);
        let all = LogFilter::default();
        for number in 0..KEPT + 5 {
            write(&records, "a", &number.to_string());
        }
        let page = records.page(&all, Some(2), 1);
        assert_eq!((messages(&page), page.next, page.lost), (vec!["5"], 6, 3));
        let long = "x".repeat(8 << 10);
        for _ in 0..KEPT {
            write(&records, "a", &long);
        }
        let (kept, bytes) = records.kept();
        assert!(bytes <= KEPT_BYTES && kept > 100, "{kept} records, {bytes} bytes");
        let page = records.page(&all, None, KEPT);
        assert!(page.records.len() * long.len() <= PAGE_BYTES && page.records.len() > 100);
    }
}
