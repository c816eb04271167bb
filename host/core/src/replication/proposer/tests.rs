//! What a grain's proposer promises.

mod behind;
mod reads;
mod unknown;

use super::{Input, Limits, Output, Proposer};
use crate::config_chain::config::ConfigNumber;
use crate::id::{Ballot, Seq};
use crate::replication::messages::{Accepted, Answer, Message, Refusal, State};
use crate::replication::mutation::Rules;
use crate::replication::tests::*;
use crate::slot::Slot;
use crate::time::Time;

/// Host 1's proposer and its clock.
struct World {
    proposer: Proposer,
    now: Time,
    n: ConfigNumber,
    /// The stamp of the last question about ballots.
    asked: u64,
}

impl World {
    /// Knows its replicas, hosts 1 to `r`, and rests.
    fn cold(r: u8) -> World {
        let hosts: Vec<u8> = (1..=r).collect();
        let mut world = World {
            proposer: Proposer::new(host(1), 1, GRAIN, 0, Limits::default(), Rules::default()),
            now: Time(0),
            n: ConfigNumber(1),
            asked: 0,
        };
        world.handle(Input::Assigned(set(1, &hosts)), &[]);
        world
    }

    /// Has asked for promises under ballot 1.
    fn preparing(r: u8) -> World {
        let mut world = World::cold(r);
        let mut out = Vec::new();
        world.proposer.handle(
            world.now,
            Input::Activate {
                have: None,
                preempts: false,
            },
            &mut out,
        );
        assert_eq!(out.len(), usize::from(r));
        world
    }

    /// The activation of a grain that has never been called, with three replicas.
    fn active() -> World {
        let mut world = World::preparing(3);
        world.promise(1, None, &[]);
        world.promise(2, None, &["active 1 at nothing"]);
        world
    }

    fn handle(&mut self, input: Input, expect: &[&str]) {
        let mut out = Vec::new();
        self.proposer.handle(self.now, input, &mut out);
        let shown: Vec<String> = out.into_iter().map(|output| self.show(output)).collect();
        assert_eq!(shown, expect);
    }

