//! Hosts with a network that loses, doubles and re-orders, disks that forget what wasn't synced, and a membership that is late.
//!
//! What holds in every run: a number has one configuration, each follows the one before, numbers only rise on a host, and nothing
//! is sent about a vote before it's on the disk (a crash in between would show as two configurations).

use std::collections::{BTreeMap, BTreeSet};

use super::chain::Chain;
use super::config::{ClusterId, Config, ConfigHash, ConfigNumber, Member};
use super::event::{Input, Message, Output, Presence, Record, Settings, Share, Times};
use crate::id::{Ballot, HostId};
use crate::slot::Slot;
use crate::time::Time;

const MILLI: u64 = 1_000_000;
/// Two for each rate of loss.
const SEEDS: u64 = 12;
const SECOND: u64 = 1000 * MILLI;

pub(super) fn host(n: u8) -> HostId {
    HostId([n; 16])
}

#[derive(Default)]
struct Host {
    chain: Option<Chain>,
    incarnation: u32,
    disk: Vec<Record>,
    unsynced: Vec<(u64, Record)>,
    /// What was in force last.
    installed: Option<Config>,
    last_number: ConfigNumber,
}

enum Event {
    Input(u32, Input),
    Sync(u32, u64),
    /// The hand-over of all slots is done.
    Serve(u32, Config),
    Wake(u32),
}

/// A little cluster. Everything follows from the seed.
struct Cluster {
    now: Time,
    seed: u64,
    loss: u64,
    hosts: BTreeMap<HostId, Host>,
    /// Pairs that can't talk, in one direction.
    cut: BTreeSet<(HostId, HostId)>,
    queue: BTreeMap<(Time, u64), (HostId, Event)>,
    count: u64,
    known: BTreeMap<ConfigNumber, Config>,
    hashes: BTreeMap<ConfigNumber, ConfigHash>,
    messages: u64,
    serves: bool,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        Cluster {
            now: Time(0),
            seed,
            loss: 0,
            hosts: BTreeMap::new(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            count: 0,
            known: BTreeMap::new(),
            hashes: BTreeMap::new(),
            messages: 0,
            serves: true,
        }
    }

