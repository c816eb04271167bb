//! What directories say to each other.

use serde::{Deserialize, Serialize};

use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, GrainId, HostId};
use crate::placement::Policy;

/// A message between two hosts' directories. Any of them may be lost, doubled or late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryMessage {
    /// Where is this grain, or where shall it be? Answered by `At`, `Grant` or `Elsewhere`.
    Locate {
        /// The configuration by which the sender chose whom to ask.
        n: ConfigNumber,
        /// Which grain.
        grain: GrainId,
        /// It isn't on this host: the sender has tried.
        not_here: Option<HostId>,
        /// How to place it when it's nowhere.
        policy: Policy,
        /// Answer although somebody else would be the one to ask: he doesn't, or seems dead to the sender.
        insist: bool,
    },
    /// The grain is active on the ballot's host.
    At {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
    },
    /// The grain is nowhere: `host` shall activate it.
    Grant {
        /// Which grain.
        grain: GrainId,
        /// Where.
        host: HostId,
        /// Ballot counters up to this one are taken.
        above: u64,
    },
    /// The sender isn't the one to ask.
    Elsewhere {
        /// By this configuration.
        n: ConfigNumber,
        /// About which grain.
        grain: GrainId,
        /// Who seems to be.
        primary: Option<HostId>,
    },
    /// The sender has these activations. Answered by `Registered`.
    Register {
        /// The configuration by which the sender chose whom to tell.
        n: ConfigNumber,
        /// All of one slot, at most 64.
        entries: Vec<(GrainId, Ballot)>,
    },
    /// The highest ballots known for the grains of a `Register`.
    Registered {
        /// The receiver's own, or what has outdated them.
        entries: Vec<(GrainId, Ballot)>,
    },
    /// The sender had this activation.
    Unregister {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
    },
    /// The receiver has sent a request for a grain that isn't there, or no longer.
    Moved {
        /// Which grain.
        grain: GrainId,
        /// Where it was thought to be.
        old: HostId,
        /// Where it is, if the sender knows.
        new: Option<Ballot>,
    },
}
