//! Which grains have commits that are in the log only, and where.
//!
//! Every append passes through here, so the map is cut into shards by a hash of the grain's name: a shard's lock is held
//! for one look-up and one push, and two grains seldom share one. Within a shard grains are ordered by name, as a listing
//! merges them with the snapshot store's, which is ordered, too.
//!
//! For each log segment there is also a list of the grains whose *oldest* indexed commit lies in it: what a checkpoint has
//! to write before it may free that segment. A grain is on exactly one list.
//!
//! **Not here:** bodies of commits; they are read from the log.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use granary_core::commit::{Head, NOTHING};
use granary_core::id::{GrainKey, GrainName, GrainType, Lsn, ModuleHash, Seq};

use super::StoredHead;
use super::log::{Incarnation, Position};

/// More shards than a large machine has cores.
const SHARDS: usize = 64;

/// A commit in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: Seq,
    pub(crate) position: Position,
    /// Whether it deletes the grain: what came before is of no interest any more.
    pub(crate) deletes: bool,
    /// Whether it does so but for replies that stay, those from before among them.
    pub(crate) vacates: bool,
    /// Whether it's a copy of a whole state, which stands by itself, whatever an image or earlier commits say.
    pub(crate) whole: bool,
}

/// How a commit hangs on to the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) prev_hash: [u8; 16],
    /// The grain's head once it's there.
    pub(crate) head: Head,
}

/// A grain's commits since its image, in order.
#[derive(Debug)]
struct Chain {
    entries: Vec<Entry>,
    /// The last entry's commit.
    last: Head,
    bytes: u64,
    /// Whether it was reported as too long and not checkpointed since.
    reported: bool,
}

impl Entry {
    /// Whether the grain has state after it.
    fn exists(&self) -> bool {
        !self.deletes && !self.vacates
    }
}

impl Chain {
    fn check(&self, grain: &GrainName, seq: Seq, prev_hash: [u8; 16]) -> Result<(), String> {
        if seq == self.last.seq.next() && prev_hash == self.last.hash {
            return Ok(());
        }
        let (next, last) = (seq.0, self.last.seq.0);
        Err(format!("commit {next} of {grain} doesn't follow commit {last}"))
    }
}

/// See the module.
pub(crate) struct Index {
    shards: Vec<Mutex<BTreeMap<GrainName, Chain>>>,
    hasher: RandomState,
    /// Grains by the segment of their oldest entry. Locked inside of a shard's lock, never the other way round.
    oldest: Mutex<BTreeMap<Incarnation, Vec<GrainName>>>,
    grains: AtomicU64,
    chain_limit_commits: usize,
    chain_limit_bytes: u64,
}

/// A grain that a listing found in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: GrainKey,
    /// Whether it has state after its last commit.
    pub(crate) exists: bool,
}

const UNPOISONED: &str = "no thread panics while it holds a lock of the index";

impl Index {
    /// An empty index that reports chains longer than these limits.
    pub(crate) fn new(chain_limit_commits: usize, chain_limit_bytes: u64) -> Index {
        Index {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            oldest: Mutex::default(),
            grains: AtomicU64::new(0),
            chain_limit_commits,
            chain_limit_bytes,
        }
    }