    /// A cluster of `n` hosts, joined one after the other.
    fn of(seed: u64, n: u8) -> Cluster {
        let mut cluster = Cluster::new(seed);
        for n in 1..=n {
            cluster.start(host(n));
            if n == 1 {
                let member = Member {
                    host: host(1),
                    weight: 1,
                    zone: String::new(),
                };
                cluster.feed(host(1), Input::Found(member));
            }
        }
        cluster.run(40 * SECOND);
        assert_eq!(cluster.members(), (1..=n).map(host).collect());
        cluster
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.seed >> 33) % below.max(1)
    }

    fn at(&mut self, after: u64, host: HostId, event: Event) {
        self.count += 1;
        self.queue
            .insert((self.now.plus_nanos(after), self.count), (host, event));
    }

    fn start(&mut self, id: HostId) {
        let here = self.hosts.entry(id).or_default();
        here.incarnation += 1;
        let settings = Settings {
            me: id,
            incarnation: here.incarnation,
            cluster: ClusterId([7; 16]),
            seed: 1,
            times: Times::default(),
        };
        let mut chain = Chain::new(settings);
        here.disk.iter().for_each(|record| chain.replay(record.clone()));
        here.chain = Some(chain);
        here.installed = None;
        self.feed(id, Input::Start);
        self.observe();
    }

    /// A crash: what isn't synced is gone.
    fn crash(&mut self, id: HostId) {
        let here = self.hosts.get_mut(&id).unwrap();
        here.chain = None;
        here.unsynced.clear();
        self.observe();
    }

    /// Tells everybody who is there, some time later.
    fn observe(&mut self) {
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        for id in &ids {
            for other in &ids {
                let reachable = !self.cut.contains(&(*other, *id)) && !self.cut.contains(&(*id, *other));
                let alive = self.hosts[other].chain.is_some() && reachable;
                let (presence, most) = match alive {
                    true => (
                        Presence::Alive(Some(Share {
                            weight: 1,
                            zone: String::new(),
                        })),
                        300,
                    ),
                    false => (Presence::Down, 3_000),
                };
                let after = self.draw(most) * MILLI;
                self.tell_presence(*id, *other, presence, after);
            }
        }
    }

    fn tell_presence(&mut self, id: HostId, other: HostId, presence: Presence, after: u64) {
        let incarnation = self.hosts[&id].incarnation;
        self.at(
            after,
            id,
            Event::Input(incarnation, Input::Seen { host: other, presence }),
        );
    }

    fn leave(&mut self, leaver: HostId) {
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        ids.iter()
            .for_each(|id| self.tell_presence(*id, leaver, Presence::Leaving, 10 * MILLI));
    }

    fn feed(&mut self, id: HostId, input: Input) {
        let now = self.now;
        let mut out = Vec::new();
        let Some(chain) = self.hosts.get_mut(&id).and_then(|here| here.chain.as_mut()) else {
            return;
        };
        chain.handle(now, input, &mut out);
        let incarnation = self.hosts[&id].incarnation;
        for output in out {
            match output {
                Output::Send { to, message } => {
                    self.messages += 1;
                    assert_ne!(to, id);
                    let copies = if self.loss == 0 {
                        1
                    } else {
                        1 + u64::from(self.draw(10) == 0)
                    };
                    for _ in 0..copies {
                        let lost = self.draw(100) < self.loss || self.cut.contains(&(id, to));
                        if let Some(there) = self.hosts.get(&to).filter(|_| !lost) {
                            let incarnation = there.incarnation;
                            let most = if self.loss == 0 { 3 } else { 400 };
                            let after = (1 + self.draw(most)) * MILLI;
                            let input = Input::Received {
                                from: id,
                                message: message.clone(),
                            };
                            self.at(after, to, Event::Input(incarnation, input));
                        }
                    }
                }
                Output::Persist { ticket, record } => {
                    self.hosts.get_mut(&id).unwrap().unsynced.push((ticket, record));
                    let after = (1 + self.draw(5)) * MILLI;
                    self.at(after, id, Event::Sync(incarnation, ticket));
                }
                Output::Installed(config) => self.installed(id, config),
                Output::Forked { n, .. } => panic!("two configurations {n}"),
            }
        }
        if let Some(due) = self.hosts[&id].chain.as_ref().and_then(Chain::deadline) {
            let after = due.nanos_since(now).max(1);
            self.at(after, id, Event::Wake(incarnation));
        }
    }

    fn installed(&mut self, id: HostId, config: Config) {
        let here = self.hosts.get_mut(&id).unwrap();
        assert!(config.n >= here.last_number, "numbers rise");
        here.last_number = config.n;
        here.installed = Some(config.clone());
        let hash = *self.hashes.entry(config.n).or_insert_with(|| config.hash());
        assert_eq!(hash, config.hash(), "one configuration {}", config.n);
        if let Some(before) = self.known.get(&ConfigNumber(config.n.0 - 1)) {
            config.check_follows(before).unwrap();
        }
        self.known.insert(config.n, config.clone());
        // Stands for the hand-over.
        let incarnation = here.incarnation;
        let after = (100 + self.draw(400)) * MILLI;
        if self.serves {
            self.at(after, id, Event::Serve(incarnation, config));
        }
    }

    fn serve(&mut self, id: HostId, config: &Config) {
        let Some(chain) = self.hosts.get_mut(&id).and_then(|here| here.chain.as_mut()) else {
            return;
        };
        for slot in Slot::all().filter(|slot| config.replicas(*slot).contains(&id)) {
            let n = config.slot(slot).since;
            chain.handle(self.now, Input::Serving { slot, n }, &mut Vec::new());
        }
        self.feed(id, Input::Wake);
    }

    fn run(&mut self, nanos: u64) {
        let end = self.now.plus_nanos(nanos);
        while let Some(((at, _), _)) = self.queue.first_key_value()
            && *at <= end
        {
            let ((at, _), (id, event)) = self.queue.pop_first().unwrap();
            self.now = at;
            let here = self.hosts.get_mut(&id).unwrap();
            let current = here.incarnation;
            match event {
                Event::Input(incarnation, input) if incarnation == current => self.feed(id, input),
                Event::Serve(incarnation, config) if incarnation == current => self.serve(id, &config),
                Event::Sync(incarnation, ticket) if incarnation == current && here.chain.is_some() => {
                    let later = here
                        .unsynced
                        .iter()
                        .position(|(at, _)| *at > ticket)
                        .unwrap_or(here.unsynced.len());
                    here.disk.extend(here.unsynced.drain(..later).map(|(_, record)| record));
                    self.feed(id, Input::Persisted(ticket));
                }
                Event::Wake(incarnation) if incarnation == current => {
                    let due = here.chain.as_ref().and_then(Chain::deadline);
                    if due.is_some_and(|due| due <= at) {
                        self.feed(id, Input::Wake);
                    }
                }
                _ => {}
            }
        }
        self.now = end;
    }

    /// Members of the newest configuration that anybody knows.
    fn members(&self) -> BTreeSet<HostId> {
        let newest = self.known.values().next_back().expect("there is a configuration");
        newest.members.iter().map(|member| member.host).collect()
    }

    fn number(&self, id: HostId) -> ConfigNumber {
        self.hosts[&id].installed.as_ref().expect("it knows a configuration").n
    }

    fn newest(&self) -> ConfigNumber {
        *self.known.keys().next_back().expect("there is a configuration")
    }
}

