//! An activation on a host that was behind: the state came from others, and its own replica lacks it.

use super::*;

/// Host 1's activation of a grain whose state the other two have, and host 1's own replica hasn't.
fn behind() -> World {
    let mut world = World::preparing(3);
    world.promise_with(2, Some(accepted(0, 1, 1)), Some(state(1, 1)), &[]);
    // Without its own replica no quorum is left as soon as another one fails.
    let begins = ["1 <- accept 1 #1a full", "active 1 at #1 with state"];
    world.promise(3, Some(accepted(0, 1, 1)), &begins);
    world
}

#[test]
fn a_state_that_another_replica_had_goes_to_this_hosts_own() {
    let mut world = behind();
    world.ack(1, 1, 1, &[]);
    world.propose(2, 1, 2);
    world.ack(1, 2, 2, &[]);
    world.ack(2, 2, 2, &["committed #2"]);
}

#[test]
fn a_straggler_gets_the_state_from_the_farthest_replica_while_this_host_lacks_it() {
    let mut world = behind();
    world.propose(2, 1, 2);
    world.ack(2, 2, 2, &[]);
    world.ack(3, 2, 2, &["committed #2"]);
    world.need_snap(1, None, &["3 <- fetch any"]);
    let (grain, ballot) = (GRAIN, ballot(1));
    let fetched = |state| Answer::Fetched { grain, ballot, state };
    world.answer(3, fetched(state(2, 2)), &["1 <- accept 1 #2b full"]);
}

/// Accepted under this ballot, it would outweigh all that was committed since.
#[test]
fn a_state_from_before_the_activation_is_no_image() {
    let mut world = World::preparing(3);
    world.promise_with(2, Some(accepted(0, 5, 5)), Some(state(5, 5)), &[]);
    let begins = ["1 <- accept 1 #5e full", "active 1 at #5 with state"];
    world.promise(3, Some(accepted(0, 5, 5)), &begins);
    world.propose(6, 5, 6);
    world.need_snap(1, Some(accepted(0, 2, 2)), &["needimage"]);
    world.handle(Input::Image(state(2, 2)), &[]);
    world.handle(
        Input::Image(state(5, 5)),
        &["1 <- accept 1 #5e full", "1 <- accept 1 #6f delta"],
    );
}
