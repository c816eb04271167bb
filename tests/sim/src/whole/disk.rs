//! A simulated host's three files: the commit log, the journal, and the images that a checkpoint makes out of the log.
//!
//! Each becomes durable on its own, in the order of what was given to it. A crash leaves all that was durable, and of the rest of each
//! file a front part of any length; of a checkpoint that was under way it leaves any of its images, and all of the log. What a start
//! reads is made of that alone.
//!
//! The guest of these grains has a memory of one global, which each commit writes: the state after a commit is what that says.

use std::collections::{BTreeMap, VecDeque};

use granary_core::cluster::Record;
use granary_core::cluster::persistence::Files;
use granary_core::commit::{Change, Commit, Delta, Head, NOTHING};
use granary_core::id::{GrainId, GrainName, Lsn, Seq};
use granary_core::replication::messages::{Accepted, CommitHash, State};
use granary_core::replication::record;

use crate::dice::Dice;

/// A grain in storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    head: Head,
    /// Nothing when it's deleted.
    pub(super) state: Option<Delta>,
}

/// Which of the files that are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    Log,
    Journal,
}

enum Written {
    Record(u64, Record),
    Rewrite(Vec<Record>),
}

/// Images that are being written.
struct Checkpoint {
    upto: u64,
    images: Vec<(GrainName, Option<Stored>)>,
}

/// See the file's text.
#[derive(Default)]
pub(super) struct Disk {
    /// What comes behind place `freed`.
    log: VecDeque<Commit>,
    freed: u64,
    log_durable: u64,
    log_syncs: Option<u64>,
    journal: Vec<Written>,
    journal_durable: usize,
    journal_syncs: Option<usize>,
    images: BTreeMap<GrainName, Stored>,
    checkpoint: Option<Checkpoint>,
    /// What a running host knows of log and images.
    index: BTreeMap<GrainName, Stored>,
    /// And the last deletion of each grain that it has accepted.
    deletions: BTreeMap<GrainId, CommitHash>,
    /// For coverage and history, since somebody looked.
    pub(super) noted: Vec<Noted>,
    /// A broken rule, for a mutation: an image is as good as another of the same number.
    pub(super) compares_numbers: bool,
}

/// What a look at the files shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Noted {
    /// A record of this kind was written.
    Record(&'static str),
    /// A deletion is forgotten that this host had accepted; by its hash.
    Forgotten(GrainId, CommitHash),
    /// What can't be.
    Broken(String),
}

impl Files for Disk {
    fn append(&mut self, commit: &Commit) -> Lsn {
        self.noted.push(Noted::Record(kind_of(commit)));
        if let Err(what) = apply(&mut self.index, commit) {
            self.noted.push(Noted::Broken(what));
        }
        let stored = self.index.get(&commit.grain);
        if let Some(Stored { head, state: None }) = stored {
            self.deletions.insert(commit.grain.id(), head.hash);
        }
        self.log.push_back(commit.clone());
        Lsn(self.end())
    }

    fn journal(&mut self, mark: u64, record: &Record) {
        if let Record::Replica(_, record) = record {
            self.noted.push(Noted::Record(kind(record)));
            self.note_deletion(record);
        }
        self.journal.push(Written::Record(mark, record.clone()));
    }

    fn rewrite(&mut self, records: &[Record]) {
        self.noted.push(Noted::Record("rewrite"));
        self.journal.push(Written::Rewrite(records.to_vec()));
    }
}

impl Disk {
    fn note_deletion(&mut self, record: &record::Record) {
        match record {
            record::Record::Accept { grain, proposal, .. } if proposal.deletes => {
                self.deletions.insert(*grain, proposal.hash);
            }
            record::Record::Install {
                grain,
                accepted: Some(accepted),
                ..
            } if accepted.deleted => {
                self.deletions.insert(*grain, accepted.hash);
            }
            record::Record::Forget { grain, .. } => {
                let deletion = self.deletions.remove(grain);
                self.noted.extend(deletion.map(|hash| Noted::Forgotten(*grain, hash)));
            }
            _ => {}
        }
    }

    fn end(&self) -> u64 {
        self.freed + self.log.len() as u64
    }

    /// Up to where the log is durable.
    pub(super) fn log_durable(&self) -> Lsn {
        Lsn(self.log_durable)
    }

    /// A sync of a file that has something to be synced and isn't yet.
    pub(super) fn begin_sync(&mut self) -> Vec<File> {
        let mut begun = Vec::new();
        if self.log_syncs.is_none() && self.end() > self.log_durable {
            self.log_syncs = Some(self.end());
            begun.push(File::Log);
        }
        if self.journal_syncs.is_none() && self.journal.len() > self.journal_durable {
            self.journal_syncs = Some(self.journal.len());
            begun.push(File::Journal);
        }
        begun
    }

