//! Whole hosts, a network that loses, doubles and delays, and a clock: what the model leaves out.
//!
//! Not a simulator: a few runs that show that what has to happen does happen once time goes by.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::id::HostId;
use crate::replication::mutation::Rules;
use crate::replication::proposer;
use crate::replication::proposers::Proposers;
use crate::replication::replica;
use crate::replication::replica_set::Assignment;
use crate::replication::replicas::Replicas;
use crate::slot::Slot;
use crate::time::Time;

const MILLI: u64 = 1_000_000;

struct Host {
    replicas: Replicas,
    proposers: Proposers,
    /// What the activation said.
    told: Vec<proposer::Output>,
}

/// Hosts 1 to 4, of which those in `cut` hear nobody and aren't heard.
struct Cluster {
    hosts: BTreeMap<HostId, Host>,
    network: BTreeMap<(Time, u64), (HostId, HostId, Message)>,
    cut: BTreeSet<HostId>,
    now: Time,
    sent: u64,
    seed: u64,
    /// Whether messages are lost and doubled; they are late in any case.
    is_bad: bool,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let hosts = (1..=4).map(host).map(|at| {
            let replicas = Replicas::new(at, replica::Limits::default(), Rules::default());
            let proposers = Proposers::new(at, 1, proposer::Limits::default(), Rules::default());
            (
                at,
                Host {
                    replicas,
                    proposers,
                    told: Vec::new(),
                },
            )
        });
        let mut cluster = Cluster {
            hosts: hosts.collect(),
            network: BTreeMap::new(),
            cut: BTreeSet::new(),
            now: Time(0),
            sent: 0,
            seed,
            is_bad: true,
        };
        cluster.assign(&Assignment {
            set: set(1, &[1, 2, 3]),
            sources: Vec::new(),
        });
        cluster
    }

    fn random(&mut self, below: u64) -> u64 {
        // Knuth's multiplier: any sequence does that isn't the same for all seeds.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn assign(&mut self, assignment: &Assignment) {
        for at in self.hosts.keys().copied().collect::<Vec<_>>() {
            self.replica(at, replica::Input::Assigned(assignment.clone()));
            let mut out = Vec::new();
            let own = self.hosts.get_mut(&at).unwrap();
            own.proposers
                .assign(self.now, Slot::of(GRAIN), &assignment.set, &mut out);
            self.proposer_outputs(at, out);
        }
    }

    /// A third of all messages is lost, a third comes twice, all come late.
    fn post(&mut self, from: HostId, to: HostId, message: Message) {
        let copies = if self.is_bad { self.random(3) } else { 1 };
        for _ in 0..copies {
            let at = self.now.plus_nanos((1 + self.random(40)) * MILLI);
            self.sent += 1;
            self.network.insert((at, self.sent), (from, to, message.clone()));
        }
    }

    fn replica(&mut self, at: HostId, input: replica::Input) {
        let mut out = Vec::new();
        let slot = Slot::of(GRAIN);
        self.hosts
            .get_mut(&at)
            .unwrap()
            .replicas
            .handle(self.now, slot, input, &mut out);
        self.replica_outputs(at, out);
    }

    fn replica_outputs(&mut self, at: HostId, out: Vec<(Slot, replica::Output)>) {
        for (_, output) in out {
            match output {
                replica::Output::Send { to, message } => self.post(at, to, message),
                replica::Output::Persist { ticket, .. } => self.replica(at, replica::Input::Persisted(ticket)),
                replica::Output::Load { grain } => {
                    let state = self.stored(at, grain);
                    self.replica(at, replica::Input::Loaded { grain, state });
                }
                replica::Output::Serving(_) | replica::Output::Behind(_) => {}
            }
        }
    }

    /// The state that a host's replica has.
    fn stored(&self, at: HostId, grain: GrainId) -> Option<State> {
        let replica = self.hosts[&at].replicas.replica(Slot::of(grain))?;
        let last = replica.register(grain).1?;
        Some(State {
            seq: last.seq,
            hash: last.hash,
            deleted: last.deleted,
            body: Body::default(),
        })
    }

    fn proposer(&mut self, at: HostId, input: proposer::Input) {
        let mut out = Vec::new();
        let own = self.hosts.get_mut(&at).unwrap();
        own.proposers.handle(self.now, GRAIN, input, &mut out);
        self.proposer_outputs(at, out);
    }

    fn proposer_outputs(&mut self, at: HostId, out: Vec<(GrainId, proposer::Output)>) {
        for (_, output) in out {
            match output {
                proposer::Output::Send { to, message } => self.post(at, to, message),
                proposer::Output::NeedImage => {
                    // A host has what its own replica has.
                    let state = self.stored(at, GRAIN);
                    state
                        .into_iter()
                        .for_each(|state| self.proposer(at, proposer::Input::Image(state)));
                }
                told => {
                    let own = self.hosts.get_mut(&at).unwrap();
                    own.told.push(told);
                }
            }
        }
    }

    fn activate(&mut self, at: u8, preempts: bool) {
        self.proposer(host(at), proposer::Input::Activate { have: None, preempts });
    }

    /// Lets time pass, step by step, until `at` has said `what`; fails after a minute.
    fn until(&mut self, at: u8, what: impl Fn(&proposer::Output) -> bool) {
        let end = self.now.plus_nanos(60_000 * MILLI);
        while !self.hosts[&host(at)].told.iter().any(&what) {
            assert!(
                self.now < end,
                "not within a minute; said: {:?}",
                self.hosts[&host(at)].told
            );
            self.step();
        }
    }

    fn run(&mut self, milli: u64) {
        let end = self.now.plus_nanos(milli * MILLI);
        while self.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now = self.now.plus_nanos(5 * MILLI);
        let later = self.network.split_off(&(self.now, u64::MAX));
        for (_, (from, to, message)) in std::mem::replace(&mut self.network, later) {
            if self.cut.contains(&from) || self.cut.contains(&to) {
                continue;
            }
            match message {
                Message::Answer { n, answer } => {
                    let mut out = Vec::new();
                    self.hosts
                        .get_mut(&to)
                        .unwrap()
                        .proposers
                        .receive(self.now, from, n, answer, &mut out);
                    self.proposer_outputs(to, out);
                }
                message => self.replica(to, replica::Input::Received { from, message }),
            }
        }
        for at in self.hosts.keys().copied().collect::<Vec<_>>() {
            let (mut out, mut replica_out, mut sends) = (Vec::new(), Vec::new(), Vec::new());
            let own = self.hosts.get_mut(&at).unwrap();
            own.proposers.wake(self.now, &mut out, &mut sends);
            own.replicas.wake(self.now, &mut replica_out);
            self.proposer_outputs(at, out);
            self.replica_outputs(at, replica_out);
            sends.into_iter().for_each(|(to, message)| self.post(at, to, message));
        }
    }
}

