//! Where the records of this host's part in the cluster go: accepted commits into the commit log, everything else into the journal.
//!
//! A commit that its own activation has accepted here is one record, the same as on a lone host: it says by itself what was promised and
//! accepted. What it doesn't say (a promise without a commit, another activation's ballot, a deletion, a seal) is a record of the
//! journal. Two files are made durable at different times, so a journal's record is held back until every commit given out before it
//! is durable: then the journal never knows of a state that the log has lost.
//!
//! A *table* is a small state that no guest has (which revisions a type has): it's kept in the journal whole.
//!
//! **Not here:** which records there are (`granary_core::cluster`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use granary_core::cluster::Record;
use granary_core::commit::{Change, Commit, Head};
use granary_core::id::{Ballot, GrainId, GrainName, HostId, Lsn, ModuleHash, Revision, Seq};
use granary_core::replication::body::Body;
use granary_core::replication::messages::{Accepted, CommitHash, Payload, Proposal, State};
use granary_core::replication::record::Record as Slotted;
use granary_core::slot::Slot;

use super::copies::{commit_in, state_of};
use super::journal::Journal;
use super::wire;
use crate::storage::{Storage, StorageError, StoredHead};

/// The first byte of a table; commits begin with their form's number, which is another.
pub(super) const TABLE: u8 = b'T';

/// See the file's text.
pub(super) struct Keeping {
    storage: Arc<dyn Storage>,
    journal: Journal,
    /// The grains whose states are here, or were: ids can't be turned back into names.
    names: HashMap<GrainId, Known>,
    tables: BTreeMap<GrainId, State>,
    /// The place of the last commit that was given out.
    appended: Lsn,
    /// Records of the log that aren't durable, by place.
    logged: VecDeque<(Lsn, u64)>,
    /// Records of the journal that wait for commits.
    held: VecDeque<(Lsn, Held)>,
}

/// A grain's name, and its last commit in storage, if that is known to be there.
struct Known {
    name: GrainName,
    last: Option<(Seq, CommitHash)>,
}

enum Held {
    Record(u64, Vec<u8>),
    Rewrite(Vec<Vec<u8>>),
}

