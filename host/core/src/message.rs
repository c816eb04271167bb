//! Requests to grains and their replies.

use std::sync::Arc;

use crate::api::{CallFailure, Durability};
use crate::id::{Ballot, CallId, GrainId, RequestId, Revision, Seq};
use crate::reply_table::Outcome;
use crate::time::Time;

/// How deep calls may nest: a call that would go deeper fails. Stops recursion through many grains that never closes a
/// circle of waits.
pub const CALL_DEPTH_LIMIT: usize = 16;

/// Who waits for a reply; chosen by the host, unique for each request at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One request to one grain.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who waits for the reply.
    pub token: Token,
    /// The request from outside that this one is part of.
    pub id: RequestId,
    /// What to do.
    pub work: Work,
    /// Who asks.
    pub caller: Caller,
    /// When the caller stops waiting.
    pub deadline: Time,
    /// The grains whose turns wait for this request, outermost first. Empty for a request from outside.
    pub chain: Arc<[GrainId]>,
    /// Set when a repeat of this call must not have a second effect.
    pub once: Option<Once>,
}

/// Who asks, which decides when the reply may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody outside this host: the reply leaves when every commit that it could see is durable.
    Outside,
    /// A turn of another grain on this host: it gets its reply at once. Whatever that turn does is later in the same
    /// prefix-durable order, and its own reply waits for what it has seen.
    Grain,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Run a method.
    Call {
        /// The method's name, as in the module's description.
        method: Arc<str>,
        /// A JSON array of arguments by position.
        args: Vec<u8>,
        /// A `#[read]` method: its turn commits nothing.
        read: bool,
        /// The revision of the type whose parameters the arguments are for. Another may run by the time the turn begins.
        revision: Revision,
    },
    /// Delete the grain.
    Delete,
    /// Move the grain's state to its type's current revision, if it's on another; tries again what has failed before. The
    /// reply is `null`, or [`Code::UpgradeFailed`](crate::api::Code::UpgradeFailed) and why.
    Move,
}

/// How a repeat of a call is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// The call.
    pub call: CallId,
    /// Hash of method and arguments.
    pub fingerprint: [u8; 16],
    /// Hash of who called.
    pub client: u64,
}

impl Once {
    /// The fingerprint of a call.
    pub fn fingerprint(work: &Work) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_derive_key("granary 2026 call fingerprint");
        if let Work::Call { method, args, .. } = work {
            hash.update(&(method.len() as u64).to_le_bytes())
                .update(method.as_bytes())
                .update(args);
        }
        let mut out = [0; 16];
        out.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        out
    }
}

impl Request {
    /// Bytes that the request counts for in its mailbox.
    pub fn cost(&self) -> usize {
        let text = match &self.work {
            Work::Call { method, args, .. } => method.len() + args.len(),
            Work::Delete | Work::Move => 0,
        };
        size_of::<Request>() + text
    }

    /// Whether its turn may commit.
    pub fn may_commit(&self) -> bool {
        !matches!(self.work, Work::Call { read: true, .. })
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The method's value as JSON, or why there is none.
    pub result: Result<Vec<u8>, CallFailure>,
    /// The grain's last commit that the reply could see.
    pub seq: Seq,
    /// The revision that answered; 0 when none did.
    pub revision: Revision,
    /// What holds for the reply.
    pub durability: Durability,
    /// Why it holds.
    pub rests_on: RestsOn,
    /// In a cluster: the activation that has answered, so that the next request finds it at once.
    pub by: Option<Ballot>,
}

/// What a reply rests on. In a cluster another activation may have taken the grain over without this one having heard of it: what such a one
/// says of the grain's state may be outdated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestsOn {
    /// Nothing of the grain's state.
    #[default]
    Nothing,
    /// A commit of the request's own: whoever has accepted it has confirmed this activation.
    OwnCommit,
    /// What the request has changed and isn't committed yet, where no more is promised (`relaxed`, `volatile`).
    OwnChange,
    /// The grain's state as this activation has it: it was the last one only if a quorum still knows no other activation.
    State,
}

impl Outcome {
    /// The outcome as a caller sees it, once its commit holds.
    pub fn into_result(self) -> Result<Vec<u8>, CallFailure> {
        match self {
            Outcome::Value(value) => Ok(value),
            Outcome::GuestError { error, message, status } => Err(CallFailure {
                code: crate::api::Code::GuestError,
                detail: message,
                committed: crate::api::Committed::Yes,
                error,
                status,
            }),
            Outcome::PassedOn {
                code,
                message,
                error,
                status,
            } => Err(CallFailure {
                code,
                detail: message,
                committed: crate::api::Committed::Yes,
                error,
                status,
            }),
        }
    }
}
