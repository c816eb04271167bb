//! Who holds a slot, and how many of them decide.

use crate::config_chain::config::ConfigNumber;
use crate::id::HostId;

/// A slot's replicas since configuration `n`. Later configurations that leave them as they are don't change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplicaSet {
    /// The configuration that gave the slot these replicas.
    pub n: ConfigNumber,
    /// The hosts, the first preferred.
    pub hosts: Vec<HostId>,
}

impl ReplicaSet {
    /// **Invariant 3**: how many promise, accept or confirm, `q` with `2q > R`. Any two such groups share a replica; R = 2 needs both.
    pub fn quorum(&self) -> usize {
        self.hosts.len() / 2 + 1
    }

    /// How many sealed replicas share one with every quorum: `R - q + 1`.
    pub fn sealing(&self) -> usize {
        self.hosts.len() - self.quorum() + 1
    }

    /// Whether `host` is one of them.
    pub fn holds(&self, host: HostId) -> bool {
        self.hosts.contains(&host)
    }
}

/// The replicas of a slot, and from whom new ones take over.
///
/// `sources` are the replica sets that may hold commits which a new replica has to know: the last one that is known to have been served
/// by a quorum, and each after it, below `set.n`. Leaving one out because nobody had heard of its serving would lose what was acknowledged
/// there. Empty for the first configuration of a cluster, which has nothing to take over.
///
/// A replica that comes late, when `set.n` itself is known to be served by a quorum, has `set` as its one source (the old ones may be gone).
/// It has promised and accepted nothing at `n`, and every quorum without it knows all, so whatever it hears there is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// The slot's replicas.
    pub set: ReplicaSet,
    /// Whom to seal and ask.
    pub sources: Vec<ReplicaSet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_meet_each_other_and_every_sealing_group() {
        for r in 1..=7 {
            let set = ReplicaSet {
                n: ConfigNumber(1),
                hosts: (0..r).map(|i| HostId([i; 16])).collect(),
            };
            let r = usize::from(r);
            assert!(2 * set.quorum() > r);
            assert!(set.quorum() + set.sealing() > r, "a sealing group meets every quorum");
            assert!(set.sealing() <= set.quorum(), "and asks for no more than a quorum");
        }
    }
}
