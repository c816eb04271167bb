//! Who holds which slot, decided by one who knows all: stands in for the chain of configurations.
//!
//! The rule for sources is the chain's own ([`SlotReplicas::then`]); only the agreement and the choice of hosts are made up here.
//! Hosts learn of a layout late, in any order, or of the next one only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use granary_core::config_chain::config::{ConfigNumber, Replicas, SOURCE_LIMIT, SlotReplicas, Source};
use granary_core::id::{GrainId, HostId};
use granary_core::replication::replica_set::{Assignment, ReplicaSet};
use granary_core::slot::Slot;

use crate::dice::Dice;
use crate::subject::{Authority, Hosts};

/// One configuration: what replication has to know of it.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Its number.
    pub n: ConfigNumber,
    /// The slots that have grains in this run.
    pub slots: BTreeMap<Slot, SlotReplicas>,
}

impl Layout {
    /// A slot's part, in replication's words.
    pub fn assignment(&self, slot: Slot) -> Option<Assignment> {
        let here = self.slots.get(&slot)?;
        let set = |source: &Source| ReplicaSet {
            n: source.n,
            hosts: source.replicas.hosts().to_vec(),
        };
        Some(Assignment {
            set: set(&here.as_source()),
            sources: here.sources.iter().map(set).collect(),
        })
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Layouts {
    layout: Arc<Layout>,
    /// Who serves which slot in which configuration.
    serving: BTreeMap<(Slot, ConfigNumber), BTreeSet<HostId>>,
    groups: BTreeMap<Slot, Vec<Vec<HostId>>>,
}

impl Layouts {
    fn is_served(&self, slot: Slot, here: &SlotReplicas) -> bool {
        let serving = self.serving.get(&(slot, here.since));
        let counts = |host: &&HostId| serving.is_some_and(|serving| serving.contains(host));
        here.replicas.hosts().iter().filter(counts).count() >= here.replicas.quorum()
    }

    fn is_settled(&self) -> bool {
        self.layout.slots.values().all(SlotReplicas::is_settled)
    }

    fn next_hosts(here: &SlotReplicas, hosts: &Hosts, shuffle: bool, dice: &mut Dice) -> Vec<HostId> {
        let wanted = |host: &HostId| hosts.wanted.contains(host);
        let mut next: Vec<HostId> = here.replicas.hosts().iter().copied().filter(wanted).collect();
        if shuffle && dice.percent(60) && !next.is_empty() {
            next.remove(dice.below(next.len() as u64) as usize);
            if dice.percent(20) && !next.is_empty() {
                next.remove(dice.below(next.len() as u64) as usize);
            }
        }
        let size = hosts.wanted.len().min(3);
        while next.len() < size {
            let free: Vec<HostId> = hosts
                .wanted
                .iter()
                .copied()
                .filter(|host| !next.contains(host))
                .collect();
            next.extend(dice.pick(&free));
        }
        next
    }
}

impl Authority for Layouts {
    type Order = Arc<Layout>;
    type Report = (Slot, ConfigNumber);

    fn found(hosts: &[HostId], grains: &[GrainId]) -> Layouts {
        let mut layout = Layout {
            n: ConfigNumber::FIRST,
            slots: BTreeMap::new(),
        };
        let mut groups = BTreeMap::new();
        for (at, grain) in grains.iter().enumerate() {
            let mut chosen = hosts.to_vec();
            chosen.rotate_left(at % hosts.len());
            chosen.truncate(3);
            let replicas = Replicas::new(&chosen).expect("up to three distinct hosts");
            let slot = Slot::of(*grain);
            let first = SlotReplicas {
                replicas,
                since: ConfigNumber::FIRST,
                sources: Vec::new(),
            };
            layout.slots.entry(slot).or_insert(first);
            groups.entry(slot).or_insert(vec![chosen]);
        }
        Layouts {
            layout: Arc::new(layout),
            serving: BTreeMap::new(),
            groups,
        }
    }

    fn order(&self) -> Arc<Layout> {
        self.layout.clone()
    }

    fn heard(&mut self, from: HostId, (slot, n): (Slot, ConfigNumber)) {
        self.serving.entry((slot, n)).or_default().insert(from);
    }

    fn adapt(&mut self, hosts: &Hosts, shuffle: bool, dice: &mut Dice) -> bool {
        let n = self.layout.n.next();
        let mut next = Layout {
            n,
            slots: BTreeMap::new(),
        };
        let mut changes = false;
        for (slot, here) in &self.layout.slots {
            let served = self.is_served(*slot, here);
            let has_room = here.sources.len() < SOURCE_LIMIT || served || here.is_settled();
            let chosen = match has_room {
                true => Layouts::next_hosts(here, hosts, shuffle, dice),
                false => here.replicas.hosts().to_vec(),
            };
            let replicas = Replicas::new(&chosen).expect("up to three distinct hosts");
            changes |= !replicas.same_hosts(&here.replicas) || (served && !here.is_settled());
            next.slots.insert(*slot, here.then(n, replicas, served));
        }
        if !changes {
            return false;
        }
        for (slot, here) in &next.slots {
            let hosts = here.replicas.hosts().to_vec();
            let groups = self.groups.entry(*slot).or_default();
            if !groups.contains(&hosts) {
                groups.push(hosts);
            }
        }
        self.layout = Arc::new(next);
        true
    }

    /// One disk in a slot's last served set may be lost: two more hold what was acknowledged.
    fn may_lose(&self, hosts: &Hosts) -> bool {
        let slots = || self.layout.slots.values();
        let depends_on_lost = hosts.lost.iter().any(|host| slots().any(|slot| slot.concerns(*host)));
        self.is_settled() && !depends_on_lost && slots().all(|slot| slot.replicas.hosts().len() == 3)
    }

    fn may_leave(&self, host: HostId) -> bool {
        self.layout.slots.values().all(|slot| !slot.concerns(host))
    }

    fn groups(&self, grain: GrainId) -> &[Vec<HostId>] {
        self.groups.get(&Slot::of(grain)).map_or(&[], Vec::as_slice)
    }
}
