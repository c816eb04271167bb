//! The configuration that a proposer would have after this one.
//!
//! **Not here:** whether it's time for one ([`super::chain`]), how slots are spread ([`crate::ring`]).

use std::collections::BTreeMap;

use super::config::{Config, Member, Replicas, SOURCE_LIMIT, SlotReplicas};
use crate::id::HostId;
use crate::ring;
use crate::slot::{Slot, SlotSet};

/// What members have told about the slots that they serve as the present configuration gives them.
pub(super) type Served = BTreeMap<HostId, SlotSet>;

/// Whether a quorum of a slot's replicas is known to serve it.
pub(super) fn is_served(slot: Slot, here: &SlotReplicas, served: &Served) -> bool {
    let serves = |host: &&HostId| served.get(host).is_some_and(|slots| slots.contains(slot));
    here.replicas.hosts().iter().filter(serves).count() >= here.replicas.quorum()
}

/// Whether a quorum of every slot's replicas is known to serve it, by agreement or by what was heard since.
pub(super) fn all_served(config: &Config, served: &Served) -> bool {
    Slot::all().all(|slot| {
        let here = config.slot(slot);
        here.is_settled() || is_served(slot, here, served)
    })
}

/// The successor with these members. Nothing when some slot's data would have too many sources: then hand-overs have to get on
/// first.
pub(super) fn successor(config: &Config, members: Vec<Member>, served: &Served) -> Option<Config> {
    let before: Vec<Replicas> = config.slots.iter().map(|slot| slot.replicas).collect();
    let same = members == config.members;
    let after = if same {
        before
    } else {
        ring::assign(&members, Some(&before))
    };
    let n = config.n.next();
    let slots: Vec<SlotReplicas> = Slot::all()
        .zip(after)
        .map(|(slot, replicas)| {
            let here = config.slot(slot);
            here.then(n, replicas, is_served(slot, here, served))
        })
        .collect();
    let fits = slots.iter().all(|slot| slot.sources.len() <= SOURCE_LIMIT);
    fits.then(|| Config {
        n,
        cluster: config.cluster,
        prev_hash: config.hash(),
        voters: Config::voters_of(&members),
        r: Config::replicas_of(members.len()) as u8,
        members,
        slots: slots.into(),
    })
}
