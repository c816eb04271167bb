//! What a slot's replica promises.

mod handover;

use super::{Input, Limits, Output, Replica};
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, Seq};
use crate::replication::body::Body;
use crate::replication::messages::{Answer, Ask, Handover, Message, Payload, Proposal};
use crate::replication::mutation::Rules;
use crate::replication::record::Record;
use crate::replication::replica_set::Assignment;
use crate::replication::tests::*;
use crate::slot::Slot;
use crate::time::Time;

/// Host 1's replica of the grain's slot, its clock, and how far its disk is.
struct World {
    replica: Replica,
    now: Time,
    records: Vec<Record>,
    durable: usize,
}

impl World {
    fn absent() -> World {
        World::with(Limits::default())
    }

    fn with(limits: Limits) -> World {
        World {
            replica: Replica::new(host(1), Slot::of(GRAIN), limits, Rules::default()),
            now: Time(0),
            records: Vec::new(),
            durable: 0,
        }
    }

    /// Serving configuration 1 with hosts 2 and 3.
    fn serving() -> World {
        let mut world = World::absent();
        world.assign(1, &[1, 2, 3], &[]);
        world.sync(&["serving 1"]);
        world
    }

    fn handle(&mut self, input: Input, expect: &[&str]) {
        let mut out = Vec::new();
        self.replica.handle(self.now, input, &mut out);
        let mut shown = Vec::new();
        for output in out {
            shown.extend(self.show(output));
        }
        assert_eq!(shown, expect);
    }

    fn show(&mut self, output: Output) -> Option<String> {
        Some(match output {
            Output::Send { to, message } => format!("{} <- {}", to.0[0], show_message(&message)),
            Output::Persist { record, .. } => {
                self.records.push(record);
                return None;
            }
            Output::Load { .. } => "load".into(),
            Output::Serving(n) => format!("serving {n}"),
            Output::Behind(n) => format!("behind {n}"),
        })
    }

    fn ask(&mut self, from: u8, n: u64, ask: Ask, expect: &[&str]) {
        let message = Message::Ask {
            n: ConfigNumber(n),
            ask,
        };
        self.handle(
            Input::Received {
                from: host(from),
                message,
            },
            expect,
        );
    }

    fn hand(&mut self, from: u8, handover: Handover, expect: &[&str]) {
        let message = Message::Handover(handover);
        self.handle(
            Input::Received {
                from: host(from),
                message,
            },
            expect,
        );
    }

    fn prepare(&mut self, ballot: Ballot, expect: &[&str]) {
        self.ask(ballot.host.0[0], 1, prepare(ballot, false), expect);
    }

    fn accept(&mut self, ballot: Ballot, proposal: Proposal, expect: &[&str]) {
        self.ask(
            ballot.host.0[0],
            1,
            Ask::Accept {
                grain: GRAIN,
                ballot,
                proposal,
            },
            expect,
        );
    }

    fn assign(&mut self, n: u64, hosts: &[u8], sources: &[(u64, &[u8])]) {
        let sources = sources.iter().map(|(n, hosts)| set(*n, hosts)).collect();
        let mut out = Vec::new();
        self.replica.handle(
            self.now,
            Input::Assigned(Assignment {
                set: set(n, hosts),
                sources,
            }),
            &mut out,
        );
        for output in out {
            self.show(output);
        }
    }

    /// The disk has all.
    fn sync(&mut self, expect: &[&str]) {
        self.durable = self.records.len();
        self.handle(Input::Persisted(self.durable as u64), expect);
    }

    /// Only what was synced is still there; nothing is told yet.
    fn restart(&mut self) {
        self.records.truncate(self.durable);
        self.replica = Replica::new(host(1), Slot::of(GRAIN), Limits::default(), Rules::default());
        for record in &self.records {
            self.replica.replay(self.now, record);
        }
        self.records.clear();
        self.durable = 0;
    }
}

fn prepare(ballot: Ballot, preempts: bool) -> Ask {
    Ask::Prepare {
        grain: GRAIN,
        ballot,
        have: None,
        wants_state: false,
        preempts,
    }
}

#[test]
fn a_promise_leaves_when_it_is_durable() {
    let mut world = World::serving();
    world.prepare(ballot(1), &[]);
    world.sync(&["1 <- promise 1 nothing"]);
}

