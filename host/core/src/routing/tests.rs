//! What routing promises, with hosts whose messages arrive in order, and with hosts whose messages don't.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::*;
use crate::config_chain::config::{ClusterId, Config, ConfigNumber, Member, Replicas, SlotReplicas};
use crate::membership::{Change, Seen, Standing};
use crate::rng::Rng;
use crate::slot::SLOTS;

const MILLI: u64 = 1_000_000;

fn host(number: u8) -> HostId {
    HostId([number; 16])
}

fn grain(number: u32) -> GrainId {
    let mut bytes = [0; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    GrainId(bytes)
}

fn seen(number: u8, was: Option<Standing>, standing: Standing) -> Change {
    let seen = |standing| Seen {
        host: host(number),
        incarnation: 1,
        renewal: 0,
        address: "10.0.0.1:1".parse().unwrap(),
        standing,
        since: Time(0),
    };
    Change {
        was: was.map(seen),
        now: seen(standing),
    }
}

/// Slot i is held by the hosts i, i+1, i+2, counted round.
fn config(count: u8) -> Arc<Config> {
    let member = |number| Member {
        host: host(number),
        weight: 1,
        zone: String::new(),
    };
    let slots: Vec<_> = (0..SLOTS)
        .map(|slot| {
            let at = |step: u16| host(((slot + step) % u16::from(count)) as u8 + 1);
            SlotReplicas {
                replicas: Replicas::new(&[at(0), at(1), at(2)]).unwrap(),
                since: ConfigNumber(1),
                sources: Vec::new(),
            }
        })
        .collect();
    Config {
        members: (1..=count).map(member).collect(),
        slots: slots.into(),
        ..Config::first(ClusterId([1; 16]), member(1))
    }
    .into()
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Served { by: u8, hops: u8 },
    Refused(Refusal),
}

struct World {
    now: Time,
    rng: Rng,
    hosts: BTreeMap<u8, Routing>,
    away: Vec<u8>,
    /// Where each grain is active: the truth, and what the replicas have promised.
    active: BTreeMap<GrainId, Ballot>,
    on_their_way: BTreeMap<Token, Errand>,
    /// Where it began.
    origins: BTreeMap<Token, u8>,
    ends: Vec<(Token, End)>,
    tokens: u64,
}

impl World {
    fn new(count: u8) -> World {
        let mut world = World {
            now: Time(1_000 * MILLI),
            rng: Rng::new(1),
            hosts: (1..=count)
                .map(|n| (n, Routing::new(host(n), Settings::default(), 7)))
                .collect(),
            away: Vec::new(),
            active: BTreeMap::new(),
            on_their_way: BTreeMap::new(),
            origins: BTreeMap::new(),
            ends: Vec::new(),
            tokens: 0,
        };
        let config = config(count);
        for viewer in 1..=count {
            for other in (1..=count).filter(|other| *other != viewer) {
                world.tell(viewer, directory::Input::Seen(seen(other, None, Standing::Alive)));
            }
            world.tell(viewer, directory::Input::Configured(config.clone()));
        }
        world
    }

    fn tell(&mut self, to: u8, input: directory::Input) {
        self.input(to, Input::Directory(input));
    }

    fn input(&mut self, to: u8, input: Input) {
        let mut queue = VecDeque::from([(to, input)]);
        while let Some((at, input)) = queue.pop_front() {
            if self.away.contains(&at) {
                continue;
            }
            let mut out = Vec::new();
            self.hosts.get_mut(&at).unwrap().handle(self.now, input, &mut out);
            for output in out {
                self.output(at, output, &mut queue);
            }
        }
    }

    fn output(&mut self, at: u8, output: Output, queue: &mut VecDeque<(u8, Input)>) {
        match output {
            Output::Serve { token, activate } => {
                let errand = self.on_their_way.remove(&token).unwrap();
                let held = self.active.get(&errand.grain).copied();
                if let Some(above) = activate.filter(|_| held.is_none_or(|held| held.host != host(at))) {
                    // The replicas would give the grain to whoever prepares the higher ballot.
                    let counter = held.map_or(0, |held| held.counter).max(above) + 1;
                    let ballot = Ballot {
                        counter,
                        host: host(at),
                        incarnation: 1,
                    };
                    self.active.insert(errand.grain, ballot);
                    let input = directory::Input::Activated {
                        grain: errand.grain,
                        ballot,
                    };
                    queue.push_front((at, Input::Directory(input)));
                }
                self.ends.push((
                    token,
                    End::Served {
                        by: at,
                        hops: errand.travel.hops,
                    },
                ));
                // The reply goes back to where the request began and says which activation has answered.
                if let Some((origin, ballot)) = self.origins.remove(&token).zip(self.active.get(&errand.grain)) {
                    let learned = Input::Learned {
                        grain: errand.grain,
                        ballot: *ballot,
                    };
                    queue.push_back((origin, learned));
                }
            }
            Output::Forward { token, to, travel } => {
                let errand = self.on_their_way.get_mut(&token).unwrap();
                errand.from = Some(host(at));
                errand.travel = travel;
                queue.push_back((to.0[0], Input::Request(*errand)));
            }
            Output::Refuse { token, why } => {
                self.on_their_way.remove(&token);
                self.ends.push((token, End::Refused(why)));
            }
            Output::Directory(directory::Output::Send { to, message }) => {
                let received = directory::Input::Received {
                    from: host(at),
                    message,
                };
                queue.push_back((to.0[0], Input::Directory(received)));
            }
            Output::Directory(directory::Output::AskHolder(question)) => {
                let ballot = self.active.get(&question.grain).copied();
                let holder = directory::Input::Holder { question, ballot };
                queue.push_front((at, Input::Directory(holder)));
            }
            Output::Directory(other) => assert!(matches!(other, directory::Output::Outdated { .. }), "{other:?}"),
        }
    }

    fn errand(&mut self, grain: GrainId) -> Errand {
        self.tokens += 1;
        let errand = Errand {
            token: Token(self.tokens),
            grain,
            policy: Policy::Random,
            from: None,
            travel: Travel::default(),
        };
        self.on_their_way.insert(errand.token, errand);
        errand
    }

    fn call(&mut self, at: u8, grain: GrainId) -> End {
        let errand = self.errand(grain);
        self.origins.insert(errand.token, at);
        self.input(at, Input::Request(errand));
        let (token, end) = *self.ends.last().expect("the request has ended");
        assert_eq!(token, errand.token);
        end
    }

    /// Moves a grain as a migration does: the hosts concerned know, nobody else.
    fn migrate(&mut self, grain: GrainId, to: u8) {
        let old = self.active[&grain];
        let new = Ballot {
            counter: old.counter + 1,
            host: host(to),
            incarnation: 1,
        };
        self.active.insert(grain, new);
        self.tell(old.host.0[0], directory::Input::Deactivated { grain, ballot: old });
        self.input(old.host.0[0], Input::Handed { grain, to: new });
        self.tell(to, directory::Input::Activated { grain, ballot: new });
    }

    fn move_at_random(&mut self, grain: GrainId) {
        let to = 1 + self.rng.below(self.hosts.len() as u64) as u8;
        if self.active.get(&grain).is_some_and(|ballot| ballot.host != host(to)) {
            self.migrate(grain, to);
        }
    }
}

#[test]
fn any_host_takes_any_request_and_a_warm_one_makes_one_hop_at_most() {
    let mut world = World::new(5);
    let mut far = 0;
    for round in 0..200_000u32 {
        let at = 1 + world.rng.below(5) as u8;
        let which = grain(world.rng.below(500) as u32);
        match world.call(at, which) {
            End::Served { hops, .. } if hops <= HOPS_MOST => far += u32::from(hops > 1 && round >= 10_000),
            end => panic!("{end:?}"),
        }
    }
    assert_eq!(far, 0, "nothing moves, so nothing is far");
    let counts = world.hosts.values().map(Routing::counts);
    let (asked, served) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.asked, sum.1 + counts.served));
    assert_eq!(served, 200_000);
    assert!(asked <= 500 * 5, "{asked} questions: one for each grain and host");
}

