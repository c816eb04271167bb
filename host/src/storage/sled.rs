//! The storage of a host: the commit log in front, sled and image files behind it.
//!
//! ```text
//! append -> log (durable after one sync for all that wait) -> index
//! load   <- index, then snapshot store and image files, then log
//! checkpoint: log -> image files, snapshot store -> index forgets -> log segments are free
//! ```
//!
//! ```text
//! lock, identity    which host, which start, and that it's the only one
//! log/              segments of the commit log
//! snapshots/        sled: heads, short images, revisions
//! images/           longer images
//! modules/          modules' bytes by hash
//! ```
//!
//! **Not here:** any of the parts; this joins them, starts their threads in order and stops them in reverse.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use granary_core::commit::{Change, Commit};
use granary_core::id::{GrainKey, GrainName, GrainType, HostId, Lsn, ModuleHash, Revision};

use super::checkpoint::Checkpointer;
use super::config::StorageConfig;
use super::fatal::{Fatal, end_process};
use super::files::{Files, RealFiles};
use super::grains::Sources;
use super::head_value::HeadValue;
use super::heads::{HeadChange, Heads, Table, grain_in_key, grain_key, type_key};
use super::identity::{self, Identity, lock_folder};
use super::image_files::ImageFiles;
use super::index::{Entry, Index, Link};
use super::listing;
use super::log::{CommitLog, LOG_DIR, Replayed, register};
use super::modules::ModuleFiles;
use super::repair::opening::{self, is_empty};
use super::repair::panics::Serving;
use super::revisions::Revisions;
use super::space::Room;
use super::{
    Appended, Before, DurableSink, Listing, ModuleRecord, Storage, StorageError, StorageStats, Stored, StoredHead,
};
use crate::threads;

/// A buffer that grew beyond this for one commit is given back.
const BUFFER_LIMIT: usize = 1 << 20;
const UNPOISONED: &str = "no thread panics while it holds a lock of the storage";

