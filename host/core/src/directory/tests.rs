//! What a directory promises, with hosts that speak to each other in the test.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::*;
use crate::config_chain::config::{ClusterId, Config, Member, Replicas, SlotReplicas};
use crate::membership::{Change, Seen, Standing};
use crate::placement::Policy;
use crate::slot::SLOTS;

const MILLI: u64 = 1_000_000;

fn host(number: u8) -> HostId {
    HostId([number; 16])
}

/// A grain of slot 0.
fn grain(number: u8) -> GrainId {
    let mut bytes = [number; 16];
    bytes[14..].fill(0);
    GrainId(bytes)
}

fn ballot(counter: u64, number: u8) -> Ballot {
    Ballot {
        counter,
        host: host(number),
        incarnation: 1,
    }
}

/// Every slot is held by these hosts, the first being its primary.
fn config(n: u64, replicas: &[u8], members: &[u8]) -> Arc<Config> {
    let member = |number: &u8| Member {
        host: host(*number),
        weight: 1,
        zone: String::new(),
    };
    let hosts: Vec<_> = replicas.iter().copied().map(host).collect();
    let slot = SlotReplicas {
        replicas: Replicas::new(&hosts).unwrap(),
        since: ConfigNumber(n),
        sources: Vec::new(),
    };
    Arc::new(Config {
        n: ConfigNumber(n),
        members: members.iter().map(member).collect(),
        slots: vec![slot; usize::from(SLOTS)].into(),
        ..Config::first(ClusterId([1; 16]), member(&1))
    })
}

fn seen(number: u8, standing: Standing) -> Change {
    let now = Seen {
        host: host(number),
        incarnation: 1,
        renewal: 0,
        address: "10.0.0.1:1".parse().unwrap(),
        standing,
        since: Time(0),
    };
    Change { was: None, now }
}

/// Hosts 1 to n, whose messages arrive at once and in order, unless their receiver is away.
struct World {
    now: Time,
    hosts: BTreeMap<HostId, Directory>,
    away: Vec<HostId>,
    /// What the replicas have promised.
    holders: BTreeMap<GrainId, Ballot>,
    /// Everything but messages and questions to replicas.
    said: Vec<(HostId, Output)>,
    sent: Vec<DirectoryMessage>,
}

impl World {
    fn new(count: u8, replicas: &[u8]) -> World {
        let members: Vec<_> = (1..=count).collect();
        let mut world = World {
            now: Time(1_000 * MILLI),
            hosts: members
                .iter()
                .map(|n| (host(*n), Directory::new(host(*n), Settings::default(), 7)))
                .collect(),
            away: Vec::new(),
            holders: BTreeMap::new(),
            said: Vec::new(),
            sent: Vec::new(),
        };
        for viewer in &members {
            for other in members.iter().filter(|other| *other != viewer) {
                world.input(*viewer, Input::Seen(seen(*other, Standing::Alive)));
            }
            world.input(*viewer, Input::Configured(config(1, replicas, &members)));
        }
        world
    }

