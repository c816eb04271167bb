//! A request on its way to a grain that may be anywhere, and its form between hosts.

use std::sync::Arc;

use granary_core::api::{CallFailure, Code, Committed, Durability};
use granary_core::id::{Ballot, CallId, GrainId, GrainKey, GrainName, GrainType, HostId, RequestId, Revision, Seq};
use granary_core::message::{Once, Reply, RestsOn, Work};
use granary_core::routing::Travel;
use granary_core::time::Time;
use serde::{Deserialize, Serialize};

/// A request without a place to wait in: it can be delivered again elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) id: RequestId,
    pub(crate) grain: GrainName,
    pub(crate) work: Work,
    pub(crate) once: Option<Once>,
    /// The grains whose turns wait for it, outermost first.
    pub(crate) chain: Arc<[GrainId]>,
    /// When its caller stops waiting.
    pub(crate) deadline: Time,
    /// The grain on this host whose turn waits for it.
    pub(crate) caller: Option<GrainId>,
    /// The host that has sent it here, and its number there.
    pub(crate) sender: Option<(HostId, u64)>,
}

impl Parcel {
    /// Whether it may be sent again though nobody knows whether it has run: a repeat has no second effect.
    pub(crate) fn is_repeatable(&self) -> bool {
        // Not a deletion: others may have used the key since.
        let reads = matches!(self.work, Work::Call { read: true, .. });
        reads || self.once.is_some()
    }
}

/// A parcel between hosts.
#[derive(Serialize, Deserialize)]
pub(super) struct SentParcel {
    id: [u8; 16],
    kind: String,
    key: String,
    work: SentWork,
    once: Option<([u8; 16], [u8; 16], u64)>,
    chain: Vec<GrainId>,
    /// What is left until the deadline: clocks differ.
    left_nanos: u64,
    travel: Travel,
    /// The sender's number for it.
    number: u64,
}

#[derive(Serialize, Deserialize)]
enum SentWork {
    Call {
        method: String,
        args: Vec<u8>,
        read: bool,
        revision: u32,
    },
    Delete,
    Move,
}

impl SentParcel {
    pub(super) fn new(parcel: &Parcel, travel: Travel, number: u64, now: Time) -> SentParcel {
        SentParcel {
            id: parcel.id.0,
            kind: parcel.grain.kind.as_str().to_owned(),
            key: parcel.grain.key.as_str().to_owned(),
            work: match &parcel.work {
                Work::Call {
                    method,
                    args,
                    read,
                    revision,
                } => SentWork::Call {
                    method: method.to_string(),
                    args: args.clone(),
                    read: *read,
                    revision: revision.0,
                },
                Work::Delete => SentWork::Delete,
                Work::Move => SentWork::Move,
            },
            once: parcel.once.map(|once| (once.call.0, once.fingerprint, once.client)),
            chain: parcel.chain.to_vec(),
            left_nanos: parcel.deadline.nanos_since(now),
            travel,
            number,
        }
    }

    /// The parcel and how it has travelled; nothing when a peer has sent names that there can't be.
    pub(super) fn open(self, from: HostId, now: Time) -> Option<(Parcel, Travel)> {
        let grain = GrainName::new(GrainType::new(&self.kind).ok()?, GrainKey::new(&self.key).ok()?);
        let work = match self.work {
            SentWork::Call {
                method,
                args,
                read,
                revision,
            } => Work::Call {
                method: method.into(),
                args,
                read,
                revision: Revision(revision),
            },
            SentWork::Delete => Work::Delete,
            SentWork::Move => Work::Move,
        };
        let once = self.once.map(|(call, fingerprint, client)| Once {
            call: CallId(call),
            fingerprint,
            client,
        });
        let parcel = Parcel {
            id: RequestId(self.id),
            grain,
            work,
            once,
            chain: self.chain.into(),
            deadline: now.plus_nanos(self.left_nanos),
            caller: None,
            sender: Some((from, self.number)),
        };
        Some((parcel, self.travel))
    }
}

/// A reply between hosts.
#[derive(Serialize, Deserialize)]
pub(super) struct SentReply {
    result: Result<Vec<u8>, SentFailure>,
    seq: u64,
    revision: u32,
    durability: u8,
    by: Option<Ballot>,
}

#[derive(Serialize, Deserialize)]
struct SentFailure {
    code: String,
    detail: String,
    committed: u8,
    error: Option<Vec<u8>>,
    status: Option<u16>,
}

impl SentReply {
    pub(super) fn new(reply: Reply) -> SentReply {
        SentReply {
            result: reply.result.map_err(|failure| SentFailure {
                code: failure.code.as_str().to_owned(),
                detail: failure.detail,
                committed: match failure.committed {
                    Committed::Yes => 0,
                    Committed::No => 1,
                    Committed::Unknown => 2,
                },
                error: failure.error,
                status: failure.status,
            }),
            seq: reply.seq.0,
            revision: reply.revision.0,
            durability: match reply.durability {
                Durability::Committed => 0,
                Durability::Relaxed => 1,
                Durability::Volatile => 2,
            },
            by: reply.by,
        }
    }

    pub(super) fn open(self) -> Reply {
        Reply {
            result: self.result.map_err(|failure| CallFailure {
                // A peer of a later release may have more of them.
                code: Code::from_word(&failure.code).unwrap_or(Code::Internal),
                detail: failure.detail,
                committed: match failure.committed {
                    0 => Committed::Yes,
                    1 => Committed::No,
                    _ => Committed::Unknown,
                },
                error: failure.error,
                status: failure.status,
            }),
            seq: Seq(self.seq),
            revision: Revision(self.revision),
            durability: match self.durability {
                0 => Durability::Committed,
                1 => Durability::Relaxed,
                _ => Durability::Volatile,
            },
            // Its host has seen to that.
            rests_on: RestsOn::Nothing,
            by: self.by,
        }
    }
}
