//! The commit log: one prefix-durable order of records.
//!
//! [`CommitLog::append`] gives a record its place and its final position on the disk, and copies it into the group that the
//! writer thread takes next. The writer writes one group at a time, syncs, and reports; while it syncs, the next group
//! fills: the more wait, the more share a sync (group commit, DeWitt et al. 1984; when one is worth a sync: `company`). A group is never started
//! before the one before it is durable. So whatever sound group is found behind a bad one proves that the bad one was once
//! durable, and damage is told from a torn tail.
//!
//! Segments are used in the order of their incarnations and freed oldest first. Three threads touch a log besides its callers:
//! the writer, the one that prepares spare segments, and the checkpointer, which frees.
//!
//! **Not here:** which grain a record belongs to (`index`), what a record says (`granary_core::commit`).

mod company;
mod format;
pub(super) mod fuzzing;
mod group;
mod read;
pub(crate) mod register;
mod replay;
pub(crate) mod salvage;
mod scan;
mod segment;
mod spare;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;

use granary_core::id::Lsn;

pub(crate) use self::format::Incarnation;
use self::format::{BODY_START, GROUP_HEADER_LEN, record_header, record_len};
use self::group::{Group, Written};
pub(crate) use self::read::Records;
use self::register::Register;
pub(crate) use self::replay::Replayed;
pub(crate) use self::segment::Hold;
pub(crate) use self::segment::LOG_DIR;
use self::segment::{Nonces, Segment};
use crate::storage::config::StorageConfig;
use crate::storage::fatal::Fatal;
use crate::storage::files::Files;
use crate::storage::{DurableSink, StorageError};
use crate::threads;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) lsn: Lsn,
    /// The use of the segment that it's in.
    pub(crate) incarnation: Incarnation,
    /// Where its header starts in the segment's file.
    pub(crate) offset: u32,
    /// Bytes of its body.
    pub(crate) len: u32,
}

/// What [`CommitLog::append`] returns.
pub(crate) struct Placed {
    pub(crate) position: Position,
    /// Whether it is the first in its segment.
    pub(crate) rolled: bool,
    /// To be dropped when the position is in the index.
    pub(crate) hold: Hold,
}

/// The log of one data folder.
pub(crate) struct CommitLog {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the log's threads share.
struct Shared {
    files: Arc<dyn Files>,
    register: Register,
    fatal: Fatal,
    nonces: Nonces,
    segment_bytes: u32,
    report_before_sync: bool,
    state: Mutex<State>,
    /// The writer waits here for records.
    work: Condvar,
    /// The preparer waits here for a segment to be taken.
    taken: Condvar,
    /// [`CommitLog::drain`] waits here.
    progress: Condvar,
    sink: OnceLock<Arc<dyn DurableSink>>,
    durable: AtomicU64,
    pending_bytes: AtomicUsize,
    live_bytes: AtomicU64,
    groups: AtomicU64,
}

/// What the lock protects. It's held for a record's copy at most, never over I/O.
struct State {
    next_lsn: Lsn,
    next_incarnation: Incarnation,
    next_file: u64,
    /// The segments that hold records, the one that is being filled included.
    live: BTreeMap<Incarnation, Arc<Segment>>,
    /// The newest incarnation that holds or held records. A segment that is being freed is in `live` no more, but a crash may find
    /// its records still there: what is written next must come behind them all the same.
    newest: Incarnation,
    /// The segment that is being filled. All others in `live` are sealed.
    tail: Option<Arc<Segment>>,
    /// Prepared segments, to be used from the front.
    free: VecDeque<Arc<Segment>>,
    /// Groups that the writer hasn't taken, oldest first. The last one is open while the tail has room.
    groups: VecDeque<Group>,
    /// The group that the writer is writing.
    writing: Option<Arc<Written>>,
    /// A buffer of a written group, for the next one.
    buffer: Vec<u8>,
    writer_waits: WriterWaits,
    stopping: bool,
    /// The disk failed: nothing becomes durable any more.
    dead: bool,
}

/// What the writer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriterWaits {
    Not,
    ForRecords,
    /// For a time, and for more records.
    ForCompany,
}

