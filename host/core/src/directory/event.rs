//! What goes into a directory and what comes out.

use std::sync::Arc;

use super::message::DirectoryMessage;
use crate::config_chain::config::{Config, ConfigNumber};
use crate::id::{Ballot, GrainId, HostId};
use crate::membership::Change;
use crate::placement::{Beat, Policy};

const MILLI: u64 = 1_000_000;

/// How many, how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Activations that this host may know as a primary. Beyond it, the replicas' own promises have to do.
    pub places_most: usize,
    /// Grains that may be looked for at a time. Stops a burst of cold requests from eating memory.
    pub asks_most: usize,
    /// A question is sent again after this.
    pub ask_again_nanos: u64,
    /// A question is given up after this.
    pub give_up_nanos: u64,
    /// A registration is sent again after this, and each time after twice as long, up to ten times.
    pub register_again_nanos: u64,
    /// After a change of primary, its slots' activations are registered within this, spread at random.
    pub jitter_nanos: u64,
    /// A grain that was granted to a host is granted to no other for so long.
    pub grant_nanos: u64,
    /// A host's load figures are believed for so long.
    pub beat_nanos: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            places_most: 1 << 20,
            asks_most: 1 << 16,
            ask_again_nanos: 200 * MILLI,
            give_up_nanos: 5_000 * MILLI,
            register_again_nanos: 500 * MILLI,
            jitter_nanos: 500 * MILLI,
            grant_nanos: 2_000 * MILLI,
            beat_nanos: 3_000 * MILLI,
        }
    }
}

/// What happens to a directory.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The deadline has passed.
    Wake,
    /// The current configuration.
    Configured(Arc<Config>),
    /// The member set has changed.
    Seen(Change),
    /// A host says how loaded it is; this one, too.
    Beat {
        /// Which host.
        from: HostId,
        /// Its figures.
        beat: Beat,
    },
    /// A peer's message.
    Received {
        /// The peer.
        from: HostId,
        /// What it says.
        message: DirectoryMessage,
    },
    /// Find the grain, or a host for it. Answered by [`Output::Located`] or [`Output::Unlocated`], once for all who ask meanwhile.
    Locate {
        /// Which grain.
        grain: GrainId,
        /// It isn't on this host.
        not_here: Option<HostId>,
        /// How to place it when it's nowhere.
        policy: Policy,
    },
    /// A grain is active here.
    Activated {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
    },
    /// It no longer is.
    Deactivated {
        /// Which grain.
        grain: GrainId,
        /// The activation.
        ballot: Ballot,
    },
    /// Answers [`Output::AskHolder`] at once.
    Holder {
        /// As it was asked.
        question: Question,
        /// Whom this host's replica has promised, unless he has released the grain.
        ballot: Option<Ballot>,
    },
}

/// A question that the replica of this host has to help with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asked.
    pub asker: HostId,
    /// For which grain.
    pub grain: GrainId,
    /// It isn't on this host.
    pub not_here: Option<HostId>,
    /// How to place it.
    pub policy: Policy,
}

/// Where to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// To where the grain is active.
    At(Ballot),
    /// To this host, which shall activate it by a ballot above this counter.
    Granted(HostId, u64),
}

impl Located {
    /// The host to send to.
    pub fn host(&self) -> HostId {
        match self {
            Located::At(ballot) => ballot.host,
            Located::Granted(host, _) => *host,
        }
    }
}

/// Why there's no answer. Nothing has happened to the grain; asking later may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// This host knows no configuration yet.
    NoConfig,
    /// Too many grains are being looked for.
    Busy,
    /// Nobody who could know has answered in time.
    NoAnswer,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message; it may get lost.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: DirectoryMessage,
    },
    /// A grain that was looked for is found.
    Located {
        /// Which grain.
        grain: GrainId,
        /// Where.
        located: Located,
    },
    /// It isn't.
    Unlocated {
        /// Which grain.
        grain: GrainId,
        /// Why.
        why: Lost,
    },
    /// Ask the replica here whom it has promised; answer by [`Input::Holder`] at once.
    AskHolder(Question),
    /// A peer says that a grain isn't where this host thought: for whoever keeps a cache.
    Moved {
        /// Which grain.
        grain: GrainId,
        /// Where it was thought to be.
        old: HostId,
        /// Where it is, if known.
        new: Option<Ballot>,
    },
    /// This host's activation of a grain seems to have been outdated by a higher ballot: it should find out.
    Outdated {
        /// Which grain.
        grain: GrainId,
        /// The higher ballot.
        by: Ballot,
    },
    /// Somebody knows a later configuration.
    Behind {
        /// Who.
        whom: HostId,
        /// Which.
        n: ConfigNumber,
    },
}
