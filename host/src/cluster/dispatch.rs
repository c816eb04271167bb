//! What comes from other hosts, passed on to who it's for: frames to the office, datagrams to the prober, questions to the answerer.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use granary_core::id::{HostId, Lsn};
use granary_core::membership::Life;

use super::handle::Handle;
use super::keys::Keys;
use super::members::Members;
use super::quic::{Answered, Answering, Events, Held, Joining, Quic, Telling};
use super::station::{Answerer, disowned};

/// See the file's text.
pub(super) struct Dispatch {
    pub(super) me: HostId,
    /// Which holds this.
    pub(super) quic: Weak<Quic>,
    pub(super) handle: Handle,
    pub(super) members: Arc<OnceLock<Members>>,
    pub(super) answerer: Arc<dyn Answerer>,
    /// Where answers are made: not on the network's thread.
    pub(super) runtime: tokio::runtime::Handle,
}

impl Events for Dispatch {
    fn frame(&self, from: HostId, frame: Bytes, held: Held) {
        self.handle.frame(from, frame, held);
    }

    fn datagram(&self, from: HostId, datagram: Bytes) {
        if let Some(members) = self.members.get() {
            members.datagram(from, datagram);
        }
    }

    fn introduced(&self, host: HostId, address: SocketAddr) {
        if let Some(members) = self.members.get() {
            members.introduced(host, address);
        }
    }

    fn joins(&self, host: HostId, from: SocketAddr) -> Joining {
        let ready = self.runtime.spawn(self.answerer.joins(host, from));
        Box::pin(async move { ready.await.unwrap_or_else(|_| Err("it stops".to_owned())) })
    }

    fn ask(&self, from: HostId, question: Bytes) -> Answering {
        let answer = self.runtime.spawn(self.answerer.answer(from, question));
        // It has panicked, or the host stops.
        Box::pin(async move { answer.await.unwrap_or(Answered::Lost) })
    }

    fn disowned(&self, by: HostId, why: &str) {
        disowned(&format!("host {by} says: {why}"));
    }

    fn rewound(&self, host: HostId, life: Life, durable: Lsn) -> Telling {
        let (quic, office, me) = (self.quic.upgrade(), self.handle.clone(), self.me);
        let told = self.runtime.spawn(async move {
            if let Some(quic) = quic {
                Keys { quic, office }.warn(me, host, life, durable).await;
            }
        });
        Box::pin(async move { drop(told.await) })
    }

    fn hosts(&self) -> Vec<(HostId, SocketAddr)> {
        let view = self.members.get().map(Members::view).unwrap_or_default();
        view.members()
            .filter(|member| member.standing.is_active())
            .map(|member| (member.host, member.address))
            .collect()
    }
}