#[test]
fn a_repeated_prepare_is_answered_like_the_first_and_written_once() {
    let mut world = World::serving();
    world.prepare(ballot(1), &[]);
    world.prepare(ballot(1), &[]);
    let records = world.records.len();
    world.sync(&["1 <- promise 1 nothing", "1 <- promise 1 nothing"]);
    world.prepare(ballot(1), &["1 <- promise 1 nothing"]);
    assert_eq!(world.records.len(), records);
}

#[test]
fn an_ack_leaves_when_its_commit_is_durable_and_the_next_is_taken_meanwhile() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.accept(ballot(1), proposal(2, 1, 2), &[]);
    world.sync(&["1 <- acked #1", "1 <- acked #2"]);
    world.accept(ballot(1), proposal(1, 0, 1), &["1 <- acked #2"]);
}

#[test]
fn a_lower_ballot_is_refused_before_and_after_a_restart() {
    let mut world = World::serving();
    world.prepare(ballot(5), &[]);
    world.accept(ballot(4), proposal(1, 0, 1), &["1 <- nack promised 5"]);
    world.sync(&["1 <- promise 5 nothing"]);
    world.restart();
    world.assign(1, &[1, 2, 3], &[]);
    world.accept(ballot(4), proposal(1, 0, 1), &["1 <- nack promised 5"]);
}

#[test]
fn what_was_not_durable_was_not_promised() {
    let mut world = World::serving();
    world.prepare(ballot(5), &[]);
    world.restart();
    world.assign(1, &[1, 2, 3], &[]);
    world.accept(ballot(4), proposal(1, 0, 1), &[]);
    world.sync(&["1 <- acked #1"]);
}

#[test]
fn a_snapshot_stands_for_all_records_before() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.prepare(ballot(3), &[]);
    world.accept(
        ballot(3),
        Proposal {
            deletes: true,
            ..proposal(2, 1, 2)
        },
        &[],
    );
    world.ask(
        1,
        1,
        Ask::Forget {
            grain: GRAIN,
            ballot: ballot(3),
            hash: hash(2),
        },
        &[],
    );
    let snapshot = world.replica.snapshot();
    let mut again = Replica::new(host(1), Slot::of(GRAIN), Limits::default(), Rules::default());
    snapshot.iter().for_each(|record| again.replay(Time(0), record));
    assert_eq!(again.snapshot(), snapshot);
    assert_eq!((again.floor, again.serves()), (Some(ballot(3)), Some(ConfigNumber(1))));
}

#[test]
fn a_commit_that_does_not_follow_asks_for_what_lies_between() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.accept(ballot(1), proposal(3, 2, 3), &["1 <- need-snap #1a@1"]);
    world.accept(ballot(2), proposal(2, 9, 2), &["1 <- need-snap #1a@1"]);
}

#[test]
fn asks_of_another_configuration_are_refused() {
    let mut world = World::absent();
    world.ask(2, 0, prepare(ballot_of(1, 2), false), &["2 <- nack absent"]);
    world.assign(2, &[1, 2, 3], &[(1, &[2, 3, 4])]);
    world.ask(2, 2, prepare(ballot_of(1, 2), false), &["2 <- nack installing"]);
    world.ask(2, 1, prepare(ballot_of(1, 2), false), &["2 <- nack sealed 2"]);
    world.ask(
        2,
        3,
        prepare(ballot_of(1, 2), false),
        &["behind 3", "2 <- nack behind 2"],
    );
}

#[test]
fn a_limit_that_is_reached_is_a_refusal() {
    let mut world = World::with(Limits {
        grains: 0,
        ..Limits::default()
    });
    world.assign(1, &[1], &[]);
    world.sync(&["serving 1"]);
    world.prepare(ballot(1), &["1 <- nack full"]);
    let mut world = World::with(Limits {
        waiting: 1,
        ..Limits::default()
    });
    world.assign(1, &[1], &[]);
    world.sync(&["serving 1"]);
    world.prepare(ballot(1), &[]);
    world.prepare(ballot(2), &["1 <- nack full"]);
}

#[test]
fn nobody_pre_empts_a_holder_that_shows_life() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.now = Time(2_900_000_000);
    world.prepare(ballot_of(2, 2), &["2 <- busy 1 100ms"]);
    let confirm = Ask::Confirm {
        slot: Slot::of(GRAIN),
        stamp: 1,
        grains: vec![(GRAIN, ballot(1))],
    };
    world.ask(1, 1, confirm, &["1 <- confirmed 1"]);
    world.now = Time(5_800_000_000);
    world.prepare(ballot_of(2, 2), &["2 <- busy 1 100ms"]);
    world.now = Time(5_900_000_000);
    world.prepare(ballot_of(2, 2), &[]);
    world.sync(&["1 <- acked #1", "2 <- promise 2.2 #1a@1"]);
}