#[test]
fn a_host_alone_is_a_cluster_and_agrees_with_itself() {
    let cluster = Cluster::of(1, 1);
    assert_eq!(cluster.messages, 0);
    let config = cluster.hosts[&host(1)].installed.clone().unwrap();
    assert!(config.is_settled() && config.n == ConfigNumber(2), "{config:?}");
}

#[test]
fn hosts_that_join_hold_their_share_and_the_oldest_vote() {
    let cluster = Cluster::of(2, 5);
    let newest = cluster.known[&cluster.newest()].clone();
    assert!(newest.is_settled());
    assert_eq!((newest.voters.len(), newest.r), (5, 3));
    for id in cluster.hosts.keys() {
        assert_eq!(cluster.number(*id), newest.n, "{id} knows it");
        let held = Slot::all().filter(|slot| newest.replicas(*slot).contains(id)).count();
        assert!((2300..=2650).contains(&held), "{held}");
    }
}

#[test]
fn a_dead_host_is_given_up_after_a_minute_when_enough_are_left() {
    let mut cluster = Cluster::of(3, 4);
    cluster.crash(host(4));
    cluster.run(55 * SECOND);
    assert_eq!(cluster.members().len(), 4);
    cluster.run(15 * SECOND);
    assert_eq!(cluster.members(), [host(1), host(2), host(3)].into());
    // Three are as many as there are replicas: the third is waited for.
    cluster.crash(host(1));
    cluster.run(300 * SECOND);
    assert_eq!(cluster.members().len(), 3);
}

#[test]
fn a_host_that_died_unseen_is_given_up_a_minute_after_the_others_began() {
    let mut cluster = Cluster::of(3, 4);
    cluster.crash(host(4));
    // Nobody's membership knows of it, nor ever will.
    cluster.hosts.remove(&host(4));
    for n in 1..=3 {
        cluster.crash(host(n));
    }
    cluster.queue.clear();
    for n in 1..=3 {
        cluster.start(host(n));
    }
    cluster.run(55 * SECOND);
    assert_eq!(cluster.members().len(), 4);
    cluster.run(15 * SECOND);
    assert_eq!(cluster.members(), [host(1), host(2), host(3)].into());
}

#[test]
fn of_two_hosts_the_voter_goes_on_alone_and_the_other_waits() {
    let mut cluster = Cluster::of(4, 2);
    cluster.crash(host(2));
    cluster.run(8 * SECOND);
    assert_eq!(cluster.members(), [host(1)].into());
    let mut cluster = Cluster::of(4, 2);
    cluster.crash(host(1));
    cluster.run(300 * SECOND);
    assert_eq!(cluster.members(), [host(1), host(2)].into());
}

#[test]
fn a_host_that_says_so_leaves_at_once_and_so_does_the_only_voter() {
    let mut cluster = Cluster::of(5, 4);
    cluster.leave(host(2));
    cluster.run(3 * SECOND);
    assert_eq!(cluster.members(), [host(1), host(3), host(4)].into());
    let mut cluster = Cluster::of(5, 2);
    cluster.leave(host(1));
    cluster.run(3 * SECOND);
    assert_eq!(cluster.members(), [host(2)].into());
    assert_eq!(cluster.known[&cluster.newest()].voters, [host(2)]);
}

#[test]
fn a_host_that_missed_many_configurations_takes_the_newest() {
    let mut cluster = Cluster::of(6, 3);
    cluster.crash(host(2));
    for n in 4..=6 {
        cluster.start(host(n));
        cluster.run(10 * SECOND);
    }
    let missed = cluster.newest().0 - cluster.hosts[&host(2)].last_number.0;
    assert!(missed > 3, "{missed}");
    cluster.start(host(2));
    cluster.run(5 * SECOND);
    assert_eq!(cluster.number(host(2)), cluster.newest());
}

#[test]
fn a_minority_changes_nothing_and_learns_after_the_cut() {
    let mut cluster = Cluster::of(7, 5);
    for (a, b) in [1, 2].into_iter().flat_map(|a| [3, 4, 5].map(|b| (a, b))) {
        cluster.cut.extend([(host(a), host(b)), (host(b), host(a))]);
    }
    cluster.observe();
    let before = cluster.newest();
    cluster.run(100 * SECOND);
    assert_eq!((cluster.number(host(1)), cluster.number(host(2))), (before, before));
    assert_eq!(cluster.members().len(), 3, "the others give them up");
    cluster.cut.clear();
    cluster.observe();
    cluster.run(60 * SECOND);
    assert_eq!(cluster.members().len(), 5);
    assert!((1..=5).all(|n| cluster.number(host(n)) == cluster.newest()));
}

