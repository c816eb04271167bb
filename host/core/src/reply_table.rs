//! The replies that a grain keeps for calls which may come again.
//!
//! A call that carries a [`CallId`] leaves its reply in the callee's committed state: in the same commit as the call's
//! effect, so there is never one without the other. A repeat gets the stored reply and has no second effect. The window
//! in which that holds is bounded: [`AGE_LIMIT_MS`], [`CLIENT_LIMIT`] for each client, [`ENTRY_LIMIT`] and [`BYTE_LIMIT`]
//! for each grain; the oldest entries leave first.
//!
//! A table is a pure function of the replies that were put in, in order: replay and replicas reach the same one.
//!
//! Ages are by the table's own clock ([`TableTime`]), which runs while the grain is in memory and goes on at its newest reply when it's loaded
//! again, on whichever host. So no wall clock that was set, or differs from another host's, ends an entry early; what was loaded has
//! its whole window before it again.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::id::CallId;
use crate::time::Time;

/// How long a reply is kept: 10 minutes.
pub const AGE_LIMIT_MS: u64 = 10 * 60 * 1000;
/// Replies kept for one client: a client that never stops must not push out the others'.
pub const CLIENT_LIMIT: usize = 64;
/// Replies kept in one grain: bounds the search and the memory of a grain with many clients.
pub const ENTRY_LIMIT: usize = 1024;
/// Bytes kept in one grain, [`StoredReply::cost`] each: a grain's image carries the table.
pub const BYTE_LIMIT: usize = 64 * 1024;
/// A longer reply isn't stored, only that the call took place: one reply must not push out all others.
pub const REPLY_LIMIT: usize = 16 * 1024;

/// Milliseconds on a table's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableTime(pub u64);

/// A table's clock on the host that has loaded it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableClock {
    newest: TableTime,
    loaded: Time,
}

impl TableClock {
    /// The clock of a table that was loaded at `now`.
    pub fn start(table: &ReplyTable, now: Time) -> TableClock {
        TableClock {
            newest: table.entries.iter().map(|entry| entry.at).max().unwrap_or_default(),
            loaded: now,
        }
    }

    /// What it shows at `now`.
    pub fn at(self, now: Time) -> TableTime {
        TableTime(self.newest.0.saturating_add(now.nanos_since(self.loaded) / 1_000_000))
    }
}

/// What a method left: the outcomes that a turn commits with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The method's value as JSON.
    Value(Vec<u8>),
    /// The guest's own error: its value as JSON if it has one, a message, and the HTTP status that the guest chose.
    GuestError {
        /// The error's value as UTF-8 JSON.
        error: Option<Vec<u8>>,
        /// For a person.
        message: String,
        /// 400 to 599, if the guest chose one.
        status: Option<u16>,
    },
}

/// A reply that a repeated call gets instead of a second turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReply {
    /// The call.
    pub call: CallId,
    /// Hash of method and arguments: the same id with others is a client's mistake.
    pub fingerprint: [u8; 16],
    /// Who called, as a hash: for [`CLIENT_LIMIT`].
    pub client: u64,
    /// When the call's turn ended.
    pub at: TableTime,
    /// The reply; `None` when it was longer than [`REPLY_LIMIT`].
    pub outcome: Option<Outcome>,
}

impl StoredReply {
    /// What the entry counts for in [`BYTE_LIMIT`].
    pub fn cost(&self) -> usize {
        let text = match &self.outcome {
            None => 0,
            Some(Outcome::Value(value)) => value.len(),
            Some(Outcome::GuestError { error, message, .. }) => error.as_ref().map_or(0, Vec::len) + message.len(),
        };
        64 + text
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.call.0);
        out.extend_from_slice(&self.fingerprint);
        out.extend_from_slice(&self.client.to_le_bytes());
        put_varint(out, self.at.0);
        match &self.outcome {
            None => out.push(0),
            Some(Outcome::Value(value)) => {
                out.push(1);
                put_bytes(out, value);
            }
            Some(Outcome::GuestError { error, message, status }) => {
                out.push(2 + u8::from(error.is_some()));
                put_bytes(out, error.as_deref().unwrap_or_default());
                put_bytes(out, message.as_bytes());
                put_varint(out, status.unwrap_or(0));
            }
        }
    }

    /// Reads the stored form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<StoredReply, DecodeError> {
        let call = CallId(reader.array()?);
        let fingerprint = reader.array()?;
        let client = u64::from_le_bytes(reader.array()?);
        let at = TableTime(reader.varint()?);
        let outcome = match reader.byte()? {
            0 => None,
            1 => Some(Outcome::Value(reader.bytes()?.to_vec())),
            form @ (2 | 3) => {
                let error = reader.bytes()?.to_vec();
                let message = reader.text()?.to_owned();
                let status: u16 = reader.varint()?;
                Some(Outcome::GuestError {
                    error: (form == 3).then_some(error),
                    message,
                    status: (status != 0).then_some(status),
                })
            }
            _ => return Err(reader.error("0 to 3: the kind of a stored reply")),
        };
        Ok(StoredReply {
            call,
            fingerprint,
            client,
            at,
            outcome,
        })
    }
}

/// A grain's stored replies, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyTable {
    entries: VecDeque<Arc<StoredReply>>,
    bytes: usize,
}

impl ReplyTable {
    /// No replies.
    pub fn new() -> ReplyTable {
        ReplyTable::default()
    }

