//! The replies that a grain keeps for calls which may come again.
//!
//! A call that carries a [`CallId`] leaves its reply in the callee's committed state: in the same commit as the call's
//! effect, so there is never one without the other. A repeat gets the stored reply and has no second effect.
//!
//! That holds for [`AGE_LIMIT_MS`] at least: **no reply is dropped for another one before that**. A table that has no room left says so
//! ([`ReplyTable::room`]), and the call isn't begun. [`ENTRY_LIMIT`] and [`BYTE_LIMIT`] bound each grain's table, [`CLIENT_LIMIT`] what one
//! client may have of it.
//!
//! A table is a pure function of the replies that were put in, in order: replay and replicas reach the same one.
//!
//! Ages are by the table's own clock ([`TableTime`]), which a host keeps by its monotonic clock while the grain is in its memory, and
//! beyond ([`absent`]). Where that isn't known, on another host or after a start, it goes on at its newest reply. So no wall clock that was
//! set, or differs from another host's, ends an entry early; what another host loads has its whole window before it again.

pub mod absent;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::api::Code;
use crate::codec::{DecodeError, Reader, put_bytes, put_varint};
use crate::id::CallId;
use crate::time::Time;

/// How long a reply is kept: 10 minutes.
pub const AGE_LIMIT_MS: u64 = 10 * 60 * 1000;
/// Replies kept in one grain: bounds the memory and the image of a grain with many clients.
pub const ENTRY_LIMIT: usize = 16 * 1024;
/// Replies kept for one client: one that never stops must leave room for the others.
pub const CLIENT_LIMIT: usize = ENTRY_LIMIT / 2;
/// Bytes kept in one grain, [`StoredReply::cost`] each: a grain's image carries the table.
pub const BYTE_LIMIT: usize = 4 * 1024 * 1024;
/// A longer reply isn't stored, only that the call took place: some hundreds of them would fill the table.
pub const REPLY_LIMIT: usize = 16 * 1024;

/// What an entry counts for besides its reply.
const ENTRY_COST: usize = 64;

/// Milliseconds on a table's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableTime(pub u64);

impl TableTime {
    /// What a clock shows that showed this at `then`.
    pub fn goes_on(self, then: Time, now: Time) -> TableTime {
        TableTime(self.0.saturating_add(now.nanos_since(then) / 1_000_000))
    }
}

/// A table's clock on the host that has loaded it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableClock {
    shown: TableTime,
    loaded: Time,
}

impl TableClock {
    /// The clock of a table that was loaded at `now`, when it showed this, if that's known.
    pub fn start(table: &ReplyTable, shown: Option<TableTime>, now: Time) -> TableClock {
        TableClock {
            shown: shown.unwrap_or_default().max(table.newest()),
            loaded: now,
        }
    }

