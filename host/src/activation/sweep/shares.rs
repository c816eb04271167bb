//! How grains are divided among hosts that each sweep some: a grain is with the first of its slot's replicas that seems to be there.

use std::sync::Arc;

use granary_core::config_chain::config::{Config, ConfigNumber};
use granary_core::id::{GrainName, HostId};
use granary_core::slot::Slot;
use serde::{Deserialize, Serialize};

use crate::cluster::Handle;

/// What hosts have to see alike to divide grains alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Division {
    /// The configuration's number; a host alone has its first for ever.
    number: u64,
    /// Its members that seem to be there.
    hosts: Vec<HostId>,
}

/// One host's share.
#[derive(Clone)]
pub(super) struct Share {
    me: HostId,
    config: Option<Arc<Config>>,
    division: Division,
}

impl Division {
    /// Everything is this host's.
    fn alone(me: HostId) -> Division {
        Division {
            number: ConfigNumber::FIRST.0,
            hosts: vec![me],
        }
    }

    /// Those besides `me`.
    pub(crate) fn others(&self, me: HostId) -> impl Iterator<Item = HostId> {
        self.hosts.iter().copied().filter(move |host| *host != me)
    }
}

impl Share {
    /// As this host sees the cluster now, if there's one.
    pub(super) fn of(me: HostId, cluster: Option<&Handle>) -> Share {
        let config = cluster.and_then(Handle::config);
        let division = match (&config, cluster) {
            (Some(config), Some(cluster)) => {
                let others = cluster.others();
                let members = config.members.iter().map(|member| member.host);
                Division {
                    number: config.n.0,
                    hosts: members.filter(|host| *host == me || others.contains(host)).collect(),
                }
            }
            _ => Division::alone(me),
        };
        Share { me, config, division }
    }

    pub(super) fn division(&self) -> &Division {
        &self.division
    }

    /// Whether this host is the one that sweeps a grain.
    pub(super) fn has(&self, grain: &GrainName) -> bool {
        let Some(config) = &self.config else { return true };
        let mut replicas = config.replicas(Slot::of(grain.id())).iter();
        replicas.find(|host| self.division.hosts.contains(host)) == Some(&self.me)
    }
}

#[cfg(test)]
mod tests {
    use granary_core::config_chain::config::{ClusterId, Member, Replicas, SlotReplicas};
    use granary_core::id::{GrainKey, GrainType};

    use super::*;

    fn host(number: u8) -> HostId {
        HostId([number; 16])
    }

    fn share(me: u8, alive: &[u8], config: &Arc<Config>) -> Share {
        Share {
            me: host(me),
            config: Some(config.clone()),
            division: Division {
                number: config.n.0,
                hosts: alive.iter().map(|number| host(*number)).collect(),
            },
        }
    }

    #[test]
    fn every_grain_is_in_one_share_whoever_is_there() {
        let founder = Member {
            host: host(1),
            weight: 1,
            zone: String::new(),
        };
        let mut config = Config::first(ClusterId([7; 16]), founder);
        let slots = (0..config.slots.len()).map(|slot| {
            let first = slot as u8 % 4;
            let hosts: Vec<HostId> = (0..3).map(|next| host((first + next) % 4 + 1)).collect();
            SlotReplicas {
                replicas: Replicas::new(&hosts).unwrap(),
                ..config.slots[slot].clone()
            }
        });
        config.slots = slots.collect();
        let config = Arc::new(config);
        let grains: Vec<GrainName> = (0..500)
            .map(|key| GrainName::new(GrainType::new("x").unwrap(), GrainKey::new(&format!("{key}")).unwrap()))
            .collect();
        for alive in [&[1, 2, 3, 4][..], &[2, 3, 4], &[1, 4]] {
            let shares: Vec<Share> = alive.iter().map(|me| share(*me, alive, &config)).collect();
            for grain in &grains {
                assert_eq!(
                    shares.iter().filter(|share| share.has(grain)).count(),
                    1,
                    "{grain} of {alive:?}"
                );
            }
        }
    }
}