    fn show(&mut self, output: Output) -> String {
        match output {
            Output::Send { to, message } => {
                if let Message::Ask {
                    ask: crate::replication::messages::Ask::Confirm { stamp, .. },
                    ..
                } = &message
                {
                    self.asked = *stamp;
                    return format!("{} <- confirm", to.0[0]);
                }
                format!("{} <- {}", to.0[0], show_message(&message))
            }
            Output::Active { ballot, head, state } => {
                let head = head.map_or("nothing".into(), |head| format!("#{}", head.seq.0));
                let state = if state.is_some() { " with state" } else { "" };
                format!("active {} at {head}{state}", show_ballot(ballot))
            }
            Output::Held { holder, left_ms } => format!("held by {} for {left_ms}ms", holder.0[0]),
            Output::Committed(seq) => format!("committed #{}", seq.0),
            Output::Fenced { by } => format!("fenced by {}", show_ballot(by)),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    fn answer(&mut self, from: u8, answer: Answer, expect: &[&str]) {
        self.handle(
            Input::Received {
                from: host(from),
                n: self.n,
                answer,
            },
            expect,
        );
    }

    fn promise(&mut self, from: u8, accepted: Option<Accepted>, expect: &[&str]) {
        self.promise_with(from, accepted, None, expect);
    }

    fn promise_with(&mut self, from: u8, accepted: Option<Accepted>, state: Option<State>, expect: &[&str]) {
        let ballot = self.proposer.ballot();
        self.answer(
            from,
            Answer::Promise {
                grain: GRAIN,
                ballot,
                accepted,
                state,
            },
            expect,
        );
    }

    fn ack(&mut self, from: u8, seq: u64, name: u8, expect: &[&str]) {
        let ballot = self.proposer.ballot();
        self.answer(
            from,
            Answer::Acked {
                grain: GRAIN,
                ballot,
                seq: Seq(seq),
                hash: hash(name),
            },
            expect,
        );
    }

    fn nack(&mut self, from: u8, refusal: Refusal, expect: &[&str]) {
        let ballot = self.proposer.ballot();
        self.answer(
            from,
            Answer::Nack {
                grain: GRAIN,
                ballot,
                refusal,
            },
            expect,
        );
    }

    fn need_snap(&mut self, from: u8, accepted: Option<Accepted>, expect: &[&str]) {
        let ballot = self.proposer.ballot();
        self.answer(
            from,
            Answer::NeedSnap {
                grain: GRAIN,
                ballot,
                accepted,
            },
            expect,
        );
    }

    fn confirm(&mut self, from: u8, expect: &[&str]) {
        let (slot, stamp, good) = (Slot::of(GRAIN), self.asked, vec![(GRAIN, self.proposer.ballot())]);
        self.answer(
            from,
            Answer::Confirmed {
                slot,
                stamp,
                good,
                refused: Vec::new(),
            },
            expect,
        );
    }

    fn propose(&mut self, seq: u64, prev: u8, name: u8) {
        let before = self.proposer.kept();
        self.proposer
            .handle(self.now, Input::Propose(proposal(seq, prev, name)), &mut Vec::new());
        assert_eq!(self.proposer.kept(), before + 1);
    }

    /// Longer than a want is met once.
    fn later(&mut self) {
        self.now = self.now.plus_nanos(Limits::default().retry_nanos / 2);
    }

    fn wake(&mut self, expect: &[&str]) {
        self.now = self.proposer.deadline().expect("something is waited for").max(self.now);
        self.handle(Input::Wake, expect);
    }
}

#[test]
fn a_quorum_of_identical_promises_makes_an_activation() {
    let mut world = World::preparing(3);
    world.promise(1, None, &[]);
    // Twice the same one is one.
    world.promise(1, None, &[]);
    world.promise(3, None, &["active 1 at nothing"]);
    // The third comes late.
    world.promise(2, None, &[]);
}

#[test]
fn two_replicas_need_both_and_one_needs_itself() {
    let mut world = World::preparing(2);
    world.promise(1, None, &[]);
    world.promise(2, None, &["active 1 at nothing"]);
    let mut world = World::preparing(1);
    world.promise(1, None, &["active 1 at nothing"]);
    world.handle(Input::Propose(proposal(1, 0, 1)), &["1 <- accept 1 #1a delta"]);
    world.ack(1, 1, 1, &["committed #1"]);
}

#[test]
fn the_highest_commit_is_written_back_before_anything_is_served_from_it() {
    let mut world = World::preparing(3);
    let (low, high) = (
        accepted(0, 1, 1),
        Accepted {
            ballot: ballot_of(0, 2),
            ..accepted(0, 2, 2)
        },
    );
    world.promise(1, Some(low), &[]);
    let same = [
        "1 <- accept 1 #2b same",
        "2 <- accept 1 #2b same",
        "3 <- accept 1 #2b same",
    ];
    world.promise_with(2, Some(high), Some(state(2, 2)), &same);
    world.need_snap(1, Some(low), &["1 <- accept 1 #2b full"]);
    world.ack(2, 2, 2, &[]);
    world.ack(1, 2, 2, &["active 1 at #2 with state"]);
}

#[test]
fn the_same_commit_under_two_ballots_is_written_back_too() {
    let mut world = World::preparing(3);
    world.promise_with(1, Some(accepted(0, 1, 1)), Some(state(1, 1)), &[]);
    let other = Accepted {
        ballot: ballot_of(0, 2),
        ..accepted(0, 1, 1)
    };
    let same = [
        "1 <- accept 1 #1a same",
        "2 <- accept 1 #1a same",
        "3 <- accept 1 #1a same",
    ];
    world.promise(2, Some(other), &same);
    world.wake(&same);
}

#[test]
fn a_state_that_did_not_come_with_a_promise_is_fetched() {
    let mut world = World::preparing(3);
    world.promise(1, None, &[]);
    world.promise(2, Some(accepted(0, 1, 1)), &["2 <- fetch a"]);
    world.wake(&["2 <- fetch a"]);
    let fetched = |state| Answer::Fetched {
        grain: GRAIN,
        ballot: ballot(1),
        state,
    };
    world.answer(2, fetched(state(9, 9)), &["2 <- fetch a"]);
    let same = [
        "1 <- accept 1 #1a same",
        "2 <- accept 1 #1a same",
        "3 <- accept 1 #1a same",
    ];
    world.answer(2, fetched(state(1, 1)), &same);
}

#[test]
fn a_state_that_is_here_is_not_fetched() {
    let mut world = World::cold(3);
    let asks = ["1 <- prepare 1", "2 <- prepare 1", "3 <- prepare 1"];
    world.handle(
        Input::Activate {
            have: Some(hash(1)),
            preempts: false,
        },
        &asks,
    );
    world.promise(2, Some(accepted(0, 1, 1)), &[]);
    world.promise(3, Some(accepted(0, 1, 1)), &["active 1 at #1"]);
}

#[test]
fn a_lost_prepare_is_sent_again_with_the_same_ballot() {
    let mut world = World::preparing(3);
    world.promise(2, None, &[]);
    world.wake(&["1 <- prepare 1", "3 <- prepare 1"]);
}

#[test]
fn a_prepare_that_is_outbid_is_repeated_above() {
    for refusal in [Refusal::Promised(ballot_of(7, 2)), Refusal::BelowFloor(ballot_of(7, 2))] {
        let mut world = World::preparing(3);
        world.nack(2, refusal, &[]);
        world.wake(&["1 <- prepare 8", "2 <- prepare 8", "3 <- prepare 8"]);
        // A promise of the first question comes late.
        let late = Answer::Promise {
            grain: GRAIN,
            ballot: ballot(1),
            accepted: None,
            state: None,
        };
        world.answer(1, late.clone(), &[]);
        world.answer(3, late, &[]);
    }
}

/// Others take the grain and let it go, several times in each pause of this one.
#[test]
fn a_proposer_that_is_always_late_asks_further_above_each_time_until_it_is_first() {
    let mut world = World::preparing(3);
    let mut rival = 100;
    for attempt in 1.. {
        let asked = world.proposer.ballot().counter;
        if asked > rival {
            break;
        }
        assert!(
            attempt < 5,
            "{asked} is asked with, {rival} promised, in attempt {attempt}"
        );
        let nack = Answer::Nack {
            grain: GRAIN,
            ballot: world.proposer.ballot(),
            refusal: Refusal::Promised(ballot_of(rival, 2)),
        };
        for from in [2, 3] {
            let (n, answer) = (ConfigNumber(1), nack.clone());
            let from = host(from);
            let input = Input::Received { from, n, answer };
            world.proposer.handle(world.now, input, &mut Vec::new());
        }
        world.now = world.proposer.deadline().unwrap();
        world.proposer.handle(world.now, Input::Wake, &mut Vec::new());
        rival += 8;
    }
}

#[test]
fn a_grain_that_somebody_holds_is_left_to_them() {
    let mut world = World::preparing(3);
    let busy = Answer::Busy {
        grain: GRAIN,
        ballot: ballot(1),
        holder: host(3),
        left_ms: 1200,
    };
    // One replica alone may have heard of a contender that gets no quorum either.
    world.answer(2, busy.clone(), &[]);
    world.answer(2, busy.clone(), &[]);
    let gives_way = ["1 <- release", "2 <- release", "3 <- release", "held by 3 for 1200ms"];
    world.answer(3, busy, &gives_way);
    assert_eq!(world.proposer.deadline(), None);
    let asks = ["1 <- prepare 2", "2 <- prepare 2", "3 <- prepare 2"];
    world.handle(
        Input::Activate {
            have: None,
            preempts: true,
        },
        &asks,
    );
}

#[test]
fn a_commit_counts_when_a_quorum_has_it_and_later_ones_do_not_wait() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.propose(2, 1, 2);
    world.ack(1, 1, 1, &[]);
    world.ack(1, 2, 2, &[]);
    world.ack(1, 2, 2, &[]);
    world.ack(3, 2, 2, &["committed #2"]);
}

#[test]
#[should_panic(expected = "doesn't follow")]
fn a_number_is_not_used_twice() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.propose(1, 0, 2);
}

