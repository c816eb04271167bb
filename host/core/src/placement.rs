//! Where a grain that's nowhere shall be: on one of the hosts that keep its copies, so that a commit waits for one other host and what is
//! committed is on the activation's own disk, too. In a cluster of three that's any host.
//!
//! The policy is the grain type's choice:
//!
//! - [`Policy::Primary`]: with its slot's primary. Directory, one replica and the activation are together, so that finding the grain
//!   costs no message to a third.
//! - [`Policy::Local`]: where it's asked for, if that host keeps copies; balanced otherwise.
//! - [`Policy::Random`]: on any of them.
//! - [`Policy::Balanced`]: on the less loaded of two random ones of them. Everyone choosing the very least loaded by figures half a second old would
//!   send all to the same host; two choices are nearly as good and don't (Mitzenmacher: "The power of two choices", 2001).
//!
//! Load comes in by [`Beat`]s, from each host to each other, twice a second: too often for gossip.
//!
//! **Not here:** moving what is placed already.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config_chain::config::Config;
use crate::id::HostId;
use crate::rng::Rng;
use crate::slot::Slot;
use crate::time::Time;

/// A memory share from which on a host counts as full.
const MEMORY_FULL: f64 = 0.85;
/// A queue wait from which on a host counts as full, in milliseconds: requests are shed there.
const WAIT_FULL_MS: f64 = 500.0;

/// How a grain type wants to be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// With the slot's primary.
    #[default]
    Primary,
    /// On the host that asks, unless that one is overloaded.
    Local,
    /// On a random host.
    Random,
    /// On the less loaded of two.
    Balanced,
}

impl Policy {
    /// As it's written in a type's description.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Primary => "primary",
            Policy::Local => "prefer-local",
            Policy::Random => "random",
            Policy::Balanced => "balanced",
        }
    }

    /// The policy of that name.
    pub fn from_word(word: &str) -> Option<Policy> {
        let all = [Policy::Primary, Policy::Local, Policy::Random, Policy::Balanced];
        all.into_iter().find(|policy| policy.as_str() == word)
    }
}

/// A host's load figures. In thousandths, so that they compare and travel exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Guest CPU time of the last seconds as a share of all cores.
    pub cpu_permille: u16,
    /// Memory in use as a share of the host's budget.
    pub memory_permille: u16,
    /// How long a request waits for its turn to begin, smoothed, in milliseconds.
    pub queue_wait_ms: u32,
    /// Activations on the host.
    pub activations: u32,
    /// The host takes no more activations: it's on its way out.
    pub draining: bool,
    /// What the shares above are of: processors,
    pub processors: u16,
    /// and MiB of memory.
    pub memory_mib: u32,
}

impl Beat {
    /// The host's load: 1 is full. The worst of its CPU, its memory against what may be used, and its queues.
    pub fn load(&self) -> f64 {
        let cpu = f64::from(self.cpu_permille) / 1000.0;
        let memory = f64::from(self.memory_permille) / 1000.0 / MEMORY_FULL;
        let wait = f64::from(self.queue_wait_ms) / WAIT_FULL_MS;
        cpu.max(memory).max(wait)
    }

    /// Whether it should get no more.
    pub fn is_full(&self) -> bool {
        self.draining || self.load() >= 1.0
    }
}

/// What is known about the hosts' load.
#[derive(Clone, Debug)]
pub struct Loads {
    beats: BTreeMap<HostId, (Time, Beat)>,
    life_nanos: u64,
    most: usize,
}

impl Loads {
    /// Figures are believed for `life_nanos`, and kept for `most` hosts.
    pub fn new(life_nanos: u64, most: usize) -> Loads {
        Loads {
            beats: BTreeMap::new(),
            life_nanos,
            most,
        }
    }

    /// Takes in a host's figures.
    pub fn put(&mut self, now: Time, host: HostId, beat: Beat) {
        if self.beats.len() >= self.most && !self.beats.contains_key(&host) {
            let life = self.life_nanos;
            self.beats.retain(|_, (at, _)| now.nanos_since(*at) < life);
        }
        if self.beats.len() < self.most || self.beats.contains_key(&host) {
            self.beats.insert(host, (now, beat));
        }
    }