#[test]
fn whoever_sees_the_holder_dead_pre_empts_it() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.ask(2, 1, prepare(ballot_of(2, 2), true), &[]);
    let confirm = Ask::Confirm {
        slot: Slot::of(GRAIN),
        stamp: 1,
        grains: vec![(GRAIN, ballot(1))],
    };
    world.ask(1, 1, confirm, &["1 <- confirmed 0, promised 2.2"]);
}

#[test]
fn a_released_grain_waits_a_little_for_whom_it_is_handed_to() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.sync(&["1 <- acked #1"]);
    world.ask(
        1,
        1,
        Ask::Release {
            grain: GRAIN,
            ballot: ballot(1),
            to: Some(host(3)),
        },
        &[],
    );
    world.prepare(ballot_of(2, 2), &["2 <- busy 3 300ms"]);
    world.prepare(ballot_of(2, 3), &[]);
    world.sync(&["3 <- promise 2.3 #1a@1"]);
}

#[test]
fn a_promise_brings_the_state_when_it_is_wanted_and_unknown() {
    let wanted = |have| Ask::Prepare {
        grain: GRAIN,
        ballot: ballot(2),
        have,
        wants_state: true,
        preempts: false,
    };
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.sync(&["1 <- acked #1"]);
    world.ask(1, 1, wanted(None), &["load"]);
    world.handle(
        Input::Loaded {
            grain: GRAIN,
            state: Some(state(1, 1)),
        },
        &[],
    );
    world.sync(&["1 <- promise 2 #1a@1 with state"]);
    world.ask(1, 1, wanted(Some(hash(1))), &["1 <- promise 2 #1a@1"]);
}

#[test]
fn a_state_that_is_fetched_is_the_one_asked_for() {
    let mut world = World::serving();
    world.accept(ballot(1), proposal(1, 0, 1), &[]);
    world.ask(
        1,
        1,
        Ask::Fetch {
            grain: GRAIN,
            ballot: ballot(1),
            hash: Some(hash(1)),
        },
        &["load"],
    );
    world.handle(
        Input::Loaded {
            grain: GRAIN,
            state: Some(state(1, 1)),
        },
        &["1 <- fetched #1"],
    );
    world.ask(
        1,
        1,
        Ask::Fetch {
            grain: GRAIN,
            ballot: ballot(1),
            hash: Some(hash(9)),
        },
        &["load"],
    );
    world.handle(
        Input::Loaded {
            grain: GRAIN,
            state: Some(state(1, 1)),
        },
        &[],
    );
    let (grain, ballot, hash) = (GRAIN, ballot(1), None);
    world.ask(1, 1, Ask::Fetch { grain, ballot, hash }, &["load"]);
    let state = Some(state(1, 1));
    world.handle(Input::Loaded { grain, state }, &["1 <- fetched #1"]);
}

#[test]
fn a_forgotten_grain_keeps_its_old_activations_out() {
    let mut world = World::serving();
    world.accept(ballot(3), tombstone(1, 0, 1), &[]);
    assert_eq!(world.replica.tombstones().collect::<Vec<_>>(), [GRAIN]);
    world.ask(
        1,
        1,
        Ask::Forget {
            grain: GRAIN,
            ballot: ballot(3),
            hash: hash(1),
        },
        &[],
    );
    world.sync(&["1 <- acked #1"]);
    assert!(world.replica.is_empty());
    world.accept(ballot(2), proposal(1, 0, 1), &["1 <- nack below floor 3"]);
    world.restart();
    world.assign(1, &[1, 2, 3], &[]);
    world.accept(ballot(2), proposal(1, 0, 1), &["1 <- nack below floor 3"]);
    world.prepare(ballot(4), &[]);
    world.sync(&["1 <- promise 4 nothing"]);
}

#[test]
fn answers_to_nobody_change_nothing() {
    let mut world = World::serving();
    let answer = Answer::Acked {
        grain: GRAIN,
        ballot: ballot(1),
        seq: Seq(1),
        hash: hash(1),
    };
    let message = Message::Answer {
        n: ConfigNumber(1),
        answer,
    };
    world.handle(Input::Received { from: host(2), message }, &[]);
    let full = Proposal {
        payload: Payload::Full(Body::default()),
        ..proposal(7, 0, 7)
    };
    world.accept(ballot(1), full, &[]);
    world.sync(&["1 <- acked #7"]);
}