impl Keeping {
    /// Takes a journal that is replayed.
    pub(super) fn new(storage: Arc<dyn Storage>, journal: Journal, tables: BTreeMap<GrainId, State>) -> Keeping {
        let appended = storage.durable();
        Keeping {
            storage,
            journal,
            names: HashMap::new(),
            tables,
            appended,
            logged: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    /// Goes through all grains that have a state here, and notes their names.
    pub(super) fn heads(&mut self, visit: &mut dyn FnMut(GrainId, Head)) -> Result<(), StorageError> {
        let names = &mut self.names;
        self.storage.each(&mut |name, head| {
            let (id, last) = (name.id(), Some((head.seq, head.hash)));
            names.insert(id, Known { name, last });
            visit(id, head);
        })
    }

    /// Notes a grain's name.
    pub(super) fn name(&mut self, name: &GrainName) {
        self.known(name);
    }

    fn known(&mut self, name: &GrainName) -> &mut Known {
        let (name, last) = (name.clone(), None);
        self.names.entry(name.id()).or_insert(Known { name, last })
    }

    /// The last commit of a grain that is here.
    pub(super) fn head(&self, grain: GrainId) -> Option<StoredHead> {
        if let Some(table) = self.tables.get(&grain) {
            let deleted = table.deleted;
            let head = Head {
                ballot: NEVER,
                seq: table.seq,
                hash: table.hash,
                module: ModuleHash([0; 32]),
                revision: Revision(0),
            };
            return Some(StoredHead { head, deleted });
        }
        self.storage.head(&self.names.get(&grain)?.name).ok()?
    }

    /// A grain's state, if it's here. May read the disk.
    pub(super) fn state(&self, grain: GrainId) -> Option<State> {
        if let Some(table) = self.tables.get(&grain) {
            return Some(table.clone());
        }
        let name = &self.names.get(&grain)?.name;
        match self.storage.load(name) {
            Ok(stored) => stored.map(|stored| state_of(name, &stored)),
            Err(error) => {
                tracing::error!(grain = %name, %error, "a copy of a grain can't be read");
                None
            }
        }
    }

    /// Writes a record; `durable` gives its mark back when it is.
    pub(super) fn write(&mut self, mark: u64, record: Record) {
        let Record::Replica(slot, slotted) = record else {
            return self.note(mark, &record);
        };
        let (rest, logged) = match slotted {
            Slotted::Accept {
                grain,
                ballot,
                proposal,
            } => {
                let logged = self.accept(grain, &proposal);
                // The commit's own record says it all.
                if let Some((lsn, own)) = logged
                    && own == ballot
                    && !proposal.deletes
                {
                    self.logged.push_back((lsn, mark));
                    return;
                }
                let payload = match proposal.payload {
                    Payload::Delta(body) | Payload::Full(body) if is_table(&body) => Payload::Full(body),
                    _ => Payload::Same,
                };
                let proposal = Proposal { payload, ..proposal };
                let rest = Slotted::Accept {
                    grain,
                    ballot,
                    proposal,
                };
                (rest, logged.map(|(lsn, _)| lsn))
            }
            Slotted::Install {
                grain,
                promised,
                accepted,
                body,
            } => {
                let logged = match (&accepted, &body) {
                    (Some(accepted), Some(body)) => self.install(grain, accepted, body),
                    _ => None,
                };
                let body = body.filter(is_table);
                let rest = Slotted::Install {
                    grain,
                    promised,
                    accepted,
                    body,
                };
                (rest, logged)
            }
            Slotted::Discard => {
                self.discard(slot);
                (Slotted::Discard, None)
            }
            other => (other, None),
        };
        self.appended = self.appended.max(logged.unwrap_or_default());
        self.note(mark, &Record::Replica(slot, rest));
    }

    /// Keeps an accepted commit's state. Its place and the ballot that its record names, when it's in the log.
    fn accept(&mut self, grain: GrainId, proposal: &Proposal) -> Option<(Lsn, Ballot)> {
        let body = match &proposal.payload {
            Payload::Same => return None,
            Payload::Delta(body) | Payload::Full(body) => body,
        };
        if is_table(body) {
            self.keep_table(grain, proposal.seq, proposal.hash, body);
            return None;
        }
        if body.is_empty() {
            return self.bury(grain, proposal.hash).map(|lsn| (lsn, NEVER));
        }
        let commit = match commit_in(body, proposal.seq) {
            Ok(commit) => commit,
            Err(error) => {
                // Accepted by the rules, and of no use to anybody: a peer that sends this is broken.
                tracing::error!(%grain, %error, "an accepted commit can't be read");
                return None;
            }
        };
        let ballot = commit.ballot;
        Some((self.append(commit, proposal.hash), ballot))
    }

    fn install(&mut self, grain: GrainId, accepted: &Accepted, body: &Body) -> Option<Lsn> {
        if is_table(body) {
            self.keep_table(grain, accepted.seq, accepted.hash, body);
            return None;
        }
        if body.is_empty() {
            return self.bury(grain, accepted.hash);
        }
        let commit = commit_in(body, accepted.seq).ok()?;
        Some(self.append(commit, accepted.hash))
    }

    fn append(&mut self, mut commit: Commit, hash: [u8; 16]) -> Lsn {
        let known = self.known(&commit.grain);
        let follows = known.last.map_or(commit.prev_hash == [0; 16], |(seq, last)| {
            last == commit.prev_hash && seq.next() == commit.seq
        });
        known.last = Some((commit.seq, hash));
        if !follows && let Change::Delta(delta) = commit.change {
            // After a tombstone that storage has forgotten, or the first after a copy: over the base image either way.
            let state = Some(delta);
            commit.change = Change::Whole { hash, state };
        }
        let appended = self.storage.append(&commit);
        self.appended = self.appended.max(appended.lsn);
        appended.lsn
    }

    /// Storage keeps no state of the grain any more.
    fn bury(&mut self, grain: GrainId, hash: [u8; 16]) -> Option<Lsn> {
        let known = self.names.get_mut(&grain)?;
        known.last = None;
        let name = known.name.clone();
        let head = self.storage.head(&name).ok()??.head;
        let commit = Commit {
            grain: name,
            ballot: head.ballot,
            seq: head.seq,
            prev_hash: [0; 16],
            module: head.module,
            revision: head.revision,
            change: Change::Whole { hash, state: None },
            replies: Vec::new(),
        };
        let appended = self.storage.append(&commit);
        self.appended = self.appended.max(appended.lsn);
        Some(appended.lsn)
    }

    fn discard(&mut self, slot: Slot) {
        let here: Vec<GrainId> = self
            .names
            .keys()
            .copied()
            .filter(|grain| Slot::of(*grain) == slot)
            .collect();
        for grain in here {
            self.bury(grain, [0; 16]);
            self.names.remove(&grain);
        }
        self.tables.retain(|grain, _| Slot::of(*grain) != slot);
    }

    fn keep_table(&mut self, grain: GrainId, seq: Seq, hash: [u8; 16], body: &Body) {
        let state = State {
            seq,
            hash,
            deleted: false,
            body: body.clone(),
        };
        self.tables.insert(grain, state);
    }

    fn note(&mut self, mark: u64, record: &Record) {
        let bytes = wire::encode(record).to_vec();
        if self.held.is_empty() && self.storage.durable() >= self.appended {
            self.journal.append(mark, &bytes);
        } else {
            self.held.push_back((self.appended, Held::Record(mark, bytes)));
        }
    }

    /// Up to where the log is durable.
    pub(super) fn log_durable(&self) -> Lsn {
        self.storage.durable()
    }

    /// Commits have become durable: the marks of those that have.
    pub(super) fn durable(&mut self, upto: Lsn) -> Vec<u64> {
        let mut marks = Vec::new();
        while let Some((_, mark)) = self.logged.pop_front_if(|(lsn, _)| *lsn <= upto) {
            marks.push(mark);
        }
        while let Some((_, held)) = self.held.pop_front_if(|(lsn, _)| *lsn <= upto) {
            match held {
                Held::Record(mark, bytes) => self.journal.append(mark, &bytes),
                Held::Rewrite(records) => self.journal.rewrite(records.into_iter()),
            }
        }
        marks
    }

    /// Writes the journal anew when it has grown long.
    pub(super) fn compact(&mut self, snapshot: impl Iterator<Item = Record>) {
        if !self.journal.is_long() || self.held.iter().any(|(_, held)| matches!(held, Held::Rewrite(_))) {
            return;
        }
        let tables = &self.tables;
        let records = snapshot.map(|record| match record {
            Record::Replica(
                slot,
                Slotted::Install {
                    grain,
                    promised,
                    accepted,
                    ..
                },
            ) if tables.contains_key(&grain) => {
                let body = tables.get(&grain).map(|state| state.body.clone());
                Record::Replica(
                    slot,
                    Slotted::Install {
                        grain,
                        promised,
                        accepted,
                        body,
                    },
                )
            }
            other => other,
        });
        let records: Vec<Vec<u8>> = records.map(|record| wire::encode(&record).to_vec()).collect();
        self.held.push_back((self.appended, Held::Rewrite(records)));
        self.durable(self.storage.durable());
    }
}

/// The ballot of no activation.
pub(super) const NEVER: Ballot = Ballot {
    counter: 0,
    host: HostId([0; 16]),
    incarnation: 0,
};

/// Whether a body is a table's.
pub(super) fn is_table(body: &Body) -> bool {
    body.as_bytes().first() == Some(&TABLE)
}

/// The tables that a journal's record brings.
pub(super) fn tables_in(tables: &mut BTreeMap<GrainId, State>, record: &Record) {
    let Record::Replica(slot, slotted) = record else { return };
    let (grain, seq, hash, body) = match slotted {
        Slotted::Accept { grain, proposal, .. } => match &proposal.payload {
            Payload::Full(body) => (*grain, proposal.seq, proposal.hash, body),
            _ => return,
        },
        Slotted::Install {
            grain,
            accepted: Some(accepted),
            body: Some(body),
            ..
        } => (*grain, accepted.seq, accepted.hash, body),
        Slotted::Discard => return tables.retain(|grain, _| Slot::of(*grain) != *slot),
        _ => return,
    };
    if is_table(body) {
        let state = State {
            seq,
            hash,
            deleted: false,
            body: body.clone(),
        };
        tables.insert(grain, state);
    }
}