    fn input(&mut self, to: u8, input: Input) {
        let mut queue = VecDeque::from([(host(to), input)]);
        while let Some((at, input)) = queue.pop_front() {
            let Some(directory) = self.hosts.get_mut(&at).filter(|_| !self.away.contains(&at)) else {
                continue;
            };
            let mut out = Vec::new();
            directory.handle(self.now, input, &mut out);
            for output in out {
                match output {
                    Output::Send { to, message } => {
                        assert_ne!(to, at, "a message to oneself");
                        self.sent.push(message.clone());
                        queue.push_back((to, Input::Received { from: at, message }));
                    }
                    Output::AskHolder(question) => {
                        let ballot = self.holders.get(&question.grain).copied();
                        queue.push_front((at, Input::Holder { question, ballot }));
                    }
                    other => self.said.push((at, other)),
                }
            }
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now.plus_nanos(millis * MILLI);
        loop {
            let deadlines = self.hosts.iter().filter(|(host, _)| !self.away.contains(host));
            let next = deadlines.filter_map(|(host, one)| Some((one.deadline()?, *host))).min();
            let Some((at, who)) = next.filter(|(at, _)| *at <= end) else {
                break;
            };
            assert!(
                at > self.now || self.now == at || at.0 == 0,
                "no deadline lies in the past"
            );
            self.now = self.now.max(at);
            self.input(who.0[0], Input::Wake);
        }
        self.now = end;
    }

    /// Where `from` is told to send a request for `grain`.
    fn locate(&mut self, from: u8, grain: GrainId, not_here: Option<u8>) -> Located {
        self.said.clear();
        let not_here = not_here.map(host);
        let policy = Policy::Primary;
        self.input(
            from,
            Input::Locate {
                grain,
                not_here,
                policy,
            },
        );
        self.answer(from)
    }

    fn answer(&self, at: u8) -> Located {
        let answers: Vec<_> = self
            .said
            .iter()
            .filter_map(|(who, output)| match output {
                Output::Located { located, .. } if *who == host(at) => Some(*located),
                _ => None,
            })
            .collect();
        assert_eq!(answers.len(), 1, "{:?}", self.said);
        answers[0]
    }

    fn kill(&mut self, number: u8, standing: Standing) {
        self.away.push(host(number));
        let viewers: Vec<_> = self.hosts.keys().copied().collect();
        for viewer in viewers {
            self.input(viewer.0[0], Input::Seen(seen(number, standing)));
        }
    }
}

#[test]
fn a_grain_that_is_nowhere_is_granted_to_its_slots_primary() {
    let mut world = World::new(4, &[1, 2, 3]);
    assert_eq!(world.locate(4, grain(1), None), Located::Granted(host(1), 0));
    assert_eq!(
        world.locate(1, grain(2), None),
        Located::Granted(host(1), 0),
        "the primary asks itself"
    );
}

#[test]
fn a_holder_of_whom_membership_never_spoke_is_gone_after_a_while() {
    let mut world = World::new(3, &[1, 2, 3]);
    // Host 9 died while all the others were down.
    world.holders.insert(grain(1), ballot(8, 9));
    assert_eq!(world.locate(2, grain(1), None), Located::At(ballot(8, 9)));
    let again = world.locate(2, grain(1), Some(9));
    assert_eq!(again, Located::Granted(host(9), 8), "it may just be late");
    world.run(5_000);
    assert_eq!(world.locate(2, grain(1), None), Located::Granted(host(1), 8));
    world.input(1, Input::Seen(seen(9, Standing::Alive)));
    world.run(60_000);
    assert_eq!(
        world.locate(2, grain(1), None),
        Located::At(ballot(8, 9)),
        "it was late"
    );
}

#[test]
fn everyone_is_sent_to_where_a_grain_is_registered() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.input(
        3,
        Input::Activated {
            grain: grain(1),
            ballot: ballot(5, 3),
        },
    );
    for asker in 1..=4 {
        assert_eq!(world.locate(asker, grain(1), None), Located::At(ballot(5, 3)));
    }
    world.input(
        3,
        Input::Deactivated {
            grain: grain(1),
            ballot: ballot(5, 3),
        },
    );
    assert_eq!(world.locate(4, grain(1), None), Located::Granted(host(1), 0));
}

#[test]
fn two_who_ask_at_a_time_are_sent_to_the_same_host() {
    let mut world = World::new(4, &[1, 2, 3]);
    let mut ask = |from| {
        world.said.clear();
        world.input(
            from,
            Input::Locate {
                grain: grain(1),
                not_here: None,
                policy: Policy::Random,
            },
        );
        world.answer(from)
    };
    let first = ask(2);
    assert!(
        (0..20).all(|_| ask(3) == first),
        "random, but the same until somebody has it or two seconds are over"
    );
}

#[test]
fn the_highest_ballot_wins_and_the_other_one_hears_of_it() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.input(
        4,
        Input::Activated {
            grain: grain(1),
            ballot: ballot(6, 4),
        },
    );
    world.input(
        3,
        Input::Activated {
            grain: grain(1),
            ballot: ballot(5, 3),
        },
    );
    assert_eq!(
        world.said,
        [(
            host(3),
            Output::Outdated {
                grain: grain(1),
                by: ballot(6, 4)
            }
        )]
    );
    assert_eq!(world.locate(2, grain(1), None), Located::At(ballot(6, 4)));
    // And a late good-bye of the loser takes nothing away.
    world.input(
        3,
        Input::Deactivated {
            grain: grain(1),
            ballot: ballot(5, 3),
        },
    );
    assert_eq!(world.locate(2, grain(1), None), Located::At(ballot(6, 4)));
}

