//! A configuration: who is in the cluster, who votes on the next configuration, and which hosts hold each slot.
//!
//! Configurations are numbered, each names the hash of the one before, and each has one successor (see [`super`]). What a
//! replica has to do is read off one configuration alone, so that a host that missed some may take the newest directly:
//!
//! - `replicas` hold the slot, its primary first; `since` is the configuration that gave it these hosts. Later ones that leave
//!   them as they are change nothing for the slot.
//! - `sources` are the sets of replicas that may hold commits which a new replica has to know: the last one that is known to
//!   have been served by a quorum, and each after it that was given up before it was known to. A new replica has `R-q+1` hosts of
//!   **each** sealed and keeps the highest of each grain. Leaving one out because nobody had *heard* of its serving would lose
//!   what was acknowledged there. A set that has been served is its own source: whoever comes late asks its peers.
//!
//! So what is known of serving may be old: that makes the list of sources longer, never wrong. The list has a limit, and the
//! next configuration waits when it's reached. A host that is neither among a slot's replicas nor its sources may forget the
//! slot: that q hosts serve is then agreed, not just heard.
//!
//! The idea of sealing a configuration's replicas before the next one's serve is Vertical Paxos' (Lamport, Malkhi, Zhou,
//! *Vertical Paxos and Primary-Backup Replication*, 2009, section 3).
//!
//! **Not here:** how one is agreed ([`super`]), which hosts a slot should have ([`crate::ring`]), its form on the wire
//! (`config_chain/form.rs`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::form::ConfigForm;
use crate::id::HostId;
use crate::slot::{SLOTS, Slot};

/// How many replicas a slot has when there are enough hosts.
pub const REPLICAS: usize = 3;
/// The most hosts in a cluster: a configuration of more would not be small, nor SWIM quick.
pub const MEMBER_LIMIT: usize = 1024;
/// The longest name of a zone, in bytes: names are copied into every configuration.
pub const ZONE_LIMIT: usize = 64;
/// The most sets of replicas that a slot's new ones have to ask: each is a hand-over that was given up on the way.
pub const SOURCE_LIMIT: usize = 8;
/// The highest weight, so that sums of them don't overflow.
pub const WEIGHT_LIMIT: u32 = 10_000;

/// A configuration's number: 1 for a cluster's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigNumber(pub u64);

impl ConfigNumber {
    /// The number of a cluster's first configuration.
    pub const FIRST: ConfigNumber = ConfigNumber(1);

    /// The number after this one.
    pub fn next(self) -> ConfigNumber {
        ConfigNumber(self.0.saturating_add(1))
    }
}

impl fmt::Display for ConfigNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

hex_id!(
    /// A cluster's identity, made with its first host. Clusters of different ids never merge.
    ClusterId,
    16
);
hex_id!(
    /// blake3 of a configuration, see [`Config::hash`].
    ConfigHash,
    32
);

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub host: HostId,
    /// Its share relative to the others', from 1 to [`WEIGHT_LIMIT`].
    pub weight: u32,
    /// Hosts of one zone may fail together. Empty for none: all such hosts are one zone.
    pub zone: String,
}

/// Up to [`REPLICAS`] hosts, in order, none twice. Copied, not allocated: a configuration has thousands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replicas {
    hosts: [HostId; REPLICAS],
    len: u8,
}

impl Replicas {
    /// These hosts; nothing when they are none, more than [`REPLICAS`], or one is named twice.
    pub fn new(hosts: &[HostId]) -> Option<Replicas> {
        let distinct = hosts.iter().enumerate().all(|(at, host)| !hosts[..at].contains(host));
        if hosts.is_empty() || hosts.len() > REPLICAS || !distinct {
            return None;
        }
        let mut out = Replicas {
            hosts: [HostId([0; 16]); REPLICAS],
            len: hosts.len() as u8,
        };
        out.hosts[..hosts.len()].copy_from_slice(hosts);
        Some(out)
    }

    /// The hosts.
    pub fn hosts(&self) -> &[HostId] {
        &self.hosts[..usize::from(self.len)]
    }

