//! Which record of a host goes into which of its two files, and what may be durable before what.
//!
//! Accepted commits go into the commit log, everything else into the cluster's journal. The two are synced apart from each other, so a
//! crash may leave any durable part of the one with any durable part of the other. What keeps them one memory are three rules:
//!
//! 1. **The log says which state a host has accepted**, deletions included, and each of its records says so by itself: a commit of the
//!    activation that proposed it under that activation's ballot, a copy of a whole state under the ballot under which it was
//!    accepted here. A commit whose record is durable in the log is accepted, whatever the journal says.
//! 2. **The journal adds what the log can't say**: promises, the ballot under which a state was accepted once more, deletions of grains of
//!    which this host never had a state, seals, configurations. A journal's record is written when all commits that were given out
//!    before it are durable: it never names a state that the log has lost.
//! 3. **What takes something away is in the journal first.** A slot that is given up, and a deletion that all replicas have forgotten, are
//!    records of the journal; the grains are taken out of the log when those are durable. What a crash cut off there is completed at the
//!    next start, and that a slot is this host's again is written when nothing is left in the log of what it had there before.
//!
//! A *table* is a small state that no guest has (which revisions a type has): it's kept in the journal whole.
//!
//! **Not here:** how files are written (the driver), what the records mean (the other machines), the start ([`recovery`](super::recovery)).

#[cfg(test)]
mod large;
#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use super::event::Record;
use crate::commit::{Change, Commit, NOTHING};
use crate::id::{Ballot, GrainId, GrainName, Lsn, Seq};
use crate::replication::body::Body;
use crate::replication::messages::{Accepted, Payload, Proposal, State};
use crate::replication::mutation::{Mutation, Rules};
use crate::replication::record;
use crate::slot::Slot;

/// The first byte of a table; commits begin with their form's number, which is another.
pub const TABLE: u8 = b'T';
/// Grains that are taken out of the log in one step, so that a slot with many of them doesn't keep a host from its ballots.
const REMOVED_AT_ONCE: usize = 256;

/// The two files of a host. What is given to one of them becomes durable in its order.
pub trait Files {
    /// Appends a commit to the log and returns its place.
    fn append(&mut self, commit: &Commit) -> Lsn;
    /// Appends a record to the journal; its mark is told by [`Persistence::journaled`] when it's durable.
    fn journal(&mut self, mark: u64, record: &Record);
    /// Takes these in the place of all records that the journal has.
    fn rewrite(&mut self, records: &[Record]);
}

/// See the module's text.
#[derive(Debug)]
pub struct Persistence {
    /// The grains of which the log has something, or whose names are known: ids can't be turned back into names.
    grains: BTreeMap<(Slot, GrainId), Known>,
    tables: BTreeMap<GrainId, State>,
    /// The place of the last commit that was given out, and up to where the log is durable.
    appended: Lsn,
    durable: Lsn,
    /// Marks of records that are in the log alone, by place.
    logged: VecDeque<(Lsn, u64)>,
    /// What the journal gets later, in order.
    held: VecDeque<Held>,
    /// What goes when the journal's record with this mark is durable.
    leaving: BTreeMap<u64, Vec<Stored>>,
    /// What may go now.
    gone: VecDeque<Stored>,
    /// How many of both there are in each slot.
    left: BTreeMap<Slot, usize>,
    rules: Rules,
}

/// A grain's name, and what the log has of it.
#[derive(Clone, Debug)]
struct Known {
    name: GrainName,
    stored: Option<Stored>,
}

/// The last record of a grain in the log. Its place tells it from any other of the same grain, also from one that says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    grain: GrainId,
    accepted: Accepted,
    at: Lsn,
}

#[derive(Debug)]
struct Held {
    /// When the log is durable up to there, and
    after: Lsn,
    /// when nothing is left of what was in this slot.
    without: Option<Slot>,
    what: Order,
}

#[derive(Debug)]
enum Order {
    Write(u64, Record),
    Rewrite(Vec<Record>),
}

/// Where a record goes.
enum Place {
    /// Into the log alone: at this place.
    Log(Lsn),
    /// Into the journal, in this form.
    Journal(record::Record),
}

impl Persistence {
    /// Files in which nothing is, the log durable up to there.
    pub fn new(durable: Lsn, rules: Rules) -> Persistence {
        Persistence {
            rules,
            grains: BTreeMap::new(),
            tables: BTreeMap::new(),
            appended: durable,
            durable,
            logged: VecDeque::new(),
            held: VecDeque::new(),
            leaving: BTreeMap::new(),
            gone: VecDeque::new(),
            left: BTreeMap::new(),
        }
    }

    /// Notes a grain's name.
    pub fn name(&mut self, name: &GrainName) {
        self.known(name);
    }

