//! Promises about grains that move to another revision.

use super::*;
use crate::message::Token;

impl World {
    /// A grain that has one durable commit under revision 1, and is in memory.
    fn with_state(durability: Durability) -> World {
        let mut world = World::new(durability);
        world.call(0);
        world.end_well();
        world.durable(1);
        world.log.clear();
        world
    }

    fn deploy(&mut self, revision: u32) {
        self.now.target = Revision(revision);
    }

    fn moved(&mut self, end: MoveEnd) {
        if let MoveEnd::Done(moved) = &end {
            self.revision = moved.revision;
        }
        self.input(Input::Moved(end));
    }

    fn done(&mut self, revision: u32) {
        let durability = self.durability;
        self.moved(MoveEnd::Done(Moved {
            revision: Revision(revision),
            durability,
        }));
    }

    fn refuse(&mut self) {
        self.moved(MoveEnd::Failed(CallFailure::before(Code::Trap, "load: unreachable")));
    }

    fn postpone(&mut self, has_instance: bool) {
        self.moved(MoveEnd::Postponed {
            failure: CallFailure::before(Code::Overloaded, "no slot"),
            has_instance,
        });
    }

    fn ask(&mut self, token: u64) {
        self.input(Input::Arrive(Request {
            work: Work::Move,
            ..request(token)
        }));
    }
}

#[test]
fn a_grain_moves_before_its_next_turn_and_in_one_commit() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.call(1);
    world.expect(&["move"]);
    world.done(2);
    world.expect(&["commit 2", "run 1"]);
    world.end_well();
    world.durable(3);
    world.expect(&["commit 3", "answer 1 ok"]);
    assert_eq!(world.machine.revision(), Revision(2));
}

#[test]
fn a_grain_that_is_not_in_memory_is_loaded_as_it_was_and_then_moved() {
    let mut world = World::new(Durability::Committed);
    world.deploy(2);
    world.call(1);
    world.expect(&["load", "move"]);
}

#[test]
fn a_move_waits_until_all_turns_before_it_are_durable() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.call(2);
    world.call(3);
    world.end_well();
    world.deploy(2);
    world.end_well();
    world.expect(&["load", "run 1", "commit 1", "run 2", "commit 2"]);
    world.durable(1);
    world.expect(&["answer 1 ok"]);
    world.durable(2);
    world.expect(&["answer 2 ok", "move"]);
}

#[test]
fn a_running_turn_ends_under_the_code_that_began_it() {
    let mut world = World::with_state(Durability::Committed);
    world.call(1);
    world.deploy(2);
    world.end_well();
    world.expect(&["run 1", "commit 2"]);
    world.durable(2);
    world.expect(&["answer 1 ok"]);
}

#[test]
fn a_failed_move_leaves_the_grain_serving_and_is_not_tried_again() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.call(1);
    world.call(2);
    world.refuse();
    world.expect(&["move", "drop", "load", "run 1"]);
    world.end_well();
    world.expect(&["commit 2", "run 2"]);
    assert_eq!(world.machine.revision(), Revision(1));
    assert_eq!(world.machine.refusal().map(|failure| failure.code), Some(Code::Trap));
}

#[test]
fn another_revision_is_another_chance() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.call(1);
    world.refuse();
    world.end_well();
    world.durable(2);
    world.log.clear();
    world.deploy(3);
    world.call(2);
    world.done(3);
    world.expect(&["move", "commit 3", "run 2"]);
    assert!(world.machine.refusal().is_none());
}

#[test]
fn a_rollback_to_the_revision_that_a_grain_never_left_moves_nothing() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.call(1);
    world.refuse();
    world.deploy(1);
    world.end_well();
    world.durable(2);
    world.log.clear();
    world.call(2);
    world.expect(&["run 2"]);
}

#[test]
fn whoever_asks_for_a_move_hears_of_it_when_it_is_durable() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.ask(1);
    world.done(2);
    world.expect(&["move", "commit 2"]);
    world.durable(2);
    world.expect(&["answer 1 null"]);
    world.ask(2);
    world.expect(&["answer 2 null"]);
}