impl CommitLog {
    /// Opens the log in the folder, hands every record that's there to `visit`, and starts the threads.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        config: &StorageConfig,
        fatal: Fatal,
        visit: &mut dyn FnMut(Replayed<'_>) -> Result<(), StorageError>,
    ) -> Result<CommitLog, StorageError> {
        let nonces = Nonces::draw()?;
        let found = replay::replay(&*files, config, visit)?;
        let live_bytes = found.live.values().map(|segment| segment.live_bytes()).sum();
        let shared = Arc::new(Shared {
            register: Register::new(Arc::clone(&files), found.registered),
            files,
            fatal,
            nonces,
            segment_bytes: config.segment_bytes,
            report_before_sync: config.sabotage.report_before_sync,
            durable: AtomicU64::new(found.next_lsn.0 - 1),
            state: Mutex::new(State {
                next_lsn: found.next_lsn,
                next_incarnation: found.next_incarnation,
                next_file: found.next_file,
                newest: found.live.last_key_value().map_or(0, |(incarnation, _)| *incarnation),
                live: found.live,
                tail: found.tail,
                free: found.free,
                groups: VecDeque::new(),
                writing: None,
                buffer: Vec::new(),
                writer_waits: WriterWaits::Not,
                stopping: false,
                dead: false,
            }),
            work: Condvar::new(),
            taken: Condvar::new(),
            progress: Condvar::new(),
            sink: OnceLock::new(),
            pending_bytes: AtomicUsize::new(0),
            live_bytes: AtomicU64::new(live_bytes),
            groups: AtomicU64::new(0),
        });
        let log = CommitLog {
            shared: Arc::clone(&shared),
            threads: Mutex::new(Vec::new()),
        };
        log.spawn("log-writer", writer::run)?;
        log.spawn("log-spares", spare::run)?;
        Ok(log)
    }

    fn spawn(&self, name: &'static str, run: fn(&Shared)) -> Result<(), StorageError> {
        let shared = Arc::clone(&self.shared);
        let thread = threads::start(name, move || run(&shared))?;
        self.threads.lock().expect(UNPOISONED).push(thread);
        Ok(())
    }

    /// Sets who hears of durability; only the first call counts.
    pub(crate) fn set_sink(&self, sink: Arc<dyn DurableSink>) {
        // A second sink would be a mistake of the host's start, not of a grain: the first goes on hearing.
        self.shared.sink.set(sink).ok();
    }

    /// Puts a record behind all others. `hash` is the commit's.
    pub(crate) fn append(&self, body: &[u8], hash: &[u8; 16]) -> Placed {
        let len = u32::try_from(body.len()).expect("a commit holds one memory at most, which is far below 4 GiB");
        let header = record_header(len, hash);
        let need = record_len(body.len());
        let mut state = self.shared.lock();
        assert!(!state.stopping, "nothing is appended to a closed log");
        let rolled = state.make_room(&self.shared, need);
        let lsn = state.next_lsn;
        state.next_lsn = Lsn(lsn.0 + 1);
        let group = state.groups.back_mut().expect("make_room leaves an open group");
        let segment = Arc::clone(&group.segment);
        let offset = group.push(&header, body);
        let size = group.size();
        segment.set_used(u64::from(offset) + need as u64);
        let hold = segment.hold();
        self.shared.pending_bytes.fetch_add(need, Ordering::Relaxed);
        self.shared.live_bytes.fetch_add(need as u64, Ordering::Relaxed);
        let wake = match state.writer_waits {
            WriterWaits::Not => false,
            WriterWaits::ForRecords => true,
            WriterWaits::ForCompany => rolled || size.is_enough(self.shared.in_flight()),
        };
        if wake {
            state.writer_waits = WriterWaits::Not;
        }
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
        let position = Position {
            lsn,
            incarnation: segment.incarnation(),
            offset,
            len,
        };
        Placed { position, rolled, hold }
    }

