//! What a host can be told about its cluster.

use std::net::SocketAddr;
use std::time::Duration;

use granary_core::cluster::protocols::WEIGHT;
use granary_core::config_chain::config::{WEIGHT_LIMIT, ZONE_LIMIT};
use granary_core::config_chain::event::Share;

/// How a host takes part in a cluster. A host without this is alone: it has no copies elsewhere and listens for nobody.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where other hosts reach this one: UDP, port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address that others are told, if it isn't the one listened on (behind a translation of addresses, or on all).
    pub advertise: Option<SocketAddr>,
    /// A join token: a new host joins the cluster that made it. Ignored once the host has joined.
    pub join: Option<String>,
    /// `name:port` of hosts that are asked for others when nobody is known; resolved again each time.
    pub seeds: Vec<String>,
    /// Hosts of one zone may fail together: copies are spread over zones. Empty for none.
    pub zone: String,
    /// This host's share of the copies relative to the others', from 1. 100 by default.
    pub weight: u32,
    /// A host that is silent for so long is taken out of the configuration, and the others make copies of what it kept. 60 s: a restart
    /// takes less, and moving its copies costs more. As it is on the voter that proposes it.
    pub remove_after: Duration,
    /// A host that joins has to be there for so long before it's given its share: one that comes and goes would move its slots each time.
    /// 3 s. As it is on the voter that proposes it.
    pub join_after: Duration,
}

impl ClusterConfig {
    /// Listens here; founds a cluster unless it's told to join one.
    pub fn new(listen: SocketAddr) -> ClusterConfig {
        ClusterConfig {
            listen,
            advertise: None,
            join: None,
            seeds: Vec::new(),
            zone: String::new(),
            weight: WEIGHT,
            remove_after: Duration::from_secs(60),
            join_after: Duration::from_secs(3),
        }
    }

    /// Whether a configuration can hold what is said of this host; every one has to.
    pub fn check(&self) -> Result<(), String> {
        if self.zone.len() > ZONE_LIMIT {
            return Err(format!(
                "zone: a name of at most {ZONE_LIMIT} bytes, not {}",
                self.zone.len()
            ));
        }
        if !(1..=WEIGHT_LIMIT).contains(&self.weight) {
            return Err(format!(
                "weight: a number from 1 to {WEIGHT_LIMIT}, not {}",
                self.weight
            ));
        }
        Ok(())
    }

    /// What this host is as a member.
    pub(super) fn share(&self) -> Share {
        Share {
            weight: self.weight,
            zone: self.zone.clone(),
        }
    }
}
