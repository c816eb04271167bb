//! What a host remembers at a start, out of its two files: which states its replicas have accepted, and what they have promised.
//!
//! The [rules](super::persistence) say what a crash can have left. Given them, each grain's register is made of both files like this:
//!
//! | the log has | the journal has | the register | since |
//! |---|---|---|---|
//! | a state or a deletion | the same, under a higher ballot | as in the journal | it was accepted once more |
//! | a state or a deletion | another one, or a promise, or nothing | the log's; the higher promise | rule 1 |
//! | a deletion | that all have forgotten it | none; it is taken out | rule 3, cut off |
//! | a state or a deletion | nothing, and the slot isn't this host's | none; it is taken out | rule 3, or a takeover, cut off |
//! | nothing | a deletion, a table, a promise | as in the journal | rule 2 |
//! | nothing | a state | the host doesn't start | by rule 2 this can't be: it has lost a part of its memory |

use std::collections::BTreeMap;
use std::fmt;

use super::Cluster;
use super::event::Record;
use super::persistence::{Files, Persistence};
use super::protocols::{Protocols, Settings};
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, GrainName, Lsn};
use crate::replication::messages::{Accepted, Payload, Proposal};
use crate::replication::mutation::{Mutation, Rules};
use crate::replication::record;
use crate::slot::Slot;
use crate::time::Time;

/// The protocols' own marks begin above it.
const NOBODYS_MARK: u64 = 0;

/// Takes in the journal, then the log, then makes one memory of them.
#[derive(Debug)]
pub struct Recovery {
    protocols: Protocols,
    persistence: Persistence,
    /// Whether the journal knows of a cluster.
    is_member: bool,
    /// Deletions that all replicas have forgotten, and the ballots up to which.
    forgotten: BTreeMap<GrainId, Ballot>,
    rules: Rules,
}

/// A state that was accepted here and isn't stored: a part of the host's memory is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Of which grain.
    pub grain: GrainId,
    /// Which state.
    pub accepted: Accepted,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (grain, seq) = (self.grain, self.accepted.seq.0);
        write!(
            f,
            "commit {seq} of the grain {grain} was accepted by this host, and no state of that grain is stored: this host must not vote with \
             a part of its memory; wipe its data folder and let it join as a new host"
        )
    }
}

impl std::error::Error for Missing {}

impl Recovery {
    /// Of files whose log is durable up to there.
    pub fn new(settings: Settings, durable: Lsn) -> Recovery {
        let rules = settings.rules;
        Recovery {
            protocols: Protocols::new(settings),
            persistence: Persistence::new(durable, rules),
            is_member: false,
            forgotten: BTreeMap::new(),
            rules,
        }
    }

    /// The journal's next record, in their order.
    pub fn journal(&mut self, now: Time, record: Record) {
        if let Record::Replica(_, record::Record::Forget { grain, floor }) = &record {
            self.forgotten.insert(*grain, *floor);
        }
        self.is_member |= matches!(record, Record::Chain(_));
        self.persistence.replay(&record);
        self.protocols.replay(now, record);
    }

    /// Whether the journal knows of a cluster: such a host founds none.
    pub fn is_member(&self) -> bool {
        self.is_member
    }

    /// What the log and the images have of a grain, after all of the journal; in no order. Its ballot is the one that its last record
    /// names.
    pub fn stored(&mut self, name: &GrainName, accepted: Accepted) {
        if !accepted.deleted || !self.rules.breaks(Mutation::UnreadDeletion) {
            self.persistence.found(name, accepted);
        }
    }

    /// Makes one memory of both. With `founds` this host founds its cluster: what it has from the time when it was alone counts in the first
    /// configuration.
    pub fn finish(self, now: Time, founds: bool, files: &mut dyn Files) -> Result<Cluster, Missing> {
        let Recovery {
            mut protocols,
            mut persistence,
            forgotten,
            rules,
            ..
        } = self;
        // By slot.
        let stored: Vec<(GrainId, Accepted)> = persistence.all_stored().collect();
        let mut told = Vec::new();
        if founds {
            let mut slots: Vec<Slot> = stored.iter().map(|(grain, _)| Slot::of(*grain)).collect();
            slots.dedup();
            told.extend(slots.into_iter().map(ready));
            told.iter().for_each(|record| protocols.replay(now, record.clone()));
        }
        for (grain, accepted) in stored {
            let slot = Slot::of(grain);
            let replica = protocols.replicas().replica(slot);
            let (promised, known) = replica.map_or((None, None), |replica| replica.register(grain));
            let is_ours = replica.is_some_and(|replica| replica.was_ready()) || promised.is_some();
            let floor = forgotten.get(&grain).filter(|_| accepted.deleted && known.is_none());
            let is_left = !is_ours || floor.is_some_and(|floor| accepted.ballot <= *floor);
            if is_left && !rules.breaks(Mutation::LeftInTheLog) {
                persistence.takes_out(grain);
            } else if known.is_none_or(|known| !known.same_state(&accepted) || known.ballot < accepted.ballot) {
                protocols.replay(now, Record::Replica(slot, accept(grain, &accepted)));
            }
        }
        if let Some(missing) = missing(&protocols, &persistence) {
            return Err(missing);
        }
        for record in told {
            persistence.write(NOBODYS_MARK, record, files);
        }
        Ok(Cluster::new(protocols, persistence))
    }
}

/// A founder has all that there is of a slot.
fn ready(slot: Slot) -> Record {
    let (n, floor) = (ConfigNumber::FIRST, None);
    Record::Replica(slot, record::Record::Ready { n, floor })
}

fn accept(grain: GrainId, accepted: &Accepted) -> record::Record {
    record::Record::Accept {
        grain,
        ballot: accepted.ballot,
        proposal: Proposal {
            seq: accepted.seq,
            prev_hash: [0; 16],
            hash: accepted.hash,
            deletes: accepted.deleted,
            payload: Payload::Same,
        },
    }
}

/// The first state that was accepted and isn't stored.
fn missing(protocols: &Protocols, persistence: &Persistence) -> Option<Missing> {
    let registers = protocols.replicas().iter().flat_map(|(_, replica)| replica.accepted());
    let mut states = registers.filter(|(_, accepted)| !accepted.deleted);
    let (grain, accepted) = states.find(|(grain, _)| persistence.stored(*grain).is_none())?;
    Some(Missing { grain, accepted })
}