thread_local! {
    /// Commits are encoded here, outside of any lock.
    static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
pub struct SledStorage {
    identity: Identity,
    config: StorageConfig,
    log: Arc<CommitLog>,
    index: Arc<Index>,
    heads: Arc<dyn Heads>,
    images: Arc<ImageFiles>,
    modules: ModuleFiles,
    revisions: Revisions,
    room: Arc<Room>,
    checkpointer: Arc<Checkpointer>,
    appends: AtomicU64,
    append_bytes: AtomicU64,
    /// Empty once closed.
    threads: Mutex<Vec<JoinHandle<()>>>,
    closing: Mutex<bool>,
    /// Held for as long as this is.
    _lock: Option<fs::File>,
    /// While it's there, a thread of storage that stops ends the process.
    _serving: Option<Serving>,
}

impl SledStorage {
    /// Opens the data folder, or makes it, and replays the log.
    pub fn open(dir: &Path, config: StorageConfig) -> Result<Arc<SledStorage>, StorageError> {
        opening::enter(dir)?;
        let lock = lock_folder(dir)?;
        let files = Arc::new(RealFiles::new(dir, config.sabotage));
        let (heads, ballast) = opening::open_heads(dir, &files, &config)?;
        let mut storage = SledStorage::assemble(files, heads, config, end_process())?;
        ballast.load();
        storage._lock = Some(lock);
        storage._serving = Some(Serving::begin());
        Ok(Arc::new(storage))
    }

    /// Opens a storage whose files and snapshot store are given.
    pub(crate) fn assemble(
        files: Arc<dyn Files>,
        heads: Arc<dyn Heads>,
        config: StorageConfig,
        fatal: Fatal,
    ) -> Result<SledStorage, StorageError> {
        check_config(&config)?;
        let identity = identity::next(&*files)?;
        files.make_dir(LOG_DIR)?;
        if !identity.is_new() && register::read(&*files)?.is_none() && files.list(LOG_DIR)?.is_empty() {
            return Err(StorageError::Corrupt(format!(
                "the folder `{LOG_DIR}` is missing or empty: the last commits were in it; put it back, or let `granary repair` \
                 go on without them"
            )));
        }
        let modules = ModuleFiles::open(Arc::clone(&files))?;
        let images = Arc::new(ImageFiles::open(Arc::clone(&files), config.image_file_bytes, &*heads)?);
        let room = Arc::new(Room::new(Arc::clone(&files), &config)?);
        let index = Arc::new(Index::new(config.chain_limit_commits, config.chain_limit_bytes));
        let mut long = Vec::new();
        let kept = Arc::clone(&files);
        let log = CommitLog::open(files, &config, Arc::clone(&fatal), &mut |replayed| {
            long.extend(enter_replayed(&index, &replayed)?);
            Ok(())
        })?;
        if identity.is_new() && (log.durable() > Lsn(0) || !is_empty(&*heads)?) {
            return Err(identity::missing());
        }
        identity.keep(&*kept)?;
        let log = Arc::new(log);
        let checkpointer = Arc::new(Checkpointer::new(
            Arc::clone(&log),
            Arc::clone(&index),
            Arc::clone(&heads),
            Arc::clone(&images),
            Arc::clone(&fatal),
            &config,
        )?);
        long.iter().for_each(|grain| checkpointer.chain_grew(grain));
        checkpointer.log_grew();
        let revisions = Revisions::new(Arc::clone(&heads), fatal);
        modules.sweep(&revisions.records()?)?;
        let storage = SledStorage {
            identity,
            config,
            revisions,
            log,
            index,
            heads,
            images,
            modules,
            room,
            checkpointer,
            appends: AtomicU64::new(0),
            append_bytes: AtomicU64::new(0),
            threads: Mutex::default(),
            closing: Mutex::new(false),
            _lock: None,
            _serving: None,
        };
        storage.start()?;
        Ok(storage)
    }

    fn start(&self) -> io::Result<()> {
        let (checkpointer, room) = (Arc::clone(&self.checkpointer), Arc::clone(&self.room));
        let mut threads = self.threads.lock().expect(UNPOISONED);
        threads.push(threads::start("checkpointer", move || checkpointer.run())?);
        threads.push(threads::start("disk-room", move || room.run())?);
        Ok(())
    }

    /// Stops all threads without writing what makes the next start quick.
    fn stop(&self) {
        self.checkpointer.stop();
        self.room.stop();
        let threads = std::mem::take(&mut *self.threads.lock().expect(UNPOISONED));
        for thread in threads {
            // A thread that panicked has said so; there is nothing more to stop.
            thread.join().ok();
        }
    }

    /// Stops everything as a crash would, but waits until it has stopped.
    #[cfg(test)]
    pub(crate) fn stop_for_test(&self) {
        self.stop();
        self.log.stop();
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            log: &self.log,
            index: &self.index,
            heads: &*self.heads,
            images: &self.images,
        }
    }

    /// The modules that grains of a type are of, whatever a crash would leave of them.
    fn modules_in_use(&self, kind: &GrainType) -> Result<HashSet<ModuleHash>, StorageError> {
        let mut used = self.index.modules(kind);
        // Now a crash takes no grain back behind what was just looked at. What is appended meanwhile is of the current module.
        if !self.log.drain() {
            return Err(StorageError::Io(io::Error::other("the disk failed")));
        }
        let within = type_key(Table::Grain, kind, "");
        let mut damaged = false;
        self.heads.scan(Bound::Included(&within), &mut |key, value| {
            if !key.starts_with(&within) {
                return false;
            }
            match HeadValue::decode(value) {
                Ok(value) => used.insert(value.head.module),
                Err(_) => std::mem::replace(&mut damaged, true),
            };
            !damaged
        })?;
        if damaged {
            return Err(StorageError::Corrupt("the snapshot store's value of a grain".into()));
        }
        Ok(used)
    }

    fn append_encoded(&self, commit: &Commit, encoded: &[u8]) -> Appended {
        let hash = Commit::hash(encoded);
        let whole = matches!(commit.change, Change::Whole { .. });
        // The caller numbers and chains a grain's commits. One that is wrong must not get into the log: no start could read it.
        let follows = self.index.check(&commit.grain, commit.seq, commit.prev_hash, whole);
        follows.unwrap_or_else(|wrong| panic!("{wrong}"));
        let placed = self.log.append(encoded, &hash);
        let entry = Entry {
            seq: commit.seq,
            position: placed.position,
            deletes: commit.change.deletes(),
            vacates: commit.change.vacates(),
            whole,
        };
        let link = Link {
            prev_hash: commit.prev_hash,
            head: commit.head(hash),
        };
        let pushed = self.index.push(&commit.grain, entry, link);
        drop(placed.hold);
        let long = pushed.expect("it was checked, and nobody else appends to this grain");
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.append_bytes.fetch_add(encoded.len() as u64, Ordering::Relaxed);
        if long {
            self.checkpointer.chain_grew(&commit.grain);
        }
        if placed.rolled || self.index.grains() > self.config.log_grains {
            self.checkpointer.log_grew();
        }
        Appended {
            lsn: placed.position.lsn,
            hash,
            bytes: encoded.len(),
        }
    }
}

