//! What a replica makes durable.
//!
//! Each record goes into the commit log, in the order in which it's given out; what a replica promises by it leaves after it is durable.
//! The log is prefix-durable, so a crash leaves the first records, never a later one without an earlier. Replayed in order, records
//! rebuild the replica ([`Replica::replay`](super::replica::Replica::replay)); a snapshot of a register stands for its records.

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::messages::{Accepted, Proposal};
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId};

/// One change of a replica's durable state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// Nothing below `ballot` will be accepted for this grain.
    Promise {
        /// Which grain.
        grain: GrainId,
        /// The ballot.
        ballot: Ballot,
    },
    /// A commit is accepted.
    Accept {
        /// Which grain.
        grain: GrainId,
        /// Under which ballot; promises it as well.
        ballot: Ballot,
        /// The commit.
        proposal: Proposal,
    },
    /// A deleted grain is forgotten. Raises the slot's floor to its promise.
    Forget {
        /// Which grain.
        grain: GrainId,
        /// The new floor is at least this.
        floor: Ballot,
    },
    /// A grain as taken over from another replica; takes the place of whatever is there.
    Install {
        /// Which grain.
        grain: GrainId,
        /// The highest promise found.
        promised: Option<Ballot>,
        /// The highest accepted commit found.
        accepted: Option<Accepted>,
        /// The state after it; `None` when it's here already, or the grain has none.
        body: Option<Body>,
    },
    /// Nothing below configuration `n` is answered any more.
    Seal {
        /// The configuration.
        n: ConfigNumber,
    },
    /// All that configuration `n` needs to know of the ones before is here.
    Ready {
        /// The configuration.
        n: ConfigNumber,
        /// The floor found.
        floor: Option<Ballot>,
    },
    /// All grains of the slot are dropped: other replicas have them.
    Discard,
}
