//! Three hosts that hear each other at once, with disks that are durable at once, unless a test says otherwise.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::config_chain::config::Member;
use crate::id::{GrainKey, GrainName, GrainType, Seq};
use crate::membership::Seen;
use crate::message::Token;
use crate::placement::Policy;
use crate::replication::messages::{Payload, Proposal, State};
use crate::replication::record;
use crate::routing::{Errand, Travel};

const MILLI: u64 = 1_000_000;

fn host(number: u8) -> HostId {
    HostId([number; 16])
}

fn member(number: u8) -> Member {
    Member {
        host: host(number),
        weight: WEIGHT,
        zone: String::new(),
    }
}

fn grain(key: u32) -> GrainId {
    let key = GrainKey::new(&key.to_string()).unwrap();
    GrainName::new(GrainType::new("t").unwrap(), key).id()
}

/// A host, and the states that its replicas have written.
struct Side {
    machine: Protocols,
    states: BTreeMap<GrainId, State>,
    records: Vec<Record>,
    said: Vec<Output>,
}

struct World {
    now: Time,
    hosts: BTreeMap<HostId, Side>,
    mail: VecDeque<(HostId, HostId, PeerMessage)>,
}

impl World {
    fn new(hosts: u8) -> World {
        let mut world = World {
            now: Time(1),
            hosts: BTreeMap::new(),
            mail: VecDeque::new(),
        };
        for number in 1..=hosts {
            let settings = Settings::new(host(number), 1, ClusterId([7; 16]), u64::from(number));
            let side = Side {
                machine: Protocols::new(settings),
                states: BTreeMap::new(),
                records: Vec::new(),
                said: Vec::new(),
            };
            world.hosts.insert(host(number), side);
        }
        for number in 1..=hosts {
            let founds = (number == 1).then(|| member(1));
            world.give(host(number), Input::Start { founds });
        }
        world.settle();
        for number in 1..=hosts {
            for other in (1..=hosts).filter(|other| *other != number) {
                world.see(number, other, Standing::Alive);
            }
        }
        world
    }

    /// A cluster of so many hosts, whose slots are all served.
    fn settled(hosts: u8) -> World {
        let mut world = World::new(hosts);
        world.run(20_000);
        let config = world.hosts[&host(1)].machine.config().unwrap();
        assert_eq!(config.members.len(), usize::from(hosts));
        assert!(config.is_settled(), "every slot is handed over");
        world
    }

    fn see(&mut self, who: u8, whom: u8, standing: Standing) {
        let now = Seen {
            host: host(whom),
            incarnation: 1,
            renewal: 0,
            address: "127.0.0.1:1".parse().unwrap(),
            standing,
            since: self.now,
        };
        let was = (!standing.is_active()).then_some(Seen {
            standing: Standing::Alive,
            ..now
        });
        self.give(host(who), Input::Seen(Change { was, now }));
    }

    /// A host goes on from its records.
    fn start_again(&mut self, settings: Settings) {
        let me = settings.me;
        let before = self.hosts.remove(&me).unwrap();
        let mut machine = Protocols::new(settings);
        for record in before.records {
            machine.replay(self.now, record);
        }
        let (states, records, said) = (before.states, Vec::new(), Vec::new());
        let side = Side {
            machine,
            states,
            records,
            said,
        };
        self.hosts.insert(me, side);
        self.give(me, Input::Start { founds: None });
    }

    fn kill(&mut self, number: u8) {
        self.hosts.remove(&host(number));
        let others: Vec<u8> = self.hosts.keys().map(|host| host.0[0]).collect();
        for other in others {
            self.see(other, number, Standing::Down);
        }
    }

    fn give(&mut self, to: HostId, input: Input) {
        let Some(side) = self.hosts.get_mut(&to) else { return };
        let mut out = Vec::new();
        side.machine.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send { to: peer, message } => self.mail.push_back((to, peer, message)),
                Output::Persist { mark, record } => {
                    let side = self.hosts.get_mut(&to).unwrap();
                    side.keep(&record);
                    side.records.push(record);
                    self.give(to, Input::Persisted(mark));
                }
                Output::Load { grain } => {
                    let state = self.hosts[&to].states.get(&grain).cloned();
                    self.give(to, Input::Loaded { grain, state });
                }
                said => self.hosts.get_mut(&to).unwrap().said.push(said),
            }
        }
    }

    fn settle(&mut self) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            self.give(to, Input::Received { from, message });
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now.plus_nanos(millis * MILLI);
        loop {
            self.settle();
            let due = self
                .hosts
                .iter()
                .filter_map(|(host, side)| Some((side.machine.deadline()?, *host)));
            let Some((at, host)) = due.min().filter(|(at, _)| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.give(host, Input::Wake);
        }
        self.now = end;
    }

    fn commit(&mut self, at: u8, grain: GrainId, seq: u64) {
        let name = |seq: u64| [seq as u8; 16];
        let proposal = Proposal {
            seq: Seq(seq),
            prev_hash: name(seq - 1),
            hash: name(seq),
            deletes: false,
            payload: Payload::Delta(vec![seq as u8].into()),
        };
        let input = proposer::Input::Propose(proposal);
        self.give(host(at), Input::Grain { grain, input });
        self.settle();
    }

    fn heard(&mut self, at: u8) -> Vec<Output> {
        std::mem::take(&mut self.hosts.get_mut(&host(at)).unwrap().said)
    }

    fn activate(&mut self, at: u8, grain: GrainId) -> Vec<proposer::Output> {
        self.heard(at);
        let have = self.hosts[&host(at)].states.get(&grain).map(|state| state.hash);
        self.give(host(at), Input::Activate { grain, have });
        self.run(2_000);
        let grains = self.heard(at).into_iter().filter_map(|output| match output {
            Output::Grain { output, .. } => Some(output),
            _ => None,
        });
        grains.collect()
    }

    fn request(&mut self, at: u8, grain: GrainId) -> Vec<routing::Output> {
        self.heard(at);
        let errand = Errand {
            token: Token(1),
            grain,
            policy: Policy::Primary,
            from: None,
            travel: Travel::default(),
        };
        self.give(host(at), Input::Route(routing::Input::Request(errand)));
        self.run(1_000);
        let ways = self.heard(at).into_iter().filter_map(|output| match output {
            Output::Route(way) => Some(way),
            _ => None,
        });
        ways.collect()
    }
}