#[test]
fn while_grains_move_all_the_time_requests_still_arrive_where_they_are() {
    let mut world = World::new(5);
    let mut hops_of = [0; 1 + HOPS_MOST as usize];
    for _ in 0..50_000 {
        let at = 1 + world.rng.below(5) as u8;
        let which = grain(world.rng.below(200) as u32);
        if world.rng.below(20) == 0 {
            world.move_at_random(which);
        }
        match world.call(at, which) {
            End::Served { by, hops } => {
                assert_eq!(world.active[&which].host, host(by));
                hops_of[hops as usize] += 1;
            }
            End::Refused(why) => panic!("{why:?}"),
        }
    }
    assert!(hops_of.iter().sum::<u32>() == 50_000, "{hops_of:?}");
    assert!(
        hops_of[3] > 0 && hops_of[3] < 6_000,
        "a grain moves every 20 requests: {hops_of:?}"
    );
}

#[test]
fn who_sent_a_request_to_the_wrong_host_does_so_once() {
    let mut world = World::new(5);
    let End::Served { by: first, .. } = world.call(1, grain(7)) else {
        panic!()
    };
    let (asker, new) = (
        (1..=5).find(|n| *n != first).unwrap(),
        (1..=5).rfind(|n| *n != first).unwrap(),
    );
    world.call(asker, grain(7));
    world.migrate(grain(7), new);
    let asker = if asker == new { first } else { asker };
    let hops = |end| match end {
        End::Served { hops, .. } => hops,
        End::Refused(why) => panic!("{why:?}"),
    };
    hops(world.call(asker, grain(7)));
    assert_eq!(hops(world.call(asker, grain(7))), 1, "it was told");
}

