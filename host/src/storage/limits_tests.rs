//! What happens at storage's limits, on a disk that can be stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use granary_core::commit::{Change, Head};
use granary_core::id::{GrainType, Revision, Seq};

use super::files::faulty::{Faults, FaultyFiles, Power};
use super::model_heads::ModelHeads;
use super::suite::{append, commit, grain, small_config, write};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A disk in memory.
struct Disk {
    files: FaultyFiles,
    heads: Arc<ModelHeads>,
}

impl Disk {
    fn new() -> Disk {
        Disk {
            files: FaultyFiles::new(Power::steady()),
            heads: ModelHeads::new(Power::steady()),
        }
    }

    fn open(&self) -> SledStorage {
        let fatal = Arc::new(|reason: &str| panic!("{reason}"));
        SledStorage::assemble(Arc::new(self.files.clone()), self.heads.clone(), small_config(), fatal).unwrap()
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_stalled_checkpointer_means_overloaded_and_no_more_than_that() {
    let disk = Disk::new();
    let storage = disk.open();
    // Images can't be written; the log's segments are there already or made while nothing is wrong.
    let stalled = disk.heads.stall();
    let mut heads: Vec<Option<Head>> = vec![None; 20];
    let mut appended = 0;
    while storage.admit().is_ok() {
        let which = appended % heads.len();
        let name = grain(&format!("grain-{which}"));
        let next = write(&name, heads[which].as_ref(), appended, appended as u64);
        heads[which] = Some(append(&storage, &next).0);
        appended += 1;
        assert!(appended < 1 << 20, "it never refuses");
    }
    until("it isn't the disk that is slow", || {
        matches!(storage.admit(), Err(StorageError::Overloaded)) && storage.durable() == Lsn(appended as u64)
    });
    for (which, head) in heads.iter().enumerate() {
        let stored = storage.load(&grain(&format!("grain-{which}"))).unwrap().unwrap();
        assert_eq!(Some(stored.head), *head, "reads go on");
    }
    drop(stalled);
    until("it doesn't recover", || storage.admit().is_ok());
    until("no checkpoint", || storage.stats().checkpoints > 0);
}

/// However short the log is: what is known of each takes memory, here and at the next start.
#[test]
fn the_log_holds_commits_of_so_many_grains_and_no_more() {
    let disk = Disk::new();
    let config = StorageConfig {
        log_grains: 100,
        log_limit_bytes: 1 << 30,
        ..small_config()
    };
    let open = || {
        let fatal = Arc::new(|reason: &str| panic!("{reason}"));
        SledStorage::assemble(Arc::new(disk.files.clone()), disk.heads.clone(), config.clone(), fatal).unwrap()
    };
    let storage = open();
    for number in 0..2000 {
        let name = grain(&format!("grain-{number}"));
        let (head, _) = append(&storage, &write(&name, None, 8, number));
        // Some are gone again as soon as they are there.
        if number % 2 == 0 {
            append(&storage, &commit(&name, Some(&head), Change::Delete));
        }
    }
    until("no checkpoint", || storage.stats().dirty_grains <= 100);
    assert!(storage.settle());
    drop(storage);
    let storage = open();
    assert!(storage.stats().dirty_grains <= 100, "after a start, too");
    let kind = GrainType::new("counter").unwrap();
    assert_eq!(storage.list(&kind, "", None, 3000).unwrap().keys.len(), 1000);
}

#[test]
fn a_full_disk_stops_deploys_and_writes_and_nothing_else() {
    let disk = Disk::new();
    let storage = disk.open();
    let name = grain("a");
    append(&storage, &write(&name, None, 0, 1));
    let module = storage.put_module(b"first").unwrap();
    drop(storage);
    let config = StorageConfig {
        reserve_bytes: 1 << 20,
        ..small_config()
    };
    let free = Some(1 << 10);
    disk.files.set_faults(Faults {
        free,
        ..Faults::default()
    });
    let fatal = Arc::new(|reason: &str| panic!("{reason}"));
    let storage = SledStorage::assemble(Arc::new(disk.files.clone()), disk.heads.clone(), config, fatal).unwrap();
    assert!(matches!(storage.admit(), Err(StorageError::DiskReserve { .. })));
    assert!(matches!(
        storage.put_module(b"second"),
        Err(StorageError::DiskReserve { .. })
    ));
    assert_eq!(storage.module(&module).unwrap().unwrap(), b"first");
    storage.load(&name).unwrap();
}

#[test]
fn the_module_of_a_grain_is_kept_however_many_revisions_follow() {
    let disk = Disk::new();
    let kind = GrainType::new("counter").unwrap();
    let modules: Vec<_> = (1..=150u32).map(|revision| revision.to_le_bytes()).collect();
    let deploy = |storage: &SledStorage, revision: u32| {
        let module = storage.put_module(&modules[revision as usize - 1]).unwrap();
        let record = ModuleRecord {
            kind: kind.clone(),
            revision: Revision(revision),
            module,
            at_ms: 0,
            follows: Revision(revision - 1),
        };
        storage.put_revision(&record).unwrap();
        module
    };
    let mut storage = disk.open();
    for (revision, name) in [(1, grain("stored")), (2, grain("logged"))] {
        let mut first = write(&name, None, 0, 1);
        first.module = deploy(&storage, revision);
        let (_, lsn) = append(&storage, &first);
        until("durable", || storage.durable() == lsn);
        if revision == 1 {
            // From here on it's in the snapshot store only.
            storage.close();
            storage = disk.open();
        }
    }
    for revision in 3..=150 {
        deploy(&storage, revision);
    }
    drop(storage);
    let storage = disk.open();
    let left: Vec<_> = storage
        .revisions()
        .unwrap()
        .iter()
        .map(|record| record.revision.0)
        .collect();
    assert_eq!(&left[..2], [1, 2]);
    assert!(left.len() < 128, "{left:?}");
    for (revision, bytes) in (1..).zip(&modules) {
        let module = storage.module(&ModuleHash(*blake3::hash(bytes).as_bytes())).unwrap();
        assert_eq!(module.is_some(), left.contains(&revision), "{revision}");
    }
}

#[test]
fn a_deleted_grain_counts_on_until_it_is_forgotten_and_longer_while_the_log_has_it() {
    let disk = Disk::new();
    let storage = disk.open();
    let name = grain("a");
    let (first, _) = append(&storage, &write(&name, None, 0, 1));
    let (gone, _) = append(&storage, &commit(&name, Some(&first), Change::Delete));
    storage.close();
    assert_eq!(storage.load(&name).unwrap().unwrap().head, gone);
    drop(storage);
    let storage = disk.open();
    assert_eq!(storage.load(&name).unwrap().unwrap().head, gone);
    storage.forget_deleted().unwrap();
    assert!(storage.load(&name).unwrap().is_none(), "nothing is left of it");
    let (again, _) = append(&storage, &write(&name, None, 0, 1));
    assert_eq!(again.seq, Seq(1));
    let (gone, lsn) = append(&storage, &commit(&name, Some(&again), Change::Delete));
    until("durable", || storage.durable() == lsn);
    drop(storage);
    let storage = disk.open();
    storage.forget_deleted().unwrap();
    let stored = storage.load(&name).unwrap().unwrap();
    assert_eq!(
        (stored.head, stored.deleted),
        (gone, true),
        "the log still counts on it"
    );
}
