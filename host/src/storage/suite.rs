//! What every storage does, run against each of them.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use granary_core::commit::{Change, Commit, Delta};
use granary_core::id::{Ballot, CallId, GrainKey, GrainName, GrainType, HostId, Lsn, ModuleHash, Revision, Seq};
use granary_core::page::{PAGE_SIZE, Patches};
use granary_core::reply_table::TableTime;
use granary_core::reply_table::{Outcome, StoredReply};

use super::*;

/// Longer than any sync takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Memory of a test's grain.
const MEMORY: usize = 16 * PAGE_SIZE;

pub(super) fn grain(key: &str) -> GrainName {
    GrainName::new(GrainType::new("counter").unwrap(), GrainKey::new(key).unwrap())
}

/// The next commit of a grain whose last one was `before`: writes `value` at `offset` of its memory.
pub(super) fn write(grain: &GrainName, before: Option<&Head>, offset: usize, value: u64) -> Commit {
    let at = (offset % PAGE_SIZE).min(PAGE_SIZE - 8);
    let (mut before_page, mut after_page) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
    // Every byte differs, so that all eight are in the patch.
    before_page[at..at + 8].copy_from_slice(&(!value).to_le_bytes());
    after_page[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let mut patches = Patches::new();
    patches.push_changes((offset / PAGE_SIZE) as u32 % 16, &before_page, &after_page);
    let delta = Delta {
        memory_len: MEMORY as u64,
        globals: vec![u128::from(value)],
        patches,
    };
    commit(grain, before, Change::Delta(delta))
}

pub(super) fn commit(grain: &GrainName, before: Option<&Head>, change: Change) -> Commit {
    Commit {
        grain: grain.clone(),
        ballot: Ballot {
            counter: 1,
            host: HostId([1; 16]),
            incarnation: 1,
        },
        seq: before.map_or(Seq(1), |head| head.seq.next()),
        prev_hash: before.map_or([0; 16], |head| head.hash),
        module: ModuleHash([7; 32]),
        revision: Revision(1),
        change,
        replies: Vec::new(),
    }
}

pub(super) fn append(storage: &dyn Storage, commit: &Commit) -> (Head, Lsn) {
    let appended = storage.append(commit);
    (commit.head(appended.hash), appended.lsn)
}

/// What is known of a grain that has this head, and no replies without state.
pub(super) fn known(head: Head, deleted: bool) -> StoredHead {
    StoredHead {
        head,
        deleted,
        vacant: false,
    }
}

/// The memory that a stored grain stands for.
pub(super) fn memory(stored: &Stored) -> Vec<u8> {
    patched(&stored.parts)
}

fn patched(parts: &[Delta]) -> Vec<u8> {
    let mut memory = vec![0; MEMORY];
    parts.iter().for_each(|part| part.patches.apply(&mut memory).unwrap());
    memory
}

/// Waits for durability.
#[derive(Default)]
pub(super) struct Waiter {
    upto: Mutex<Lsn>,
    changed: Condvar,
}

impl DurableSink for Waiter {
    fn durable(&self, upto: Lsn) {
        let mut last = self.upto.lock().unwrap();
        assert!(*last < upto, "rises");
        *last = upto;
        self.changed.notify_all();
    }
}

impl Waiter {
    pub(super) fn wait(&self, lsn: Lsn) {
        let guard = self.upto.lock().unwrap();
        let (_guard, timeout) = self
            .changed
            .wait_timeout_while(guard, PATIENCE, |upto| *upto < lsn)
            .unwrap();
        assert!(!timeout.timed_out(), "{lsn:?} never became durable");
    }
}

/// A storage under test: made anew by `reopen`, which for those on a disk closes and opens again.
pub(super) trait Bench {
    fn storage(&self) -> &dyn Storage;
    fn reopen(&mut self);
}

struct InMemory(Arc<MemoryStorage>);

impl Bench for InMemory {
    fn storage(&self) -> &dyn Storage {
        &*self.0
    }
    fn reopen(&mut self) {}
}

struct OnDisk {
    storage: Option<Arc<SledStorage>>,
    config: StorageConfig,
    /// Whether it's closed in good order before it's opened again.
    cleanly: bool,
    /// Removed last: a checkpoint may be under way until the storage is dropped.
    dir: tempfile::TempDir,
}

impl OnDisk {
    fn new(config: StorageConfig, cleanly: bool) -> OnDisk {
        let dir = tempfile::tempdir().unwrap();
        let storage = Some(SledStorage::open(dir.path(), config.clone()).unwrap());
        OnDisk {
            dir,
            config,
            storage,
            cleanly,
        }
    }
}

impl Bench for OnDisk {
    fn storage(&self) -> &dyn Storage {
        &**self.storage.as_ref().unwrap()
    }
    fn reopen(&mut self) {
        let storage = self.storage.take().unwrap();
        if self.cleanly {
            storage.close();
        }
        drop(storage);
        self.storage = Some(SledStorage::open(self.dir.path(), self.config.clone()).unwrap());
    }
}

/// Segments and limits so small that a test passes all of them.
pub(super) fn small_config() -> StorageConfig {
    StorageConfig {
        segment_bytes: 1 << 14,
        log_limit_bytes: 1 << 17,
        chain_limit_commits: 50,
        inline_limit_bytes: 256,
        image_file_bytes: 1 << 16,
        reserve_percent: 0,
        reserve_bytes: 0,
        ..StorageConfig::default()
    }
}

pub(super) fn each(test: impl Fn(&mut dyn Bench)) {
    test(&mut InMemory(MemoryStorage::new()));
    let roomy = StorageConfig {
        segment_bytes: 1 << 20,
        reserve_percent: 0,
        reserve_bytes: 0,
        ..StorageConfig::default()
    };
    for cleanly in [true, false] {
        test(&mut OnDisk::new(roomy.clone(), cleanly));
        test(&mut OnDisk::new(small_config(), cleanly));
    }
}

#[test]
fn a_commit_is_visible_at_once_and_durable_soon() {
    each(|bench| {
        let waiter = Arc::new(Waiter::default());
        bench.storage().set_sink(waiter.clone());
        let alice = grain("alice");
        assert!(bench.storage().load(&alice).unwrap().is_none());
        let (head, lsn) = append(bench.storage(), &write(&alice, None, 100, 5));
        let stored = bench.storage().load(&alice).unwrap().unwrap();
        assert_eq!((&stored.head, stored.lsn, stored.deleted), (&head, lsn, false));
        assert_eq!(memory(&stored)[100], 5);
        waiter.wait(lsn);
        assert_eq!(bench.storage().durable(), lsn);
        let (_, lsn) = append(bench.storage(), &write(&alice, Some(&head), 100, 6));
        assert!(bench.storage().settle());
        assert_eq!(bench.storage().durable(), lsn);
    });
}

#[test]
fn a_grain_is_the_same_after_a_start() {
    each(|bench| {
        let mut heads: Vec<Option<Head>> = vec![None; 10];
        let mut lsn = Lsn(0);
        for round in 0..40usize {
            for (i, head) in heads.iter_mut().enumerate() {
                let name = grain(&format!("g{i}"));
                let commit = write(&name, head.as_ref(), round * 1000 + i * 8, (round * i) as u64 + 1);
                let appended = append(bench.storage(), &commit);
                *head = Some(appended.0);
                lsn = appended.1;
            }
        }
        let before: Vec<_> = (0..10)
            .map(|i| bench.storage().load(&grain(&format!("g{i}"))).unwrap().unwrap())
            .collect();
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        for (i, before) in before.iter().enumerate() {
            let after = bench.storage().load(&grain(&format!("g{i}"))).unwrap().unwrap();
            assert_eq!(after.head, before.head);
            assert_eq!(after.head, *heads[i].as_ref().unwrap());
            assert!(memory(&after) == memory(before));
            assert_eq!(
                after.parts.last().unwrap().globals,
                before.parts.last().unwrap().globals
            );
        }
        // And it goes on.
        let (head, _) = append(bench.storage(), &write(&grain("g3"), heads[3].as_ref(), 0, 77));
        let stored = bench.storage().load(&grain("g3")).unwrap().unwrap();
        assert_eq!(stored.head, head);
        assert_eq!(memory(&stored)[0], 77);
    });
}

pub(super) fn wait_durable(storage: &dyn Storage, lsn: Lsn) {
    let start = std::time::Instant::now();
    while storage.durable() < lsn {
        assert!(start.elapsed() < PATIENCE, "{lsn:?} never became durable");
        std::thread::yield_now();
    }
}

#[test]
fn a_deleted_grain_starts_anew_and_keeps_its_numbering() {
    each(|bench| {
        let name = grain("bob");
        let (first, _) = append(bench.storage(), &write(&name, None, 8, 1));
        let (gone, lsn) = append(bench.storage(), &commit(&name, Some(&first), Change::Delete));
        let stored = bench.storage().load(&name).unwrap().unwrap();
        assert!(stored.deleted && stored.parts.is_empty() && stored.replies.is_empty());
        assert_eq!(stored.head, gone);
        wait_durable(bench.storage(), lsn);
        let (again, lsn) = append(bench.storage(), &write(&name, Some(&gone), 16, 2));
        assert_eq!(again.seq, Seq(3));
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        let stored = bench.storage().load(&name).unwrap().unwrap();
        assert!(!stored.deleted);
        let memory = memory(&stored);
        assert_eq!((memory[8], memory[16]), (0, 2));
    });
}

#[test]
fn replies_are_stored_with_their_commit() {
    each(|bench| {
        let name = grain("carol");
        let reply = |n: u8| {
            Arc::new(StoredReply {
                call: CallId([n; 16]),
                fingerprint: [n; 16],
                client: 1,
                at: TableTime(1000),
                outcome: Some(Outcome::Value(vec![n; 10])),
            })
        };
        let mut first = write(&name, None, 0, 1);
        first.replies = vec![reply(1), reply(2)];
        let (head, _) = append(bench.storage(), &first);
        let mut second = write(&name, Some(&head), 0, 2);
        second.replies = vec![reply(3)];
        let (_, lsn) = append(bench.storage(), &second);
        wait_durable(bench.storage(), lsn);
        for _ in 0..2 {
            let stored = bench.storage().load(&name).unwrap().unwrap();
            let replies: Vec<_> = stored.replies.iter().cloned().collect();
            assert_eq!(replies, [reply(1), reply(2), reply(3)]);
            bench.reopen();
        }
    });
}

#[test]
fn a_long_commit_is_kept() {
    each(|bench| {
        let name = grain("dora");
        let mut patches = Patches::new();
        let mut noise = blake3::Hasher::new().finalize_xof();
        for index in 0..16 {
            let mut page = [0; PAGE_SIZE];
            noise.fill(&mut page);
            patches.push_whole(index, &page);
        }
        let delta = Delta {
            memory_len: MEMORY as u64,
            globals: Vec::new(),
            patches,
        };
        let (head, _) = append(bench.storage(), &write(&name, None, 0, 1));
        let (head, _) = append(bench.storage(), &commit(&name, Some(&head), Change::Delta(delta)));
        let before = memory(&bench.storage().load(&name).unwrap().unwrap());
        let (head, lsn) = append(bench.storage(), &write(&name, Some(&head), 5000, 9));
        wait_durable(bench.storage(), lsn);
        for _ in 0..3 {
            let stored = bench.storage().load(&name).unwrap().unwrap();
            assert_eq!(stored.head, head);
            let mut expected = before.clone();
            expected[5000..5008].copy_from_slice(&9u64.to_le_bytes());
            assert!(memory(&stored) == expected);
            bench.reopen();
        }
    });
}

#[test]
fn grains_are_listed_by_type_and_prefix_in_pages() {
    each(|bench| {
        let mut lsn = Lsn(0);
        for i in 0..300 {
            // Spread over starts, so that some are in the log and some in the snapshot store.
            if i == 150 {
                wait_durable(bench.storage(), lsn);
                bench.reopen();
            }
            let name = grain(&format!("{}{:03}", if i % 2 == 0 { "even-" } else { "odd-" }, i));
            let (head, at) = append(bench.storage(), &write(&name, None, 0, 1));
            lsn = at;
            if i % 5 == 0 {
                lsn = append(bench.storage(), &commit(&name, Some(&head), Change::Delete)).1;
            }
        }
        let other = GrainName::new(GrainType::new("counter-b").unwrap(), GrainKey::new("even-1").unwrap());
        append(bench.storage(), &write(&other, None, 0, 1));
        let expected = |prefix: &str| -> Vec<String> {
            let all = (0..300).filter(|i| i % 5 != 0);
            let mut all: Vec<_> = all
                .map(|i| format!("{}{i:03}", if i % 2 == 0 { "even-" } else { "odd-" }))
                .collect();
            all.retain(|key| key.starts_with(prefix));
            all.sort();
            all
        };
        let kind = GrainType::new("counter").unwrap();
        for prefix in ["", "e", "even-", "odd-2", "odd-299", "x"] {
            for limit in [1, 7, 120, 1000] {
                let mut keys = Vec::new();
                let mut after = None;
                loop {
                    let page = bench.storage().list(&kind, prefix, after.as_ref(), limit).unwrap();
                    assert!(page.keys.len() <= limit && (!page.more || page.keys.len() == limit));
                    after = page.keys.last().cloned();
                    keys.extend(page.keys.iter().map(|key| key.to_string()));
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(keys, expected(prefix), "prefix {prefix:?}, limit {limit}");
            }
        }
    });
}

#[test]
fn modules_and_revisions_last() {
    each(|bench| {
        let storage = bench.storage();
        let bytes = vec![3; 100_000];
        let module = storage.put_module(&bytes).unwrap();
        assert_eq!(storage.put_module(&bytes).unwrap(), module);
        let record = |kind: &str, revision| ModuleRecord {
            kind: GrainType::new(kind).unwrap(),
            revision: Revision(revision),
            module,
            at_ms: 5,
            follows: Revision(revision - 1),
        };
        let unknown = ModuleRecord {
            module: ModuleHash([1; 32]),
            ..record("a", 1)
        };
        assert!(matches!(storage.put_revision(&unknown), Err(StorageError::NoModule(_))));
        for (kind, revision) in [("b", 1), ("a", 2), ("a", 1), ("a", 300)] {
            storage.put_revision(&record(kind, revision)).unwrap();
        }
        bench.reopen();
        let storage = bench.storage();
        assert_eq!(storage.module(&module).unwrap().unwrap(), bytes);
        assert_eq!(storage.module(&ModuleHash([1; 32])).unwrap(), None);
        assert_eq!(
            storage.revisions().unwrap(),
            [record("a", 1), record("a", 2), record("a", 300), record("b", 1)]
        );
    });
}

#[test]
fn the_current_revision_is_the_last_one_deployed_or_switched_to() {
    each(|bench| {
        let kind = |kind: &str| GrainType::new(kind).unwrap();
        let storage = bench.storage();
        let module = storage.put_module(&[4; 100]).unwrap();
        assert!(storage.currents().unwrap().is_empty());
        let record = |name: &str, revision, follows| ModuleRecord {
            kind: kind(name),
            revision: Revision(revision),
            module,
            at_ms: 5,
            follows: Revision(follows),
        };
        for (name, revision, follows) in [("b", 1, 0), ("a", 1, 0), ("a", 2, 1), ("b", 2, 1)] {
            storage.put_revision(&record(name, revision, follows)).unwrap();
        }
        storage.switch(&kind("b"), Revision(1)).unwrap();
        for (name, revision) in [("a", 3), ("c", 1)] {
            let refused = storage.switch(&kind(name), Revision(revision));
            assert!(
                matches!(refused, Err(StorageError::NoRevision(..))),
                "{name} {revision}"
            );
        }
        for _ in 0..2 {
            let currents = [(kind("a"), Revision(2)), (kind("b"), Revision(1))];
            assert_eq!(bench.storage().currents().unwrap(), currents);
            bench.reopen();
        }
        bench.storage().put_revision(&record("b", 3, 1)).unwrap();
        bench.reopen();
        let currents = [(kind("a"), Revision(2)), (kind("b"), Revision(3))];
        assert_eq!(bench.storage().currents().unwrap(), currents);
        let last = bench.storage().revisions().unwrap().pop().unwrap();
        assert_eq!((last.revision, last.follows), (Revision(3), Revision(1)));
    });
}

#[test]
fn a_head_is_known_without_its_state() {
    each(|bench| {
        let name = grain("erin");
        assert_eq!(bench.storage().head(&name).unwrap(), None);
        let mut last = None;
        let mut lsn = Lsn(0);
        for value in 0..120u64 {
            let appended = append(bench.storage(), &write(&name, last.as_ref(), 0, value));
            (last, lsn) = (Some(appended.0), appended.1);
            let head = last.clone().unwrap();
            assert_eq!(bench.storage().head(&name).unwrap(), Some(known(head, false)));
        }
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        let head = last.unwrap();
        let stored = bench.storage().head(&name).unwrap();
        assert_eq!(stored, Some(known(head.clone(), false)));
        let (head, _) = append(bench.storage(), &commit(&name, Some(&head), Change::Delete));
        assert_eq!(bench.storage().head(&name).unwrap(), Some(known(head, true)));
    });
}

/// A commit under another module, made of `commit`.
fn under(module: u8, commit: Commit) -> Commit {
    Commit {
        module: ModuleHash([module; 32]),
        revision: Revision(u32::from(module)),
        ..commit
    }
}

/// The revision and the memory from before a grain's last commit.
fn before(storage: &dyn Storage, grain: &GrainName) -> Option<(u32, Vec<u8>)> {
    let before = storage.load_before(grain).unwrap()?;
    assert_eq!(before.module, ModuleHash([before.revision.0 as u8; 32]));
    Some((before.revision.0, patched(&before.parts)))
}

#[test]
fn the_state_from_before_a_move_is_kept_until_the_next_commit() {
    each(|bench| {
        // So much that no image of it, or only one of two, fits into the snapshot store, and so little that both do.
        for (writes, key) in [(200usize, "long"), (12, "middle"), (2, "short")] {
            let name = grain(key);
            let mut last = None;
            for i in 0..writes {
                let noise = *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap();
                let commit = under(1, write(&name, last.as_ref(), i * 64, u64::from_le_bytes(noise)));
                last = Some(append(bench.storage(), &commit).0);
                assert_eq!(bench.storage().load_before(&name).unwrap(), None);
            }
            let old = memory(&bench.storage().load(&name).unwrap().unwrap());
            let (moved, lsn) = append(bench.storage(), &under(2, write(&name, last.as_ref(), 8, 5)));
            let expected = Some((1, old.clone()));
            assert!(before(bench.storage(), &name) == expected, "{key}");
            wait_durable(bench.storage(), lsn);
            for _ in 0..3 {
                bench.reopen();
                assert!(before(bench.storage(), &name) == expected, "{key}");
                let stored = bench.storage().load(&name).unwrap().unwrap();
                assert_eq!((&stored.head, memory(&stored)[8]), (&moved, 5));
                assert_ne!(memory(&stored), old);
            }
            // Another move: only the state from before that one is there.
            let between = memory(&bench.storage().load(&name).unwrap().unwrap());
            let (again, lsn) = append(bench.storage(), &under(3, write(&name, Some(&moved), 16, 6)));
            wait_durable(bench.storage(), lsn);
            for _ in 0..2 {
                assert!(before(bench.storage(), &name) == Some((2, between.clone())), "{key}");
                bench.reopen();
            }
            // Back, which is a move, too; and a write under the same module.
            let newer = memory(&bench.storage().load(&name).unwrap().unwrap());
            let (back, _) = append(bench.storage(), &under(2, write(&name, Some(&again), 8, 5)));
            assert!(before(bench.storage(), &name) == Some((3, newer)), "{key}");
            assert_eq!(memory(&bench.storage().load(&name).unwrap().unwrap()), between);
            let (_, lsn) = append(bench.storage(), &under(2, write(&name, Some(&back), 24, 7)));
            wait_durable(bench.storage(), lsn);
            for _ in 0..2 {
                assert_eq!(bench.storage().load_before(&name).unwrap(), None, "{key}");
                bench.reopen();
            }
        }
        bench.storage().close();
        assert_eq!(bench.storage().stats().before_images, 0);
    });
}

#[test]
fn a_deleted_grain_has_no_state_from_before_a_move() {
    each(|bench| {
        let name = grain("frank");
        let (first, _) = append(bench.storage(), &under(1, write(&name, None, 8, 1)));
        let (moved, lsn) = append(bench.storage(), &under(2, write(&name, Some(&first), 8, 2)));
        wait_durable(bench.storage(), lsn);
        bench.reopen();
        assert!(bench.storage().load_before(&name).unwrap().is_some());
        let (gone, lsn) = append(bench.storage(), &under(2, commit(&name, Some(&moved), Change::Delete)));
        for _ in 0..2 {
            assert_eq!(bench.storage().load_before(&name).unwrap(), None);
            wait_durable(bench.storage(), lsn);
        }
        let (_, lsn) = append(bench.storage(), &under(3, write(&name, Some(&gone), 8, 3)));
        wait_durable(bench.storage(), lsn);
        for _ in 0..2 {
            assert_eq!(bench.storage().load_before(&name).unwrap(), None);
            bench.reopen();
        }
        bench.storage().close();
        assert_eq!(bench.storage().stats().before_images, 0);
    });
}

#[test]
fn closing_twice_is_fine() {
    each(|bench| {
        let (_, lsn) = append(bench.storage(), &write(&grain("a"), None, 0, 1));
        bench.storage().close();
        bench.storage().close();
        assert_eq!(bench.storage().durable(), lsn);
    });
}
