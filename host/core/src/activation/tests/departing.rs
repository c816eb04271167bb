//! What an activation does when its grain goes to another host.

use super::*;

#[test]
fn what_runs_is_finished_and_committed_and_what_waits_is_sent_back() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.call(2);
    world.expect(&["load", "run 1"]);
    world.input(Input::Depart);
    world.expect(&["answer 2 moved no"]);
    world.call(3);
    world.expect(&["answer 3 moved no"]);
    world.end_well();
    world.expect(&["commit 1"]);
    world.call(4);
    world.expect(&["answer 4 moved no"]);
    world.durable(1);
    world.expect(&["answer 1 ok", "drop", "gone"]);
    world.call(5);
    world.expect(&["return 5"]);
}

#[test]
fn what_only_memory_has_is_written_first() {
    let mut world = World::new(Durability::Volatile);
    world.call(1);
    world.end_well();
    world.expect(&["load", "run 1", "keep", "answer 1 ok"]);
    world.input(Input::Depart);
    world.expect(&["commit 1", "drop", "gone"]);
}

#[test]
fn an_idle_activation_leaves_at_once() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.end_well();
    world.durable(1);
    world.expect(&["load", "run 1", "commit 1", "answer 1 ok"]);
    world.input(Input::Depart);
    world.expect(&["drop", "gone"]);
}
