//! Power cuts at any moment: what was reported durable is there, what is there is a prefix of what was appended, and all of it is right.
//!
//! Each seed is one disk with a life of several powers: commits of random grains, sizes and kinds, checkpoints whenever they
//! like, moves to other modules and back, loads beside checkpoints, a cut after a random number of disk operations (in recovery, too), survivors chosen at random, and a check.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use granary_core::commit::{Change, Delta, Head};
use granary_core::id::{Lsn, ModuleHash, Revision};
use granary_core::page::{PAGE_SIZE, Patches};

use super::config::Sabotage;
use super::files::faulty::{Faults, FaultyFiles, Power};
use super::model_heads::ModelHeads;
use super::noise::Noise;
use super::repair::opening;
use super::suite::{commit, grain, small_config};
use super::*;

const GRAINS: usize = 12;
const MEMORY: usize = 24 * PAGE_SIZE;
const POWERS: usize = 8;

/// What a grain was after each of its commits.
#[derive(Clone)]
struct Step {
    lsn: Lsn,
    head: Head,
    deleted: bool,
    memory: Arc<Vec<u8>>,
}

/// A disk, and what was done to it.
struct World {
    noise: Noise,
    files: FaultyFiles,
    heads: Arc<ModelHeads>,
    power: Arc<Power>,
    sabotage: Sabotage,
    lying_sync: bool,
    histories: Vec<Vec<Step>>,
    /// What was reported durable.
    reported: Lsn,
    /// Why storage would have ended the process although the power was on.
    died: Arc<Mutex<Option<String>>>,
}

#[derive(Default)]
struct Reported(AtomicU64);

impl DurableSink for Reported {
    fn durable(&self, upto: Lsn) {
        self.0.store(upto.0, Ordering::SeqCst);
    }
}

impl World {
    fn new(seed: u64, sabotage: Sabotage, lying_sync: bool) -> World {
        let power = Power::steady();
        World {
            noise: Noise::new(seed),
            files: FaultyFiles::new(power.clone()),
            heads: ModelHeads::new(power.clone()),
            power,
            sabotage,
            lying_sync,
            histories: vec![Vec::new(); GRAINS],
            reported: Lsn(0),
            died: Arc::default(),
        }
    }

    fn open(&self, sabotage: Sabotage) -> Result<SledStorage, StorageError> {
        let config = StorageConfig {
            sabotage,
            ..small_config()
        };
        let (power, died) = (self.power.clone(), self.died.clone());
        let fatal = Arc::new(move |reason: &str| {
            if !power.is_off() {
                *died.lock().unwrap() = Some(reason.to_owned());
                power.cut();
            }
        });
        let files = Arc::new(self.files.clone());
        let heads = opening::join(self.heads.clone(), files.clone())?;
        SledStorage::assemble(files, heads, config, fatal)
    }

    /// Cuts the power and turns it on again for `operations`.
    fn cut(&mut self, operations: i64) {
        let power = Power::failing_after(operations);
        self.files = self.files.after_power_cut(&mut self.noise, power.clone());
        self.heads = self.heads.after_power_cut(&mut self.noise, power.clone());
        self.power = power;
        let lying_sync = self.lying_sync;
        self.files.set_faults(Faults {
            lying_sync,
            ..Faults::default()
        });
    }

    /// Works until the power fails, or stops of itself. What was appended is in the histories then.
    fn work(&mut self, storage: &SledStorage, commits: u64) {
        let sink = Arc::new(Reported(AtomicU64::new(self.reported.0)));
        storage.set_sink(sink.clone());
        for _ in 0..commits {
            while !self.power.is_off() && storage.admit().is_err() {
                std::thread::yield_now();
            }
            if self.power.is_off() {
                break;
            }
            let which = self.noise.below(GRAINS as u64) as usize;
            self.commit(storage, which);
            if self.noise.below(8) == 0 {
                self.look(storage);
            }
            // Sometimes alone, sometimes in company of those before.
            let last = self
                .histories
                .iter()
                .flatten()
                .map(|step| step.lsn)
                .max()
                .unwrap_or_default();
            if self.noise.below(4) == 0 {
                while !self.power.is_off() && storage.durable() < last {
                    std::thread::yield_now();
                }
            }
        }
        if !self.power.is_off() && self.noise.below(3) == 0 {
            storage.close();
        } else {
            self.power.cut();
        }
        storage.stop_for_test();
        self.reported = Lsn(sink.0.load(Ordering::SeqCst));
    }