fn is_active(output: &proposer::Output) -> bool {
    matches!(output, proposer::Output::Active { .. })
}

fn committed(seq: u64) -> impl Fn(&proposer::Output) -> bool {
    move |output| matches!(output, proposer::Output::Committed(at) if at.0 >= seq)
}

const SEEDS: u64 = 50;

#[test]
fn commits_get_through_a_bad_network_and_idle_activations_stay() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        cluster.activate(4, false);
        cluster.until(4, is_active);
        for seq in 1..=20 {
            cluster.proposer(
                host(4),
                proposer::Input::Propose(proposal(seq, seq as u8 - 1, seq as u8)),
            );
        }
        cluster.until(4, committed(20));
        cluster.proposer(
            host(4),
            proposer::Input::Read {
                ticket: 1,
                sees: Seq(20),
            },
        );
        cluster.until(4, |output| *output == proposer::Output::ReadReady(1));
        // Renewals alone keep others out, as long as not many in a row are lost.
        cluster.is_bad = false;
        cluster.run(10_000);
        cluster.activate(1, false);
        cluster.until(
            1,
            |output| matches!(output, proposer::Output::Held { holder, .. } if *holder == host(4)),
        );
        assert!(!cluster.hosts[&host(1)].told.iter().any(is_active));
    }
}