    /// What was given to the log before its sync began is durable. Up to where.
    pub(super) fn synced_log(&mut self) -> Lsn {
        self.log_durable = self.log_syncs.take().unwrap_or(self.log_durable);
        Lsn(self.log_durable)
    }

    /// The same for the journal. The marks of its records.
    pub(super) fn synced_journal(&mut self) -> Vec<u64> {
        let upto = self.journal_syncs.take().unwrap_or(self.journal_durable);
        let synced = &self.journal[self.journal_durable..upto];
        let marks = synced.iter().filter_map(|written| match written {
            Written::Record(mark, _) => Some(*mark),
            Written::Rewrite(_) => None,
        });
        let marks = marks.collect();
        self.journal_durable = upto;
        marks
    }

    /// Begins to write images of what is durable in the log. False when that isn't needed.
    pub(super) fn begin_checkpoint(&mut self) -> bool {
        if self.checkpoint.is_some() || self.log_durable <= self.freed {
            return false;
        }
        let upto = self.log_durable;
        let durable = self.log.iter().take((upto - self.freed) as usize);
        let mut names: Vec<&GrainName> = durable.map(|commit| &commit.grain).collect();
        names.sort_unstable();
        names.dedup();
        let images = names.into_iter().filter_map(|name| {
            let stored = self.read(name, upto).ok()?;
            let old = self.images.get(name);
            let is_same = match (old, &stored) {
                (Some(old), Some(new)) if self.compares_numbers => {
                    (old.head.seq, old.state.is_none()) == (new.head.seq, new.state.is_none())
                }
                (Some(old), Some(new)) => old == new,
                (None, None) => true,
                _ => false,
            };
            (!is_same).then(|| (name.clone(), stored))
        });
        let images = images.collect();
        self.checkpoint = Some(Checkpoint { upto, images });
        true
    }

    /// All its images are durable: the log is freed up to there.
    pub(super) fn end_checkpoint(&mut self) {
        let Some(Checkpoint { upto, images }) = self.checkpoint.take() else {
            return;
        };
        images.into_iter().for_each(|image| put(&mut self.images, image));
        self.log.drain(..(upto - self.freed) as usize);
        self.freed = upto;
    }

    /// What is left after a crash.
    pub(super) fn cut(&mut self, dice: &mut Dice) {
        if let Some(Checkpoint { images, .. }) = self.checkpoint.take() {
            for image in images {
                if dice.percent(50) {
                    put(&mut self.images, image);
                }
            }
        }
        let spared = dice.below(self.end() - self.log_durable + 1);
        self.log.truncate((self.log_durable + spared - self.freed) as usize);
        let spared = dice.below((self.journal.len() - self.journal_durable) as u64 + 1);
        self.journal.truncate(self.journal_durable + spared as usize);
        let records = self.records().into_iter();
        // Marks begin anew with each start.
        self.journal = records.map(|record| Written::Record(0, record)).collect();
        (self.log_durable, self.journal_durable) = (self.end(), self.journal.len());
        (self.log_syncs, self.journal_syncs) = (None, None);
        self.index.clear();
    }

    /// Something that was durable is lost for good: the end of a file, or an image. True when it was.
    pub(super) fn lose_a_part(&mut self, dice: &mut Dice) -> bool {
        let lost = dice.between(1, 40);
        match dice.below(2) {
            0 => {
                let kept = self.log.len().saturating_sub(lost as usize);
                let is_lost = kept < self.log.len();
                self.log.truncate(kept);
                self.log_durable = self.end();
                is_lost
            }
            _ => {
                let names: Vec<&GrainName> = self.images.keys().collect();
                let name = (!names.is_empty()).then(|| names[dice.below(names.len() as u64) as usize].clone());
                name.is_some_and(|name| self.images.remove(&name).is_some())
            }
        }
    }