    /// What it shows at `now`.
    pub fn at(self, now: Time) -> TableTime {
        self.shown.goes_on(self.loaded, now)
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
    /// The failure of a call that the method had made, which it passed on.
    PassedOn {
        /// Which failure.
        code: Code,
        /// For a person.
        message: String,
        /// The error's value as UTF-8 JSON, if it has one.
        error: Option<Vec<u8>>,
        /// The HTTP status, if it isn't the code's.
        status: Option<u16>,
    },
}

impl Outcome {
    /// Bytes of its texts.
    fn len(&self) -> usize {
        match self {
            Outcome::Value(value) => value.len(),
            Outcome::GuestError { error, message, .. } | Outcome::PassedOn { error, message, .. } => {
                error.as_ref().map_or(0, Vec::len) + message.len()
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Value(value) => {
                out.push(1);
                put_bytes(out, value);
            }
            Outcome::GuestError { error, message, status } => {
                out.push(2 + u8::from(error.is_some()));
                put_failure(out, error.as_deref(), message, *status);
            }
            Outcome::PassedOn {
                code,
                message,
                error,
                status,
            } => {
                out.push(4 + u8::from(error.is_some()));
                put_bytes(out, code.as_str().as_bytes());
                put_failure(out, error.as_deref(), message, *status);
            }
        }
    }

    /// Reads the stored form; `None` of a reply that wasn't kept.
    fn decode(reader: &mut Reader<'_>) -> Result<Option<Outcome>, DecodeError> {
        let outcome = match reader.byte()? {
            0 => return Ok(None),
            1 => Outcome::Value(reader.bytes()?.to_vec()),
            form @ (2 | 3) => {
                let (error, message, status) = failure(reader, form == 3)?;
                Outcome::GuestError { error, message, status }
            }
            form @ (4 | 5) => {
                let code = Code::from_word(reader.text()?).ok_or_else(|| reader.error("the word of a failure"))?;
                let (error, message, status) = failure(reader, form == 5)?;
                Outcome::PassedOn {
                    code,
                    message,
                    error,
                    status,
                }
            }
            _ => return Err(reader.error("0 to 5: the kind of a stored reply")),
        };
        Ok(Some(outcome))
    }
}

fn put_failure(out: &mut Vec<u8>, error: Option<&[u8]>, message: &str, status: Option<u16>) {
    put_bytes(out, error.unwrap_or_default());
    put_bytes(out, message.as_bytes());
    put_varint(out, status.unwrap_or(0));
}

/// A failure's value, message and status.
type Failure = (Option<Vec<u8>>, String, Option<u16>);

fn failure(reader: &mut Reader<'_>, has_error: bool) -> Result<Failure, DecodeError> {
    let error = reader.bytes()?.to_vec();
    let message = reader.text()?.to_owned();
    let status: u16 = reader.varint()?;
    Ok((has_error.then_some(error), message, (status != 0).then_some(status)))
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
        ENTRY_COST + self.outcome.as_ref().map_or(0, Outcome::len)
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.call.0);
        out.extend_from_slice(&self.fingerprint);
        out.extend_from_slice(&self.client.to_le_bytes());
        put_varint(out, self.at.0);
        match &self.outcome {
            None => out.push(0),
            Some(outcome) => outcome.encode(out),
        }
    }

    /// Reads the stored form.
    pub fn decode(reader: &mut Reader<'_>) -> Result<StoredReply, DecodeError> {
        let call = CallId(reader.array()?);
        let fingerprint = reader.array()?;
        let client = u64::from_le_bytes(reader.array()?);
        let at = TableTime(reader.varint()?);
        let outcome = Outcome::decode(reader)?;
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
    /// The newest of each call.
    by_call: BTreeMap<CallId, Arc<StoredReply>>,
    /// How many each client has.
    by_client: BTreeMap<u64, usize>,
    bytes: usize,
}

/// What a table has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// One more reply of anybody.
    Table,
    /// One more of this client.
    Client,
}

impl ReplyTable {
    /// No replies.
    pub fn new() -> ReplyTable {
        ReplyTable::default()
    }

    /// Whether the reply to one more call of this client would find room at `now`, however long it is.
    pub fn room(&self, client: u64, now: TableTime) -> Result<(), NoRoom> {
        let of_client = self.by_client.get(&client).copied().unwrap_or(0);
        let is_full = |entries, bytes| entries >= ENTRY_LIMIT || bytes + REPLY_LIMIT > BYTE_LIMIT;
        if !is_full(self.len(), self.bytes) && of_client < CLIENT_LIMIT {
            return Ok(());
        }
        // What is too old leaves when the reply is put in.
        let (mut entries, mut bytes, mut of_client) = (self.len(), self.bytes, of_client);
        for entry in self.entries.iter().take_while(|entry| is_over(entry, now)) {
            entries -= 1;
            bytes -= entry.cost();
            of_client -= usize::from(entry.client == client);
        }
        if is_full(entries, bytes) {
            Err(NoRoom::Table)
        } else if of_client >= CLIENT_LIMIT {
            Err(NoRoom::Client)
        } else {
            Ok(())
        }
    }

    /// Puts a reply in, and drops those that are too old by then.
    pub fn insert(&mut self, reply: Arc<StoredReply>) {
        let now = reply.at;
        self.bytes += reply.cost();
        *self.by_client.entry(reply.client).or_default() += 1;
        self.by_call.insert(reply.call, reply.clone());
        self.entries.push_back(reply);
        while let Some(entry) = self.entries.pop_front_if(|entry| is_over(entry, now)) {
            self.forget(&entry);
        }
    }

