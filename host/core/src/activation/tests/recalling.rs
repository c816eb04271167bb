//! What an activation does with a request that is part of a circle of calls.

use super::*;

#[test]
fn a_request_that_waits_fails_and_one_that_runs_or_has_run_goes_its_way() {
    let mut world = World::new(Durability::Committed);
    world.call(1);
    world.call(2);
    world.expect(&["load", "run 1"]);
    world.input(Input::Recall(Token(2)));
    world.expect(&["answer 2 deadlock no"]);
    world.input(Input::Recall(Token(1)));
    world.expect(&[]);
    world.end_well();
    world.input(Input::Recall(Token(1)));
    world.expect(&["commit 1"]);
    world.durable(1);
    world.expect(&["answer 1 ok"]);
}
