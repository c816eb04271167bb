//! What goes into the protocols and what comes out.

use std::sync::Arc;

use crate::cluster::event::{PeerMessage, Record};
use crate::config_chain::config::{Config, ConfigNumber, Member};
use crate::id::{Ballot, GrainId, HostId};
use crate::membership::Change;
use crate::placement::Beat;
use crate::replication::messages::{CommitHash, State};
use crate::replication::proposer;
use crate::routing;

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// All records are replayed. `founds`: the host is a new cluster's first.
    Start {
        /// What this host is as a member, when it founds a cluster.
        founds: Option<Member>,
    },
    /// A peer's message.
    Received {
        /// The peer, as its certificate says.
        from: HostId,
        /// What it says.
        message: PeerMessage,
    },
    /// The record with this mark is durable. Those of one slot become durable in their order.
    Persisted(u64),
    /// Answers [`Output::Load`]; `None` when it can't be read.
    Loaded {
        /// Which grain.
        grain: GrainId,
        /// Its state after all records given out before.
        state: Option<State>,
    },
    /// Membership has changed its mind.
    Seen(Change),
    /// This host's own figures, to be told to all.
    Beat(Beat),
    /// Become the activation of a grain.
    Activate {
        /// Which grain.
        grain: GrainId,
        /// The state that is here already, by its hash.
        have: Option<CommitHash>,
    },
    /// Something for an activation's proposer: a commit, an image, a read, its end.
    Grain {
        /// Which grain.
        grain: GrainId,
        /// What.
        input: proposer::Input,
    },
    /// A request that needs a way, and what is learned on the way.
    Route(routing::Input),
    /// [`Protocols::deadline`](super::Protocols::deadline) has passed.
    Wake,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this; never to this host itself.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: PeerMessage,
    },
    /// Write this; answer with [`Input::Persisted`].
    Persist {
        /// Rises by one with each record.
        mark: u64,
        /// What to write.
        record: Record,
    },
    /// Read a grain's state; answer with [`Input::Loaded`].
    Load {
        /// Which grain.
        grain: GrainId,
    },
    /// What an activation's proposer says; never what this machine takes for itself (`Send`, `Behind`).
    Grain {
        /// Which grain.
        grain: GrainId,
        /// What.
        output: proposer::Output,
    },
    /// What becomes of a request; never `Directory`.
    Route(routing::Output),
    /// This configuration is in force, durably.
    Configured(Arc<Config>),
    /// An activation here seems to have been outdated: it should find out.
    Outdated {
        /// Which grain.
        grain: GrainId,
        /// The higher ballot.
        by: Ballot,
    },
    /// Agreement is broken, and a person has to look: see the configurations' own event.
    Forked {
        /// The configuration's number.
        n: ConfigNumber,
        /// Who has another one.
        host: HostId,
        /// This host is the odd one: it stops serving.
        is_odd: bool,
    },
}