    /// How many of them a promise or a commit needs: twice as many are more than all.
    pub fn quorum(&self) -> usize {
        usize::from(self.len) / 2 + 1
    }

    /// How many of them have to be sealed and read so that every commit was seen by one: `R-q+1`.
    pub fn read_quorum(&self) -> usize {
        usize::from(self.len) - self.quorum() + 1
    }

    /// Where a host is among them.
    pub fn position(&self, host: HostId) -> Option<usize> {
        self.hosts().iter().position(|other| *other == host)
    }

    /// Whether they are the same hosts, in whatever order.
    pub fn same_hosts(&self, other: &Replicas) -> bool {
        self.len == other.len && self.hosts().iter().all(|host| other.position(*host).is_some())
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hosts()).finish()
    }
}

/// A set of replicas that held a slot in some configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The configuration that gave the slot these replicas.
    pub n: ConfigNumber,
    /// Who they were.
    pub replicas: Replicas,
}

/// A slot in a configuration. See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotReplicas {
    /// Who holds it, its primary first.
    pub replicas: Replicas,
    /// The configuration that gave the slot these hosts.
    pub since: ConfigNumber,
    /// Where its data is, oldest first. Empty from a cluster's first configuration until that is known to be served: nothing is
    /// to be taken over.
    pub sources: Vec<Source>,
}

impl SlotReplicas {
    /// Its replicas as a source of others.
    pub fn as_source(&self) -> Source {
        Source {
            n: self.since,
            replicas: self.replicas,
        }
    }

    /// Whether it's agreed that a quorum of its replicas serves it.
    pub fn is_settled(&self) -> bool {
        matches!(self.sources[..], [source] if source.n == self.since)
    }

    /// Whether `host` holds the slot or may hold data that others still need. When not, it may forget the slot.
    pub fn concerns(&self, host: HostId) -> bool {
        let holds = |replicas: &Replicas| replicas.position(host).is_some();
        holds(&self.replicas) || self.sources.iter().any(|source| holds(&source.replicas))
    }

    /// Whether each commit of the slot was seen by one of `hosts`: enough of its replicas are among them, and of each of its sources.
    pub fn is_covered_by(&self, hosts: &BTreeSet<HostId>) -> bool {
        let is_covered = |replicas: &Replicas| {
            let among = replicas.hosts().iter().filter(|host| hosts.contains(host));
            among.count() >= replicas.read_quorum()
        };
        is_covered(&self.replicas) && self.sources.iter().all(|source| is_covered(&source.replicas))
    }

    /// The slot in configuration `n`, the next one, held by `replicas` there. `served` says that a quorum is known to serve it now.
    pub fn then(&self, n: ConfigNumber, replicas: Replicas, served: bool) -> SlotReplicas {
        let stays = replicas.same_hosts(&self.replicas);
        let sources = if served || self.is_settled() {
            vec![self.as_source()]
        } else if stays {
            self.sources.clone()
        } else {
            self.sources.iter().copied().chain([self.as_source()]).collect()
        };
        let since = if stays { self.since } else { n };
        SlotReplicas {
            replicas,
            since,
            sources,
        }
    }
}

/// A configuration of the cluster.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "ConfigForm", into = "ConfigForm")]
pub struct Config {
    /// Its number.
    pub n: ConfigNumber,
    /// The cluster's identity, the same in all.
    pub cluster: ClusterId,
    /// The hash of the configuration before; zeros in the first.
    pub prev_hash: ConfigHash,
    /// The hosts, in the order in which they joined: the oldest first.
    pub members: Vec<Member>,
    /// Who decides on the next configuration.
    pub voters: Vec<HostId>,
    /// How many replicas each slot has.
    pub r: u8,
    /// All slots, by number. Shared by clones.
    pub slots: Arc<[SlotReplicas]>,
}

