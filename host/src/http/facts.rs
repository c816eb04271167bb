//! What a host says of itself in `/v1/cluster` and in every reply. The host fills it in at start; HTTP only shows it.

use std::net::SocketAddr;
use std::time::Instant;

use granary_core::id::HostId;

/// What doesn't change while the host runs.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// This host; `granary-host` in every reply.
    pub host: HostId,
    /// Where HTTP listens.
    pub address: SocketAddr,
    /// How changed pages are found: `userfaultfd` or `compare`.
    pub dirty_tracking: &'static str,
    /// Why they are compared, when nobody asked for that.
    pub dirty_tracking_reason: Option<String>,
    /// When the host started.
    pub started: Instant,
}
