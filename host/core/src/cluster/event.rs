//! What goes into a host's cluster machine and what comes out: its only contact with the world.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config_chain::config::{Config, ConfigNumber, Member};
use crate::config_chain::event::{self as chain, Share};
use crate::directory::DirectoryMessage;
use crate::id::{Ballot, GrainId, GrainName, HostId, Lsn, Seq};
use crate::membership::Change;
use crate::message::Token;
use crate::placement::Beat;
use crate::replication::messages::{Accepted, Message, Proposal, State};
use crate::replication::record;
use crate::routing;
use crate::slot::Slot;

/// Any message from host to host. May be lost, doubled, late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// About the next configuration.
    Chain(chain::Message),
    /// Between activations and replicas.
    Replication(Message),
    /// Where is a grain?
    Directory(DirectoryMessage),
    /// How loaded the sender is.
    Beat(Beat),
    /// What the sender would be as a member. Told until the configuration says it.
    Share(Share),
}

/// What is written, in the order in which it's given out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// Of the configuration chain.
    Chain(chain::Record),
    /// Of a slot's replica.
    Replica(Slot, record::Record),
}

/// What happens. A [`Token`] is drawn by whoever drives the machine and names what is answered later.
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
    /// The log is durable up to there.
    LogDurable(Lsn),
    /// The journal's records with these marks are durable.
    Journaled(Vec<u64>),
    /// Answers [`Output::Load`]; `None` when it can't be read.
    Loaded {
        /// Which grain.
        grain: GrainId,
        /// Its state after all commits that the log was given before the question, or after later ones.
        state: Option<State>,
    },
    /// Membership has changed its mind.
    Seen(Change),
    /// This host's own figures, to be told to all.
    Beat(Beat),
    /// Become a grain's activation; answered by [`Output::Opened`]. An earlier activation of the grain on this host is dropped.
    Open {
        /// Names the activation from now on.
        token: Token,
        /// Which grain.
        name: GrainName,
    },
    /// Have an activation's next commit accepted. Dropped when it is over, which it may not know yet.
    Propose {
        /// Which grain.
        grain: GrainId,
        /// The commit.
        proposal: Proposal,
    },
    /// Wait until a quorum has said that nothing is committed that this host's activation doesn't know; answered by
    /// [`Output::Confirmed`].
    Read {
        /// Names it.
        token: Token,
        /// Which grain.
        grain: GrainId,
        /// The activation that has served it.
        by: Ballot,
        /// The last commit that the reader has seen.
        sees: Seq,
    },
    /// End an activation, once its commits are accepted.
    Close {
        /// Which grain.
        grain: GrainId,
        /// Who will be next.
        to: Option<HostId>,
    },
    /// Change a table by agreement of its replicas; answered by [`Output::Edited`].
    Edit {
        /// Names it.
        token: Token,
        /// The table.
        table: GrainId,
    },
    /// Answers [`Output::Edit`].
    Rewritten {
        /// The table.
        table: GrainId,
        /// What it is to say; `None` leaves it as it is.
        next: Option<Vec<u8>>,
    },
    /// A request that needs a way, and what is learned on the way.
    Route(routing::Input),
    /// [`Cluster::deadline`](super::Cluster::deadline) has passed.
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
    /// Read a grain's state from storage; answer with [`Input::Loaded`].
    Load {
        /// Which grain.
        name: GrainName,
    },
    /// Answers [`Input::Open`], once.
    Opened {
        /// As asked.
        token: Token,
        /// What the activation begins with.
        opened: Result<Opened, OpenError>,
    },
    /// Something has happened to an activation that was opened.
    News {
        /// Which activation.
        token: Token,
        /// What.
        news: News,
    },
    /// Answers [`Input::Read`], once.
    Confirmed {
        /// As asked.
        token: Token,
        /// Whether it was confirmed. Otherwise nothing may be said of the grain's state.
        is_confirmed: bool,
    },
    /// Say what the table is to be; answer with [`Input::Rewritten`] at once. Asked at most once for an [`Input::Edit`].
    Edit {
        /// As asked.
        token: Token,
        /// The table.
        table: GrainId,
        /// What it says now, agreed.
        bytes: Option<Vec<u8>>,
    },
    /// Answers [`Input::Edit`], once.
    Edited {
        /// As asked.
        token: Token,
        /// What became of it.
        edited: Edited,
    },
    /// What becomes of a request; never `Directory`.
    Route(routing::Output),
    /// This configuration is in force, durably.
    Configured(Arc<Config>),
    /// A peer has sent a commit that isn't what it is said to be; it isn't taken.
    Unsound {
        /// The peer.
        from: HostId,
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

/// What an activation begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Its ballot.
    pub ballot: Ballot,
    /// The last commit; `None` when there has never been one.
    pub head: Option<Accepted>,
    /// The state after it, when it isn't what this host's storage has. Never that of a deleted grain.
    pub state: Option<State>,
}

/// Why there is no activation here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another host has it.
    Held(HostId),
    /// Another activation has taken over before this one began.
    Over,
}

/// See [`Output::News`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A quorum has all commits up to this one.
    Committed(Seq),
    /// No quorum has been heard for too long: start no turn.
    Isolated,
    /// A quorum is heard again.
    Reachable,
    /// Another activation has taken over, or this one has been let go: drop everything.
    Over,
}

/// What became of an [`Input::Edit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// The table as it is now: its version and bytes. Agreed.
    Done(u64, Option<Vec<u8>>),
    /// Another host took over meanwhile, and whether it's made isn't known; or it's being edited here already: ask again.
    Again,
}