    /// A grain's name, if it's known.
    pub fn name_of(&self, grain: GrainId) -> Option<&GrainName> {
        self.grains.get(&key(grain)).map(|known| &known.name)
    }

    /// The state that is stored of a grain here, all that was given out considered.
    pub fn stored(&self, grain: GrainId) -> Option<Accepted> {
        if let Some(table) = self.tables.get(&grain) {
            return Some(Accepted {
                ballot: Ballot::LEAST,
                seq: table.seq,
                hash: table.hash,
                deleted: table.deleted,
            });
        }
        self.record_of(grain).map(|stored| stored.accepted)
    }

    fn record_of(&self, grain: GrainId) -> Option<Stored> {
        self.grains.get(&key(grain))?.stored
    }

    /// A table's state.
    pub fn table(&self, grain: GrainId) -> Option<&State> {
        self.tables.get(&grain)
    }

    /// Grains whose states or deletions are stored.
    pub(super) fn all_stored(&self) -> impl Iterator<Item = (GrainId, Accepted)> {
        let stored = self.grains.values().filter_map(|known| known.stored);
        stored.map(|stored| (stored.grain, stored.accepted))
    }

    /// At a start: the log has this of a grain.
    pub(super) fn found(&mut self, name: &GrainName, accepted: Accepted) {
        let (grain, at) = (name.id(), self.durable);
        self.known(name).stored = Some(Stored { grain, accepted, at });
    }

    /// At a start: a record of the journal.
    pub(super) fn replay(&mut self, record: &Record) {
        if let Record::Replica(slot, record) = record {
            self.take_table(*slot, record);
        }
    }

    /// At a start: what is stored of a grain is to go, the journal says so.
    pub(super) fn takes_out(&mut self, grain: GrainId) {
        let leaving = self.record_of(grain);
        self.count(&leaving);
        self.gone.extend(leaving);
    }

    /// Whether [`Persistence::step`] has something to do.
    pub fn has_work(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Does a part of what is to be done without anybody waiting for it.
    pub fn step(&mut self, files: &mut dyn Files) {
        for _ in 0..REMOVED_AT_ONCE {
            let Some(stored) = self.gone.pop_front() else { break };
            if self.is_last(&stored)
                && let Some(known) = self.grains.remove(&key(stored.grain))
            {
                self.append(files, &Commit::absence(known.name));
            }
            if let Entry::Occupied(mut left) = self.left.entry(Slot::of(stored.grain)) {
                *left.get_mut() -= 1;
                if *left.get() == 0 {
                    left.remove();
                }
            }
        }
        self.release(files);
    }

    fn count<'a>(&mut self, leaving: impl IntoIterator<Item = &'a Stored>) {
        for stored in leaving {
            *self.left.entry(Slot::of(stored.grain)).or_default() += 1;
        }
    }

    /// Writes a record; its mark is returned by [`Persistence::log_durable`] or comes by [`Persistence::journaled`] when it's durable.
    ///
    /// # Panics
    ///
    /// When the record names a commit that can't be read or doesn't follow what is stored: what a replica accepts was checked before
    /// ([`soundness`](super::soundness)), so that this host has lost its way.
    pub fn write(&mut self, mark: u64, record: Record, files: &mut dyn Files) {
        let Record::Replica(slot, record) = record else {
            return self.note(mark, record, files);
        };
        self.take_table(slot, &record);
        let place = match record {
            record::Record::Accept {
                grain,
                ballot,
                proposal,
            } => self.accept(grain, ballot, proposal, files),
            record::Record::Install {
                grain,
                promised,
                accepted,
                body,
            } => self.install(grain, promised, accepted, body, files),
            record::Record::Discard => {
                let here = self.grains.range((slot, FIRST)..=(slot, LAST));
                let here = here.filter_map(|(_, known)| known.stored).collect();
                self.leave(mark, here);
                Place::Journal(record)
            }
            record::Record::Forget { grain, .. } => {
                self.leave(mark, self.record_of(grain).into_iter().collect());
                Place::Journal(record)
            }
            other => Place::Journal(other),
        };
        match place {
            Place::Log(lsn) => self.logged.push_back((lsn, mark)),
            Place::Journal(record) => self.note(mark, Record::Replica(slot, record), files),
        }
    }

    /// These go when the record with this mark is durable in the journal.
    fn leave(&mut self, mark: u64, leaving: Vec<Stored>) {
        self.count(&leaving);
        if self.rules.breaks(Mutation::TakenOutFirst) {
            self.gone.extend(leaving);
        } else {
            self.leaving.insert(mark, leaving);
        }
    }

