//! [`Heads`] in sled.
//!
//! What to know of sled 0.34: its flush is made real by `sync_shim`; it spills values longer than a quarter of its segments
//! into files that it never syncs, hence the segment size and the limit of inline images; damage makes it panic in open; its
//! lock on the folder may outlive the store by a moment; it never gives disk back, so a store that is far longer than what lives
//! in it is copied (`store_place` has the steps).

use std::fs;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use super::StorageError;
use super::heads::{HeadChange, Heads};
use super::store_place::StorePlace;
use super::sync_shim;

/// The largest that sled takes.
const SEGMENT_SIZE: usize = 16 << 20;
/// sled's threads let go of its lock a moment after a store was dropped. The folder's own lock is ours by now, so there is
/// no other host to wait for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(5);

/// A store that takes more than this on the disk, and more than [`SPREAD`] times what lives in it, is copied into a new one.
/// It takes a few segments whatever is in it.
const FLOOR_BYTES: u64 = 48 << 20;
const SPREAD: u64 = 6;
const UNPOISONED: &str = "no thread panics while it holds the snapshot store's lock";

/// An open sled store.
pub(crate) struct SledHeads {
    place: StorePlace,
    cache_bytes: u64,
    floor_bytes: u64,
    db: RwLock<sled::Db>,
    /// Held while something is written, and while a copy is made: a copy has all that was written before it. Says from how
    /// many bytes on the next look at what lives is worth its time.
    writing: Mutex<u64>,
    copies: AtomicU64,
}

impl SledHeads {
    /// Opens the store in `dir` or makes one there.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<SledHeads, StorageError> {
        SledHeads::open_with_floor(dir, cache_bytes, FLOOR_BYTES)
    }

    fn open_with_floor(dir: &Path, cache_bytes: u64, floor_bytes: u64) -> Result<SledHeads, StorageError> {
        let place = StorePlace::new(dir);
        place.settle()?;
        let db = open_db(dir, cache_bytes)?;
        Ok(SledHeads {
            place,
            cache_bytes,
            floor_bytes,
            db: RwLock::new(db),
            writing: Mutex::new(floor_bytes),
            copies: AtomicU64::new(0),
        })
    }

    /// The store of this moment.
    fn db(&self) -> sled::Db {
        self.db.read().expect(UNPOISONED).clone()
    }

    /// Copies what lives into a new store when the old one takes too much of the disk: sled gives nothing back. Reads go on
    /// meanwhile, in the old one until its last reader is done.
    fn shrink(&self, look_from: &mut u64) -> Result<(), StorageError> {
        let bytes = self.place.bytes();
        if bytes <= *look_from {
            return Ok(());
        }
        // The next look comes when it has grown by a quarter, so that looking is cheap beside the writing in between.
        *look_from = bytes + bytes / 4;
        let db = self.db();
        if bytes <= live_bytes(&db)?.saturating_mul(SPREAD) {
            return Ok(());
        }
        let copied = match self.copy(&db) {
            Ok(copied) => copied,
            Err(error) => {
                tracing::warn!(%error, "the snapshot store couldn't be copied into a shorter one, will try again");
                return Ok(self.place.remove_unfinished()?);
            }
        };
        self.place.swap()?;
        *self.db.write().expect(UNPOISONED) = copied;
        drop(db);
        self.place.remove_old()?;
        let now = self.place.bytes();
        // What a new store takes is what it needs, be that more than it seems to be worth.
        *look_from = self.floor_bytes.max(2 * now);
        self.copies.fetch_add(1, Ordering::Relaxed);
        tracing::info!(bytes, now, "the snapshot store was copied into a shorter one");
        Ok(())
    }

    /// A new store with all that's in `old`, durable.
    fn copy(&self, old: &sled::Db) -> Result<sled::Db, StorageError> {
        self.place.remove_unfinished()?;
        let dir = self.place.unfinished();
        let new = open_db(&dir, self.cache_bytes)?;
        for entry in old.iter() {
            let (key, value) = entry.map_err(failed)?;
            new.insert(key, value).map_err(failed)?;
        }
        new.flush().map_err(failed)?;
        sync_names(&dir)?;
        Ok(new)
    }
}

/// Bytes of all keys and values.
fn live_bytes(db: &sled::Db) -> Result<u64, StorageError> {
    let lens = db
        .iter()
        .map(|entry| entry.map(|(key, value)| (key.len() + value.len()) as u64));
    lens.sum::<Result<u64, _>>().map_err(failed)
}

