//! What the office is asked and what it says: the nouns between it and the rest of the host.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use granary_core::cluster::Input;
pub(crate) use granary_core::cluster::{Edited, News};
use granary_core::config_chain::config::Config;
use granary_core::id::{Ballot, GrainId, GrainName, HostId, Seq};
use granary_core::message::Token;
use granary_core::placement::Beat;
use granary_core::replication::messages::{Accepted, CommitHash, State};
use granary_core::routing::{self, Errand, Travel};
use tokio::sync::oneshot;

use super::quic::Held;
use crate::storage::Stored;

/// What an activation hears. Called on the office's thread: must be quick.
pub(crate) trait Hear: Send + Sync {
    /// Something has happened to the activation.
    fn hear(self: Arc<Self>, news: News);
}

/// What an activation begins with.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its ballot.
    pub(crate) ballot: Ballot,
    /// The last commit.
    pub(crate) head: Option<Accepted>,
    /// The state after it, when it isn't in this host's storage.
    pub(crate) state: Option<Stored>,
}

/// Why there is no activation here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// Another host has it.
    Held(HostId),
    /// The state can't be read.
    Unreadable,
    /// Another activation has taken over before this one began, or the host stops.
    Over,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It's for this host.
    Here,
    /// To another one.
    There(HostId, Travel),
    /// Nowhere, and why.
    Refused(routing::Refusal),
    /// Nowhere from here: this host stops.
    Closed,
}

/// Makes the next version of a table out of the present one; `None` leaves it as it is. May be asked again after it was made
/// ([`Edited::Again`]), so it has to look at what is there.
pub(crate) type Edit = Box<dyn FnOnce(Option<&[u8]>) -> Option<Vec<u8>> + Send>;

/// What the office is told.
pub(super) enum Note {
    Frame {
        from: HostId,
        frame: bytes::Bytes,
        /// Its share of what may wait, given back when it's taken.
        _held: Held,
    },
    Durable,
    /// For the machine, as it is; nobody waits for an answer.
    Tell(Input),
    /// A state was read; `taken` is dropped with the note.
    Loaded {
        grain: GrainId,
        state: Option<State>,
        taken: SyncSender<()>,
    },
    Open {
        name: GrainName,
        hear: Arc<dyn Hear>,
        reply: oneshot::Sender<Result<Opened, OpenError>>,
    },
    Reload {
        grain: GrainId,
        last: CommitHash,
        reply: oneshot::Sender<bool>,
    },
    Read {
        grain: GrainId,
        by: Ballot,
        sees: Seq,
        reply: oneshot::Sender<bool>,
    },
    Route {
        errand: Errand,
        reply: oneshot::Sender<Way>,
    },
    Withdraw {
        grain: GrainId,
        token: Token,
    },
    Edit {
        table: GrainId,
        edit: Edit,
        reply: oneshot::Sender<Edited>,
    },
    Look(oneshot::Sender<View>),
    Ping(oneshot::Sender<()>),
    Stop,
}

/// What is to be seen of a host's part.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The configuration in force.
    pub(crate) config: Option<Arc<Config>>,
    /// Slots that this host serves.
    pub(crate) serving: usize,
    /// Slots that it's taking over.
    pub(crate) installing: usize,
    /// Registers in memory.
    pub(crate) registers: usize,
    /// Its activations.
    pub(crate) activations: usize,
    /// Those without a quorum.
    pub(crate) isolated: usize,
    /// What routing has counted.
    pub(crate) counts: routing::Counts,
    /// Grains whose host is remembered.
    pub(crate) cached: usize,
    /// What the hosts have said of their load lately.
    pub(crate) beats: Vec<(HostId, Beat)>,
}