    fn commit(&mut self, storage: &SledStorage, which: usize) {
        let last = self.histories[which].last().cloned();
        let exists = last.as_ref().is_some_and(|last| !last.deleted);
        let deletes = exists && self.noise.below(15) == 0;
        let mut revision = last.as_ref().map_or(Revision(1), |last| last.head.revision);
        let before = before(&self.histories[which]).filter(|_| !deletes && self.noise.below(3) == 0);
        let (memory, change) = if let Some(before) = before {
            // Back: all of the state from before.
            revision = before.head.revision;
            let mut memory = vec![0; MEMORY];
            let delta = copy(&mut memory, &before.memory);
            (memory, Change::Delta(delta))
        } else {
            if !deletes && self.noise.below(6) == 0 {
                revision = Revision(1 + self.noise.below(3) as u32);
            }
            let mut memory = match &last {
                Some(last) if !deletes && !last.deleted && last.head.revision == revision => Vec::clone(&last.memory),
                _ => vec![0; MEMORY],
            };
            let change = match deletes {
                true => Change::Delete,
                false => Change::Delta(scribble(&mut memory, &mut self.noise)),
            };
            (memory, change)
        };
        let mut commit = commit(&name(which), last.as_ref().map(|last| &last.head), change);
        commit.revision = revision;
        commit.module = ModuleHash([revision.0 as u8; 32]);
        let appended = storage.append(&commit);
        self.histories[which].push(Step {
            lsn: appended.lsn,
            head: commit.head(appended.hash),
            deleted: deletes,
            memory: Arc::new(memory),
        });
    }

    /// Compares one grain with what was done to it, whatever a checkpoint is doing.
    fn look(&mut self, storage: &SledStorage) {
        let which = self.noise.below(GRAINS as u64) as usize;
        let history = &self.histories[which];
        let wrong = match check_grain(storage, which, history) {
            Ok(extent) if extent.accounted() == history.len() => return,
            Ok(_) => format!("{}'s last commit isn't there at once", name(which)),
            Err(wrong) => wrong,
        };
        if !self.power.is_off() {
            *self.died.lock().unwrap() = Some(wrong);
            self.power.cut();
        }
    }

    /// Compares what's there with what was done, and goes on from what's there.
    fn check(&mut self, storage: &SledStorage) -> Result<(), String> {
        if let Some(reason) = self.died.lock().unwrap().take() {
            return Err(format!("it ended the process: {reason}"));
        }
        let mut lengths = Vec::new();
        for (which, history) in self.histories.iter().enumerate() {
            lengths.push(check_grain(storage, which, history)?);
        }
        let present = self.histories.iter().zip(&lengths);
        let present = present.filter_map(|(history, len)| history[..len.present()].last());
        let newest = present.map(|step| step.lsn).max().unwrap_or(Lsn(0));
        for (history, len) in self.histories.iter().zip(&lengths) {
            if let Some(lost) = history.get(len.accounted()) {
                if lost.lsn <= self.reported {
                    return Err(format!(
                        "{:?} was reported durable and is lost: {:?}",
                        lost.lsn, lost.head.seq
                    ));
                }
                if lost.lsn < newest {
                    return Err(format!("{:?} is lost, though {newest:?} isn't", lost.lsn));
                }
            }
        }
        for (history, len) in self.histories.iter_mut().zip(lengths) {
            history.truncate(len.present());
        }
        Ok(())
    }
}

/// How much of a grain's history is there.
enum Extent {
    /// So many commits.
    Present(usize),
    /// None. The first so many may have been forgotten, as the last of them deleted the grain; its numbering begins anew.
    Forgotten(usize),
}

impl Extent {
    fn present(&self) -> usize {
        match self {
            Extent::Present(len) => *len,
            Extent::Forgotten(_) => 0,
        }
    }

    fn accounted(&self) -> usize {
        match self {
            Extent::Present(len) | Extent::Forgotten(len) => *len,
        }
    }
}

/// How many of a grain's commits are there; an error when its state isn't that of the last of them.
fn check_grain(storage: &SledStorage, which: usize, history: &[Step]) -> Result<Extent, String> {
    let stored = storage.load(&name(which)).map_err(|error| error.to_string())?;
    let Some(stored) = stored else {
        let forgotten = history.iter().rposition(|step| step.deleted);
        return Ok(Extent::Forgotten(forgotten.map_or(0, |at| at + 1)));
    };
    let at = history.iter().rposition(|step| step.head == stored.head);
    let at = at.ok_or_else(|| format!("{} has a head that it never had: {:?}", name(which), stored.head))?;
    let step = &history[at];
    let memory = applied(&stored.parts);
    if stored.deleted != step.deleted || (!stored.deleted && memory != *step.memory) {
        return Err(format!(
            "{} isn't what it was after commit {:?}",
            name(which),
            stored.head.seq
        ));
    }
    let head = storage.head(&name(which)).map_err(|error| error.to_string())?;
    if head.is_none_or(|head| (head.head, head.deleted) != (stored.head, stored.deleted)) {
        return Err(format!("{}'s head isn't that of its state", name(which)));
    }
    let found = storage.load_before(&name(which)).map_err(|error| error.to_string())?;
    let found = found.map(|found| (found.revision, found.module, applied(&found.parts)));
    let expected = before(&history[..=at]);
    let expected = expected.map(|step| (step.head.revision, step.head.module, Vec::clone(&step.memory)));
    if found != expected {
        let revision = |found: Option<(Revision, ModuleHash, Vec<u8>)>| found.map(|found| found.0);
        return Err(format!(
            "the state of {} from before its move isn't what it was: of {:?} instead of {:?}",
            name(which),
            revision(found),
            revision(expected),
        ));
    }
    Ok(Extent::Present(at + 1))
}

