//! What carries frames from host to host, as far as the cluster cares: a face that tests put a network of their own behind.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use granary_core::id::HostId;

/// Carries frames to other hosts. None of these waits but [`Link::call`].
pub(crate) trait Link: Send + Sync {
    /// Sends a frame; it may get lost, doubled or late. In order as long as a connection lasts.
    fn send(&self, to: HostId, frame: Bytes);

    /// The same for long frames, which must not keep short ones waiting.
    fn send_bulk(&self, to: HostId, frame: Bytes);

    /// Sends a datagram, which gets there at once or not at all.
    fn datagram(&self, to: HostId, datagram: Bytes);

    /// A host can be reached at an address.
    fn learn(&self, host: HostId, address: SocketAddr);

    /// Finds out who is at `host:port`; what comes of it is heard as an event, or nothing is.
    fn dial(&self, seed: String);

    /// Asks and waits for the answer.
    fn call(&self, to: HostId, request: Bytes, patience: Duration) -> Answer;
}

/// What comes of a call.
pub(crate) type Answer = std::pin::Pin<Box<dyn Future<Output = Result<Bytes, CallError>> + Send>>;

/// Why a call got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The request can't have reached the peer.
    NotSent(String),
    /// It may have.
    Unknown(String),
}