#[test]
fn a_death_clears_what_pointed_there_and_a_new_place_is_found() {
    let mut world = World::new(5);
    let mut victims = Vec::new();
    for number in 0..100 {
        world.call(1, grain(number));
        if world.active[&grain(number)].host == host(4) {
            victims.push(grain(number));
        }
    }
    assert!(victims.len() > 5);
    world.away.push(4);
    for viewer in [1, 2, 3, 5] {
        let death = seen(4, Some(Standing::Alive), Standing::Down);
        world.tell(viewer, directory::Input::Seen(death));
    }
    for victim in victims {
        let End::Served { by, .. } = world.call(1, victim) else {
            panic!("refused")
        };
        assert_ne!(by, 4);
    }
}

#[test]
fn a_request_that_found_nobody_is_sent_elsewhere() {
    let mut world = World::new(5);
    world.call(1, grain(7));
    let old = world.active[&grain(7)].host.0[0];
    let at = (1..=5).find(|n| *n != old).unwrap();
    world.call(at, grain(7));
    // The activation has ended without a word to anyone.
    world.active.remove(&grain(7));
    let mut errand = world.errand(grain(7));
    errand.travel.tried = Some(host(old));
    world.input(at, Input::Request(errand));
    assert!(
        matches!(world.ends.last(), Some((_, End::Served { .. }))),
        "{:?}",
        world.ends.last()
    );
}

#[test]
fn requests_for_one_grain_keep_their_order_while_it_is_looked_for() {
    let mut world = World::new(5);
    // Slot 1's primary is host 2: it's silent, so everything waits.
    world.away.push(2);
    for _ in 0..50 {
        let errand = world.errand(grain(1));
        world.input(1, Input::Request(errand));
    }
    assert_eq!((world.ends.len(), world.hosts[&1].waiting()), (0, 50));
    world.input(
        1,
        Input::Withdraw {
            grain: grain(1),
            token: Token(20),
        },
    );
    // Even what another reply teaches meanwhile lets nobody overtake.
    let ballot = Ballot {
        counter: 1,
        host: host(3),
        incarnation: 1,
    };
    world.input(
        1,
        Input::Learned {
            grain: grain(1),
            ballot,
        },
    );
    let last = world.errand(grain(1));
    world.input(1, Input::Request(last));
    assert_eq!(world.ends, []);
    world.away.clear();
    world.now = world.hosts[&1].deadline().unwrap();
    world.tell(1, directory::Input::Wake);
    let tokens: Vec<_> = world.ends.iter().map(|(token, _)| token.0).collect();
    let expected: Vec<_> = (1..=51).filter(|token| *token != 20).collect();
    assert_eq!(tokens, expected);
    assert_eq!(world.hosts[&1].waiting(), 0);
}