#[test]
fn what_a_primary_does_not_know_its_replicas_promise_answers() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.holders.insert(grain(1), ballot(8, 4));
    assert_eq!(world.locate(2, grain(1), None), Located::At(ballot(8, 4)));
}

#[test]
fn a_live_holder_is_pre_empted_by_nobody() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.holders.insert(grain(1), ballot(8, 4));
    world.input(
        4,
        Input::Activated {
            grain: grain(1),
            ballot: ballot(8, 4),
        },
    );
    let answer = world.locate(2, grain(1), Some(4));
    assert_eq!(
        answer,
        Located::Granted(host(4), 8),
        "it has promises and no activation: its turn again"
    );
    world.kill(4, Standing::Down);
    assert_eq!(
        world.locate(2, grain(1), Some(4)),
        Located::Granted(host(1), 8),
        "another one when it's dead"
    );
}

#[test]
fn when_a_primary_dies_the_next_replica_learns_within_half_a_second() {
    let mut world = World::new(5, &[1, 2, 3]);
    for number in 0..200 {
        let (grain, ballot) = (grain(number), ballot(3, 4 + number % 2));
        world.input(ballot.host.0[0], Input::Activated { grain, ballot });
    }
    assert_eq!(world.hosts[&host(1)].places(), 200);
    world.run(5_000);
    world.kill(1, Standing::Suspect);
    // Nothing stalls meanwhile: a promise answers.
    world.holders.insert(grain(7), ballot(3, 5));
    assert_eq!(world.locate(3, grain(7), None), Located::At(ballot(3, 5)));
    world.holders.clear();
    world.run(500);
    assert_eq!(world.hosts[&host(2)].places(), 200);
    assert_eq!(world.locate(3, grain(8), None), Located::At(ballot(3, 4)));
    let before = world.sent.len();
    world.run(10_000);
    assert_eq!(world.sent.len(), before, "what is confirmed isn't repeated");
}

#[test]
fn a_configuration_with_another_primary_has_everything_registered_there() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.input(
        4,
        Input::Activated {
            grain: grain(1),
            ballot: ballot(3, 4),
        },
    );
    world.run(5_000);
    for viewer in 1..=4 {
        world.input(viewer, Input::Configured(config(2, &[2, 3, 4], &[1, 2, 3, 4])));
    }
    world.run(500);
    assert_eq!((world.hosts[&host(1)].places(), world.hosts[&host(2)].places()), (0, 1));
}

#[test]
fn whoever_does_not_hold_a_slot_says_whom_to_ask() {
    let mut world = World::new(4, &[1, 2, 3]);
    // Host 4 hasn't heard of the next configuration, by which 1 holds nothing.
    for viewer in 1..=3 {
        world.input(viewer, Input::Configured(config(2, &[2, 3], &[1, 2, 3, 4])));
    }
    assert_eq!(world.locate(4, grain(1), None), Located::Granted(host(2), 0));
    assert!(world.said.contains(&(
        host(4),
        Output::Behind {
            whom: host(1),
            n: ConfigNumber(2)
        }
    )));
}

#[test]
fn an_asker_who_alone_suspects_the_primary_gets_an_answer_from_the_next() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.input(4, Input::Seen(seen(1, Standing::Suspect)));
    assert_eq!(world.locate(4, grain(1), None), Located::Granted(host(2), 0));
}

#[test]
fn a_lost_question_is_asked_again_and_given_up_in_the_end() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.away.push(host(1));
    world.input(
        4,
        Input::Locate {
            grain: grain(1),
            not_here: None,
            policy: Policy::Primary,
        },
    );
    world.run(150);
    world.away.clear();
    world.run(100);
    assert_eq!(world.answer(4), Located::Granted(host(1), 0));

    world.said.clear();
    world.away.push(host(1));
    world.input(
        4,
        Input::Locate {
            grain: grain(2),
            not_here: None,
            policy: Policy::Primary,
        },
    );
    world.run(5_100);
    let why = Lost::NoAnswer;
    assert_eq!(world.said, [(host(4), Output::Unlocated { grain: grain(2), why })]);
    assert_eq!(world.hosts[&host(4)].deadline(), None);
}

