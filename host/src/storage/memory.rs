//! A storage that keeps everything in memory: for tests, and for measuring what a host does without a disk.
//!
//! It passes the same suite as the one on disk. Commits are "durable" as soon as its thread has told the sink so, never
//! within an append: a host that works on it doesn't rely on an order that a disk wouldn't keep.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;

use granary_core::commit::{Change, Commit, NOTHING};
use granary_core::id::{GrainKey, GrainName, GrainType, HostId, Lsn, ModuleHash, Revision};

use super::grains::{apply, merged};
use super::{
    Appended, Before, DurableSink, Listing, ModuleRecord, Storage, StorageError, StorageStats, Stored, StoredHead,
};

/// A grain's deltas are merged when there are so many.
const PARTS_LIMIT: usize = 64;
const UNPOISONED: &str = "no thread panics while it holds the memory storage's lock";

/// See the module.
pub struct MemoryStorage {
    shared: Arc<Shared>,
    teller: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    sink: OnceLock<Arc<dyn DurableSink>>,
}

#[derive(Default)]
struct State {
    grains: BTreeMap<GrainName, Stored>,
    /// States from before the last commit of grains that it moved to another module.
    before: HashMap<GrainName, Before>,
    modules: HashMap<ModuleHash, Vec<u8>>,
    revisions: Vec<ModuleRecord>,
    currents: BTreeMap<GrainType, Revision>,
    last: Lsn,
    durable: Lsn,
    bytes: u64,
    stopping: bool,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Arc<MemoryStorage> {
        let shared = Arc::new(Shared::default());
        let teller = Arc::clone(&shared);
        let teller = std::thread::spawn(move || teller.tell());
        Arc::new(MemoryStorage {
            shared,
            teller: Mutex::new(Some(teller)),
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }

    /// Tells the sink of new commits until stopped.
    fn tell(&self) {
        let mut state = self.lock();
        loop {
            if state.durable < state.last {
                state.durable = state.last;
                let upto = state.durable;
                drop(state);
                self.changed.notify_all();
                if let Some(sink) = self.sink.get() {
                    sink.durable(upto);
                }
                state = self.lock();
            } else if state.stopping {
                return;
            } else {
                state = self.changed.wait(state).expect(UNPOISONED);
            }
        }
    }
}

impl Storage for MemoryStorage {
    fn host(&self) -> HostId {
        HostId([0; 16])
    }

    fn incarnation(&self) -> u32 {
        1
    }

    fn admit(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn append(&self, commit: &Commit) -> Appended {
        let mut encoded = Vec::new();
        commit.encode(&mut encoded);
        let hash = Commit::hash(&encoded);
        let mut state = self.shared.lock();
        assert!(!state.stopping, "nothing is appended to a closed storage");
        let mut stored = state.grains.get(&commit.grain).cloned();
        let (seq, prev_hash) = stored
            .as_ref()
            .map_or((0, NOTHING), |stored| (stored.head.seq.0, stored.head.hash));
        let copies = matches!(commit.change, Change::Whole { .. });
        if !copies && (commit.seq.0 != seq + 1 || commit.prev_hash != prev_hash) {
            drop(state);
            panic!(
                "commit {} of {} doesn't follow commit {seq}",
                commit.seq.0, commit.grain
            );
        }
        let lsn = Lsn(state.last.0 + 1);
        state.last = lsn;
        state.bytes += encoded.len() as u64;
        state.grains.remove(&commit.grain);
        match apply(&mut stored, commit.clone(), hash) {
            Some(before) => state.before.insert(commit.grain.clone(), before),
            None => state.before.remove(&commit.grain),
        };
        if let Some(mut stored) = stored.filter(|stored| !stored.head.is_nothing()) {
            stored.lsn = lsn;
            if stored.parts.len() > PARTS_LIMIT {
                stored.parts = vec![merged(&stored.parts)];
            }
            state.grains.insert(commit.grain.clone(), stored);
        }
        drop(state);
        self.shared.changed.notify_all();
        Appended {
            lsn,
            hash,
            bytes: encoded.len(),
        }
    }

    fn set_sink(&self, sink: Arc<dyn DurableSink>) {
        // Only the first counts, as with every storage.
        self.shared.sink.set(sink).ok();
    }

    fn durable(&self) -> Lsn {
        self.shared.lock().durable
    }

    fn is_writing(&self) -> bool {
        let state = self.shared.lock();
        state.durable < state.last
    }

    fn settle(&self) -> bool {
        let mut state = self.shared.lock();
        while state.durable < state.last {
            state = self.shared.changed.wait(state).expect(UNPOISONED);
        }
        true
    }

    fn load(&self, grain: &GrainName) -> Result<Option<Stored>, StorageError> {
        Ok(self.shared.lock().grains.get(grain).cloned())
    }

    fn head(&self, grain: &GrainName) -> Result<Option<StoredHead>, StorageError> {
        let state = self.shared.lock();
        Ok(state.grains.get(grain).map(Stored::stored_head))
    }

    fn load_before(&self, grain: &GrainName) -> Result<Option<Before>, StorageError> {
        Ok(self.shared.lock().before.get(grain).cloned())
    }

    fn list(
        &self,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> Result<Listing, StorageError> {
        let start = GrainKey::new(if prefix.is_empty() { "\0" } else { prefix });
        // No key is that long, so none starts with it.
        let Ok(start) = start else {
            return Ok(Listing::default());
        };
        let from = match after {
            Some(after) if *after >= start => Bound::Excluded(after.clone()),
            _ => Bound::Included(start),
        };
        let from = from.map(|key| GrainName::new(kind.clone(), key));
        let state = self.shared.lock();
        let names = state.grains.range((from, Bound::Unbounded));
        let names = names.take_while(|(name, _)| name.kind == *kind && name.key.as_str().starts_with(prefix));
        let mut keys = names
            .filter(|(_, stored)| stored.exists())
            .map(|(name, _)| name.key.clone());
        let page: Vec<_> = keys.by_ref().take(limit).collect();
        let more = keys.next().is_some();
        Ok(Listing { keys: page, more })
    }

    fn each(&self, visit: &mut dyn FnMut(GrainName, StoredHead)) -> Result<(), StorageError> {
        let state = self.shared.lock();
        let grains = state.grains.iter();
        grains.for_each(|(name, stored)| visit(name.clone(), stored.stored_head()));
        Ok(())
    }

    fn forget_deleted(&self) -> Result<(), StorageError> {
        self.shared.lock().grains.retain(|_, stored| !stored.deleted);
        Ok(())
    }

    fn put_module(&self, bytes: &[u8]) -> Result<ModuleHash, StorageError> {
        let module = ModuleHash(*blake3::hash(bytes).as_bytes());
        self.shared.lock().modules.insert(module, bytes.to_vec());
        Ok(module)
    }

    fn module(&self, module: &ModuleHash) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.shared.lock().modules.get(module).cloned())
    }

    fn put_revision(&self, record: &ModuleRecord) -> Result<(), StorageError> {
        let mut state = self.shared.lock();
        if !state.modules.contains_key(&record.module) {
            return Err(StorageError::NoModule(record.module));
        }
        state
            .revisions
            .retain(|other| (&other.kind, other.revision) != (&record.kind, record.revision));
        state.revisions.push(record.clone());
        state
            .revisions
            .sort_by(|a, b| (&a.kind, a.revision).cmp(&(&b.kind, b.revision)));
        state.currents.insert(record.kind.clone(), record.revision);
        Ok(())
    }

    fn switch(&self, kind: &GrainType, revision: Revision) -> Result<(), StorageError> {
        let mut state = self.shared.lock();
        let mut records = state.revisions.iter();
        if !records.any(|record| (&record.kind, record.revision) == (kind, revision)) {
            return Err(StorageError::NoRevision(kind.clone(), revision));
        }
        state.currents.insert(kind.clone(), revision);
        Ok(())
    }

    fn revisions(&self) -> Result<Vec<ModuleRecord>, StorageError> {
        Ok(self.shared.lock().revisions.clone())
    }

    fn currents(&self) -> Result<Vec<(GrainType, Revision)>, StorageError> {
        let state = self.shared.lock();
        let currents = state.currents.iter();
        Ok(currents.map(|(kind, revision)| (kind.clone(), *revision)).collect())
    }

    fn stats(&self) -> StorageStats {
        let state = self.shared.lock();
        StorageStats {
            appends: state.last.0,
            append_bytes: state.bytes,
            dirty_grains: state.grains.len() as u64,
            before_images: state.before.len() as u64,
            ..StorageStats::default()
        }
    }

    fn close(&self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        let teller = self.teller.lock().expect(UNPOISONED).take();
        if let Some(teller) = teller {
            // A sink that panicked has said so.
            teller.join().ok();
        }
    }
}

impl Drop for MemoryStorage {
    fn drop(&mut self) {
        self.close();
    }
}