    /// A host's figures, if they are fresh.
    pub fn beat(&self, now: Time, host: HostId) -> Option<Beat> {
        let (at, beat) = self.beats.get(&host)?;
        (now.nanos_since(*at) < self.life_nanos).then_some(*beat)
    }

    /// Whether a host is known to be full.
    pub fn is_full(&self, now: Time, host: HostId) -> bool {
        self.beat(now, host).is_some_and(|beat| beat.is_full())
    }

    /// A host's load. Without fresh figures it counts as half loaded: it may be new, or its beats get lost.
    pub fn load(&self, now: Time, host: HostId) -> f64 {
        self.beat(now, host).map_or(0.5, |beat| beat.load())
    }
}

/// Who could take a grain.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// The slot's primary; that's the host that places.
    pub primary: HostId,
    /// Who asks for the grain.
    pub asker: HostId,
    /// The slot's replicas that seem alive.
    pub hosts: &'a [HostId],
}

/// The host for a new activation.
pub fn place(now: Time, policy: Policy, candidates: &Candidates<'_>, loads: &Loads, rng: &mut Rng) -> HostId {
    let Candidates { primary, asker, hosts } = *candidates;
    // A host that drains must get nothing, by any policy.
    let drains = |host: HostId| loads.beat(now, host).is_some_and(|beat| beat.draining);
    match policy {
        Policy::Primary if !drains(primary) => primary,
        Policy::Local if hosts.contains(&asker) && !loads.is_full(now, asker) => asker,
        Policy::Random => {
            let open: Vec<_> = hosts.iter().copied().filter(|host| !drains(*host)).collect();
            rng.choose(&open).copied().unwrap_or(primary)
        }
        Policy::Primary | Policy::Local | Policy::Balanced => {
            let open: Vec<_> = hosts.iter().copied().filter(|host| !drains(*host)).collect();
            better_of_two(now, &open, loads, rng).unwrap_or(primary)
        }
    }
}

/// Who gets a grain that leaves its host: the first of its slot's replicas that takes grains, else any member that does. `takes` is asked of
/// others than `me` only.
pub fn heir(config: &Config, slot: Slot, me: HostId, takes: impl Fn(HostId) -> bool) -> Option<HostId> {
    let members = config.members.iter().map(|member| &member.host);
    let all = config.replicas(slot).iter().chain(members);
    all.copied().find(|host| *host != me && takes(*host))
}