fn open_db(dir: &Path, cache_bytes: u64) -> Result<sled::Db, StorageError> {
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
    Ok(db)
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
        let db = self.db.read().expect(UNPOISONED);
        Ok(db.get(key).map_err(failed)?.map(|value| value.to_vec()))
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StorageError> {
        let _writing = self.writing.lock().expect(UNPOISONED);
        self.db().insert(key, value).map(|_| ()).map_err(failed)
    }

    fn apply(&self, changes: Vec<HeadChange>) -> Result<(), StorageError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        let _writing = self.writing.lock().expect(UNPOISONED);
        self.db().apply_batch(batch).map_err(failed)
    }

    fn flush(&self) -> Result<(), StorageError> {
        let mut look_from = self.writing.lock().expect(UNPOISONED);
        self.db().flush().map_err(failed)?;
        self.shrink(&mut look_from)
    }

    fn scan(&self, from: Bound<&[u8]>, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, Bound::Unbounded);
        for entry in self.db().range::<&[u8], _>(range) {
            let (key, value) = entry.map_err(failed)?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.place.bytes()
    }

    fn syncs(&self) -> u64 {
        sync_shim::calls()
    }

    fn copies(&self) -> u64 {
        self.copies.load(Ordering::Relaxed)
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

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: u64 = 1 << 20;

    fn value(heads: &SledHeads, key: &[u8]) -> Option<Vec<u8>> {
        heads.value(key).unwrap()
    }

    #[test]
    fn a_store_far_longer_than_what_lives_is_copied_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("snapshots");
        let heads = SledHeads::open_with_floor(&dir, CACHE, 0).unwrap();
        let key = |i: u32| i.to_be_bytes().to_vec();
        // Written over and over: what sled keeps of that is many times what lives. It skips writes that change nothing.
        for (round, i) in (0..40).flat_map(|round| (0..1000).map(move |i| (round, i))) {
            heads.put(key(i), vec![round; 100]).unwrap();
        }
        heads.apply(vec![(key(0), None)]).unwrap();
        let mut seen = 0;
        heads
            .scan(Bound::Unbounded, &mut |_, _| {
                // In the middle of a scan, which goes on in the old store.
                if seen == 500 {
                    heads.flush().unwrap();
                    assert_eq!(heads.copies(), 1);
                    heads.put(key(5000), vec![2]).unwrap();
                }
                seen += 1;
                true
            })
            .unwrap();
        assert_eq!(seen, 999);
        heads.flush().unwrap();
        assert_eq!(heads.copies(), 1, "it's as short as it gets");
        drop(heads);
        let heads = SledHeads::open(&dir, CACHE).unwrap();
        assert_eq!(value(&heads, &key(0)), None);
        assert!((1..1000).all(|i| value(&heads, &key(i)) == Some(vec![39; 100])));
        assert_eq!(value(&heads, &key(5000)), Some(vec![2]));
        let names = fs::read_dir(dir.parent().unwrap()).unwrap();
        assert_eq!(names.count(), 1, "nothing but the store is left");
    }

    /// A store with the name of its folder in it.
    fn make(dir: &Path) {
        let db = open_db(dir, CACHE).unwrap();
        let name = dir.file_name().unwrap().to_str().unwrap();
        db.insert("name", name).unwrap();
    }

    #[test]
    fn a_crash_at_each_step_of_a_copy_leaves_one_whole_store() {
        // Which folders a crash may leave, and which of them is the store.
        let left: [(&[&str], &str); 6] = [
            (&["snapshots"], "snapshots"),
            (&["snapshots", "snapshots.new"], "snapshots"),
            (&["snapshots", "snapshots.next"], "snapshots"),
            (&["snapshots.old", "snapshots.next"], "snapshots.next"),
            (&["snapshots", "snapshots.old"], "snapshots"),
            (&["snapshots", "snapshots.old", "snapshots.new"], "snapshots"),
        ];
        for (folders, expected) in left {
            let above = tempfile::tempdir().unwrap();
            let dir = above.path().join("snapshots");
            folders.iter().for_each(|folder| make(&above.path().join(folder)));
            let heads = SledHeads::open(&dir, CACHE).unwrap();
            assert_eq!(
                value(&heads, b"name"),
                Some(expected.as_bytes().to_vec()),
                "{folders:?}"
            );
            assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1, "{folders:?}");
        }
    }
}