impl Side {
    fn keep(&mut self, record: &Record) {
        let Record::Replica(_, record::Record::Accept { grain, proposal, .. }) = record else {
            return;
        };
        let body = match &proposal.payload {
            Payload::Same => return,
            Payload::Delta(body) | Payload::Full(body) => body.clone(),
        };
        let state = State {
            seq: proposal.seq,
            hash: proposal.hash,
            deleted: false,
            body,
        };
        self.states.insert(*grain, state);
    }
}

#[test]
fn hosts_that_join_get_their_slots() {
    let world = World::settled(3);
    for side in world.hosts.values() {
        assert_eq!(
            side.machine
                .config()
                .unwrap()
                .slot(Slot::default())
                .replicas
                .hosts()
                .len(),
            3
        );
        let served = side
            .machine
            .replicas()
            .iter()
            .filter(|(_, replica)| replica.serves().is_some());
        assert_eq!(served.count(), 4096);
    }
}

#[test]
fn a_request_is_sent_to_the_one_host_where_its_grain_is() {
    let mut world = World::settled(3);
    let primary = world.hosts[&host(1)]
        .machine
        .config()
        .unwrap()
        .slot(Slot::of(grain(1)))
        .replicas
        .hosts()[0];
    let ways: Vec<_> = (1..=3).map(|at| world.request(at, grain(1))).collect();
    for (at, ways) in (1..).zip(ways) {
        if host(at) == primary {
            assert!(
                matches!(ways[..], [routing::Output::Serve { activate: Some(_), .. }]),
                "{ways:?}"
            );
        } else {
            assert!(
                matches!(ways[..], [routing::Output::Forward { to, .. }] if to == primary),
                "{ways:?}"
            );
        }
    }
}

#[test]
fn what_was_committed_is_there_when_its_host_is_dead() {
    let mut world = World::settled(3);
    assert!(matches!(
        world.activate(1, grain(1))[..],
        [proposer::Output::Active { head: None, .. }]
    ));
    for seq in 1..=5 {
        world.commit(1, grain(1), seq);
    }
    let committed = Output::Grain {
        grain: grain(1),
        output: proposer::Output::Committed(Seq(5)),
    };
    assert!(world.heard(1).contains(&committed));
    let held = world.activate(2, grain(1));
    assert!(
        matches!(held[..], [proposer::Output::Held { holder, .. }] if holder == host(1)),
        "{held:?}"
    );
    world.kill(1);
    let taken = world.activate(2, grain(1));
    let [proposer::Output::Active { head: Some(head), .. }, ..] = &taken[..] else {
        panic!("{taken:?}")
    };
    assert_eq!(head.seq, Seq(5));
}

#[test]
fn a_host_that_starts_again_goes_on_from_its_records() {
    let mut world = World::settled(3);
    world.activate(2, grain(1));
    world.commit(2, grain(1), 1);
    world.start_again(Settings::new(host(2), 2, ClusterId([7; 16]), 9));
    world.run(1_000);
    let again = world.activate(2, grain(1));
    let [
        proposer::Output::Active {
            head: Some(head),
            state,
            ..
        },
        ..,
    ] = &again[..]
    else {
        panic!("{again:?}")
    };
    assert_eq!((head.seq, state), (Seq(1), &None), "its own state is the last one");
}

/// What a host says of itself at a start is in the configuration soon after, by whoever hears of it.
#[test]
fn a_host_that_starts_in_another_zone_is_a_member_there() {
    let mut world = World::settled(3);
    let mut settings = Settings::new(host(2), 2, ClusterId([7; 16]), 9);
    settings.share.zone = "north".to_owned();
    world.start_again(settings);
    for other in [1, 3] {
        world.see(2, other, Standing::Alive);
    }
    world.run(5_000);
    for side in world.hosts.values() {
        let config = side.machine.config().unwrap();
        let zones: Vec<&str> = config.members.iter().map(|member| member.zone.as_str()).collect();
        assert_eq!(zones.iter().filter(|zone| **zone == "north").count(), 1, "{zones:?}");
        assert_eq!(config.member(host(2)).unwrap().zone, "north");
    }
}

#[test]
fn a_snapshot_stands_for_all_records() {
    let mut world = World::settled(3);
    world.activate(1, grain(1));
    world.commit(1, grain(1), 1);
    let side = &world.hosts[&host(1)];
    let mut again = Protocols::new(Settings::new(host(1), 2, ClusterId([7; 16]), 9));
    for record in side.machine.snapshot() {
        again.replay(world.now, record);
    }
    let snapshot: Vec<_> = side.machine.snapshot().collect();
    assert_eq!(again.snapshot().collect::<Vec<_>>(), snapshot);
}