#[test]
fn an_activation_that_is_cut_off_stops_and_is_fenced_when_it_comes_back() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        cluster.activate(1, false);
        cluster.until(1, is_active);
        cluster.proposer(host(1), proposer::Input::Propose(proposal(1, 0, 1)));
        cluster.until(1, committed(1));
        cluster.cut.insert(host(1));
        cluster.proposer(host(1), proposer::Input::Propose(proposal(2, 1, 2)));
        cluster.until(1, |output| *output == proposer::Output::Isolated);
        cluster.activate(2, true);
        cluster.until(2, is_active);
        cluster.proposer(host(2), proposer::Input::Propose(proposal(2, 1, 3)));
        cluster.until(2, committed(2));
        cluster.cut.clear();
        cluster.until(1, |output| matches!(output, proposer::Output::Fenced { .. }));
        assert!(!cluster.hosts[&host(1)].told.iter().any(committed(2)));
    }
}

/// The host was down while commits were made, and its own replica can't follow the next one: it has to get the state, too.
#[test]
fn an_activation_on_a_host_that_was_behind_goes_on_when_another_one_fails() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        cluster.cut.insert(host(1));
        cluster.activate(2, false);
        cluster.until(2, is_active);
        for seq in 1..=5 {
            cluster.proposer(
                host(2),
                proposer::Input::Propose(proposal(seq, seq as u8 - 1, seq as u8)),
            );
        }
        cluster.until(2, committed(5));
        cluster.cut.clear();
        cluster.activate(1, true);
        cluster.until(1, is_active);
        cluster.cut.insert(host(2));
        cluster.proposer(host(1), proposer::Input::Propose(proposal(6, 5, 6)));
        cluster.until(1, committed(6));
    }
}

#[test]
fn a_slot_moves_while_commits_go_on() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        cluster.activate(1, false);
        cluster.until(1, is_active);
        for seq in 1..=5 {
            cluster.proposer(
                host(1),
                proposer::Input::Propose(proposal(seq, seq as u8 - 1, seq as u8)),
            );
        }
        cluster.run(cluster.seed % 200);
        cluster.assign(&Assignment {
            set: set(2, &[2, 3, 4]),
            sources: vec![set(1, &[1, 2, 3])],
        });
        cluster.proposer(host(1), proposer::Input::Propose(proposal(6, 5, 6)));
        cluster.until(1, committed(6));
        cluster.proposer(host(1), proposer::Input::Release { to: Some(host(4)) });
        cluster.until(1, |output| *output == proposer::Output::Released);
        cluster.activate(4, true);
        cluster.until(
            4,
            |output| matches!(output, proposer::Output::Active { head: Some(head), .. } if head.seq == Seq(6)),
        );
    }
}

#[test]
fn a_deleted_grain_is_forgotten_everywhere_and_begins_anew() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        let left = |cluster: &Cluster| -> usize {
            let replicas = (1..=3).filter_map(|at| cluster.hosts[&host(at)].replicas.replica(Slot::of(GRAIN)));
            replicas.map(|replica| replica.tombstones().count()).sum()
        };
        cluster.activate(1, false);
        cluster.until(1, is_active);
        cluster.proposer(host(1), proposer::Input::Propose(tombstone(1, 0, 1)));
        // Forget itself isn't answered, so it may be lost: the next activation that ends says it again.
        for _ in 0..30 {
            cluster.proposer(host(1), proposer::Input::Release { to: None });
            cluster.until(1, |output| *output == proposer::Output::Released);
            cluster.run(500);
            if left(&cluster) == 0 {
                break;
            }
            cluster.hosts.get_mut(&host(1)).unwrap().told.clear();
            cluster.activate(1, true);
            cluster.until(1, is_active);
        }
        assert_eq!(left(&cluster), 0, "seed {seed}");
        cluster.hosts.get_mut(&host(2)).unwrap().told.clear();
        cluster.activate(2, true);
        cluster.until(2, |output| {
            matches!(output, proposer::Output::Active { head: None, .. })
        });
    }
}