impl Config {
    /// A new cluster of one host, which holds everything.
    pub fn first(cluster: ClusterId, member: Member) -> Config {
        let replicas = Replicas::new(&[member.host]).expect("one host is neither none nor many");
        let slot = SlotReplicas {
            replicas,
            since: ConfigNumber::FIRST,
            sources: Vec::new(),
        };
        Config {
            n: ConfigNumber::FIRST,
            cluster,
            prev_hash: ConfigHash([0; 32]),
            voters: vec![member.host],
            members: vec![member],
            r: 1,
            slots: vec![slot; usize::from(SLOTS)].into(),
        }
    }

    /// A slot.
    pub fn slot(&self, slot: Slot) -> &SlotReplicas {
        &self.slots[slot.index()]
    }

    /// Who holds a slot, its primary first.
    pub fn replicas(&self, slot: Slot) -> &[HostId] {
        self.slot(slot).replicas.hosts()
    }

    /// Whether each commit of any grain was seen by one of `hosts`.
    pub fn is_covered_by(&self, hosts: &BTreeSet<HostId>) -> bool {
        self.slots.iter().all(|slot| slot.is_covered_by(hosts))
    }

    /// Whether it's agreed that every slot is served by a quorum.
    pub fn is_settled(&self) -> bool {
        self.slots.iter().all(SlotReplicas::is_settled)
    }

    /// How many replicas of a slot a promise or a commit needs.
    pub fn quorum(&self) -> usize {
        usize::from(self.r) / 2 + 1
    }

    /// How many voters decide.
    pub fn voter_quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// The member of this id.
    pub fn member(&self, host: HostId) -> Option<&Member> {
        self.members.iter().find(|member| member.host == host)
    }

    /// Whether a host votes on the next configuration.
    pub fn is_voter(&self, host: HostId) -> bool {
        self.voters.contains(&host)
    }

    /// How many of `members` hosts vote: an odd number, small, and no pair, of which either's death would stop the chain.
    pub fn voter_count(members: usize) -> usize {
        match members {
            0 => 0,
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        }
    }

    /// Those of `members`, oldest first, who are to vote.
    pub fn voters_of(members: &[Member]) -> Vec<HostId> {
        let oldest = members.iter().take(Config::voter_count(members.len()));
        oldest.map(|member| member.host).collect()
    }

    /// How many replicas a slot has among `members` hosts.
    pub fn replicas_of(members: usize) -> usize {
        members.min(REPLICAS)
    }

    /// What it's called in the next one's `prev_hash`: blake3 of all of it, each list with its length before it.
    pub fn hash(&self) -> ConfigHash {
        let mut hash = blake3::Hasher::new_derive_key("granary 2026 configuration");
        let number = |hash: &mut blake3::Hasher, n: u64| {
            hash.update(&n.to_le_bytes());
        };
        number(&mut hash, self.n.0);
        hash.update(&self.cluster.0).update(&self.prev_hash.0);
        number(&mut hash, self.members.len() as u64);
        for member in &self.members {
            hash.update(&member.host.0);
            number(&mut hash, u64::from(member.weight));
            number(&mut hash, member.zone.len() as u64);
            hash.update(member.zone.as_bytes());
        }
        number(&mut hash, self.voters.len() as u64);
        for voter in &self.voters {
            hash.update(&voter.0);
        }
        number(&mut hash, u64::from(self.r));
        for slot in self.slots.iter() {
            number(&mut hash, slot.sources.len() as u64);
            for Source { n, replicas } in [slot.as_source()].iter().chain(&slot.sources) {
                number(&mut hash, n.0);
                number(&mut hash, u64::from(replicas.len));
                for host in replicas.hosts() {
                    hash.update(&host.0);
                }
            }
        }
        ConfigHash(*hash.finalize().as_bytes())
    }