#[test]
fn an_unanswered_commit_is_sent_again_as_it_is() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.ack(1, 1, 1, &[]);
    world.wake(&["2 <- accept 1 #1a delta", "3 <- accept 1 #1a delta"]);
    world.ack(2, 1, 1, &["committed #1"]);
    world.wake(&["3 <- accept 1 #1a delta"]);
}

#[test]
fn a_replica_that_nobody_waits_for_is_left_alone_after_a_while() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.ack(1, 1, 1, &[]);
    world.ack(2, 1, 1, &["committed #1"]);
    for _ in 0..50 {
        if let Some(at) = world.proposer.deadline() {
            world.now = at;
            world.proposer.handle(world.now, Input::Wake, &mut Vec::new());
        }
    }
    assert!(!world.proposer.is_outstanding());
}

#[test]
fn a_straggler_gets_what_lies_between_or_the_whole_state() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.propose(2, 1, 2);
    world.need_snap(3, None, &["3 <- accept 1 #1a delta", "3 <- accept 1 #2b delta"]);
    // What was sent past the gap is answered by the same want: it's met once in a while.
    world.need_snap(3, None, &[]);
    world.later();
    world.need_snap(3, Some(accepted(0, 1, 1)), &["3 <- accept 1 #2b delta"]);
    world.later();
    world.need_snap(3, Some(accepted(0, 1, 9)), &["needimage"]);
    world.need_snap(2, Some(accepted(0, 4, 9)), &[]);
    // A state that isn't in the chain, then one that is.
    world.handle(Input::Image(state(1, 7)), &[]);
    world.later();
    world.need_snap(3, Some(accepted(0, 1, 9)), &["needimage"]);
    let full = [
        "2 <- accept 1 #1a full",
        "2 <- accept 1 #2b delta",
        "3 <- accept 1 #1a full",
        "3 <- accept 1 #2b delta",
    ];
    world.handle(Input::Image(state(1, 1)), &full);
}

