//! What replicas and activations say to each other.
//!
//! Three kinds, by who hears them: an [`Ask`] goes from an activation to a replica, an [`Answer`] back, a [`Handover`] from
//! replica to replica. Any of them may be lost, doubled, or come late; each names its ballot or its configuration, so that
//! what comes late is recognised.
//!
//! **Not here:** what happens on them (`replica`, `proposer`, `handover`), batching, and the wire.

use serde::{Deserialize, Serialize};

use super::body::Body;
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId, Seq};
use crate::slot::Slot;

/// A commit's hash, see [`Commit::hash`](crate::commit::Commit::hash). Zeros name the state before the first commit.
pub type CommitHash = [u8; 16];

/// The last commit of a grain that a replica has accepted. Ordered as a Prepare's answers are compared: by ballot, then seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Accepted {
    /// The activation that had it accepted; not always the one that made the commit.
    pub ballot: Ballot,
    /// The commit's number.
    pub seq: Seq,
    /// The commit's hash, which names the whole history up to it.
    pub hash: CommitHash,
    /// Whether the commit deletes the grain: a tombstone.
    pub deleted: bool,
}

impl Accepted {
    /// Whether both name the same state, whoever had it accepted.
    pub fn same_state(&self, other: &Accepted) -> bool {
        (self.seq, self.hash) == (other.seq, other.hash)
    }
}

/// A grain's whole state after one of its commits. The bytes' form is the host's business.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct State {
    /// The commit's number.
    pub seq: Seq,
    /// The commit's hash.
    pub hash: CommitHash,
    /// Whether the grain is deleted; the body is empty then.
    pub deleted: bool,
    /// Image and later deltas.
    pub body: Body,
}

/// One commit on its way to the replicas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// The commit's number.
    pub seq: Seq,
    /// The hash of the commit before.
    pub prev_hash: CommitHash,
    /// Its own hash.
    pub hash: CommitHash,
    /// Whether it deletes the grain.
    pub deletes: bool,
    /// What the replica needs to hold it.
    pub payload: Payload,
}

impl Proposal {
    /// What a replica has accepted once it takes this under `ballot`.
    pub fn accepted(&self, ballot: Ballot) -> Accepted {
        Accepted {
            ballot,
            seq: self.seq,
            hash: self.hash,
            deleted: self.deletes,
        }
    }
}

/// What a replica needs to hold a commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: it holds this commit already, accepted under another ballot.
    Same,
    /// The commit's stored form; lies over the commit before.
    Delta(Body),
    /// The whole state after the commit; takes the place of whatever is there.
    Full(Body),
}

/// Any message of replication. `n` is the configuration that gave the slot its present replicas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Message {
    /// From an activation to a replica.
    Ask {
        /// As the activation knows it.
        n: ConfigNumber,
        /// What it asks.
        ask: Ask,
    },
    /// From a replica to an activation.
    Answer {
        /// As in what is answered.
        n: ConfigNumber,
        /// The answer.
        answer: Answer,
    },
    /// From a replica to a replica.
    Handover(Handover),
}