#[test]
fn a_circle_of_wrong_caches_ends() {
    let mut world = World::new(5);
    // Everyone believes that the next one has it, and nobody has.
    for number in 1..=5u8 {
        let ballot = Ballot {
            counter: 0,
            host: host(number % 5 + 1),
            incarnation: 1,
        };
        world.input(
            number,
            Input::Learned {
                grain: grain(9),
                ballot,
            },
        );
    }
    let End::Served { by, hops } = world.call(1, grain(9)) else {
        panic!("refused")
    };
    assert_eq!(hops, HOPS_MOST);
    // The reply has told where it is; the grain may have been given to the host that was asked.
    let hops = u8::from(by != 1);
    assert_eq!(world.call(1, grain(9)), End::Served { by, hops });
}

#[test]
fn a_request_that_has_travelled_enough_is_refused_and_its_sender_told() {
    let mut world = World::new(5);
    let mut errand = world.errand(grain(9));
    errand.from = Some(host(2));
    errand.travel.hops = HOPS_MOST;
    let ballot = Ballot {
        counter: 1,
        host: host(1),
        incarnation: 1,
    };
    world.input(
        2,
        Input::Learned {
            grain: grain(9),
            ballot,
        },
    );
    world.input(1, Input::Request(errand));
    assert_eq!(world.ends.last().unwrap().1, End::Refused(Refusal::TooManyHops));
    assert_eq!(world.hosts[&2].cached(), 0);
}

#[test]
fn a_grain_that_was_handed_over_is_sent_on_for_half_a_minute() {
    let mut world = World::new(5);
    world.call(1, grain(7));
    let old = world.active[&grain(7)].host.0[0];
    let (new, caller) = (old % 5 + 1, (old + 1) % 5 + 1);
    world.migrate(grain(7), new);
    let mut errand = world.errand(grain(7));
    errand.from = Some(host(caller));
    errand.travel.hops = 1;
    let asked = world.hosts[&old].counts().asked;
    world.input(old, Input::Request(errand));
    assert_eq!(world.ends.last().unwrap().1, End::Served { by: new, hops: 2 });
    assert_eq!(world.hosts[&old].counts().asked, asked, "without a question");
    world.now = world.now.plus_nanos(31_000 * MILLI);
    let mut errand = world.errand(grain(7));
    errand.from = Some(host(caller));
    errand.travel.hops = 1;
    world.input(old, Input::Request(errand));
    assert_eq!(world.ends.last().unwrap().1, End::Served { by: new, hops: 2 });
    assert_eq!(world.hosts[&old].counts().asked, asked + 1, "later by a question");
}

#[test]
fn too_many_that_wait_are_refused_and_those_nobody_can_answer_too() {
    let settings = Settings {
        waiting_most: 2,
        ..Settings::default()
    };
    let mut routing = Routing::new(host(1), settings, 1);
    let mut out = Vec::new();
    let errand = |token, number| Errand {
        token: Token(token),
        grain: grain(number),
        policy: Policy::Primary,
        from: None,
        travel: Travel::default(),
    };
    routing.handle(Time(0), Input::Request(errand(1, 1)), &mut out);
    assert_eq!(
        out,
        [Output::Refuse {
            token: Token(1),
            why: Refusal::Lost(Lost::NoConfig)
        }]
    );
    out.clear();
    routing.handle(
        Time(0),
        Input::Directory(directory::Input::Configured(config(3))),
        &mut out,
    );
    routing.handle(
        Time(0),
        Input::Directory(directory::Input::Seen(seen(2, None, Standing::Alive))),
        &mut out,
    );
    for token in 2..=4 {
        routing.handle(Time(0), Input::Request(errand(token, 1)), &mut out);
    }
    assert_eq!(
        out.last(),
        Some(&Output::Refuse {
            token: Token(4),
            why: Refusal::TooManyWaiting
        })
    );
    out.clear();
    while let Some(at) = routing.deadline() {
        routing.handle(at, Input::Directory(directory::Input::Wake), &mut out);
    }
    let refused = out.iter().filter(|output| {
        matches!(
            output,
            Output::Refuse {
                why: Refusal::Lost(Lost::NoAnswer),
                ..
            }
        )
    });
    assert_eq!((refused.count(), routing.waiting()), (2, 0));
}