    /// Puts a reply in and drops what no longer fits, oldest first.
    pub fn insert(&mut self, reply: Arc<StoredReply>) {
        let now = reply.at;
        if self.entries.iter().filter(|entry| entry.client == reply.client).count() >= CLIENT_LIMIT
            && let Some(oldest) = self.entries.iter().position(|entry| entry.client == reply.client)
            && let Some(entry) = self.entries.remove(oldest)
        {
            self.bytes -= entry.cost();
        }
        self.bytes += reply.cost();
        self.entries.push_back(reply);
        while self.entries.len() > ENTRY_LIMIT
            || self.bytes > BYTE_LIMIT
            || self
                .entries
                .front()
                .is_some_and(|entry| now.0.saturating_sub(entry.at.0) > AGE_LIMIT_MS)
        {
            match self.entries.pop_front() {
                Some(entry) => self.bytes -= entry.cost(),
                None => break,
            }
        }
    }

    /// The reply that `call` left, if it's still kept. One older than [`AGE_LIMIT_MS`] at `now` isn't.
    pub fn find(&self, call: CallId, now: TableTime) -> Option<&Arc<StoredReply>> {
        self.entries
            .iter()
            .rev()
            .find(|entry| entry.call == call && now.0.saturating_sub(entry.at.0) <= AGE_LIMIT_MS)
    }

    /// The replies, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StoredReply>> {
        self.entries.iter()
    }

    /// How many replies are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the replies count for in [`BYTE_LIMIT`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.entries.len() as u64);
        self.entries.iter().for_each(|entry| entry.encode(out));
    }

    /// Reads the stored form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<ReplyTable, DecodeError> {
        let mut table = ReplyTable::new();
        for _ in 0..reader.varint::<u64>()? {
            table.insert(Arc::new(StoredReply::decode(reader)?));
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(call: u16, client: u64, at: u64, len: usize) -> Arc<StoredReply> {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&call.to_le_bytes());
        let outcome = Some(Outcome::Value(vec![b'1'; len]));
        Arc::new(StoredReply {
            call: CallId(id),
            fingerprint: [1; 16],
            client,
            at: TableTime(at),
            outcome,
        })
    }

    fn id(call: u16) -> CallId {
        reply(call, 0, 0, 0).call
    }

    /// Whatever the hosts' wall clocks say: an entry that was put in by one of them has its whole window after each load.
    #[test]
    fn ages_count_from_the_load_and_no_clock_of_a_host_is_asked() {
        let mut table = ReplyTable::new();
        // An earlier release dated replies by the wall clock, of a host whose clock was years ahead.
        table.insert(reply(1, 1, 4_000_000_000_000, 2));
        let minutes = |count: u64| Time(count * 60_000_000_000);
        let clock = TableClock::start(&table, minutes(5));
        assert!(table.find(id(1), clock.at(minutes(15))).is_some());
        assert!(table.find(id(1), clock.at(minutes(16))).is_none());
        let again = TableClock::start(&table, minutes(100));
        assert!(table.find(id(1), again.at(minutes(109))).is_some());
        let at = again.at(minutes(109)).0;
        table.insert(reply(2, 1, at, 2));
        assert_eq!(table.len(), 2, "the one before isn't pushed out by a load's length");
    }

    #[test]
    fn a_reply_is_found_until_it_is_too_old() {
        let mut table = ReplyTable::new();
        table.insert(reply(1, 1, 1000, 2));
        assert!(table.find(id(1), TableTime(1000 + AGE_LIMIT_MS)).is_some());
        assert!(table.find(id(1), TableTime(1001 + AGE_LIMIT_MS)).is_none());
        assert!(table.find(id(2), TableTime(1000)).is_none());
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nothing() {
        let mut table = ReplyTable::new();
        table.insert(reply(1, 1, 10 * AGE_LIMIT_MS, 2));
        table.insert(reply(2, 1, 1000, 2));
        for call in [1, 2] {
            assert!(table.find(id(call), TableTime(0)).is_some(), "call {call}");
            assert!(table.find(id(call), TableTime(1000)).is_some(), "call {call}");
        }
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(ReplyTable::decode(&mut Reader::new(&bytes)), Ok(table));
    }

    #[test]
    fn one_client_keeps_the_last_64_and_leaves_the_others_alone() {
        let mut table = ReplyTable::new();
        table.insert(reply(9999, 2, 0, 0));
        for call in 0..100 {
            table.insert(reply(call, 1, 0, 0));
        }
        assert_eq!(table.len(), CLIENT_LIMIT + 1);
        assert!(table.find(id(9999), TableTime(0)).is_some());
        assert!(table.find(id(35), TableTime(0)).is_none());
        assert!(table.find(id(36), TableTime(0)).is_some());
    }

    #[test]
    fn the_table_stays_within_its_bounds() {
        let mut table = ReplyTable::new();
        for call in 0..2000 {
            table.insert(reply(call, u64::from(call), 0, 0));
            assert!(table.len() <= ENTRY_LIMIT && table.bytes() <= BYTE_LIMIT);
        }
        assert_eq!(table.len(), ENTRY_LIMIT);
        for call in 0..50 {
            table.insert(reply(call, 5000 + u64::from(call), 0, REPLY_LIMIT));
            assert!(table.bytes() <= BYTE_LIMIT);
        }
        assert_eq!(table.bytes(), table.iter().map(|entry| entry.cost()).sum::<usize>());
    }

    #[test]
    fn the_stored_form_is_read_back() {
        let mut table = ReplyTable::new();
        table.insert(reply(1, 1, 10, 3));
        let error = Outcome::GuestError {
            error: Some(b"{}".to_vec()),
            message: "no".into(),
            status: Some(409),
        };
        table.insert(Arc::new(StoredReply {
            outcome: Some(error),
            ..(*reply(2, 1, 11, 0)).clone()
        }));
        table.insert(Arc::new(StoredReply {
            outcome: None,
            ..(*reply(3, 2, 12, 0)).clone()
        }));
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(ReplyTable::decode(&mut Reader::new(&bytes)), Ok(table));
    }
}
