//! What goes into the membership machine and what comes out.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::PeriodicParams;

use super::view::Change;
use super::wire::WireError;
use crate::id::HostId;

const MILLI: u64 = 1_000_000;

/// How often, how long, how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// One random member is probed in each such period.
    pub probe_nanos: u64,
    /// A direct answer is awaited for this long, then others are asked to try.
    pub rtt_nanos: u64,
    /// How long a suspect has to object to a healthy host.
    pub suspicion_nanos: u64,
    /// How high the health score may rise. A suspect has up to 1 more times the suspicion's length.
    pub score_most: u8,
    /// Being called this much after the deadline counts as having slept. Stops a starved host from blaming others.
    pub late_nanos: u64,
    /// News is sent on this often, as long as there is any.
    pub gossip_nanos: u64,
    /// To this many members at a time.
    pub gossip_members: usize,
    /// Each piece of news is sent this often by each host. Less leaves holes in clusters of some thirty hosts.
    pub transmissions: u8,
    /// Whoever is missing is called this often.
    pub rejoin_nanos: u64,
    /// At most this many are called, or told that they are suspected, at a time. Stops a partition of a large cluster from
    /// causing a storm.
    pub rejoin_members: usize,
    /// One random member is asked this often whether it knows the same, in case gossip left holes.
    pub roll_nanos: u64,
    /// And this soon after somebody new was seen.
    pub hurried_roll_nanos: u64,
    /// A host that is gone is forgotten after this.
    pub forget_nanos: u64,
    /// How many hosts may be known, dead or alive. Stops a peer's made-up members from eating memory.
    pub hosts_most: usize,
    /// The longest datagram, in bytes: fits a QUIC datagram everywhere.
    pub datagram_bytes: usize,
    /// `host:port` of hosts to call while anyone is missing; whoever resolves them does so again now and then.
    pub seeds: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            probe_nanos: 500 * MILLI,
            rtt_nanos: 150 * MILLI,
            suspicion_nanos: 2_000 * MILLI,
            score_most: 8,
            late_nanos: 100 * MILLI,
            gossip_nanos: 100 * MILLI,
            gossip_members: 3,
            transmissions: 10,
            rejoin_nanos: 2_000 * MILLI,
            rejoin_members: 64,
            roll_nanos: 5_000 * MILLI,
            hurried_roll_nanos: 500 * MILLI,
            forget_nanos: 3_600_000 * MILLI,
            hosts_most: 4_096,
            datagram_bytes: 1_200,
            seeds: Vec::new(),
        }
    }
}

impl Settings {
    /// The part that foca needs.
    pub(super) fn for_foca(&self) -> foca::Config {
        let periodic = |nanos, members| PeriodicParams {
            frequency: Duration::from_nanos(nanos),
            num_members: NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN),
        };
        foca::Config {
            probe_period: Duration::from_nanos(self.probe_nanos),
            probe_rtt: Duration::from_nanos(self.rtt_nanos),
            max_transmissions: NonZeroU8::new(self.transmissions).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: Duration::from_nanos(self.suspicion_nanos),
            remove_down_after: Some(Duration::from_nanos(self.forget_nanos)),
            max_packet_size: NonZeroUsize::new(self.datagram_bytes).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            // Reading the roll does the first, the calls to the missing do the second, also when nobody is left.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(periodic(self.gossip_nanos, self.gossip_members)),
            ..foca::Config::simple()
        }
    }
}

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline has passed.
    Wake,
    /// A datagram came from a peer whose identity the transport has checked.
    Received {
        /// The peer.
        from: HostId,
        /// Its bytes.
        datagram: Vec<u8>,
    },
    /// A host can be reached at an address: answers [`Output::Dial`], or comes from a book of addresses kept on disk.
    Introduced {
        /// The host.
        host: HostId,
        /// Its address.
        address: SocketAddr,
    },
    /// The members of the current configuration: whoever of them is not there is missing.
    Configured(Vec<HostId>),
    /// Say good-bye for good. After [`Output::Gone`] the machine does nothing more.
    Leave,
    /// Say that this process ends: the others call it down at once, without waiting for its silence, and take its next start as any other's.
    /// After [`Output::Gone`] the machine does nothing more.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram; it may get lost.
    Send {
        /// To this host.
        to: HostId,
        /// Which should be here.
        address: SocketAddr,
        /// The bytes.
        datagram: Vec<u8>,
    },
    /// Find out who is at a seed and answer with [`Input::Introduced`]. No answer is fine.
    Dial {
        /// `host:port`.
        seed: String,
    },
    /// The view has changed.
    Changed(Change),
    /// The others had called this host dead; it has come back. Its grains may have been taken over meanwhile.
    Renewed {
        /// How often that has happened since the start.
        renewal: u32,
    },
    /// Others know a later start of this very host: its folder was copied, and this process isn't the host any more. It has to end at
    /// once; the machine does nothing more.
    Superseded {
        /// The number of that start.
        by: u32,
    },
    /// A datagram was dropped.
    Refused {
        /// Whose.
        from: HostId,
        /// Why.
        reason: Refusal,
    },
    /// The good-bye is said.
    Gone,
}

/// Why a datagram was dropped. The state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is another cluster's. A wrong seed or an address that was given away.
    Foreign,
    /// It names another sender than the one that the transport has checked.
    Impostor,
    /// It would make more hosts known than [`Settings::hosts_most`].
    TooManyHosts,
    /// It is damaged, too long, or of a later version.
    Malformed,
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Refusal {
        match error {
            WireError::Foreign => Refusal::Foreign,
            WireError::Full | WireError::Decode(_) => Refusal::Malformed,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Foreign => "the datagram is another cluster's: check the seeds",
            Refusal::Impostor => "the datagram names another sender than its connection's certificate",
            Refusal::TooManyHosts => {
                "the datagram tells of more hosts than may be known: raise the limit, or look for who invents them"
            }
            Refusal::Malformed => "the datagram can't be read: it's damaged, too long, or of a later release",
        })
    }
}
