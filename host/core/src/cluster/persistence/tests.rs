//! One host's memory in two files that become durable apart from each other, cut off anywhere and read again.
//!
//! A replica's life is drawn: promises, commits, deletions, copies of other histories, deletions that are forgotten, slots that are given
//! up and taken over again. After every few steps the host is cut off: a front part of each file is left, at least what it was told of.
//! What it then remembers is compared with what it knew at each moment since.

use std::collections::BTreeSet;

use super::*;
use crate::cluster::recovery::Recovery;
use crate::cluster::soundness::names as names_it;
use crate::cluster::{Cluster, Settings};
use crate::commit::Delta;
use crate::config_chain::config::{ClusterId, ConfigNumber};
use crate::id::{GrainKey, GrainType, HostId, ModuleHash, Revision};
use crate::rng::Rng;
use crate::time::Time;

const GRAINS: usize = 5;
const STEPS: usize = 60;
const LIVES: usize = 6;
const SEEDS: u64 = 400;

/// The files: all that was given to them, and how much of it is durable.
#[derive(Default)]
struct Disk {
    log: Vec<Commit>,
    journal: Vec<Written>,
    log_durable: usize,
    journal_durable: usize,
}

enum Written {
    Record(u64, Record),
    Rewrite(Vec<Record>),
}

impl Files for Disk {
    fn append(&mut self, commit: &Commit) -> Lsn {
        self.log.push(commit.clone());
        Lsn(self.log.len() as u64)
    }

    fn journal(&mut self, mark: u64, record: &Record) {
        self.journal.push(Written::Record(mark, record.clone()));
    }

    fn rewrite(&mut self, records: &[Record]) {
        self.journal.push(Written::Rewrite(records.to_vec()));
    }
}

impl Disk {
    /// What is left of it, at least what is durable.
    fn cut(&mut self, rng: &mut Rng) {
        let kept = |rng: &mut Rng, durable: usize, all: usize| durable + rng.below((all - durable) as u64 + 1) as usize;
        let (log, journal) = (self.log.len(), self.journal.len());
        self.log.truncate(kept(rng, self.log_durable, log));
        self.journal.truncate(kept(rng, self.journal_durable, journal));
        (self.log_durable, self.journal_durable) = (self.log.len(), self.journal.len());
    }

    /// The records that the journal holds.
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for written in &self.journal {
            match written {
                Written::Record(_, record) => records.push(record.clone()),
                Written::Rewrite(all) => records = all.clone(),
            }
        }
        records
    }

    /// The last record of each grain, as storage reads it.
    fn heads(&self) -> BTreeMap<GrainName, Accepted> {
        let mut heads: BTreeMap<GrainName, Accepted> = BTreeMap::new();
        for commit in &self.log {
            let mut bytes = Vec::new();
            commit.encode(&mut bytes);
            let head = commit.head(Commit::hash(&bytes));
            let last = heads.get(&commit.grain).copied();
            if !matches!(commit.change, Change::Whole { .. }) {
                let (seq, hash) = last.map_or((Seq(0), NOTHING), |last| (last.seq, last.hash));
                assert_eq!(
                    (commit.seq, commit.prev_hash),
                    (seq.next(), hash),
                    "storage refuses what doesn't follow"
                );
            }
            if head.is_nothing() {
                heads.remove(&commit.grain);
                continue;
            }
            let accepted = Accepted {
                ballot: head.ballot,
                seq: head.seq,
                hash: head.hash,
                deleted: commit.change.deletes(),
            };
            heads.insert(commit.grain.clone(), accepted);
        }
        heads
    }
}

/// What the replica knows of each grain: the promise, the last accepted commit.
type Known = BTreeMap<GrainId, (Option<Ballot>, Option<Accepted>)>;

struct Life {
    rng: Rng,
    disk: Disk,
    persistence: Persistence,
    rules: Rules,
    names: Vec<GrainName>,
    slot: Slot,
    n: u64,
    counter: u64,
    mark: u64,
    /// What it knew after each record, the last one last.
    truths: Vec<(u64, Known)>,
    /// Marks that are told to be durable.
    told: BTreeSet<u64>,
    /// While the slot is taken over: the first of these truths.
    takes_over_since: Option<usize>,
    /// The record that ends it.
    ready: u64,
}

fn host(number: u8) -> HostId {
    HostId([number; 16])
}

