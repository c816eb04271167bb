//! What hosts ask of one another about grains, and how this one answers.

use std::sync::Arc;

use bytes::Bytes;
use granary_core::id::{GrainId, GrainKey, GrainName, GrainType, HostId};
use serde::{Deserialize, Serialize};

use super::Catalog;
use super::chase::HOPS_MOST;
use super::parcel::SentParcel;
use crate::cluster::{Handle, Topic, decode, encode, question};

/// A question of another host.
#[derive(Serialize, Deserialize)]
pub(super) enum Ask<T> {
    /// Run this.
    Invoke(T),
    /// Take this grain, by its type and key: the asker has let go of it.
    Take(String, String),
    /// Does this grain wait for the first one? So many hosts may be asked for it.
    Chase(GrainId, GrainId, u8),
    /// The asker's call of this number is part of a circle.
    Recall(u64),
}

impl Ask<&SentParcel> {
    /// The bytes of a request that is sent on.
    pub(super) fn invoke(sent: &SentParcel) -> Bytes {
        question(Topic::Grains, &Ask::Invoke(sent))
    }
}

impl Ask<()> {
    /// The bytes of a grain's way to another host.
    pub(super) fn take(grain: &GrainName) -> Bytes {
        let take: Ask<()> = Ask::Take(grain.kind.as_str().to_owned(), grain.key.as_str().to_owned());
        question(Topic::Grains, &take)
    }
}

impl Ask<()> {
    /// The bytes of a search for a circle of calls.
    pub(super) fn chase(origin: GrainId, at: GrainId, hops: u8) -> Bytes {
        let chase: Ask<()> = Ask::Chase(origin, at, hops);
        question(Topic::Grains, &chase)
    }

    /// The bytes that take a call back.
    pub(super) fn recall(number: u64) -> Bytes {
        let recall: Ask<()> = Ask::Recall(number);
        question(Topic::Grains, &recall)
    }
}

impl Catalog {
    /// Answers a question of another host; nothing when it can't be read.
    pub(crate) async fn answer(self: &Arc<Self>, cluster: &Handle, from: HostId, asked: Bytes) -> Option<Bytes> {
        match decode::<Ask<SentParcel>>(&asked)? {
            Ask::Invoke(sent) => Some(self.serve_sent(cluster, from, sent).await),
            Ask::Chase(origin, at, hops) => {
                let hops = hops.min(HOPS_MOST);
                Some(encode(&self.chase(cluster, origin, at, hops).await))
            }
            Ask::Recall(number) => {
                self.recall(cluster, from, number).await;
                Some(encode(&true))
            }
            Ask::Take(kind, key) => {
                let grain = GrainName::new(GrainType::new(&kind).ok()?, GrainKey::new(&key).ok()?);
                Some(encode(&self.take(cluster, grain).await))
            }
        }
    }
}
