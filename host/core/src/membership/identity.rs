//! Who a member is: the host, its start, and how often it came back from being called dead.

use std::net::SocketAddr;

use crate::id::HostId;

/// A member of the cluster as gossip names it.
///
/// For one host the higher identity wins: by incarnation, then a leave, then the renewal. Two identities are equal when those
/// and the host are: the address is what they say about themselves, and a host that moves does so by a new start.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The host: the same for the life of its data folder.
    pub host: HostId,
    /// The host's n-th start; kept on its disk.
    pub incarnation: u32,
    /// Whether the host has left by its own will and won't come back in this incarnation.
    pub leaving: bool,
    /// How often the host was called dead in this incarnation and came back.
    pub renewal: u32,
    /// Where it can be reached.
    pub address: SocketAddr,
}

impl Identity {
    /// A host as it starts.
    pub fn new(host: HostId, incarnation: u32, address: SocketAddr) -> Identity {
        Identity {
            host,
            incarnation,
            leaving: false,
            renewal: 0,
            address,
        }
    }

    /// This host on its way out.
    pub(super) fn left(self) -> Identity {
        Identity { leaving: true, ..self }
    }

    fn rank(&self) -> (u32, bool, u32) {
        (self.incarnation, self.leaving, self.renewal)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        (self.host, self.rank()) == (other.host, other.rank())
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = HostId;

    fn renew(&self) -> Option<Identity> {
        let renewal = self.renewal.checked_add(1)?;
        (!self.leaving).then_some(Identity { renewal, ..*self })
    }

    fn addr(&self) -> HostId {
        self.host
    }

    fn win_addr_conflict(&self, adversary: &Identity) -> bool {
        self.rank() > adversary.rank()
    }
}