/// Grains of one slot.
fn names() -> (Slot, Vec<GrainName>) {
    let name = |key: u32| GrainName::new(GrainType::new("t").unwrap(), GrainKey::new(&key.to_string()).unwrap());
    let slot = Slot::of(name(0).id());
    let names = (0..).map(name).filter(|name| Slot::of(name.id()) == slot).take(GRAINS);
    (slot, names.collect())
}

fn settings(rules: Rules) -> Settings {
    Settings {
        rules,
        ..Settings::new(host(1), 1, ClusterId([7; 16]), 1)
    }
}

impl Life {
    fn new(seed: u64, rules: Rules) -> Life {
        let (slot, names) = names();
        let mut life = Life {
            rng: Rng::new(seed),
            disk: Disk::default(),
            persistence: Persistence::new(Lsn(0), rules),
            rules,
            names,
            slot,
            n: 1,
            counter: 0,
            mark: 0,
            truths: vec![(0, Known::new())],
            told: BTreeSet::new(),
            takes_over_since: Some(0),
            ready: 0,
        };
        life.ready();
        life
    }

    fn known(&self) -> Known {
        self.truths.last().unwrap().1.clone()
    }

    /// A record is given out, after which this is known.
    fn write(&mut self, record: record::Record, known: Known) {
        self.mark += 1;
        self.truths.push((self.mark, known));
        let record = Record::Replica(self.slot, record);
        self.persistence.write(self.mark, record, &mut self.disk);
    }

    fn ballot(&mut self) -> Ballot {
        self.counter += 1;
        Ballot {
            counter: self.counter,
            host: host(self.rng.below(3) as u8),
            incarnation: 1,
        }
    }

    fn accept(&mut self, name: &GrainName, ballot: Ballot, proposal: Proposal) {
        let mut known = self.known();
        let grain = name.id();
        known.insert(grain, (Some(ballot), Some(proposal.accepted(ballot))));
        let record = record::Record::Accept {
            grain,
            ballot,
            proposal,
        };
        self.write(record, known);
    }

    /// A commit that nobody made before.
    fn commit(
        &mut self,
        name: &GrainName,
        ballot: Ballot,
        last: Option<Accepted>,
        change: Change,
    ) -> (Commit, [u8; 16], Body) {
        let (seq, prev_hash) = last.map_or((Seq(0), NOTHING), |last| (last.seq, last.hash));
        let commit = Commit {
            grain: name.clone(),
            ballot,
            seq: seq.next(),
            prev_hash,
            module: ModuleHash([3; 32]),
            revision: Revision(self.rng.below(1 << 30) as u32),
            change,
            replies: Vec::new(),
        };
        let mut bytes = Vec::new();
        commit.encode(&mut bytes);
        let hash = Commit::hash(&bytes);
        (commit, hash, bytes.into())
    }

    /// A state of another history, as a copy of it travels.
    fn copy(&mut self, name: &GrainName) -> (Accepted, Body) {
        let (ballot, made) = (self.ballot(), self.ballot());
        let mut hash = [0; 16];
        hash.iter_mut().for_each(|byte| *byte = self.rng.draw() as u8 | 1);
        let seq = Seq(self.rng.below(9));
        let state = Some(Delta::default());
        let (mut commit, ..) = self.commit(name, ballot, None, Change::Whole { hash, state });
        commit.seq = seq.next();
        let mut bytes = Vec::new();
        commit.encode(&mut bytes);
        let accepted = Accepted {
            ballot: made,
            seq: commit.seq,
            hash,
            deleted: false,
        };
        assert!(names_it(name.id(), &accepted, &bytes.clone().into()));
        (accepted, bytes.into())
    }

    fn step(&mut self) {
        let name = self.names[self.rng.below(GRAINS as u64) as usize].clone();
        let (promised, accepted) = self.known().get(&name.id()).copied().unwrap_or_default();
        if self.told.contains(&self.ready) {
            self.takes_over_since = None;
        }
        if self.takes_over_since.is_some() {
            return self.take_over(&name, accepted);
        }
        match self.rng.below(20) {
            0..=7 => self.go_on(&name, promised, accepted, false),
            8..=9 => self.go_on(&name, promised, accepted, true),
            10..=11 => {
                let ballot = self.ballot();
                let mut known = self.known();
                known.insert(name.id(), (Some(ballot), accepted));
                self.write(
                    record::Record::Promise {
                        grain: name.id(),
                        ballot,
                    },
                    known,
                );
            }
            12 => {
                let (Some(last), ballot) = (accepted, self.ballot()) else {
                    return;
                };
                self.accept(&name, ballot, proposal(&last, Payload::Same));
            }
            13..=14 => {
                let (accepted, body) = self.copy(&name);
                self.accept(&name, accepted.ballot, proposal(&accepted, Payload::Full(body)));
            }
            15 => self.hear_of_deletion(&name),
            16..=17 => self.forget(&name, promised, accepted),
            18 => self.give_up(),
            _ => self.compact(),
        }
    }