#[test]
fn a_question_moves_on_when_who_was_asked_dies() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.away.push(host(1));
    world.input(
        4,
        Input::Locate {
            grain: grain(1),
            not_here: None,
            policy: Policy::Primary,
        },
    );
    world.kill(1, Standing::Down);
    assert_eq!(world.answer(4), Located::Granted(host(2), 0), "without a wait");
}

#[test]
fn registrations_are_repeated_until_they_are_confirmed() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.away.push(host(1));
    world.input(
        4,
        Input::Activated {
            grain: grain(1),
            ballot: ballot(3, 4),
        },
    );
    world.run(20_000);
    assert!((5..10).contains(&world.sent.len()), "{} in 20 s", world.sent.len());
    world.away.clear();
    world.run(5_000);
    assert_eq!(world.hosts[&host(1)].places(), 1);
}

#[test]
fn nobody_registers_for_another_host() {
    let mut world = World::new(4, &[1, 2, 3]);
    let entries = vec![(grain(1), ballot(9, 3))];
    let message = DirectoryMessage::Register {
        n: ConfigNumber(1),
        entries,
    };
    world.input(1, Input::Received { from: host(4), message });
    assert_eq!(world.hosts[&host(1)].places(), 0);
}

#[test]
fn answers_of_others_than_who_was_asked_count_for_nothing() {
    let mut world = World::new(4, &[1, 2, 3]);
    world.away.push(host(1));
    world.input(
        4,
        Input::Locate {
            grain: grain(1),
            not_here: None,
            policy: Policy::Primary,
        },
    );
    let message = DirectoryMessage::At {
        grain: grain(1),
        ballot: ballot(9, 2),
    };
    world.input(4, Input::Received { from: host(3), message });
    assert_eq!(world.said, []);
}

#[test]
fn what_a_primary_knows_is_bounded_and_the_dead_make_room() {
    let settings = Settings {
        places_most: 3,
        asks_most: 2,
        ..Settings::default()
    };
    let mut one = Directory::new(host(1), settings, 1);
    let mut out = Vec::new();
    let mut input = |one: &mut Directory, input| one.handle(Time(0), input, &mut out);
    input(&mut one, Input::Configured(config(1, &[1, 2, 3], &[1, 2, 3])));
    input(&mut one, Input::Seen(seen(2, Standing::Alive)));
    for number in 0..5 {
        let entries = vec![(grain(number), ballot(1, 2))];
        let message = DirectoryMessage::Register {
            n: ConfigNumber(1),
            entries,
        };
        input(&mut one, Input::Received { from: host(2), message });
    }
    assert_eq!(one.places(), 3);
    input(&mut one, Input::Seen(seen(2, Standing::Down)));
    let entries = vec![(grain(9), ballot(1, 3))];
    input(
        &mut one,
        Input::Received {
            from: host(3),
            message: DirectoryMessage::Register {
                n: ConfigNumber(1),
                entries,
            },
        },
    );
    assert_eq!(one.places(), 1);
    // Questions are bounded, too: host 2 is gone, 3 is never seen, so both would be asked of this host if they weren't lost.
    let mut out = Vec::new();
    let mut alone = Directory::new(
        host(4),
        Settings {
            asks_most: 2,
            ..Settings::default()
        },
        1,
    );
    alone.handle(Time(0), Input::Configured(config(1, &[1, 2, 3], &[1, 2, 3])), &mut out);
    for number in 0..3 {
        let policy = Policy::Primary;
        alone.handle(
            Time(0),
            Input::Locate {
                grain: grain(number),
                not_here: None,
                policy,
            },
            &mut out,
        );
    }
    assert_eq!(
        out.last(),
        Some(&Output::Unlocated {
            grain: grain(2),
            why: Lost::Busy
        })
    );
}