impl Storage for SledStorage {
    fn host(&self) -> HostId {
        self.identity.host
    }

    fn incarnation(&self) -> u32 {
        self.identity.incarnation
    }

    fn admit(&self) -> Result<(), StorageError> {
        if self.log.pending_bytes() > self.config.pending_limit_bytes
            || self.log.live_bytes() > self.config.log_limit_bytes
        {
            return Err(StorageError::Overloaded);
        }
        self.room.check()
    }

    fn append(&self, commit: &Commit) -> Appended {
        ENCODED.with_borrow_mut(|buffer| {
            buffer.clear();
            commit.encode(buffer);
            let appended = self.append_encoded(commit, buffer);
            if buffer.capacity() > BUFFER_LIMIT {
                *buffer = Vec::new();
            }
            appended
        })
    }

    fn set_sink(&self, sink: Arc<dyn DurableSink>) {
        self.log.set_sink(sink);
    }

    fn durable(&self) -> Lsn {
        self.log.durable()
    }

    fn is_writing(&self) -> bool {
        self.log.pending_bytes() > 0
    }

    fn settle(&self) -> bool {
        self.log.drain()
    }

    fn load(&self, grain: &GrainName) -> Result<Option<Stored>, StorageError> {
        Ok(self.sources().assemble(grain, Lsn(u64::MAX))?.stored)
    }

    fn head(&self, grain: &GrainName) -> Result<Option<StoredHead>, StorageError> {
        self.sources().head(grain)
    }

    fn load_before(&self, grain: &GrainName) -> Result<Option<Before>, StorageError> {
        self.sources().load_before(grain)
    }

    fn list(
        &self,
        kind: &GrainType,
        prefix: &str,
        after: Option<&GrainKey>,
        limit: usize,
    ) -> Result<Listing, StorageError> {
        listing::list(&self.index, &*self.heads, kind, prefix, after, limit)
    }

    fn each(&self, visit: &mut dyn FnMut(GrainName, StoredHead)) -> Result<(), StorageError> {
        self.sources().each(visit)
    }

    fn forget_deleted(&self) -> Result<(), StorageError> {
        remove_graves(&*self.heads, &self.index)
    }

    fn put_module(&self, bytes: &[u8]) -> Result<ModuleHash, StorageError> {
        self.room.check()?;
        self.modules.put(bytes)
    }

    fn module(&self, module: &ModuleHash) -> Result<Option<Vec<u8>>, StorageError> {
        self.modules.read(module)
    }

    fn put_revision(&self, record: &ModuleRecord) -> Result<(), StorageError> {
        self.room.check()?;
        if !self.modules.contains(&record.module)? {
            return Err(StorageError::NoModule(record.module));
        }
        self.revisions.put(record, || self.modules_in_use(&record.kind))
    }

    fn switch(&self, kind: &GrainType, revision: Revision) -> Result<(), StorageError> {
        self.revisions.switch(kind, revision)
    }

    fn revisions(&self) -> Result<Vec<ModuleRecord>, StorageError> {
        self.revisions.records()
    }

    fn currents(&self) -> Result<Vec<(GrainType, Revision)>, StorageError> {
        self.revisions.currents()
    }