    /// The activation commits once more.
    fn go_on(&mut self, name: &GrainName, promised: Option<Ballot>, last: Option<Accepted>, deletes: bool) {
        let ballot = match promised.filter(|_| self.rng.below(4) > 0) {
            Some(ballot) => ballot,
            None => self.ballot(),
        };
        let change = if deletes {
            Change::Delete
        } else {
            Change::Delta(Delta::default())
        };
        let (commit, hash, body) = self.commit(name, ballot, last, change);
        let accepted = Accepted {
            ballot,
            seq: commit.seq,
            hash,
            deleted: deletes,
        };
        assert!(names_it(name.id(), &accepted, &body));
        let payload = Payload::Delta(body);
        let prev_hash = commit.prev_hash;
        self.accept(
            name,
            ballot,
            Proposal {
                prev_hash,
                ..proposal(&accepted, payload)
            },
        );
    }

    /// A deletion comes without the commit that made it.
    fn hear_of_deletion(&mut self, name: &GrainName) {
        let (mut accepted, _) = self.copy(name);
        accepted.deleted = true;
        let ballot = accepted.ballot;
        self.accept(name, ballot, proposal(&accepted, Payload::Full(Body::default())));
    }

    fn forget(&mut self, name: &GrainName, promised: Option<Ballot>, accepted: Option<Accepted>) {
        let (Some(floor), Some(_)) = (promised, accepted.filter(|last| last.deleted)) else {
            return;
        };
        let mut known = self.known();
        known.remove(&name.id());
        self.write(
            record::Record::Forget {
                grain: name.id(),
                floor,
            },
            known,
        );
    }

    /// Other hosts have the slot now; then it comes back.
    fn give_up(&mut self) {
        (self.takes_over_since, self.ready) = (Some(self.truths.len()), 0);
        self.n += 1;
        let known = self.known();
        self.write(
            record::Record::Seal {
                n: ConfigNumber(self.n),
            },
            known,
        );
        self.write(record::Record::Discard, Known::new());
    }

    fn take_over(&mut self, name: &GrainName, before: Option<Accepted>) {
        if self.ready > 0 || before.is_some() {
            return;
        }
        if self.rng.below(6) == 0 {
            return self.ready();
        }
        let (accepted, body) = self.copy(name);
        let deleted = self.rng.below(4) == 0;
        let accepted = Accepted { deleted, ..accepted };
        let promised = if self.rng.below(2) == 0 {
            self.ballot()
        } else {
            accepted.ballot
        };
        let (grain, body) = (name.id(), Some(body).filter(|_| !deleted));
        let mut known = self.known();
        known.insert(grain, (Some(promised), Some(accepted)));
        let install = record::Record::Install {
            grain,
            promised: Some(promised),
            accepted: Some(accepted),
            body,
        };
        self.write(install, known);
    }

    fn ready(&mut self) {
        let (n, floor) = (ConfigNumber(self.n), None);
        let known = self.known();
        self.write(record::Record::Ready { n, floor }, known);
        self.ready = self.mark;
    }

    /// What the machine would write anew.
    fn compact(&mut self) {
        if self.persistence.is_compacting() {
            return;
        }
        let mut records = vec![record::Record::Seal {
            n: ConfigNumber(self.n),
        }];
        let (n, floor) = (ConfigNumber(self.n), None);
        records.push(record::Record::Ready { n, floor });
        let installs = self.known().into_iter();
        records.extend(installs.map(|(grain, (promised, accepted))| record::Record::Install {
            grain,
            promised,
            accepted,
            body: None,
        }));
        let records = records.into_iter().map(|record| Record::Replica(self.slot, record));
        self.persistence
            .compact(records.collect::<Vec<_>>().into_iter(), &mut self.disk);
    }

