//! What the tests of replication share: short names for ballots, commits and hosts.

use super::body::Body;
use super::messages::{CommitHash, Payload, Proposal};
use crate::id::{Ballot, GrainId, HostId, Seq};

pub(crate) fn host(number: u8) -> HostId {
    HostId([number; 16])
}

pub(crate) const GRAIN: GrainId = GrainId([7; 16]);

/// A ballot of host 1.
pub(crate) fn ballot(counter: u64) -> Ballot {
    ballot_of(counter, 1)
}

pub(crate) fn ballot_of(counter: u64, by: u8) -> Ballot {
    Ballot {
        counter,
        host: host(by),
        incarnation: 1,
    }
}

/// A commit's hash by a short name; 0 is the state before the first.
pub(crate) fn hash(name: u8) -> CommitHash {
    [name; 16]
}

/// Commit `seq` named `name` over the one named `prev`.
pub(crate) fn proposal(seq: u64, prev: u8, name: u8) -> Proposal {
    Proposal {
        seq: Seq(seq),
        prev_hash: hash(prev),
        hash: hash(name),
        deletes: false,
        payload: Payload::Delta(Body::from(vec![name])),
    }
}

pub(crate) fn tombstone(seq: u64, prev: u8, name: u8) -> Proposal {
    Proposal {
        deletes: true,
        ..proposal(seq, prev, name)
    }
}
