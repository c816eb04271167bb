//! Everything goes wrong, one thing after another, while clients work; then all is mended, and what they saw is checked.
//!
//! A quarter of a minute of it is part of every run of the tests. `cargo xtask soak` has more, with five hosts;
//! `GRANARY_CHAOS_SECONDS` and `GRANARY_CHAOS_HOSTS` set both, and `GRANARY_SEED` repeats the choices (not the timing of the processes).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use granary_tests::seed::{self, Random};
use granary_tests::{Cluster, soak, wait};

use crate::bankers::{self, Bankers};
use crate::sharers::Sharers;
use crate::targets::Targets;
use crate::writers::{self, Writers};

/// After all is mended: one view of the cluster within this time, on any machine.
const HEALING_MOST: Duration = Duration::from_secs(60);

/// Fewer answers than this test nothing of a key.
const ANSWERED: usize = 101;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL, and a start some time later.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// SIGTERM, and a start at once.
    Restart,
    /// Nothing gets to a host or from it.
    Isolate,
    /// Nothing gets from it.
    Mute,
    /// Many datagrams are lost, everywhere.
    Loss,
    /// It starts again and finds its disk full.
    FullDisk,
}

const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::Restart,
    Fault::Isolate,
    Fault::Mute,
    Fault::Loss,
    Fault::FullDisk,
];

struct Chaos {
    cluster: Cluster,
    targets: Arc<Targets>,
    random: Random,
}

impl Chaos {
    /// One fault, from its beginning to its end.
    fn strike(&mut self, fault: Fault) {
        let victim = self.random.below(self.cluster.hosts.len() as u64) as usize;
        let lasts = Duration::from_millis(500 + self.random.below(5500));
        println!("{fault:?} of host {victim} for {lasts:?}");
        let host = &mut self.cluster.hosts[victim];
        let network = self.cluster.network.as_ref().unwrap();
        match fault {
            Fault::Kill => host.kill(),
            Fault::Restart => {
                host.stop();
            }
            Fault::FullDisk => {
                host.kill();
                host.sabotage(Some("disk-full"));
                host.start_again();
            }
            Fault::Freeze => self.cluster.freeze(victim, true),
            Fault::Isolate => network.isolate(victim),
            Fault::Mute => (0..self.cluster.hosts.len())
                .filter(|other| *other != victim)
                .for_each(|other| network.cut(victim, other)),
            Fault::Loss => network.lose(20),
        }
        self.targets.take(&self.cluster);
        if fault != Fault::Restart {
            std::thread::sleep(lasts);
        }
        let host = &mut self.cluster.hosts[victim];
        match fault {
            Fault::Kill | Fault::Restart => host.start_again(),
            Fault::FullDisk => {
                host.kill();
                host.sabotage(None);
                host.start_again();
            }
            Fault::Freeze => self.cluster.freeze(victim, false),
            Fault::Isolate | Fault::Mute | Fault::Loss => self.cluster.network.as_ref().unwrap().heal(),
        }
        self.targets.take(&self.cluster);
        for host in &mut self.cluster.hosts {
            assert!(!host.has_ended(), "a host has ended by itself");
        }
    }
}

#[test]
fn what_clients_saw_is_what_one_correct_host_could_have_shown_them() {
    let mut random = Random::new(seed::of_this_run());
    let cluster = Cluster::start_apart(number("GRANARY_CHAOS_HOSTS", soak::or(3, 5)) as usize);
    cluster.deploy("counter");
    cluster.deploy("bank");
    let targets = Arc::new(Targets::new(&cluster));
    let writers = Writers::start_at(targets.clone(), 3, 4, &mut random);
    let sharers = Sharers::start(&targets, 3, &mut random);
    let bankers = Bankers::start(&cluster, &targets, 2, &mut random);
    let mut chaos = Chaos {
        cluster,
        targets,
        random,
    };
    let end = Instant::now() + Duration::from_secs(number("GRANARY_CHAOS_SECONDS", soak::or(15, 600)));
    let mut struck: BTreeMap<Fault, u32> = BTreeMap::new();
    let mut bag = Vec::new();
    while Instant::now() < end {
        // Each comes once before any comes again.
        if bag.is_empty() {
            bag.extend(FAULTS);
        }
        let fault = bag.swap_remove(chaos.random.below(bag.len() as u64) as usize);
        *struck.entry(fault).or_default() += 1;
        chaos.strike(fault);
        std::thread::sleep(Duration::from_millis(chaos.random.below(3000)));
    }
    let Chaos { cluster, targets, .. } = chaos;
    let healed = Instant::now();
    wait::within(HEALING_MOST, "all see one cluster", || {
        cluster.is_settled().then_some(())
    });
    println!("{struck:?}; one view {:?} after the last fault", healed.elapsed());
    writers.until_acknowledged(100);
    sharers.until_answered(ANSWERED);
    targets.end();
    println!("bankers: {:?}", bankers.done());
    for (key, history) in sharers.histories() {
        println!("{key}: {:?} answered and not", history.counts());
        assert_eq!(history.check(), Ok(()), "{key}");
        assert!(history.counts().0 >= ANSWERED, "nothing was tested");
    }
    println!("writers: {} acknowledged", writers.acknowledged());
    writers::check(&cluster, writers.stop());
    bankers::check(&cluster);
}

pub(crate) fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a whole number, not `{text}`"))
    })
}
