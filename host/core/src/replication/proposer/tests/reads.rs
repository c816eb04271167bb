//! What a grain's proposer promises to reads, and for how long it believes in itself.

use super::*;

const MILLI: u64 = 1_000_000;

#[test]
fn a_read_waits_for_a_question_that_was_asked_after_it_came() {
    let asks = ["1 <- confirm", "2 <- confirm", "3 <- confirm"];
    let mut world = World::active();
    world.handle(
        Input::Read {
            ticket: 1,
            sees: Seq(0),
        },
        &asks,
    );
    let first = world.asked;
    // It comes after the question, so the question's answers aren't for it.
    world.handle(
        Input::Read {
            ticket: 2,
            sees: Seq(0),
        },
        &[],
    );
    world.confirm(1, &[]);
    world.confirm(2, &["readready(1)", "1 <- confirm", "2 <- confirm", "3 <- confirm"]);
    assert!(world.asked > first);
    world.confirm(3, &[]);
    world.confirm(1, &["readready(2)"]);
}

#[test]
fn a_commit_that_was_sent_after_a_read_came_answers_for_it() {
    let mut world = World::active();
    world.handle(
        Input::Read {
            ticket: 1,
            sees: Seq(0),
        },
        &["1 <- confirm", "2 <- confirm", "3 <- confirm"],
    );
    world.propose(1, 0, 1);
    world.ack(1, 1, 1, &[]);
    world.ack(2, 1, 1, &["committed #1", "readready(1)"]);
}

#[test]
fn a_read_waits_for_the_commits_that_it_saw() {
    let mut world = World::active();
    world.propose(1, 0, 1);
    world.handle(
        Input::Read {
            ticket: 1,
            sees: Seq(1),
        },
        &["1 <- confirm", "2 <- confirm", "3 <- confirm"],
    );
    world.confirm(1, &[]);
    world.confirm(2, &[]);
    world.ack(1, 1, 1, &[]);
    world.ack(2, 1, 1, &["committed #1", "readready(1)"]);
}

#[test]
fn without_a_quorum_no_turn_starts_and_with_one_they_do_again() {
    let mut world = World::active();
    world.now = Time(3_001 * MILLI);
    world.handle(Input::Wake, &["isolated"]);
    world.handle(
        Input::Read {
            ticket: 1,
            sees: Seq(0),
        },
        &["1 <- confirm", "2 <- confirm", "3 <- confirm"],
    );
    world.confirm(1, &[]);
    world.confirm(2, &["reachable", "readready(1)"]);
}