    /// Whether it's one that the chain could have made. Peers' ones are checked when they are read.
    pub fn check(&self) -> Result<(), ConfigError> {
        let ensure = |holds: bool, or: ConfigError| if holds { Ok(()) } else { Err(or) };
        ensure((1..=MEMBER_LIMIT).contains(&self.members.len()), ConfigError::Members)?;
        let mut hosts: Vec<HostId> = self.members.iter().map(|member| member.host).collect();
        hosts.sort_unstable();
        ensure(hosts.windows(2).all(|pair| pair[0] != pair[1]), ConfigError::Members)?;
        for member in &self.members {
            ensure(
                (1..=WEIGHT_LIMIT).contains(&member.weight),
                ConfigError::Member(member.host),
            )?;
            ensure(member.zone.len() <= ZONE_LIMIT, ConfigError::Member(member.host))?;
        }
        ensure(self.voters == Config::voters_of(&self.members), ConfigError::Voters)?;
        ensure(
            usize::from(self.r) == Config::replicas_of(self.members.len()),
            ConfigError::Replicas,
        )?;
        ensure(self.slots.len() == usize::from(SLOTS), ConfigError::Replicas)?;
        for slot in Slot::all() {
            let here = self.slot(slot);
            let known = here
                .replicas
                .hosts()
                .iter()
                .all(|host| hosts.binary_search(host).is_ok());
            let numbers = here.sources.iter().map(|source| source.n);
            let sound = known && here.replicas.len == self.r && here.sources.len() <= SOURCE_LIMIT;
            let rising =
                numbers.clone().is_sorted_by(|a, b| a < b) && numbers.clone().all(|n| n.0 >= 1 && n <= here.since);
            let since = here.since.0 >= 1 && here.since <= self.n;
            let sourced = !here.sources.is_empty() || here.since == ConfigNumber::FIRST;
            ensure(sound && rising && since && sourced, ConfigError::Slot(slot))?;
        }
        Ok(())
    }

    /// Whether it may be the successor of `before`, as far as one can see without knowing what the voters recorded.
    pub fn check_follows(&self, before: &Config) -> Result<(), ConfigError> {
        if self.n != before.n.next() || self.cluster != before.cluster || self.prev_hash != before.hash() {
            return Err(ConfigError::Successor);
        }
        for slot in Slot::all() {
            let (now, then) = (self.slot(slot), before.slot(slot));
            if [true, false]
                .iter()
                .all(|served| *now != then.then(self.n, now.replicas, *served))
            {
                return Err(ConfigError::Slot(slot));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    /// Without the slots: a trace that printed 4,096 of them would be read by nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<HostId> = self.members.iter().map(|member| member.host).collect();
        let config = &mut f.debug_struct("Config");
        config
            .field("n", &self.n.0)
            .field("members", &hosts)
            .field("voters", &self.voters.len());
        config.field("r", &self.r).finish_non_exhaustive()
    }
}

/// Why something isn't a configuration, or not the next one. Nothing was changed; whoever sent it is faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No members, more than [`MEMBER_LIMIT`], or one twice.
    Members,
    /// A member's weight is 0 or above [`WEIGHT_LIMIT`], or its zone's name is longer than [`ZONE_LIMIT`].
    Member(HostId),
    /// The voters aren't the oldest members.
    Voters,
    /// The count of replicas isn't that of so many members, or there aren't [`SLOTS`] slots.
    Replicas,
    /// A slot names a stranger, has another count of replicas, or sources that can't be.
    Slot(Slot),
    /// It isn't linked to the configuration before.
    Successor,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Members => write!(f, "a configuration has 1 to {MEMBER_LIMIT} members, none of them twice"),
            ConfigError::Member(host) => write!(
                f,
                "member {host}: its weight has to be 1 to {WEIGHT_LIMIT}, its zone's name at most {ZONE_LIMIT} bytes"
            ),
            ConfigError::Voters => write!(f, "the voters have to be the oldest members: 1, 1, 3, 3 or 5 of them"),
            ConfigError::Replicas => write!(
                f,
                "each of the {SLOTS} slots has {REPLICAS} replicas, or as many as there are members"
            ),
            ConfigError::Slot(slot) => write!(
                f,
                "slot {slot}: its replicas or sources can't be those of this configuration"
            ),
            ConfigError::Successor => write!(
                f,
                "it doesn't name this cluster's last configuration as the one before it"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