    fn stats(&self) -> StorageStats {
        StorageStats {
            log_bytes: self.log.live_bytes(),
            appends: self.appends.load(Ordering::Relaxed),
            append_bytes: self.append_bytes.load(Ordering::Relaxed),
            groups: self.log.groups(),
            checkpoints: self.checkpointer.rounds(),
            dirty_grains: self.index.grains(),
            snapshot_bytes: self.heads.disk_bytes(),
            image_bytes: self.images.bytes(),
            snapshot_copies: self.heads.copies(),
            before_images: self.checkpointer.held(),
            snapshot_syncs: self.heads.syncs(),
        }
    }

    fn close(&self) {
        let mut closed = self.closing.lock().expect(UNPOISONED);
        if std::mem::replace(&mut *closed, true) {
            return;
        }
        self.stop();
        self.checkpointer.finish();
        self.log.stop();
    }
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        self.stop();
        self.log.stop();
    }
}

/// Limits that can't hold together would stop the host later, under load.
fn check_config(config: &StorageConfig) -> Result<(), StorageError> {
    let wrong = |what: String| Err(StorageError::Io(io::Error::new(io::ErrorKind::InvalidInput, what)));
    if config.segment_bytes < 1 << 14 {
        return wrong(format!(
            "log segments of {} bytes are too short: at least 16 KiB",
            config.segment_bytes
        ));
    }
    if config.log_limit_bytes < 4 * u64::from(config.segment_bytes) {
        let least = 4 * u64::from(config.segment_bytes);
        return wrong(format!(
            "a log of {} bytes is too short: at least four segments, {least} bytes",
            config.log_limit_bytes
        ));
    }
    if config.log_grains == 0 {
        return wrong("the log holds commits of at least one grain".into());
    }
    if config.checkpoint_batch_grains == 0 {
        return wrong("a checkpoint's batch holds at least one grain".into());
    }
    Ok(())
}

/// Enters a commit found in the log into the index; returns its grain when its chain just became too long.
fn enter_replayed(index: &Index, replayed: &Replayed<'_>) -> Result<Option<GrainName>, StorageError> {
    let lsn = replayed.position.lsn.0;
    let summary = Commit::summary(replayed.body);
    let summary = summary
        .map_err(|error| StorageError::Corrupt(format!("record {lsn} of the log is sound but no commit: {error}")))?;
    let entry = Entry {
        seq: summary.seq,
        position: replayed.position,
        deletes: summary.deletes,
        vacates: summary.vacates,
        whole: summary.copies.is_some(),
    };
    let link = Link {
        prev_hash: summary.prev_hash,
        head: summary.head(replayed.hash),
    };
    let long = index
        .replay(&summary.grain, entry, link)
        .map_err(StorageError::Corrupt)?;
    Ok(long.then_some(summary.grain))
}

/// Graves that are removed in one batch: the snapshot store holds all of a batch, and copies of what it changes, in memory.
const GRAVES_AT_ONCE: usize = 512;

/// Forgets deleted grains that the log holds nothing of. Only at a start, when no activation counts on their numbering.
fn remove_graves(heads: &dyn Heads, index: &Index) -> Result<(), StorageError> {
    let prefix = Table::Grave.prefix();
    let mut from = Bound::Included(vec![prefix]);
    loop {
        let mut graves = Vec::new();
        heads.scan(from.as_ref().map(Vec::as_slice), &mut |key, _| {
            if key.first() == Some(&prefix) {
                graves.push(key.to_vec());
            }
            key.first() == Some(&prefix) && graves.len() < GRAVES_AT_ONCE
        })?;
        let Some(last) = graves.last() else { return Ok(()) };
        from = Bound::Excluded(last.clone());
        let mut changes: Vec<HeadChange> = Vec::new();
        for grave in graves {
            if let Some(grain) = grain_in_key(&grave)
                && index.entries(&grain).is_empty()
            {
                changes.push((grain_key(Table::Grain, &grain), None));
                changes.push((grave, None));
            }
        }
        if !changes.is_empty() {
            heads.apply(changes)?;
            heads.flush()?;
        }
    }
}
