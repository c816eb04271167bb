//! [`Heads`] with a copy beside them: every change goes into both, and a start compares the two.
//!
//! Each stored value ends with the round in which it was put (8 bytes, little-endian). With `E` the last round whose end is in the copy,
//! what a start may find in the store is:
//!
//! - a value of a round after `E`: of a round that was under way; the log still has all of it;
//! - a value of round `E` or before: then the copy has the key with the same round, or the store is stale;
//! - no value for a key that the copy has: then an unfinished round removed it, which the copy would know (removals are
//!   synced there before the store sees them), or the store has lost it.
//!
//! **Not here:** what is done about a store that isn't whole (`opening`).

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use granary_core::id::HostId;

use super::super::StorageError;
use super::super::files::Files;
use super::super::heads::{HeadChange, Heads};
use super::ballast::Ballast;
use super::copy::{self, Contents, Copy, Round};

/// Bytes by which the copy may grow beyond twice what's live before it's written anew.
const SLACK_BYTES: u64 = 16 << 20;
const ROUND_LEN: usize = 8;
const UNPOISONED: &str = "no thread panics while it holds the copy's lock";

/// See the module.
pub(crate) struct CopiedHeads {
    inner: Arc<dyn Heads>,
    files: Arc<dyn Files>,
    ballast: Arc<Ballast>,
    host: HostId,
    state: Mutex<State>,
}

struct State {
    copy: Copy,
    /// The round that's under way.
    round: Round,
    changed: bool,
    /// The copy is written anew when it's longer.
    limit: u64,
}

/// What a comparison of store and copy says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Keys that the copy has and the store has not, or has an older value of.
    pub(crate) stale: u64,
    /// Keys that the store should not have.
    pub(crate) risen: u64,
    /// The newest round in the store.
    pub(crate) newest: Round,
    /// Bytes of keys and values in the store.
    bytes: u64,
}

impl Comparison {
    /// Whether the store has all that it should.
    pub(crate) fn store_is_whole(&self) -> bool {
        self.stale == 0 && self.risen == 0
    }
}

impl CopiedHeads {
    /// Joins a store with the copy that it was compared with.
    pub(crate) fn resume(
        inner: Arc<dyn Heads>,
        files: Arc<dyn Files>,
        ballast: Arc<Ballast>,
        contents: &Contents,
        compared: &Comparison,
    ) -> Result<CopiedHeads, StorageError> {
        if !contents.clean || compared.newest > contents.ended {
            return CopiedHeads::anew(
                inner,
                files,
                ballast,
                contents.host,
                contents.ended.max(compared.newest),
            );
        }
        let copy = Copy::resume(&*files, contents)?;
        Ok(CopiedHeads {
            inner,
            files,
            ballast,
            host: contents.host,
            state: Mutex::new(State {
                copy,
                round: contents.ended + 1,
                changed: false,
                limit: 2 * compared.bytes + SLACK_BYTES,
            }),
        })
    }