#[test]
fn a_higher_promise_fences_an_activation_and_nothing_leaves_any_more() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.handle(
        Input::Read {
            ticket: 5,
            sees: Seq(1),
        },
        &["1 <- confirm", "2 <- confirm", "3 <- confirm"],
    );
    world.nack(
        2,
        Refusal::Promised(ballot_of(2, 2)),
        &["readrefused(5)", "fenced by 2.2"],
    );
    world.ack(1, 1, 1, &[]);
    world.ack(3, 1, 1, &[]);
    assert!(world.proposer.is_over() && world.proposer.deadline().is_none());
}

#[test]
fn other_refusals_fence_nobody() {
    for refusal in [
        Refusal::BelowFloor(ballot(9)),
        Refusal::Installing,
        Refusal::Absent,
        Refusal::Full,
    ] {
        let mut world = World::active();
        world.nack(2, refusal, &[]);
        assert!(world.proposer.is_active(), "{refusal:?}");
    }
    let mut world = World::active();
    world.nack(2, Refusal::Behind(ConfigNumber(0)), &[]);
    world.nack(2, Refusal::Sealed(ConfigNumber(2)), &["behind(confignumber(2))"]);
    assert!(world.proposer.is_active());
}

#[test]
fn an_activation_goes_on_with_the_slots_new_replicas_and_counts_anew() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.ack(1, 1, 1, &[]);
    world.n = ConfigNumber(2);
    let again = [
        "1 <- accept 1 #1a delta",
        "4 <- accept 1 #1a delta",
        "5 <- accept 1 #1a delta",
    ];
    world.handle(Input::Assigned(set(2, &[1, 4, 5])), &again);
    world.ack(4, 1, 1, &[]);
    // One of the old ones.
    world.ack(2, 1, 1, &[]);
    world.ack(5, 1, 1, &["committed #1"]);
}

