//! What comes of calls that may come again: one effect, and one reply.

use super::*;
use crate::reply_table::{CLIENT_LIMIT, REPLY_LIMIT};

#[test]
fn a_repeat_gets_the_stored_reply_and_no_second_turn() {
    let mut world = World::new(Durability::Committed);
    world.input(Input::Arrive(once(1, 5, 5)));
    world.input(Input::Arrive(once(2, 5, 5)));
    world.expect(&["load", "run 1", "answer 2 idempotency_in_progress no"]);
    world.end_well();
    // Its turn is over, its commit isn't durable: the repeat waits with it.
    world.input(Input::Arrive(once(3, 5, 5)));
    world.expect(&["commit 1"]);
    world.durable(1);
    world.expect(&["answer 1 ok", "answer 3 ok"]);
    world.input(Input::Arrive(once(4, 5, 6)));
    world.expect(&["answer 4 idempotency_mismatch no"]);
}

#[test]
fn a_call_that_failed_without_effect_may_be_repeated() {
    let mut world = World::new(Durability::Committed);
    world.input(Input::Arrive(once(1, 5, 5)));
    world.end(TurnEnd::Failed(CallFailure::before(Code::Trap, "")));
    world.input(Input::Arrive(once(2, 5, 5)));
    world.expect(&["load", "run 1", "drop", "answer 1 trap no", "load", "run 2"]);
}

#[test]
fn a_failure_that_was_passed_on_stands_and_is_what_a_repeat_gets() {
    let mut world = World::new(Durability::Committed);
    world.input(Input::Arrive(once(1, 5, 5)));
    world.end(passed_on());
    world.durable(1);
    world.expect(&["load", "run 1", "commit 1", "answer 1 trap yes"]);
    world.input(Input::Arrive(once(2, 5, 5)));
    world.expect(&["answer 2 trap yes"]);
}

#[test]
fn a_call_whose_reply_would_not_be_kept_is_not_begun() {
    let mut world = World::new(Durability::Volatile);
    // None of these is dropped for a later one.
    let mut call = 0;
    while call < CLIENT_LIMIT as u64 {
        let mut request = once(call, 0, 5);
        request.once.as_mut().unwrap().call.0[..8].copy_from_slice(&call.to_le_bytes());
        world.input(Input::Arrive(request));
        world.end_well();
        call += 1;
    }
    world.log.clear();
    let mut request = once(call, 1, 5);
    request.once.as_mut().unwrap().call = CallId([0xff; 16]);
    world.input(Input::Arrive(request.clone()));
    let refused = format!("answer {call} idempotency_full no");
    world.expect(&[&refused]);
    // It isn't at work: it may come again. Reads and calls that nobody repeats need no room.
    world.input(Input::Arrive(request.clone()));
    world.input(Input::Arrive(Request {
        once: request.once,
        ..read(call + 1)
    }));
    world.end_well();
    world.call(call + 2);
    let ran = [
        format!("run {}", call + 1),
        format!("answer {} ok", call + 1),
        format!("run {}", call + 2),
    ];
    world.expect(&[&refused, &ran[0], &ran[1], &ran[2]]);
}

#[test]
fn a_reply_too_long_to_keep_is_said_to_be_so() {
    let mut world = World::new(Durability::Committed);
    world.input(Input::Arrive(once(1, 5, 5)));
    world.end(TurnEnd::Done(Outcome::Value(vec![b'1'; REPLY_LIMIT + 1])));
    world.durable(1);
    world.log.clear();
    world.input(Input::Arrive(once(2, 5, 5)));
    world.expect(&["answer 2 reply_not_kept yes"]);
}