    /// The disks get on, each on its own; what is durable is told now or later.
    fn sync(&mut self) {
        match self.rng.below(3) {
            0 => {
                self.disk.log_durable = self.disk.log.len();
                let upto = Lsn(self.disk.log_durable as u64);
                self.told.extend(self.persistence.log_durable(upto, &mut self.disk));
            }
            1 => {
                let news = self.disk.journal[self.disk.journal_durable..].iter();
                let marks: Vec<u64> = news
                    .filter_map(|written| match written {
                        Written::Record(mark, _) => Some(*mark),
                        Written::Rewrite(_) => None,
                    })
                    .collect();
                self.disk.journal_durable = self.disk.journal.len();
                self.persistence.journaled(&marks);
                self.told.extend(marks);
            }
            _ => self.persistence.step(&mut self.disk),
        }
    }

    /// Up to which of the truths all is told: what it has answered for.
    fn answered(&self) -> usize {
        let upto = self
            .truths
            .iter()
            .skip(1)
            .take_while(|(mark, _)| self.told.contains(mark));
        let upto = upto.count();
        // While a slot is taken over nothing is answered for it.
        self.takes_over_since.map_or(upto, |since| upto.min(since))
    }

    /// Cut off and read again. What is remembered is something that was known since all that was answered for.
    fn crash(&mut self, seed: u64) {
        let answered = self.answered();
        self.disk.cut(&mut self.rng);
        let mut recovery = Recovery::new(settings(self.rules), Lsn(self.disk.log.len() as u64));
        for record in self.disk.records() {
            recovery.journal(Time(0), record);
        }
        let heads = self.disk.heads();
        heads.iter().for_each(|(name, head)| recovery.stored(name, *head));
        let Cluster {
            persistence, protocols, ..
        } = recovery
            .finish(Time(0), false, &mut self.disk)
            .unwrap_or_else(|missing| panic!("seed {seed}: {missing}"));
        let mut known = Known::new();
        for name in &self.names {
            let grain = name.id();
            let replica = protocols.replicas().replica(self.slot);
            let (promised, accepted) = replica.map_or((None, None), |replica| replica.register(grain));
            let since: Vec<_> = self.truths[answered..]
                .iter()
                .map(|(_, known)| known.get(&grain).copied().unwrap_or_default())
                .collect();
            let context = || format!("seed {seed}: {name}: ({promised:?}, {accepted:?}) isn't one of\n{since:#?}");
            assert!(
                since.iter().any(|(_, known)| *known == accepted),
                "accepted: {}",
                context()
            );
            assert!(
                since.iter().any(|(known, _)| promised >= *known),
                "promised: {}",
                context()
            );
            if let Some(accepted) = accepted.filter(|accepted| !accepted.deleted) {
                let head = heads.get(name);
                assert!(
                    head.is_some_and(|head| head.same_state(&accepted)),
                    "stored {head:?}: {}",
                    context()
                );
            }
            if (promised, accepted) != (None, None) {
                known.insert(grain, (promised, accepted));
            }
        }
        let replica = protocols.replicas().replica(self.slot);
        let was_ready = replica.is_some_and(|replica| replica.was_ready());
        (self.persistence, self.told) = (persistence, BTreeSet::new());
        self.truths = vec![(self.mark, known)];
        self.disk.journal = self
            .disk
            .records()
            .into_iter()
            .map(|record| Written::Record(0, record))
            .collect();
        self.disk.journal_durable = self.disk.journal.len();
        self.takes_over_since = None;
        if !was_ready {
            // As a replica does that finds something left over.
            self.give_up();
        }
    }
}

fn proposal(accepted: &Accepted, payload: Payload) -> Proposal {
    Proposal {
        seq: accepted.seq,
        prev_hash: NOTHING,
        hash: accepted.hash,
        deletes: accepted.deleted,
        payload,
    }
}

fn live(seed: u64, rules: Rules) {
    let mut life = Life::new(seed, rules);
    for _ in 0..LIVES {
        for _ in 0..STEPS {
            life.step();
            if life.rng.below(3) == 0 {
                life.sync();
            }
        }
        life.crash(seed);
    }
}

#[test]
fn whatever_a_crash_leaves_of_two_files_a_host_remembers_what_it_has_answered_for() {
    (0..SEEDS).for_each(|seed| live(seed, Rules::default()));
}

#[test]
fn each_rule_is_needed() {
    for mutation in Mutation::FILES {
        let rules = Rules::but(mutation);
        let is_found = |seed: &u64| std::panic::catch_unwind(|| live(*seed, rules)).is_err();
        assert!((0..SEEDS).any(|seed| is_found(&seed)), "{mutation:?} isn't noticed");
    }
}
