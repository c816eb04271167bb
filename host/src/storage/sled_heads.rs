//! [`Heads`] in sled.
//!
//! What to know of sled 0.34: its flush is made real by `sync_shim`; it spills values longer than a quarter of its segments
//! into files that it never syncs, hence the segment size and the limit of inline images; damage makes it panic in open; its
//! lock on the folder may outlive the store by a moment.

use std::fs;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::StorageError;
use super::heads::{HeadChange, Heads};
use super::sync_shim;

/// The largest that sled takes.
const SEGMENT_SIZE: usize = 16 << 20;
/// sled's threads let go of its lock a moment after a store was dropped. The folder's own lock is ours by now, so there is
/// no other host to wait for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// An open sled store.
pub(crate) struct SledHeads {
    db: sled::Db,
}

impl SledHeads {
    /// Opens the store in `dir` or makes one there.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<SledHeads, StorageError> {
        let config = sled::Config::new()
            .path(dir)
            .segment_size(SEGMENT_SIZE)
            .cache_capacity(cache_bytes);
        // Nothing of ours depends on sled's own timer, which would also sync in the middle of a checkpoint.
        let config = config.flush_every_ms(None);
        let given_up = Instant::now() + LOCK_PATIENCE;
        let db = loop {
            let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
            match opened.map_err(|_| damaged(dir, "it stopped while it was read"))? {
                Ok(db) => break db,
                Err(error) if is_locked(&error) && Instant::now() < given_up => std::thread::sleep(LOCK_POLL),
                Err(sled::Error::Corruption { .. }) => return Err(damaged(dir, "its checksums don't fit")),
                Err(sled::Error::ReportableBug(what)) => return Err(damaged(dir, &what)),
                Err(other) => return Err(failed(other)),
            }
        };
        sync_names(dir)?;
        Ok(SledHeads { db })
    }
}

/// Whether another store holds sled's lock. sled says so in words only.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// sled syncs neither its settings nor the names of its files.
fn sync_names(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        fs::File::open(entry?.path())?.sync_all()?;
    }
    fs::File::open(dir)?.sync_all()?;
    let above = dir.parent().unwrap_or(Path::new("."));
    fs::File::open(above)?.sync_all()
}

fn damaged(dir: &Path, what: &str) -> StorageError {
    StorageError::Corrupt(format!(
        "the snapshot store in {} can't be read: {what}. The host doesn't start, since grains would be missing; put back a \
         copy of the whole data folder",
        dir.display()
    ))
}

fn failed(error: sled::Error) -> StorageError {
    match error {
        sled::Error::Io(error) => StorageError::Io(error),
        sled::Error::Corruption { .. } => StorageError::Corrupt(format!("the snapshot store: {error}")),
        other => StorageError::Io(io::Error::other(other)),
    }
}

impl Heads for SledHeads {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.db.get(key).map_err(failed)?.map(|value| value.to_vec()))
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StorageError> {
        self.db.insert(key, value).map(|_| ()).map_err(failed)
    }

    fn apply(&self, changes: Vec<HeadChange>) -> Result<(), StorageError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(failed)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.db.flush().map(|_| ()).map_err(failed)
    }

    fn scan(&self, from: Bound<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
        for entry in self.db.range::<&[u8], _>(range) {
            let (key, value) = entry.map_err(failed)?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    fn syncs(&self) -> u64 {
        sync_shim::calls()
    }
}

/// Checks once in this process, with a throw-away store below `dir`, that sled's syncs are ours.
pub(crate) fn probe_syncs(dir: &Path) -> Result<(), StorageError> {
    static REAL: OnceLock<()> = OnceLock::new();
    if REAL.get().is_some() {
        return Ok(());
    }
    let probe = dir.join("sync-probe");
    remove_probe(&probe)?;
    let before = sync_shim::calls();
    let db = sled::Config::new()
        .path(&probe)
        .segment_size(1 << 16)
        .flush_every_ms(None)
        .open()
        .map_err(failed)?;
    db.insert("probe", "probe").map_err(failed)?;
    db.flush().map_err(failed)?;
    drop(db);
    let calls = sync_shim::calls() - before;
    remove_probe(&probe)?;
    if calls == 0 {
        return Err(StorageError::Io(io::Error::other(
            "the snapshot store's syncs don't reach the disk in this build: `sync_file_range` must be linked from granary-host, \
             not from the C library",
        )));
    }
    REAL.get_or_init(|| ());
    Ok(())
}

fn remove_probe(probe: &PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(probe) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
