//! What each answer rests on: in a cluster those that rest on the state leave only when a quorum knows of no other activation.

use super::*;

/// What the answer to each of these rests on, in their order.
fn rests_on(durability: Durability, act: impl FnOnce(&mut World)) -> Vec<RestsOn> {
    let mut world = World::new(durability);
    // All commits are durable at once.
    world.now.durable = Lsn(100);
    act(&mut world);
    world.rests_on
}

fn delete(token: u64) -> Request {
    Request {
        work: Work::Delete,
        ..request(token)
    }
}

fn failure(code: Code) -> CallFailure {
    CallFailure::before(code, "")
}

#[test]
fn a_write_rests_on_its_own_commit() {
    let written = rests_on(Durability::Committed, |world| {
        world.call(1);
        world.end_well();
        world.call(2);
        world.end(passed_on());
        world.input(Input::Arrive(delete(3)));
    });
    assert_eq!(written, [RestsOn::OwnCommit; 3]);
}

#[test]
fn what_commits_nothing_and_tells_something_of_the_state_rests_on_it() {
    let told = rests_on(Durability::Committed, |world| {
        // A deletion of what isn't there.
        world.input(Input::Arrive(delete(1)));
        // A read's value, the guest's own error, a trap, another grain's failure.
        for (token, end) in [
            (2, TurnEnd::Done(Outcome::Value(b"ok".to_vec()))),
            (
                3,
                TurnEnd::Done(Outcome::GuestError {
                    error: Some(b"null".to_vec()),
                    message: String::new(),
                    status: None,
                }),
            ),
            (4, TurnEnd::Failed(failure(Code::Trap))),
            (5, passed_on()),
        ] {
            world.input(Input::Arrive(read(token)));
            world.end(end);
        }
        // A write that traps has committed nothing either.
        world.call(6);
        world.end(TurnEnd::Failed(failure(Code::Trap)));
    });
    assert_eq!(told, [RestsOn::State; 6]);
}

#[test]
fn a_stored_reply_rests_on_the_state_that_has_it() {
    let told = rests_on(Durability::Committed, |world| {
        world.input(Input::Arrive(once(1, 7, 1)));
        world.end_well();
        world.input(Input::Arrive(once(2, 7, 1)));
        // Under the same key, but another call.
        world.input(Input::Arrive(once(3, 7, 2)));
    });
    assert_eq!(told, [RestsOn::OwnCommit, RestsOn::State, RestsOn::State]);
}

#[test]
fn refusals_that_tell_nothing_rest_on_nothing() {
    let told = rests_on(Durability::Committed, |world| {
        world.call(1);
        world.end(TurnEnd::Refused(failure(Code::Overloaded)));
        world.call(2);
        world.call(3);
        world.input(Input::Withdraw(Token(3)));
    });
    assert_eq!(told, [RestsOn::Nothing; 2]);
}

#[test]
fn where_less_is_promised_a_write_rests_on_what_it_has_changed() {
    for durability in [Durability::Relaxed, Durability::Volatile] {
        let told = rests_on(durability, |world| {
            world.now.durable = Lsn(0);
            world.call(1);
            world.end_well();
            world.input(Input::Arrive(read(2)));
            world.end_well();
        });
        assert_eq!(told, [RestsOn::OwnChange, RestsOn::State], "{durability:?}");
    }
}
