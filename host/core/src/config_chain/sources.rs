//! Every run of one slot through four configurations: no acknowledged write is lost, whatever was known of serving.
//!
//! The rule that is checked is the real one ([`SlotReplicas::then`]). A replica that installs has hosts of each source sealed, one
//! after the other in any order, and serves what it heard of. One write is acknowledged by a quorum of some configuration at some time.
//! Whoever proposes the next configuration may know that a quorum serves, or not know it although it does.
//!
//! Checked: once the write is acknowledged, every quorum of replicas that serve a configuration holds it. Two mutations have to be
//! caught: sources that were given up are forgotten; a proposer believes that a quorum serves when none does.
//!
//! **Not here:** ballots, and writes that reach less than a quorum (replication's model).

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::config::{ConfigNumber, Replicas, SlotReplicas};
use crate::id::HostId;

const HOSTS: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    None,
    ForgetGivenUp,
    BelieveServed,
}

struct Slots {
    mutation: Mutation,
    /// The sets of replicas, one configuration after the other.
    sets: &'static [&'static [u8]],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Host {
    sealed: u64,
    serving: u64,
    has_write: bool,
    /// Of the configuration that it installs.
    heard: BTreeSet<HostId>,
    heard_write: bool,
    installs: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    configs: Vec<SlotReplicas>,
    hosts: Vec<Host>,
    acknowledged: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Next { served: bool },
    Hear { host: u8, from: u8, n: u64 },
    Serve { host: u8 },
    Write { n: u64, hosts: Vec<u8> },
}

fn set(hosts: &[u8]) -> Replicas {
    let hosts: Vec<HostId> = hosts.iter().map(|n| HostId([*n; 16])).collect();
    Replicas::new(&hosts).expect("between one and three")
}

fn places(replicas: &Replicas) -> Vec<u8> {
    replicas.hosts().iter().map(|host| host.0[0]).collect()
}

impl State {
    /// Hosts that serve configuration `n`.
    fn serving(&self, n: u64) -> Vec<u8> {
        let serves = |at: &u8| {
            let host = &self.hosts[usize::from(*at)];
            host.serving == n && host.sealed <= n
        };
        places(&self.configs[n as usize - 1].replicas)
            .into_iter()
            .filter(serves)
            .collect()
    }

    /// All quorums of those that serve configuration `n`.
    fn quorums(&self, n: u64) -> Vec<Vec<u8>> {
        let serving = self.serving(n);
        let quorum = self.configs[n as usize - 1].replicas.quorum();
        let all = (0..1u32 << serving.len()).filter(|bits| bits.count_ones() as usize == quorum);
        let pick = |bits: u32| {
            (0..serving.len())
                .filter(|at| bits >> at & 1 == 1)
                .map(|at| serving[at])
                .collect()
        };
        all.map(pick).collect()
    }

    /// Whom a host still has to hear before it serves configuration `n`.
    fn missing(&self, host: &Host, n: u64) -> BTreeSet<u8> {
        let heard = |other: &u8| host.installs == n && host.heard.contains(&HostId([*other; 16]));
        let sources = self.configs[n as usize - 1]
            .sources
            .iter()
            .map(|source| source.replicas);
        let open =
            sources.filter(|replicas| places(replicas).iter().filter(|at| heard(at)).count() < replicas.read_quorum());
        open.flat_map(|replicas| places(&replicas))
            .filter(|other| !heard(other))
            .collect()
    }
}