/// The state from before the last step when that moved the grain to another module.
fn before(history: &[Step]) -> Option<&Step> {
    let [.., before, last] = history else { return None };
    let moved = !before.deleted && !last.deleted && before.head.module != last.head.module;
    moved.then_some(before)
}

fn applied(parts: &[Delta]) -> Vec<u8> {
    let mut memory = vec![0; MEMORY];
    parts.iter().for_each(|part| part.patches.apply(&mut memory).unwrap());
    memory
}

/// Makes `memory` another one and says how.
fn copy(memory: &mut [u8], other: &[u8]) -> Delta {
    let mut patches = Patches::new();
    let pages = memory.chunks_exact_mut(PAGE_SIZE).zip(other.chunks_exact(PAGE_SIZE));
    for (index, (page, other)) in pages.enumerate() {
        let (page, other): (&mut [u8; PAGE_SIZE], &[u8; PAGE_SIZE]) =
            (page.try_into().unwrap(), other.try_into().unwrap());
        if page != other {
            patches.push_changes(index as u32, page, other);
            *page = *other;
        }
    }
    Delta {
        memory_len: MEMORY as u64,
        globals: vec![7],
        patches,
    }
}

fn name(which: usize) -> GrainName {
    grain(&format!("grain-{which}"))
}

/// Changes some of `memory` and says what: mostly a few bytes, now and then more than a log segment.
fn scribble(memory: &mut [u8], noise: &mut Noise) -> Delta {
    let mut patches = Patches::new();
    let pages = if noise.below(30) == 0 { 1 + noise.below(12) } else { 1 };
    for _ in 0..pages {
        let index = noise.below((MEMORY / PAGE_SIZE) as u64) as usize;
        let page: &mut [u8; PAGE_SIZE] = (&mut memory[index * PAGE_SIZE..][..PAGE_SIZE]).try_into().unwrap();
        let before = *page;
        let len = if pages > 1 {
            PAGE_SIZE
        } else {
            1 + noise.below(300) as usize
        };
        let start = noise.below((PAGE_SIZE - len + 1) as u64) as usize;
        noise.fill(&mut page[start..start + len]);
        patches.push_changes(index as u32, &before, page);
    }
    Delta {
        memory_len: MEMORY as u64,
        globals: vec![7],
        patches,
    }
}

/// One disk's life. An error says what was found wrong.
fn live(seed: u64, sabotage: Sabotage, lying_sync: bool) -> Result<(), String> {
    let mut world = World::new(seed, Sabotage::default(), false);
    world.sabotage = sabotage;
    world.lying_sync = lying_sync;
    for _ in 0..POWERS {
        // Now and then so short that it ends in the middle of recovery.
        let operations = match world.noise.below(4) {
            0 => -1,
            1 => world.noise.below(30) as i64,
            _ => world.noise.below(600) as i64,
        };
        world.cut(operations);
        match world.open(sabotage) {
            Ok(storage) => {
                world.check(&storage)?;
                let commits = world.noise.below(400);
                world.work(&storage, commits);
            }
            Err(_) if world.power.is_off() => {}
            Err(error) => return Err(format!("it didn't open: {error}")),
        }
    }
    world.cut(-1);
    let storage = world
        .open(sabotage)
        .map_err(|error| format!("it didn't open: {error}"))?;
    world.check(&storage)
}

#[test]
fn nothing_durable_is_lost_and_nothing_else_is_made_up() {
    for seed in 0..150 {
        if let Err(wrong) = live(seed, Sabotage::default(), false) {
            panic!("seed {seed}: {wrong}");
        }
    }
}

/// The first seed of some that finds something wrong.
fn caught(sabotage: Sabotage, lying_sync: bool) -> Option<u64> {
    (0..40).find(|seed| live(*seed, sabotage, lying_sync).is_err())
}

#[test]
fn a_start_without_replay_is_noticed() {
    let no_replay = Sabotage {
        no_replay: true,
        ..Sabotage::default()
    };
    assert!(caught(no_replay, false).is_some());
}

#[test]
fn a_report_before_the_sync_is_noticed() {
    let report_before_sync = Sabotage {
        report_before_sync: true,
        ..Sabotage::default()
    };
    assert!(caught(report_before_sync, false).is_some());
}

#[test]
fn a_sync_that_does_nothing_is_noticed() {
    assert!(caught(Sabotage::default(), true).is_some());
}
