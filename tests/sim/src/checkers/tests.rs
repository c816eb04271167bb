//! Each checker finds what it's there for, and nothing else.

use super::*;

const GRAIN: GrainId = GrainId([1; 16]);

fn call(number: u32, action: Action) -> Call {
    Call {
        step: StepId { client: 0, number },
        attempt: 0,
        grain: GRAIN,
        action,
    }
}

fn ran(checkers: &mut Checkers, before: u8, after: u8, number: u32) {
    let step = StepId { client: 0, number };
    let fact = Fact::Ran {
        grain: GRAIN,
        before: [before; 16],
        after: [after; 16],
        step,
        effect: Effect::Adds(1),
    };
    checkers.fact(HostId([0; 16]), &[], fact);
}

fn outside() -> Checkers {
    Checkers {
        outside_only: true,
        ..Checkers::default()
    }
}

#[test]
fn a_history_that_forks_is_found() {
    let mut checkers = outside();
    ran(&mut checkers, 0, 1, 1);
    ran(&mut checkers, 0, 2, 2);
    checkers.replied(&call(1, Action::Add(1)), 0, &[], [1; 16], 1);
    assert_eq!(checkers.found(), None);
    checkers.replied(&call(2, Action::Add(1)), 0, &[], [2; 16], 1);
    assert_eq!(checkers.found().map(|found| found.invariant), Some("one history"));
}

#[test]
fn a_read_of_what_was_before_it_is_found() {
    let mut checkers = outside();
    ran(&mut checkers, 0, 1, 1);
    checkers.replied(&call(1, Action::Add(1)), 0, &[], [1; 16], 1);
    let floor = checkers.floor(GRAIN);
    checkers.replied(&call(2, Action::Read), floor, &[], [0; 16], 0);
    assert_eq!(checkers.found().map(|found| found.invariant), Some("fresh reads"));
}

#[test]
fn a_step_that_takes_effect_twice_and_a_wrong_value_are_found() {
    let mut checkers = outside();
    ran(&mut checkers, 0, 1, 1);
    ran(&mut checkers, 1, 2, 1);
    checkers.replied(&call(1, Action::Add(1)), 0, &[], [2; 16], 2);
    assert_eq!(checkers.found().map(|found| found.invariant), Some("exactly once"));
    let mut checkers = outside();
    ran(&mut checkers, 0, 1, 1);
    checkers.replied(&call(1, Action::Add(1)), 0, &[], [1; 16], 7);
    assert_eq!(checkers.found().map(|found| found.invariant), Some("values"));
}

fn deleted(checkers: &mut Checkers, before: u8, after: u8, number: u32) {
    let step = StepId { client: 0, number };
    let fact = Fact::Ran {
        grain: GRAIN,
        before: [before; 16],
        after: [after; 16],
        step,
        effect: Effect::Deletes,
    };
    checkers.fact(HostId([0; 16]), &[], fact);
    checkers.replied(&call(number, Action::Delete), 0, &[], [after; 16], 0);
}

#[test]
fn a_grain_that_is_forgotten_begins_anew_and_one_that_is_only_deleted_does_not() {
    for is_forgotten in [true, false] {
        let mut checkers = outside();
        ran(&mut checkers, 0, 1, 1);
        deleted(&mut checkers, 1, 2, 2);
        if is_forgotten {
            checkers.said(HostId([0; 16]), &[], Said::Forgets(GRAIN, [2; 16]));
        }
        // A retry of what the deletion made unknown is no second effect.
        ran(&mut checkers, 0, 3, 1);
        checkers.replied(&call(1, Action::Add(1)), 2, &[], [3; 16], 1);
        let found = checkers.found().map(|found| found.invariant);
        assert_eq!(found, (!is_forgotten).then_some("one history"));
    }
}

#[test]
fn a_deletion_that_is_acknowledged_without_effect_is_found() {
    let mut checkers = outside();
    ran(&mut checkers, 0, 1, 1);
    checkers.replied(&call(1, Action::Add(1)), 0, &[], [1; 16], 1);
    checkers.replied(&call(2, Action::Delete), 0, &[], [1; 16], 1);
    assert_eq!(checkers.found().map(|found| found.invariant), Some("values"));
    let mut checkers = outside();
    ran(&mut checkers, 0, 1, 1);
    deleted(&mut checkers, 1, 2, 2);
    assert_eq!(checkers.found(), None);
    let floor = checkers.floor(GRAIN);
    checkers.replied(&call(3, Action::Read), floor, &[], [1; 16], 1);
    assert_eq!(checkers.found().map(|found| found.invariant), Some("fresh reads"));
}

/// Three hosts, and checkers of a grain whose first write has run.
fn three_hosts() -> (Vec<HostId>, Checkers) {
    let mut checkers = Checkers::default();
    ran(&mut checkers, 0, 1, 1);
    ((1..=3).map(|i| HostId([i; 16])).collect(), checkers)
}

/// A ballot of this host, and the record of its first accept.
fn first_accept(host: HostId) -> (Ballot, Stored) {
    let ballot = Ballot {
        counter: 1,
        host,
        incarnation: 1,
    };
    let accept = Stored::Accept {
        grain: GRAIN,
        ballot,
        seq: 1,
        head: [1; 16],
    };
    (ballot, accept)
}

#[test]
fn a_tombstone_that_a_replica_lacks_must_not_be_forgotten() {
    let (hosts, mut checkers) = three_hosts();
    let (ballot, accept) = first_accept(hosts[0]);
    hosts[..2].iter().for_each(|host| checkers.stored(*host, accept));
    checkers.said(hosts[0], std::slice::from_ref(&hosts), Said::Forgets(GRAIN, [1; 16]));
    assert_eq!(checkers.found().map(|found| found.invariant), Some("tombstones"));
    // And what is forgotten is fenced as if it had been promised.
    let mut checkers = Checkers::default();
    checkers.stored(hosts[0], Stored::Forget(GRAIN, ballot));
    checkers.stored(hosts[0], accept);
    assert_eq!(checkers.found().map(|found| found.invariant), Some("fence"));
}

#[test]
fn an_acknowledgement_without_a_quorum_of_disks_is_found() {
    let (hosts, mut checkers) = three_hosts();
    let (_, accept) = first_accept(hosts[0]);
    checkers.stored(hosts[0], accept);
    checkers.replied(&call(1, Action::Add(1)), 0, &[hosts], [1; 16], 1);
    assert_eq!(
        checkers.found().map(|found| found.invariant),
        Some("committed before seen")
    );
}