    /// The journal's records.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for written in &self.journal {
            match written {
                Written::Record(_, record) => records.push(record.clone()),
                Written::Rewrite(all) => records = all.clone(),
            }
        }
        records
    }

    /// At a start: reads images and log.
    pub(super) fn open(&mut self) -> Result<Vec<(GrainName, Accepted)>, String> {
        let mut names: Vec<&GrainName> = self.images.keys().collect();
        names.extend(self.log.iter().map(|commit| &commit.grain));
        names.sort_unstable();
        names.dedup();
        let mut index = BTreeMap::new();
        for name in names {
            if let Some(stored) = self.read(name, u64::MAX)? {
                index.insert(name.clone(), stored);
            }
        }
        self.index = index;
        self.deletions.clear();
        for record in self.records() {
            if let Record::Replica(_, record) = record {
                self.note_deletion(&record);
            }
        }
        let deleted = self.index.iter().filter(|(_, stored)| stored.state.is_none());
        self.deletions
            .extend(deleted.map(|(name, stored)| (name.id(), stored.head.hash)));
        // Those of the journal were seen when they were written.
        self.noted.clear();
        let heads = self.index.iter();
        Ok(heads.map(|(name, stored)| (name.clone(), stored.accepted())).collect())
    }

    /// A grain's state, all that was given to the log considered.
    pub(super) fn state(&self, name: &GrainName) -> Option<State> {
        let stored = self.index.get(name)?;
        let accepted = stored.accepted();
        let body = match &stored.state {
            None => Default::default(),
            Some(state) => {
                let copy = Commit {
                    ballot: stored.head.ballot,
                    seq: stored.head.seq,
                    change: Change::Whole {
                        hash: stored.head.hash,
                        state: Some(state.clone()),
                    },
                    ..Commit::absence(name.clone())
                };
                let mut bytes = Vec::new();
                copy.encode(&mut bytes);
                bytes.into()
            }
        };
        Some(State {
            seq: accepted.seq,
            hash: accepted.hash,
            deleted: accepted.deleted,
            body,
        })
    }

    /// A grain out of its image and its commits up to a place, as a checkpoint and a start read it.
    fn read(&self, name: &GrainName, upto: u64) -> Result<Option<Stored>, String> {
        let count = upto.saturating_sub(self.freed);
        let durable = self.log.iter().take(usize::try_from(count).unwrap_or(usize::MAX));
        let commits: Vec<&Commit> = durable.filter(|commit| commit.grain == *name).collect();
        let mut grains = BTreeMap::new();
        // A copy of a whole state, and what follows it, needs no image.
        let copy = commits
            .iter()
            .rposition(|commit| matches!(commit.change, Change::Whole { .. }));
        let mut covered = Seq(0);
        if let (None, Some(image)) = (copy, self.images.get(name)) {
            covered = image.head.seq;
            grains.insert(name.clone(), image.clone());
        }
        let fresh = commits[copy.unwrap_or(0)..].iter();
        for commit in fresh.filter(|commit| commit.seq > covered || copy.is_some()) {
            apply(&mut grains, commit)?;
        }
        Ok(grains.remove(name))
    }
}

impl Stored {
    fn accepted(&self) -> Accepted {
        Accepted {
            ballot: self.head.ballot,
            seq: self.head.seq,
            hash: self.head.hash,
            deleted: self.state.is_none(),
        }
    }
}

/// What a state says.
pub(super) fn value(state: &State) -> Option<u128> {
    let commit = Commit::decode(state.body.as_bytes()).ok()?;
    match commit.change {
        Change::Whole { state, .. } => state?.globals.first().copied(),
        _ => None,
    }
}

fn put(images: &mut BTreeMap<GrainName, Stored>, (name, stored): (GrainName, Option<Stored>)) {
    match stored {
        Some(stored) => images.insert(name, stored),
        None => images.remove(&name),
    };
}

/// What a commit makes of its grain; refused when it doesn't follow the one before.
fn apply(grains: &mut BTreeMap<GrainName, Stored>, commit: &Commit) -> Result<(), String> {
    let mut bytes = Vec::new();
    commit.encode(&mut bytes);
    let head = commit.head(Commit::hash(&bytes));
    let last = grains.get(&commit.grain);
    let (seq, hash) = last.map_or((Seq(0), NOTHING), |last| (last.head.seq, last.head.hash));
    let follows = (commit.seq, commit.prev_hash) == (seq.next(), hash);
    if !follows && !matches!(commit.change, Change::Whole { .. }) {
        let (grain, seq) = (&commit.grain, commit.seq.0);
        return Err(format!("storage: commit {seq} of {grain} doesn't follow {last:?}"));
    }
    let state = match &commit.change {
        Change::Delta(state) => Some(state.clone()),
        Change::Whole { state, .. } => state.clone(),
        Change::Delete => None,
    };
    match head.is_nothing() {
        true => grains.remove(&commit.grain),
        false => grains.insert(commit.grain.clone(), Stored { head, state }),
    };
    Ok(())
}

fn kind_of(commit: &Commit) -> &'static str {
    match &commit.change {
        Change::Delta(_) => "commit",
        Change::Delete => "deletion",
        Change::Whole { hash, .. } if *hash == NOTHING => "absence",
        Change::Whole { state: None, .. } => "copy of a deletion",
        Change::Whole { .. } => "copy",
    }
}

fn kind(record: &record::Record) -> &'static str {
    match record {
        record::Record::Promise { .. } => "promise",
        record::Record::Accept { .. } => "accept",
        record::Record::Forget { .. } => "forget",
        record::Record::Install { .. } => "install",
        record::Record::Seal { .. } => "seal",
        record::Record::Ready { .. } => "ready",
        record::Record::Discard => "discard",
    }
}