impl Model for Slots {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = SlotReplicas {
            replicas: set(self.sets[0]),
            since: ConfigNumber::FIRST,
            sources: Vec::new(),
        };
        let host = |at: u8| Host {
            serving: u64::from(self.sets[0].contains(&at)),
            ..Host::default()
        };
        vec![State {
            configs: vec![first],
            hosts: (0..HOSTS).map(host).collect(),
            acknowledged: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let newest = state.configs.len() as u64;
        if state.configs.len() < self.sets.len() {
            actions.push(Action::Next { served: false });
            if !state.quorums(newest).is_empty() || self.mutation == Mutation::BelieveServed {
                actions.push(Action::Next { served: true });
            }
        }
        for n in 1..=newest {
            let config = &state.configs[n as usize - 1];
            if !state.acknowledged {
                actions.extend(state.quorums(n).into_iter().map(|hosts| Action::Write { n, hosts }));
            }
            for host in places(&config.replicas) {
                let here = &state.hosts[usize::from(host)];
                if here.sealed > n || here.serving == n || n == 1 || here.installs > n {
                    continue;
                }
                let missing = state.missing(here, n);
                if missing.is_empty() {
                    actions.push(Action::Serve { host });
                }
                let answers = |from: &u8| state.hosts[usize::from(*from)].sealed <= n;
                actions.extend(
                    missing
                        .into_iter()
                        .filter(answers)
                        .map(|from| Action::Hear { host, from, n }),
                );
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Next { served } => {
                let before = last.configs.last().expect("there is a first one");
                let number = last.configs.len() as u64 + 1;
                let mut next = before.then(ConfigNumber(number), set(self.sets[last.configs.len()]), served);
                if self.mutation == Mutation::ForgetGivenUp {
                    next.sources.truncate(1);
                }
                state.configs.push(next);
            }
            Action::Hear { host, from, n } => {
                let other = &mut state.hosts[usize::from(from)];
                other.sealed = n;
                if other.installs < n {
                    // What it was about to take over is of no use any more.
                    (other.installs, other.heard_write) = (0, false);
                    other.heard.clear();
                }
                let has_write = other.has_write;
                let here = &mut state.hosts[usize::from(host)];
                if here.installs < n {
                    (here.installs, here.heard_write) = (n, false);
                    here.heard.clear();
                }
                here.sealed = n;
                here.heard.insert(HostId([from; 16]));
                here.heard_write |= has_write;
            }
            Action::Serve { host } => {
                let here = &mut state.hosts[usize::from(host)];
                here.serving = here.installs;
                here.has_write |= here.heard_write;
                (here.installs, here.heard_write) = (0, false);
                here.heard.clear();
            }
            Action::Write { hosts, .. } => {
                hosts
                    .into_iter()
                    .for_each(|host| state.hosts[usize::from(host)].has_write = true);
                state.acknowledged = true;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Slots>> {
        vec![
            Property::always("no acknowledged write is lost", |_, state: &State| {
                let holds = |quorum: &Vec<u8>| quorum.iter().any(|host| state.hosts[usize::from(*host)].has_write);
                let all = |n: u64| state.quorums(n).iter().all(holds);
                !state.acknowledged || (1..=state.configs.len() as u64).all(all)
            }),
            Property::sometimes("the last configuration is served", |slots, state: &State| {
                state.configs.len() == slots.sets.len() && !state.quorums(slots.sets.len() as u64).is_empty()
            }),
            Property::sometimes("a slot has two sources", |_, state: &State| {
                state.configs.iter().any(|slot| slot.sources.len() > 1)
            }),
        ]
    }
}

/// Whether the write can be lost. Without a mutation all of it is walked through.
fn loses(mutation: Mutation, sets: &'static [&'static [u8]]) -> bool {
    let builder = Slots { mutation, sets }.checker().threads(2);
    let checker = match mutation {
        Mutation::None => builder.spawn_dfs().join(),
        _ => builder.finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join(),
    };
    let found = checker.discoveries();
    let sees = |name| found.contains_key(name);
    assert!(mutation != Mutation::None || (sees("the last configuration is served") && sees("a slot has two sources")));
    sees("no acknowledged write is lost")
}

const THREE: &[&[u8]] = &[&[0, 1, 2], &[0, 1, 3], &[1, 2, 3]];
const PAIRS: &[&[u8]] = &[&[0], &[0, 1], &[0, 2], &[1, 2]];

#[test]
fn a_write_survives_hand_overs_that_are_given_up() {
    assert!(!loses(Mutation::None, THREE));
    assert!(!loses(Mutation::None, PAIRS));
}

#[test]
fn forgetting_a_source_that_was_given_up_is_caught() {
    assert!(loses(Mutation::ForgetGivenUp, THREE));
}

#[test]
fn believing_that_a_quorum_serves_is_caught() {
    assert!(loses(Mutation::BelieveServed, THREE));
}