    /// The log is durable up to there. Returns the marks of records that are durable by that.
    pub fn log_durable(&mut self, upto: Lsn, files: &mut dyn Files) -> Vec<u64> {
        self.durable = self.durable.max(upto);
        let mut marks = Vec::new();
        while let Some((_, mark)) = self.logged.pop_front_if(|(lsn, _)| *lsn <= upto) {
            marks.push(mark);
        }
        self.release(files);
        marks
    }

    /// Gives the journal what needn't be held any longer.
    fn release(&mut self, files: &mut dyn Files) {
        while let Some(first) = self.held.front_mut() {
            if let Some(slot) = first.without {
                if self.left.contains_key(&slot) {
                    return;
                }
                // What was taken out has to be durable as well.
                (first.without, first.after) = (None, self.appended);
            }
            if first.after > self.durable {
                return;
            }
            match self.held.pop_front().map(|held| held.what) {
                Some(Order::Write(mark, record)) => files.journal(mark, &record),
                Some(Order::Rewrite(records)) => files.rewrite(&records),
                None => {}
            }
        }
    }

    /// Records of the journal with these marks are durable.
    pub fn journaled(&mut self, marks: &[u64]) {
        for mark in marks {
            // Rule 3.
            self.gone.extend(self.leaving.remove(mark).into_iter().flatten());
        }
    }

    /// Writes the journal anew: `snapshot` stands for all its records.
    pub fn compact(&mut self, snapshot: impl Iterator<Item = Record>, files: &mut dyn Files) {
        // First the deletions that the journal has forgotten and the log hasn't yet: of the same grain there may be a promise since.
        let leaving = self.leaving.values().flatten().chain(&self.gone);
        let forgotten = leaving.filter(|stored| stored.accepted.deleted && self.is_last(stored));
        let mut records: Vec<Record> = forgotten
            .map(|stored| {
                let (grain, floor) = (stored.grain, stored.accepted.ballot);
                Record::Replica(Slot::of(grain), record::Record::Forget { grain, floor })
            })
            .collect();
        records.extend(snapshot.map(|record| self.with_table(record)));
        self.hold(None, Order::Rewrite(records), files);
    }

    /// Whether the journal is to be written anew already.
    pub fn is_compacting(&self) -> bool {
        self.held.iter().any(|held| matches!(held.what, Order::Rewrite(_)))
    }

    fn accept(&mut self, grain: GrainId, ballot: Ballot, proposal: Proposal, files: &mut dyn Files) -> Place {
        let body = match &proposal.payload {
            Payload::Delta(body) | Payload::Full(body) if !is_table(body) => body,
            // The state is here, or the journal keeps it.
            Payload::Same | Payload::Delta(_) | Payload::Full(_) => {
                return Place::Journal(record::Record::Accept {
                    grain,
                    ballot,
                    proposal,
                });
            }
        };
        match self.store(grain, proposal.accepted(ballot), body, files) {
            Some(lsn) => Place::Log(lsn),
            None => Place::Journal(record::Record::Accept {
                grain,
                ballot,
                proposal: Proposal {
                    payload: Payload::Same,
                    ..proposal
                },
            }),
        }
    }

    fn install(
        &mut self,
        grain: GrainId,
        promised: Option<Ballot>,
        accepted: Option<Accepted>,
        body: Option<Body>,
        files: &mut dyn Files,
    ) -> Place {
        let is_state = body.as_ref().is_some_and(|body| !is_table(body));
        let stored = match accepted {
            Some(accepted) if is_state || accepted.deleted => {
                let body = body.clone().unwrap_or_default();
                self.store(grain, accepted, &body, files)
            }
            _ => None,
        };
        match stored {
            Some(lsn) if promised <= accepted.map(|accepted| accepted.ballot) => Place::Log(lsn),
            _ => Place::Journal(record::Record::Install {
                grain,
                promised,
                accepted,
                body: body.filter(is_table),
            }),
        }
    }

    /// Puts an accepted state into the log. Nothing for a deletion of a grain of which this host knows nothing: there's nothing to delete.
    fn store(&mut self, grain: GrainId, accepted: Accepted, body: &Body, files: &mut dyn Files) -> Option<Lsn> {
        let commit = if body.is_empty() {
            let known = self.grains.get(&key(grain))?;
            known.stored?;
            deletion(known.name.clone(), &accepted)
        } else {
            let commit = Commit::decode(body.as_bytes());
            commit.unwrap_or_else(|error| panic!("an accepted commit of {grain} can't be read: {error}"))
        };
        let before = self.record_of(grain).map(|stored| stored.accepted);
        let author = commit.ballot;
        let mut commit = as_stored(commit, &accepted, before);
        if self.rules.breaks(Mutation::AuthorsBallot) {
            commit.ballot = author;
        }
        let at = self.append(files, &commit);
        self.known(&commit.grain).stored = Some(Stored { grain, accepted, at });
        Some(at)
    }