    /// An entry has left.
    fn forget(&mut self, entry: &Arc<StoredReply>) {
        self.bytes -= entry.cost();
        if let Some(count) = self.by_client.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&entry.client);
            }
        }
        // The call may have been made again since.
        if self
            .by_call
            .get(&entry.call)
            .is_some_and(|newest| Arc::ptr_eq(newest, entry))
        {
            self.by_call.remove(&entry.call);
        }
    }

    /// The reply that `call` left, if it's still kept. One older than [`AGE_LIMIT_MS`] at `now` isn't.
    pub fn find(&self, call: CallId, now: TableTime) -> Option<&Arc<StoredReply>> {
        self.by_call.get(&call).filter(|entry| !is_over(entry, now))
    }

    /// When its newest reply was put in.
    pub fn newest(&self) -> TableTime {
        self.entries.iter().map(|entry| entry.at).max().unwrap_or_default()
    }

    /// Whether a repeat could get any of its replies at `now`.
    pub fn is_needed(&self, now: TableTime) -> bool {
        self.entries.iter().any(|entry| !is_over(entry, now))
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

fn is_over(entry: &StoredReply, now: TableTime) -> bool {
    now.0.saturating_sub(entry.at.0) > AGE_LIMIT_MS
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
        let clock = TableClock::start(&table, None, minutes(5));
        assert!(table.find(id(1), clock.at(minutes(15))).is_some());
        assert!(table.find(id(1), clock.at(minutes(16))).is_none());
        let again = TableClock::start(&table, None, minutes(100));
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
    fn a_reply_in_its_window_is_dropped_for_no_other_one() {
        let mut table = ReplyTable::new();
        for call in 0..5000 {
            assert_eq!(table.room(1, TableTime(0)), Ok(()));
            table.insert(reply(call, 1, 0, 0));
        }
        assert!((0..5000).all(|call| table.find(id(call), TableTime(AGE_LIMIT_MS)).is_some()));
    }

    #[test]
    fn a_client_that_never_stops_leaves_room_for_the_others() {
        let mut table = ReplyTable::new();
        let mut calls = 0..;
        while table.room(1, TableTime(0)).is_ok() {
            table.insert(reply(calls.next().unwrap(), 1, 0, 0));
        }
        assert_eq!(
            (table.len(), table.room(1, TableTime(0))),
            (CLIENT_LIMIT, Err(NoRoom::Client))
        );
        while table.room(2, TableTime(0)).is_ok() {
            table.insert(reply(calls.next().unwrap(), 2, 0, 0));
        }
        assert_eq!(
            (table.len(), table.room(3, TableTime(0))),
            (ENTRY_LIMIT, Err(NoRoom::Table))
        );
    }

    #[test]
    fn a_table_has_room_for_the_longest_reply_or_says_that_it_has_none() {
        let mut table = ReplyTable::new();
        let longest = REPLY_LIMIT - ENTRY_COST;
        for call in 0.. {
            if table.room(1, TableTime(0)).is_err() {
                break;
            }
            table.insert(reply(call, 1, 0, longest));
            assert!(table.bytes() <= BYTE_LIMIT);
        }
        assert_eq!(table.len(), BYTE_LIMIT / REPLY_LIMIT);
        assert_eq!(table.bytes(), table.iter().map(|entry| entry.cost()).sum::<usize>());
    }

    #[test]
    fn what_is_too_old_makes_room() {
        let mut table = ReplyTable::new();
        (0..CLIENT_LIMIT as u16).for_each(|call| table.insert(reply(call, 1, u64::from(call), 0)));
        assert_eq!(table.room(1, TableTime(AGE_LIMIT_MS)), Err(NoRoom::Client));
        let later = AGE_LIMIT_MS + 1;
        assert_eq!(table.room(1, TableTime(later)), Ok(()));
        table.insert(reply(0, 1, later, 0));
        assert_eq!(table.len(), CLIENT_LIMIT, "the first has left, and is there anew");
        assert_eq!(table.find(id(0), TableTime(later)).unwrap().at, TableTime(later));
        table.insert(reply(9999, 2, later + AGE_LIMIT_MS, 0));
        assert_eq!((table.len(), table.by_client.len(), table.by_call.len()), (2, 2, 2));
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
        let passed_on = Outcome::PassedOn {
            code: Code::Deadlock,
            message: "they wait for each other".into(),
            error: None,
            status: None,
        };
        table.insert(Arc::new(StoredReply {
            outcome: Some(passed_on),
            ..(*reply(4, 1, 11, 0)).clone()
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