#[test]
fn whoever_asks_has_a_failed_move_tried_again_once() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.ask(1);
    world.refuse();
    world.expect(&["move", "drop", "answer 1 upgrade_failed no"]);
    world.ask(2);
    world.refuse();
    world.expect(&["load", "move", "drop", "answer 2 upgrade_failed no"]);
    world.call(3);
    world.expect(&["load", "run 3"]);
}

#[test]
fn without_room_the_grain_serves_and_tries_again_at_the_next_turn() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.call(1);
    world.postpone(false);
    world.expect(&["move", "load", "run 1"]);
    assert!(world.machine.refusal().is_none());
    world.end_well();
    world.durable(2);
    world.call(2);
    world.postpone(true);
    world.expect(&["commit 2", "answer 1 ok", "move", "run 2"]);
}

#[test]
fn what_has_no_state_or_the_same_module_moves_without_a_commit() {
    let mut world = World::new(Durability::Committed);
    world.input(Input::Arrive(read(1)));
    world.end_well();
    world.deploy(2);
    world.input(Input::Arrive(read(2)));
    world.moved(MoveEnd::Unwritten(Moved {
        revision: Revision(2),
        durability: Durability::Relaxed,
    }));
    world.end_well();
    world.expect(&["load", "run 1", "answer 1 ok", "move", "run 2", "answer 2 ok"]);
}

#[test]
fn a_volatile_grain_takes_its_unsaved_replies_into_the_commit() {
    let mut world = World::new(Durability::Volatile);
    world.input(Input::Arrive(once(1, 5, 5)));
    world.end_well();
    world.expect(&["load", "run 1", "keep", "answer 1 ok"]);
    world.deploy(2);
    let mut out = Vec::new();
    world.ask(2);
    let moved = Moved {
        revision: Revision(2),
        durability: Durability::Volatile,
    };
    world
        .machine
        .handle(world.now, Input::Moved(MoveEnd::Done(moved)), &mut out);
    assert!(
        matches!(&out[..], [Output::Commit(order)] if order.replies.len() == 1 && order.seq == Seq(1)),
        "{out:?}"
    );
    world.input(Input::Appended { lsn: Lsn(1), bytes: 1 });
    world.durable(1);
    // Nothing is unsaved any more.
    world.input(Input::Evict);
    world.expect(&["move", "answer 2 null", "drop", "gone"]);
}

#[test]
fn from_its_move_on_a_grain_keeps_the_new_revisions_promise() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.call(1);
    world.durability = Durability::Volatile;
    world.done(2);
    world.end_well();
    // It waits for the move's own commit, but makes none.
    world.expect(&["move", "commit 2", "run 1", "keep"]);
    world.durable(2);
    world.expect(&["answer 1 ok"]);
}

#[test]
fn a_deadline_passes_during_a_move_as_at_any_time() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.ask(1);
    world.call(2);
    world.input(Input::Withdraw(Token(2)));
    world.input(Input::Withdraw(Token(1)));
    world.expect(&["move", "answer 2 deadline no", "answer 1 deadline unknown"]);
    world.done(2);
    world.expect(&["commit 2"]);
}

#[test]
fn a_moving_grain_is_not_evicted() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.ask(1);
    world.input(Input::Evict);
    world.done(2);
    world.input(Input::Evict);
    world.durable(2);
    world.input(Input::Evict);
    world.expect(&["move", "commit 2", "answer 1 null", "drop", "gone"]);
}

#[test]
fn what_is_deleted_is_not_moved_before() {
    let mut world = World::with_state(Durability::Committed);
    world.deploy(2);
    world.input(Input::Arrive(Request {
        work: Work::Delete,
        ..request(1)
    }));
    world.expect(&["commit 2", "drop"]);
}

#[test]
fn a_repeated_call_gets_its_reply_without_a_move() {
    let mut world = World::new(Durability::Committed);
    world.input(Input::Arrive(once(1, 5, 5)));
    world.end_well();
    world.durable(1);
    world.deploy(2);
    world.log.clear();
    world.input(Input::Arrive(once(2, 5, 5)));
    world.expect(&["answer 2 ok"]);
    world.call(3);
    world.done(2);
    world.end_well();
    // The stored reply has moved along.
    world.input(Input::Arrive(once(4, 5, 5)));
    world.durable(3);
    world.expect(&["move", "commit 2", "run 3", "commit 3", "answer 3 ok", "answer 4 ok"]);
}