    fn shard(&self, grain: &GrainName) -> MutexGuard<'_, BTreeMap<GrainName, Chain>> {
        let hash = self.hasher.hash_one(grain);
        self.shards[hash as usize % SHARDS].lock().expect(UNPOISONED)
    }

    /// Whether a commit may come next: it follows the grain's last one, or stands by itself. An error says what's wrong.
    pub(crate) fn check(&self, grain: &GrainName, seq: Seq, prev_hash: [u8; 16], whole: bool) -> Result<(), String> {
        match self.shard(grain).get(grain) {
            Some(chain) if !whole => chain.check(grain, seq, prev_hash),
            _ => Ok(()),
        }
    }

    /// [`push`](Self::push) at a start. Hosts of an earlier release that had forgotten a grain's deletion began its numbers anew
    /// behind it: such a first commit stands by itself.
    pub(crate) fn replay(&self, grain: &GrainName, mut entry: Entry, link: Link) -> Result<bool, String> {
        if entry.seq == Seq(1) && link.prev_hash == NOTHING {
            entry.whole |= self.entries(grain).last().is_some_and(|last| last.deletes);
        }
        self.push(grain, entry, link)
    }

    /// Adds a grain's next commit. True when its chain just became too long; an error when it doesn't follow the one before.
    pub(crate) fn push(&self, grain: &GrainName, entry: Entry, link: Link) -> Result<bool, String> {
        let mut shard = self.shard(grain);
        let chain = match shard.get_mut(grain) {
            Some(chain) => {
                if entry.whole {
                    // It may stay on an earlier segment's list, too: then it's written once more than needed.
                    self.enlist(grain, entry.position.incarnation);
                    chain.entries.clear();
                    chain.bytes = 0;
                } else {
                    chain.check(grain, entry.seq, link.prev_hash)?;
                }
                chain.last = link.head;
                chain
            }
            None => {
                self.grains.fetch_add(1, Ordering::Relaxed);
                self.enlist(grain, entry.position.incarnation);
                shard.entry(grain.clone()).or_insert(Chain {
                    entries: Vec::new(),
                    last: link.head,
                    bytes: 0,
                    reported: false,
                })
            }
        };
        chain.entries.push(entry);
        chain.bytes += u64::from(entry.position.len);
        let long = chain.entries.len() >= self.chain_limit_commits || chain.bytes >= self.chain_limit_bytes;
        Ok(long && !std::mem::replace(&mut chain.reported, true))
    }

    /// A grain's commits since its image, oldest first.
    pub(crate) fn entries(&self, grain: &GrainName) -> Vec<Entry> {
        self.shard(grain)
            .get(grain)
            .map_or(Vec::new(), |chain| chain.entries.clone())
    }

    /// A grain's last commit, when it's here, and whether what is here stands by itself, whatever the snapshot store says. Also that of an
    /// absence.
    pub(crate) fn head(&self, grain: &GrainName) -> Option<(StoredHead, bool)> {
        let shard = self.shard(grain);
        let chain = shard.get(grain)?;
        let head = StoredHead {
            head: chain.last.clone(),
            deleted: chain.entries.last().is_some_and(|entry| entry.deletes),
            vacant: chain.entries.last().is_some_and(|entry| entry.vacates),
        };
        Some((head, chain.entries.iter().any(|entry| entry.whole)))
    }

    /// The names of all grains with commits here.
    pub(crate) fn names(&self) -> Vec<GrainName> {
        let shards = self.shards.iter();
        shards
            .flat_map(|shard| shard.lock().expect(UNPOISONED).keys().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// The modules of the last commits of a type's grains.
    pub(crate) fn modules(&self, kind: &GrainType) -> HashSet<ModuleHash> {
        let mut modules = HashSet::new();
        let first = GrainKey::new("\0").expect("a key of one byte is one");
        let first = GrainName::new(kind.clone(), first);
        for shard in &self.shards {
            let shard = shard.lock().expect(UNPOISONED);
            let grains = shard.range(&first..).take_while(|(grain, _)| grain.kind == *kind);
            modules.extend(grains.map(|(_, chain)| chain.last.module));
        }
        modules
    }

    /// Drops a grain's commits whose place is at most `upto`: the snapshot store has what they led to, durably. Numbers say nothing:
    /// another history may have come since, with the same ones.
    pub(crate) fn drop_upto(&self, grain: &GrainName, upto: Lsn) {
        let mut shard = self.shard(grain);
        let Some(chain) = shard.get_mut(grain) else { return };
        chain.entries.retain(|entry| entry.position.lsn > upto);
        chain.bytes = chain.entries.iter().map(|entry| u64::from(entry.position.len)).sum();
        chain.reported = false;
        match chain.entries.first() {
            Some(first) => self.enlist(grain, first.position.incarnation),
            None => {
                shard.remove(grain);
                self.grains.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes the list of grains that have their oldest commit in a segment. Each must come back by [`Index::drop_upto`] or
    /// [`Index::enlist`].
    pub(crate) fn take_oldest_in(&self, incarnation: Incarnation) -> Vec<GrainName> {
        let mut oldest = self.oldest.lock().expect(UNPOISONED);
        oldest.remove(&incarnation).unwrap_or_default()
    }

    /// Notes that a grain's oldest commit is in a segment.
    pub(crate) fn enlist(&self, grain: &GrainName, incarnation: Incarnation) {
        let mut oldest = self.oldest.lock().expect(UNPOISONED);
        oldest.entry(incarnation).or_default().push(grain.clone());
    }

    /// Grains with commits here.
    pub(crate) fn grains(&self) -> u64 {
        self.grains.load(Ordering::Relaxed)
    }

    /// Keys of a type from `from` on that start with `prefix`, in order: the first `limit` existing ones, and all deleted
    /// ones between them. True when that's all there are.
    pub(crate) fn list(
        &self,
        kind: &GrainType,
        from: Bound<&GrainKey>,
        prefix: &str,
        limit: usize,
    ) -> (Vec<Found>, bool) {
        let mut found = Vec::new();
        let mut complete = true;
        let from = from.map(|key| GrainName::new(kind.clone(), key.clone()));
        for shard in &self.shards {
            let shard = shard.lock().expect(UNPOISONED);
            let mut existing = 0;
            for (grain, chain) in shard.range((from.clone(), Bound::Unbounded)) {
                if grain.kind != *kind || !grain.key.as_str().starts_with(prefix) {
                    break;
                }
                if existing == limit {
                    complete = false;
                    break;
                }
                let exists = chain.entries.last().is_none_or(Entry::exists);
                existing += usize::from(exists);
                let key = grain.key.clone();
                found.push(Found { key, exists });
            }
        }
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        // Behind the last of these a shard that was cut short may have others.
        let mut existing = found.iter().enumerate().filter(|(_, found)| found.exists);
        if let Some((last, _)) = existing.nth(limit.saturating_sub(1))
            && last + 1 < found.len()
        {
            found.truncate(last + 1);
            complete = false;
        }
        (found, complete)
    }
}

#[cfg(test)]
mod tests {
    use granary_core::id::{Ballot, HostId, Revision};

    use super::*;

    fn grain(key: &str) -> GrainName {
        GrainName::new(GrainType::new("t").unwrap(), GrainKey::new(key).unwrap())
    }

    fn entry(seq: u64, incarnation: Incarnation) -> Entry {
        let position = Position {
            lsn: Lsn(seq),
            incarnation,
            offset: 0,
            len: 10,
        };
        Entry {
            seq: Seq(seq),
            position,
            deletes: false,
            vacates: false,
            whole: false,
        }
    }

    fn link(seq: u64) -> Link {
        let ballot = Ballot {
            counter: 1,
            host: HostId([1; 16]),
            incarnation: 1,
        };
        Link {
            prev_hash: [1; 16],
            head: Head {
                ballot,
                seq: Seq(seq),
                hash: [1; 16],
                module: ModuleHash([1; 32]),
                revision: Revision(1),
            },
        }
    }

    #[test]
    fn a_commit_that_does_not_follow_is_an_error() {
        let index = Index::new(100, 1 << 20);
        index.push(&grain("a"), entry(5, 1), link(5)).unwrap();
        assert!(index.push(&grain("a"), entry(7, 1), link(7)).is_err());
        assert!(index.push(&grain("a"), entry(5, 1), link(5)).is_err());
        let other = Link {
            prev_hash: [2; 16],
            ..link(6)
        };
        assert!(index.push(&grain("a"), entry(6, 1), other).is_err());
        assert_eq!(index.entries(&grain("a")).len(), 1);
    }

    #[test]
    fn a_grain_is_on_the_list_of_its_oldest_commits_segment() {
        let index = Index::new(100, 1 << 20);
        index.push(&grain("a"), entry(1, 1), link(1)).unwrap();
        index.push(&grain("a"), entry(2, 2), link(2)).unwrap();
        index.push(&grain("b"), entry(1, 2), link(1)).unwrap();
        assert_eq!(index.take_oldest_in(1), [grain("a")]);
        index.drop_upto(&grain("a"), Lsn(1));
        assert_eq!(index.take_oldest_in(2), [grain("b"), grain("a")]);
        index.drop_upto(&grain("a"), Lsn(2));
        index.drop_upto(&grain("b"), Lsn(1));
        assert_eq!(index.grains(), 0);
        assert!(index.take_oldest_in(1).is_empty() && index.take_oldest_in(2).is_empty());
    }

    #[test]
    fn a_long_chain_is_reported_once_until_it_is_cut() {
        let index = Index::new(3, 1 << 20);
        let reports: Vec<_> = (1..=5)
            .map(|seq| index.push(&grain("a"), entry(seq, 1), link(seq)).unwrap())
            .collect();
        assert_eq!(reports, [false, false, true, false, false]);
        index.drop_upto(&grain("a"), Lsn(5));
        assert!(!index.push(&grain("a"), entry(6, 1), link(6)).unwrap());
        let bytes = Index::new(100, 25);
        let reports: Vec<_> = (1..=4)
            .map(|seq| bytes.push(&grain("a"), entry(seq, 1), link(seq)).unwrap())
            .collect();
        assert_eq!(reports, [false, false, true, false]);
    }

    #[test]
    fn a_listing_is_in_order_and_knows_whether_it_is_complete() {
        let index = Index::new(100, 1 << 20);
        for i in 0..200 {
            let deletes = i % 3 == 0;
            index
                .push(&grain(&format!("k{i:03}")), Entry { deletes, ..entry(1, 1) }, link(1))
                .unwrap();
        }
        index.push(&grain("j"), entry(1, 1), link(1)).unwrap();
        let kind = GrainType::new("t").unwrap();
        let start = GrainKey::new("k").unwrap();
        for limit in [1, 2, 7, 133, 134, 500] {
            let (found, complete) = index.list(&kind, Bound::Included(&start), "k", limit);
            let last = if limit < 133 { found.len() } else { 200 };
            let all: Vec<_> = (0..last).map(|i| (format!("k{i:03}"), i % 3 != 0)).collect();
            let found: Vec<_> = found.iter().map(|f| (f.key.to_string(), f.exists)).collect();
            let existing = found.iter().filter(|(_, exists)| *exists).count();
            assert_eq!(found, all, "limit {limit}");
            assert_eq!(existing, limit.min(133));
            assert!(complete || limit <= 133);
            assert!(!complete || limit >= 133);
        }
    }
}