#[test]
fn promises_of_two_configurations_make_no_quorum() {
    let mut world = World::preparing(3);
    world.promise(1, None, &[]);
    world.n = ConfigNumber(2);
    world.handle(
        Input::Assigned(set(2, &[1, 4, 5])),
        &["1 <- prepare 1", "4 <- prepare 1", "5 <- prepare 1"],
    );
    world.promise(4, None, &[]);
    world.promise(1, None, &["active 1 at nothing"]);
}

#[test]
fn a_grain_is_let_go_when_its_commits_are_held_by_a_quorum() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.handle(Input::Release { to: Some(host(3)) }, &[]);
    world.handle(Input::Propose(proposal(2, 1, 2)), &[]);
    world.ack(1, 1, 1, &[]);
    let releases = [
        "committed #1",
        "1 <- release to 3",
        "2 <- release to 3",
        "3 <- release to 3",
        "released",
    ];
    world.ack(3, 1, 1, &releases);
}

#[test]
fn a_deleted_grain_is_forgotten_when_all_replicas_have_its_tombstone() {
    let mut world = World::active();
    world
        .proposer
        .handle(world.now, Input::Propose(tombstone(1, 0, 1)), &mut Vec::new());
    world.handle(Input::Release { to: None }, &[]);
    world.ack(1, 1, 1, &[]);
    world.ack(2, 1, 1, &["committed #1"]);
    world.wake(&["3 <- accept 1 #1ax delta"]);
    world.need_snap(3, Some(accepted(0, 9, 9)), &["3 <- accept 1 #1ax full"]);
    let ends = [
        "1 <- forget 1",
        "2 <- forget 1",
        "3 <- forget 1",
        "1 <- release",
        "2 <- release",
        "3 <- release",
        "released",
    ];
    world.ack(3, 1, 1, &ends);
}

#[test]
fn a_tombstone_that_a_replica_lacks_stays() {
    let mut world = World::active();
    world
        .proposer
        .handle(world.now, Input::Propose(tombstone(1, 0, 1)), &mut Vec::new());
    world.ack(1, 1, 1, &[]);
    world.ack(2, 1, 1, &["committed #1"]);
    world.handle(Input::Release { to: None }, &[]);
    let mut out = Vec::new();
    while let Some(at) = world.proposer.deadline() {
        world.now = at;
        world.proposer.handle(at, Input::Wake, &mut out);
    }
    let shown: Vec<String> = out.into_iter().map(|output| world.show(output)).collect();
    assert!(shown.contains(&"released".to_string()) && !shown.contains(&"1 <- forget 1".to_string()));
}

#[test]
fn answers_from_strangers_and_of_other_ballots_change_nothing() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.ack(1, 1, 1, &[]);
    world.ack(9, 1, 1, &[]);
    let other = Ballot {
        incarnation: 2,
        ..ballot(1)
    };
    world.answer(
        2,
        Answer::Acked {
            grain: GRAIN,
            ballot: other,
            seq: Seq(1),
            hash: hash(1),
        },
        &[],
    );
    // A commit that this activation never made.
    world.ack(2, 1, 9, &[]);
    world.ack(2, 7, 7, &[]);
    assert_eq!(world.proposer.committed(), Seq(0));
}