/// What an activation asks of a replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// Promise to accept nothing below this ballot, and say what was accepted.
    Prepare {
        /// Which grain.
        grain: GrainId,
        /// Never used before.
        ballot: Ballot,
        /// The state that the asker holds, by its hash: needn't be sent.
        have: Option<CommitHash>,
        /// Whether the state is to come with the promise. Asked of one replica, lest all send it.
        wants_state: bool,
        /// Whether a live holder is to be fenced: the asker sees it dead, or it has handed over.
        preempts: bool,
    },
    /// Accept a commit.
    Accept {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
        /// The commit.
        proposal: Proposal,
    },
    /// Say whether these ballots are still good.
    Confirm {
        /// The slot of all these grains.
        slot: Slot,
        /// The asker's mark: a later question has a higher one.
        stamp: u64,
        /// Grains and the ballots of their activations.
        grains: Vec<(GrainId, Ballot)>,
    },
    /// Send the state with this hash, or the one that you have.
    Fetch {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
        /// The state's last commit; any will do when it's missing.
        hash: Option<CommitHash>,
    },
    /// The activation has ended in peace. Not answered: policy only.
    Release {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
        /// Who will be next; others wait a little.
        to: Option<HostId>,
    },
    /// All replicas hold this tombstone: the grain may be forgotten. Not answered.
    Forget {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
        /// The tombstone's hash.
        hash: CommitHash,
    },
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing below this ballot will be accepted, and this has been.
    Promise {
        /// Which grain.
        grain: GrainId,
        /// The ballot promised.
        ballot: Ballot,
        /// The last accepted commit.
        accepted: Option<Accepted>,
        /// The state after it, if it was asked for and the asker doesn't have it.
        state: Option<State>,
    },
    /// Somebody else holds the grain and is alive; nothing was promised.
    Busy {
        /// Which grain.
        grain: GrainId,
        /// The ballot asked for.
        ballot: Ballot,
        /// Who holds it.
        holder: HostId,
        /// For how long, unless it shows life again.
        left_ms: u32,
    },
    /// All commits up to this one are accepted under this ballot, and durable.
    Acked {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
        /// The last accepted commit.
        seq: Seq,
        /// Its hash.
        hash: CommitHash,
    },
    /// The commit doesn't follow what is here: send what lies between, or the whole state.
    NeedSnap {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
        /// What is here.
        accepted: Option<Accepted>,
    },
    /// The state asked for.
    Fetched {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
        /// The state.
        state: State,
    },
    /// Which ballots are still good.
    Confirmed {
        /// The slot of all these grains.
        slot: Slot,
        /// As asked.
        stamp: u64,
        /// Still good.
        good: Vec<(GrainId, Ballot)>,
        /// Not good, or not known to be.
        refused: Vec<(GrainId, Ballot, Refusal)>,
    },
    /// No, and nothing changed.
    Nack {
        /// Which grain.
        grain: GrainId,
        /// The ballot asked for.
        ballot: Ballot,
        /// Why.
        refusal: Refusal,
    },
}

/// Why a replica refuses. Nothing has changed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// A higher ballot is promised: whoever holds a lower one is fenced.
    Promised(Ballot),
    /// The replica has forgotten deleted grains up to this ballot and can't tell: ask with a higher one. One alone fences nobody; when no
    /// quorum is left that could know the ballot, it's outdated.
    BelowFloor(Ballot),
    /// The slot has got other replicas with this configuration: learn it, ask those.
    Sealed(ConfigNumber),
    /// The replica knows configurations up to this one only: ask again.
    Behind(ConfigNumber),
    /// The replica is taking over the slot's grains: ask again.
    Installing,
    /// The host has no replica of the slot: one of the two has to learn a configuration.
    Absent,
    /// One of the replica's limits is reached: ask again.
    Full,
}

/// What replicas say to each other when a slot changes hands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Handover {
    /// Answer nothing below configuration `n` any more, and say what is there.
    Seal {
        /// Which slot.
        slot: Slot,
        /// The configuration that gives the slot its new replicas.
        n: ConfigNumber,
        /// The first configuration that is a source: what a replica holds from before it is of no use.
        oldest: ConfigNumber,
        /// Where the listing goes on.
        after: Option<GrainId>,
    },
    /// Sealed, durably; a page of what is there.
    Sealed {
        /// Which slot.
        slot: Slot,
        /// As asked.
        n: ConfigNumber,
        /// As asked.
        after: Option<GrainId>,
        /// Below it nothing is accepted for grains that aren't listed.
        floor: Option<Ballot>,
        /// Grains in the order of their ids.
        heads: Vec<GrainHead>,
        /// Whether there are more.
        more: bool,
    },
    /// Send a grain's state.
    Pull {
        /// Which slot.
        slot: Slot,
        /// The configuration for which the slot was sealed.
        n: ConfigNumber,
        /// Which grain.
        grain: GrainId,
    },
    /// A grain's state.
    Pulled {
        /// Which slot.
        slot: Slot,
        /// As asked.
        n: ConfigNumber,
        /// Which grain.
        grain: GrainId,
        /// The last accepted commit.
        accepted: Accepted,
        /// The state after it.
        body: Body,
    },
}

/// What a sealed replica knows of a grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GrainHead {
    /// Which grain.
    pub grain: GrainId,
    /// The highest promise.
    pub promised: Option<Ballot>,
    /// The last accepted commit.
    pub accepted: Option<Accepted>,
    /// Who holds the grain, and for how many milliseconds unless it shows life again.
    pub holder: Option<(Ballot, u32)>,
}