    /// Makes a new copy of a store, whose newest round is `newest`.
    pub(crate) fn anew(
        inner: Arc<dyn Heads>,
        files: Arc<dyn Files>,
        ballast: Arc<Ballast>,
        host: HostId,
        newest: Round,
    ) -> Result<CopiedHeads, StorageError> {
        // What the copy says is in the store has to be on the disk there.
        inner.flush()?;
        let round = newest.max(1);
        let (copy, limit) = write_copy(&*inner, &*files, host, round)?;
        Ok(CopiedHeads {
            inner,
            files,
            ballast,
            host,
            state: Mutex::new(State {
                copy,
                round: round + 1,
                changed: false,
                limit,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

/// Writes the next copy from all that the store holds; returns it, and at which length it's time for another.
fn write_copy(inner: &dyn Heads, files: &dyn Files, host: HostId, round: Round) -> Result<(Copy, u64), StorageError> {
    let mut copy = Copy::create(files, copy::next_number(files)?, host)?;
    let mut failed: io::Result<()> = Ok(());
    inner.scan(Bound::Unbounded, &mut |key, value| {
        failed = copy.note(round, &(key.to_vec(), Some(value.to_vec())));
        failed.is_ok()
    })?;
    failed?;
    copy.sync(round)?;
    copy.end(round)?;
    copy.publish(files)?;
    copy.older(files)?.iter().try_for_each(|path| files.remove(path))?;
    let limit = 2 * copy.bytes() + SLACK_BYTES;
    Ok((copy, limit))
}

/// Reads the copy and compares the store with it.
pub(crate) fn compare(inner: &dyn Heads, files: &dyn Files) -> Result<(Contents, Comparison), StorageError> {
    let mut live: HashMap<u128, Round> = HashMap::new();
    // Keys that an unfinished round removed.
    let mut removing: HashSet<u128> = HashSet::new();
    let contents = copy::read(files, &mut |change| {
        let name = short(change.key);
        match (change.ended, change.value) {
            (true, Some(value)) => {
                live.insert(name, round_of(value).unwrap_or(0));
            }
            (true, None) => {
                live.remove(&name);
            }
            (false, None) => {
                removing.insert(name);
            }
            (false, Some(_)) => {}
        }
    })?;
    let mut compared = Comparison::default();
    inner.scan(Bound::Unbounded, &mut |key, value| {
        compared.bytes += (key.len() + value.len()) as u64;
        let expected = live.remove(&short(key));
        let round = round_of(value).unwrap_or(0);
        compared.newest = compared.newest.max(round);
        if round <= contents.ended {
            match expected {
                Some(expected) if expected != round => compared.stale += 1,
                None => compared.risen += 1,
                Some(_) => {}
            }
        }
        true
    })?;
    compared.stale += live.keys().filter(|name| !removing.contains(name)).count() as u64;
    Ok((contents, compared))
}

/// Puts all that the copy holds up to the end of its last round into an empty store.
pub(crate) fn restore(inner: &dyn Heads, files: &dyn Files) -> Result<Contents, StorageError> {
    const BATCH: usize = 1024;
    let mut failed: Result<(), StorageError> = Ok(());
    let mut batch: Vec<HeadChange> = Vec::new();
    let contents = copy::read(files, &mut |change| {
        if !change.ended || failed.is_err() {
            return;
        }
        batch.push((change.key.to_vec(), change.value.map(<[u8]>::to_vec)));
        if batch.len() >= BATCH {
            failed = inner.apply(std::mem::take(&mut batch));
        }
    })?;
    failed?;
    if !batch.is_empty() {
        inner.apply(batch)?;
    }
    inner.flush()?;
    Ok(contents)
}

/// Keys are compared by hash: a start must not hold a million names.
fn short(key: &[u8]) -> u128 {
    u128::from_le_bytes(blake3::hash(key).as_bytes()[..16].try_into().expect("16 bytes"))
}

pub(crate) fn round_of(value: &[u8]) -> Option<Round> {
    let (_, round) = value.split_last_chunk::<ROUND_LEN>()?;
    Some(u64::from_le_bytes(*round))
}

/// A value as it was put.
pub(crate) fn bare(value: &[u8]) -> &[u8] {
    &value[..value.len().saturating_sub(ROUND_LEN)]
}

pub(crate) fn with_round((key, value): HeadChange, round: Round) -> HeadChange {
    let value = value.map(|mut value| {
        value.extend_from_slice(&round.to_le_bytes());
        value
    });
    (key, value)
}

impl Heads for CopiedHeads {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.inner.value(key)?;
        Ok(value.map(|mut value| {
            value.truncate(bare(&value).len());
            value
        }))
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StorageError> {
        let mut state = self.lock();
        let round = state.start(&self.ballast);
        let (key, value) = with_round((key, Some(value)), round);
        let change = (key, value);
        state.copy.note(round, &change)?;
        self.inner.put(change.0, change.1.expect("just given"))
    }

    fn apply(&self, changes: Vec<HeadChange>) -> Result<(), StorageError> {
        let mut state = self.lock();
        let round = state.start(&self.ballast);
        let changes: Vec<_> = changes.into_iter().map(|change| with_round(change, round)).collect();
        for change in &changes {
            state.copy.note(round, change)?;
        }
        if changes.iter().any(|(_, value)| value.is_none()) {
            state.copy.sync(round)?;
        }
        self.inner.apply(changes)
    }

    fn flush(&self) -> Result<(), StorageError> {
        let mut state = self.lock();
        let round = state.round;
        if !state.changed {
            return self.inner.flush();
        }
        state.copy.sync(round)?;
        self.inner.flush()?;
        state.copy.end(round)?;
        state.changed = false;
        state.round += 1;
        if state.copy.bytes() > state.limit {
            (state.copy, state.limit) = write_copy(&*self.inner, &*self.files, self.host, round)?;
        }
        Ok(())
    }

    fn scan(&self, from: Bound<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.inner.scan(from, &mut |key, value| visit(key, bare(value)))
    }

    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes() + self.lock().copy.bytes()
    }

    fn syncs(&self) -> u64 {
        self.inner.syncs()
    }

    fn copies(&self) -> u64 {
        self.inner.copies()
    }
}

impl State {
    /// The round of a change that's about to be made.
    fn start(&mut self, ballast: &Ballast) -> Round {
        if !std::mem::replace(&mut self.changed, true) {
            ballast.relieve();
        }
        self.round
    }
}