    /// Whether nothing was written of the grain since.
    fn is_last(&self, stored: &Stored) -> bool {
        self.record_of(stored.grain).as_ref() == Some(stored)
    }

    fn append(&mut self, files: &mut dyn Files, commit: &Commit) -> Lsn {
        let lsn = files.append(commit);
        self.appended = self.appended.max(lsn);
        lsn
    }

    /// Gives the journal a record, as soon as rules 2 and 3 let it; in their order, so that what is durable is always a front part of them.
    fn note(&mut self, mark: u64, record: Record, files: &mut dyn Files) {
        let without = match &record {
            Record::Replica(slot, record::Record::Ready { .. }) => Some(*slot),
            _ => None,
        };
        let without = without.filter(|_| !self.rules.breaks(Mutation::TakenOverTooEarly));
        self.hold(without, Order::Write(mark, record), files);
    }

    fn hold(&mut self, without: Option<Slot>, what: Order, files: &mut dyn Files) {
        let is_ahead = self.rules.breaks(Mutation::JournalAhead);
        let after = if is_ahead { self.durable } else { self.appended };
        self.held.push_back(Held { after, without, what });
        self.release(files);
    }

    fn known(&mut self, name: &GrainName) -> &mut Known {
        self.grains.entry(key(name.id())).or_insert_with(|| Known {
            name: name.clone(),
            stored: None,
        })
    }

    /// Keeps a table that a record brings, drops those of a slot that is given up.
    fn take_table(&mut self, slot: Slot, record: &record::Record) {
        let (grain, seq, hash, body) = match record {
            record::Record::Accept { grain, proposal, .. } => match &proposal.payload {
                Payload::Delta(body) | Payload::Full(body) => (*grain, proposal.seq, proposal.hash, body),
                Payload::Same => return,
            },
            record::Record::Install {
                grain,
                accepted: Some(accepted),
                body: Some(body),
                ..
            } => (*grain, accepted.seq, accepted.hash, body),
            record::Record::Discard => return self.tables.retain(|grain, _| Slot::of(*grain) != slot),
            _ => return,
        };
        if is_table(body) {
            let (deleted, body) = (false, body.clone());
            let state = State {
                seq,
                hash,
                deleted,
                body,
            };
            self.tables.insert(grain, state);
        }
    }

    fn with_table(&self, record: Record) -> Record {
        match record {
            Record::Replica(
                slot,
                record::Record::Install {
                    grain,
                    promised,
                    accepted,
                    body,
                },
            ) => {
                let table = self.tables.get(&grain).map(|table| table.body.clone());
                let body = body.or(table);
                let install = record::Record::Install {
                    grain,
                    promised,
                    accepted,
                    body,
                };
                Record::Replica(slot, install)
            }
            other => other,
        }
    }
}

const FIRST: GrainId = GrainId([0; 16]);
const LAST: GrainId = GrainId([0xff; 16]);

fn key(grain: GrainId) -> (Slot, GrainId) {
    (Slot::of(grain), grain)
}

/// Whether a body is a table's.
pub fn is_table(body: &Body) -> bool {
    body.as_bytes().first() == Some(&TABLE)
}

/// A deletion as a copy of what another replica has.
fn deletion(grain: GrainName, accepted: &Accepted) -> Commit {
    Commit {
        ballot: accepted.ballot,
        seq: accepted.seq,
        change: Change::Whole {
            hash: accepted.hash,
            state: None,
        },
        ..Commit::absence(grain)
    }
}

/// The record that says by itself what was accepted (rule 1).
///
/// # Panics
///
/// When a commit lies over a state that isn't stored.
fn as_stored(mut commit: Commit, accepted: &Accepted, before: Option<Accepted>) -> Commit {
    let (hash, grain) = (accepted.hash, &commit.grain);
    let follows = before.is_some_and(|before| before.hash == commit.prev_hash && before.seq.next() == commit.seq)
        || (before.is_none() && commit.seq == Seq(1) && commit.prev_hash == NOTHING);
    commit.change = match commit.change {
        Change::Delta(delta) if !follows => {
            // Over the base image: this host has only heard that the grain was deleted, or it's forgotten and still in the log.
            let is_gone = before.is_none_or(|before| before.deleted);
            assert!(is_gone, "commit {} of {grain} doesn't follow {before:?}", commit.seq.0);
            let state = Some(delta);
            Change::Whole { hash, state }
        }
        Change::Delete if !follows => Change::Whole { hash, state: None },
        change => change,
    };
    if matches!(commit.change, Change::Whole { .. }) {
        // Its author's ballot says nothing of when it was accepted here.
        commit.ballot = accepted.ballot;
    }
    commit
}
