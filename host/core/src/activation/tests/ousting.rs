//! What an activation does when another one has taken its grain over.

use super::*;

#[test]
fn who_waits_for_a_commit_hears_that_its_outcome_is_unknown_and_who_waits_for_a_turn_that_it_had_none() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.end_well();
    world.call(2);
    world.call(3);
    world.expect(&["load", "run 1", "commit 1", "run 2"]);
    world.input(Input::Oust);
    world.expect(&["answer 3 moved no", "answer 1 moved unknown", "answer 2 moved unknown"]);
    world.call(4);
    world.expect(&["return 4"]);
    world.durable(1);
    world.expect(&[]);
    // What the running turn leaves is dropped, and no commit is made of it.
    world.end_well();
    world.expect(&["drop", "gone"]);
    world.input(Input::Oust);
    world.expect(&[]);
}

#[test]
fn an_idle_activation_is_gone_at_once() {
    let mut world = World::new(Durability::Volatile);
    world.call(1);
    world.end_well();
    world.expect(&["load", "run 1", "keep", "answer 1 ok"]);
    world.input(Input::Oust);
    world.expect(&["drop", "gone"]);
}
