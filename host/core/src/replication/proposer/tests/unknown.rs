//! Activations whose grain another one has deleted, and that all have forgotten since: no promise is left that could fence them.

use super::*;

#[test]
fn an_activation_that_no_quorum_can_know_any_more_is_outdated() {
    let mut world = World::active();
    let floor = Refusal::BelowFloor(ballot(9));
    world.nack(3, floor, &[]);
    world.nack(3, floor, &[]);
    world.nack(2, floor, &["fenced by 9"]);
    assert!(world.proposer.is_over());
}

#[test]
fn a_replica_that_never_promised_fences_nobody_and_counts_in_its_own_configuration_only() {
    let mut world = World::active();
    world.nack(3, Refusal::BelowFloor(ballot(9)), &[]);
    world.n = ConfigNumber(2);
    let mut out = Vec::new();
    world
        .proposer
        .handle(world.now, Input::Assigned(set(2, &[1, 2, 4])), &mut out);
    world.nack(4, Refusal::BelowFloor(ballot(9)), &[]);
    assert!(world.proposer.is_active());
}