fn better_of_two(now: Time, open: &[HostId], loads: &Loads, rng: &mut Rng) -> Option<HostId> {
    let first = rng.below(open.len() as u64) as usize;
    // Another one than the first: by a step of less than all.
    let step = 1 + rng.below((open.len() as u64).saturating_sub(1)) as usize;
    let one = *open.get(first)?;
    let other = open[(first + step) % open.len()];
    let better = loads.load(now, other) < loads.load(now, one);
    Some(if better { other } else { one })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_chain::config::{ClusterId, Member, Replicas, SlotReplicas};
    use crate::id::GrainId;

    const NOW: Time = Time(1_000_000_000);

    fn host(number: u8) -> HostId {
        HostId([number; 16])
    }

    fn loads(beats: &[(u8, Beat)]) -> Loads {
        let mut loads = Loads::new(3_000_000_000, 100);
        beats
            .iter()
            .for_each(|(number, beat)| loads.put(NOW, host(*number), *beat));
        loads
    }

    fn cpu(cpu_permille: u16) -> Beat {
        Beat {
            cpu_permille,
            ..Beat::default()
        }
    }

    /// How often each of 5 hosts is chosen in 1,000 times; 1 is the primary, 2 asks.
    fn counts(policy: Policy, loads: &Loads) -> [usize; 5] {
        let hosts = [host(1), host(2), host(3), host(4), host(5)];
        let candidates = Candidates {
            primary: host(1),
            asker: host(2),
            hosts: &hosts,
        };
        let mut rng = Rng::new(1);
        let mut counts = [0; 5];
        for _ in 0..1_000 {
            let chosen = place(NOW, policy, &candidates, loads, &mut rng);
            counts[chosen.0[0] as usize - 1] += 1;
        }
        counts
    }

    #[test]
    fn by_default_a_grain_is_with_its_slots_primary() {
        assert_eq!(counts(Policy::default(), &loads(&[(1, cpu(999))])), [1_000, 0, 0, 0, 0]);
    }

    #[test]
    fn local_is_where_it_is_asked_for_unless_that_host_is_full() {
        assert_eq!(counts(Policy::Local, &loads(&[])), [0, 1_000, 0, 0, 0]);
        assert!(counts(Policy::Local, &loads(&[(2, cpu(1_000))]))[1] == 0);
    }

    #[test]
    fn random_reaches_every_host_evenly() {
        let counts = counts(Policy::Random, &loads(&[(3, cpu(900))]));
        assert!(counts.iter().all(|count| (150..250).contains(count)), "{counts:?}");
    }

    #[test]
    fn balanced_never_takes_the_busiest_and_seldom_only_the_idlest() {
        let figures = loads(&[
            (1, cpu(900)),
            (2, cpu(700)),
            (3, cpu(500)),
            (4, cpu(300)),
            (5, cpu(100)),
        ]);
        let counts = counts(Policy::Balanced, &figures);
        assert_eq!(counts[0], 0, "any other is better");
        assert!(counts.is_sorted(), "{counts:?}");
        assert!(
            (350..450).contains(&counts[4]),
            "two of five pairs hold the idlest: {counts:?}"
        );
    }

    #[test]
    fn a_host_on_its_way_out_gets_nothing() {
        let draining = Beat {
            draining: true,
            ..Beat::default()
        };
        let figures = loads(&[(1, draining), (2, draining)]);
        for policy in [Policy::Primary, Policy::Local, Policy::Random, Policy::Balanced] {
            assert_eq!(counts(policy, &figures)[..2], [0, 0], "{policy:?}");
        }
        let all: Vec<_> = (1..=5).map(|number| (number, draining)).collect();
        assert_eq!(
            counts(Policy::Balanced, &loads(&all))[0],
            1_000,
            "somebody has to, if all are"
        );
    }

    #[test]
    fn a_grain_goes_to_a_replica_that_takes_it_before_any_other_host() {
        let member = |number| Member {
            host: host(number),
            weight: 1,
            zone: String::new(),
        };
        let mut config = Config::first(ClusterId([7; 16]), member(1));
        config.members = (1..=4).map(member).collect();
        let slots = config.slots.iter().map(|slot| SlotReplicas {
            replicas: Replicas::new(&[host(1), host(3), host(4)]).unwrap(),
            ..slot.clone()
        });
        config.slots = slots.collect();
        let slot = Slot::of(GrainId([0; 16]));
        let heir_among = |taking: &[u8]| heir(&config, slot, host(1), |other| taking.contains(&other.0[0]));
        assert_eq!(heir_among(&[1, 2, 3, 4]), Some(host(3)));
        assert_eq!(heir_among(&[1, 2, 4]), Some(host(4)));
        assert_eq!(heir_among(&[1, 2]), Some(host(2)), "it keeps no copy, and is there");
        assert_eq!(heir_among(&[1]), None, "not the host that it leaves");
    }

    #[test]
    fn a_load_is_the_worst_of_three_figures() {
        let beat = Beat {
            cpu_permille: 100,
            memory_permille: 425,
            queue_wait_ms: 50,
            ..Beat::default()
        };
        assert!((beat.load() - 0.5).abs() < 1e-9, "{}", beat.load());
        assert!(
            Beat {
                memory_permille: 850,
                ..Beat::default()
            }
            .is_full()
        );
        assert!(
            Beat {
                queue_wait_ms: 500,
                ..Beat::default()
            }
            .is_full()
        );
    }

    #[test]
    fn old_figures_are_no_figures_and_hosts_are_bounded() {
        let mut loads = Loads::new(100, 2);
        loads.put(Time(0), host(1), cpu(900));
        loads.put(Time(0), host(2), cpu(900));
        loads.put(Time(50), host(3), cpu(900));
        assert_eq!(loads.beat(Time(50), host(3)), None, "no room");
        assert_eq!(loads.beat(Time(100), host(1)), None, "too old");
        loads.put(Time(200), host(3), cpu(900));
        assert!(loads.is_full(Time(200), host(3)) || loads.load(Time(200), host(3)) > 0.8);
    }
}