    /// Up to which place all is durable.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.shared.durable.load(Ordering::Acquire))
    }

    /// Bytes of records that aren't durable.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.shared.pending_bytes.load(Ordering::Relaxed)
    }

    /// Bytes in segments that aren't freed.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.shared.live_bytes.load(Ordering::Relaxed)
    }

    /// Groups written since the start.
    pub(crate) fn groups(&self) -> u64 {
        self.shared.groups.load(Ordering::Relaxed)
    }

    /// Waits until everything appended is durable. False when the disk failed.
    pub(crate) fn drain(&self) -> bool {
        let mut state = self.shared.lock();
        while !state.dead && self.durable().0 + 1 < state.next_lsn.0 {
            state = self.shared.progress.wait(state).expect(UNPOISONED);
        }
        !state.dead
    }

    /// Seals the segment that is being filled: the next record goes to another.
    pub(crate) fn seal(&self) {
        let mut state = self.shared.lock();
        if state.tail.as_ref().is_some_and(|tail| tail.live_bytes() > 0) {
            state.tail = None;
        }
    }

    /// The sealed segments with the bytes of records in each, oldest first.
    pub(crate) fn sealed(&self) -> Vec<(Incarnation, u64)> {
        let state = self.shared.lock();
        let tail = state.tail.as_ref().map(|tail| tail.incarnation());
        let sealed = state
            .live
            .values()
            .filter(|segment| Some(segment.incarnation()) != tail);
        sealed
            .map(|segment| (segment.incarnation(), segment.live_bytes()))
            .collect()
    }

    /// Waits until all records of a sealed segment are durable and in the index. False when the disk failed.
    pub(crate) fn settle(&self, incarnation: Incarnation) -> bool {
        let mut state = self.shared.lock();
        let Some(segment) = state.live.get(&incarnation).map(Arc::clone) else {
            return true;
        };
        while !state.dead && state.is_unwritten(incarnation) {
            state = self.shared.progress.wait(state).expect(UNPOISONED);
        }
        let dead = state.dead;
        drop(state);
        // An append is between two short critical sections: it can't be long.
        while segment.is_held() {
            std::thread::yield_now();
        }
        !dead
    }

    /// Frees the oldest segment, whose records are all in durable images, for its next use.
    pub(crate) fn free(&self, incarnation: Incarnation) -> Result<(), StorageError> {
        let segment = {
            let mut state = self.shared.lock();
            let (oldest, _) = state.live.first_key_value().expect("a freed segment is live");
            assert_eq!(*oldest, incarnation, "segments are freed oldest first");
            state.live.remove(&incarnation).expect("it is the first")
        };
        self.shared
            .live_bytes
            .fetch_sub(segment.live_bytes(), Ordering::Relaxed);
        self.shared.recycle(&segment)?;
        Ok(())
    }

    /// Stops the threads. What isn't written by now is lost, unless [`CommitLog::drain`] came before.
    pub(crate) fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        self.shared.taken.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().expect(UNPOISONED));
        for thread in threads {
            // A thread that panicked has said so; the log is as stopped as it can be.
            thread.join().ok();
        }
    }
}

impl Drop for CommitLog {
    /// Also when a start fails after the log was opened: its threads must not outlive it.
    fn drop(&mut self) {
        self.stop();
    }
}

const UNPOISONED: &str = "no thread panics while it holds the log's lock";

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// Calls that are worked on: some of their commits may be on their way here.
    fn in_flight(&self) -> usize {
        self.sink.get().map_or(0, |sink| sink.in_flight())
    }

    /// Ends the process, or in tests marks the log as dead.
    fn die(&self, reason: &str) {
        (self.fatal)(reason);
        self.lock().dead = true;
        self.progress.notify_all();
    }
}

impl State {
    /// Makes sure that the last group is open and has room for `need` bytes. True when a new segment had to be taken.
    fn make_room(&mut self, shared: &Shared, need: usize) -> bool {
        let room = |tail: &Arc<Segment>| tail.header.file_len - tail.used();
        if let (Some(tail), Some(open)) = (&self.tail, self.groups.back())
            && Arc::ptr_eq(tail, &open.segment)
            && room(tail) >= need as u64
        {
            return false;
        }
        let with_header = need + GROUP_HEADER_LEN;
        let fits = self.tail.as_ref().is_some_and(|tail| room(tail) >= with_header as u64);
        if !fits {
            self.take_segment(shared, with_header);
        }
        let tail = self.tail.as_ref().expect("just taken");
        let buffer = std::mem::take(&mut self.buffer);
        let start = tail.used();
        tail.set_used(start + GROUP_HEADER_LEN as u64);
        shared.live_bytes.fetch_add(GROUP_HEADER_LEN as u64, Ordering::Relaxed);
        self.groups
            .push_back(Group::new(Arc::clone(tail), start, self.next_lsn, buffer));
        !fits
    }

    /// Seals the tail and takes the next segment, one that the writer still has to make when none is prepared.
    fn take_segment(&mut self, shared: &Shared, need: usize) {
        let file_len = u64::from(BODY_START) + need as u64;
        let segment = if file_len > u64::from(shared.segment_bytes) {
            self.plan(shared, file_len)
        } else if let Some(segment) = self.take_free(shared) {
            segment
        } else {
            self.plan(shared, u64::from(shared.segment_bytes))
        };
        shared.taken.notify_one();
        self.newest = segment.incarnation();
        self.live.insert(segment.incarnation(), Arc::clone(&segment));
        self.tail = Some(segment);
    }

    /// Whether a record of this segment isn't durable.
    fn is_unwritten(&self, incarnation: Incarnation) -> bool {
        let writing = self
            .writing
            .as_ref()
            .is_some_and(|group| group.segment.incarnation() == incarnation);
        writing
            || self
                .groups
                .iter()
                .any(|group| group.segment.incarnation() == incarnation)
    }
}