#[test]
fn a_hand_over_that_is_not_done_delays_a_join_but_not_a_leave() {
    let mut cluster = Cluster::of(8, 3);
    cluster.serves = false;
    cluster.start(host(4));
    cluster.run(6 * SECOND);
    assert_eq!(cluster.members().len(), 4);
    cluster.start(host(5));
    cluster.run(10 * SECOND);
    assert_eq!(cluster.members().len(), 4, "who joins waits");
    cluster.leave(host(3));
    cluster.run(3 * SECOND);
    assert!(!cluster.members().contains(&host(3)), "who leaves doesn't");
    let newest = &cluster.known[&cluster.newest()];
    assert!(
        newest.slots.iter().any(|slot| slot.sources.len() == 2),
        "and nobody's data is forgotten"
    );
}

/// One of three voters, with its configuration.
pub(super) fn voter() -> (Chain, Config) {
    let cluster = Cluster::of(9, 3);
    let here = &cluster.hosts[&host(2)];
    let mut chain = here.chain.clone().unwrap();
    // What is due anyway is out of the way.
    handle(&mut chain, Input::Wake);
    (chain, here.installed.clone().unwrap())
}

pub(super) fn handle(chain: &mut Chain, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    chain.handle(Time(40 * SECOND), input, &mut out);
    out
}

#[test]
fn a_promise_is_on_the_disk_before_it_is_given() {
    let (mut chain, config) = voter();
    let ballot = Ballot {
        counter: 99,
        host: host(1),
        incarnation: 1,
    };
    let ask = |from: u8| Input::Received {
        from: host(from),
        message: Message::Prepare { of: config.n, ballot },
    };
    assert_eq!(handle(&mut chain, ask(9)), [], "a stranger proposes nothing");
    let out = handle(&mut chain, ask(1));
    let Some(Output::Persist { ticket, record }) = out.first().cloned() else {
        panic!("{out:?}")
    };
    assert_eq!(out.len(), 1, "{out:?}");
    assert!(handle(&mut chain, ask(1)).is_empty(), "asked again it waits as well");
    let out = handle(&mut chain, Input::Persisted(ticket));
    assert!(
        matches!(
            out[0],
            Output::Send {
                message: Message::Promise { .. },
                ..
            }
        ),
        "{out:?}"
    );
    // A restart remembers it.
    let settings = Settings {
        me: host(2),
        incarnation: 2,
        cluster: config.cluster,
        seed: 0,
        times: Times::default(),
    };
    let mut again = Chain::new(settings);
    again.replay(Record::Decided(config.clone()));
    again.replay(record);
    let low = Ballot { counter: 98, ..ballot };
    let message = Message::Prepare {
        of: config.n,
        ballot: low,
    };
    let out = handle(&mut again, Input::Received { from: host(1), message });
    assert!(
        matches!(
            out[0],
            Output::Send {
                message: Message::Outbid { .. },
                ..
            }
        ),
        "{out:?}"
    );
    assert_eq!(again.snapshot().len(), 2);
}

#[test]
fn whatever_happens_there_is_one_chain_and_it_goes_on_afterwards() {
    for seed in 0..SEEDS {
        let mut cluster = Cluster::new(seed);
        cluster.start(host(1));
        let member = Member {
            host: host(1),
            weight: 1,
            zone: String::new(),
        };
        cluster.feed(host(1), Input::Found(member));
        cluster.run(SECOND);
        cluster.loss = 5 * (seed % 6);
        for _ in 0..25 {
            let id = host(1 + cluster.draw(6) as u8);
            let up = cluster.hosts.get(&id).is_some_and(|here| here.chain.is_some());
            match cluster.draw(5) {
                0 if up => cluster.crash(id),
                1 => {
                    let other = host(1 + cluster.draw(6) as u8);
                    cluster.cut.insert((id, other));
                    cluster.observe();
                }
                2 => {
                    cluster.cut.clear();
                    cluster.observe();
                }
                _ if !up => cluster.start(id),
                _ => {}
            }
            let pause = cluster.draw(20_000) * MILLI;
            cluster.run(pause);
        }
        // Everything is well again: they have to agree on all of them, and know it.
        cluster.loss = 0;
        cluster.cut.clear();
        for n in 1..=6 {
            if cluster.hosts.get(&host(n)).is_none_or(|here| here.chain.is_none()) {
                cluster.start(host(n));
            }
        }
        // What membership said before may still be on its way.
        cluster.run(4 * SECOND);
        cluster.observe();
        cluster.run(150 * SECOND);
        assert_eq!(cluster.members().len(), 6, "seed {seed}");
        assert!(
            (1..=6).all(|n| cluster.number(host(n)) == cluster.newest()),
            "seed {seed}"
        );
        assert!(cluster.known[&cluster.newest()].is_settled(), "seed {seed}");
    }
}
