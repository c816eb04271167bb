//! The cases: small ones walked through completely, larger ones along many random runs, and each broken rule found.

use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

use super::Case;
use crate::replication::mutation::{Mutation, Rules};

/// Steps of random runs that each larger case takes.
const STEPS: usize = 60_000;
/// Steps of random runs within which a broken rule has to be found: several times what any needs.
const STEPS_TO_FIND: usize = 1_500_000;

fn case(configs: &[&[u8]], activations: &[(u8, u8, u8)]) -> Case {
    Case {
        configs: configs.iter().map(|hosts| hosts.to_vec()).collect(),
        activations: activations.to_vec(),
        wakes: 0,
        restarts: 0,
        rules: Rules::default(),
    }
}

/// The rules that `checker` saw broken.
fn broken(checker: &impl Checker<Case>) -> Vec<&'static str> {
    let found = checker.discoveries();
    ["one history", "fresh reads"]
        .into_iter()
        .filter(|name| found.contains_key(name))
        .collect()
}

fn check_coverage(checker: &impl Checker<Case>) {
    let found = checker.discoveries();
    for name in ["a commit", "a handover"] {
        assert!(found.contains_key(name), "no run has {name}");
    }
}

/// Every run of `case`.
fn check_all(case: Case) {
    let checker = case
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    assert_eq!(
        broken(&checker),
        Vec::<&str>::new(),
        "{:?}",
        checker.discoveries().into_values().map(|path| path.into_actions())
    );
    check_coverage(&checker);
}

/// Some runs of `case`.
fn check_some(case: Case) {
    let builder = case
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(STEPS);
    let checker = builder.spawn_simulation(1, UniformChooser).join();
    assert_eq!(broken(&checker), Vec::<&str>::new());
    assert!(checker.state_count() >= STEPS);
    check_coverage(&checker);
}

fn check_finds(mutation: Mutation, case: Case) {
    let case = Case {
        rules: Rules::but(mutation),
        ..case
    };
    let builder = case
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(STEPS_TO_FIND);
    let checker = builder.spawn_simulation(1, UniformChooser).join();
    assert_ne!(broken(&checker), Vec::<&str>::new(), "{mutation:?} isn't found");
}

#[test]
fn two_activations_write_one_history() {
    check_all(case(&[&[0, 1, 2]], &[(0, 1, 0), (1, 1, 0)]));
}

#[test]
fn one_replica_becomes_two_and_two_become_one() {
    check_all(case(&[&[0], &[0, 1]], &[(0, 1, 0), (1, 1, 1)]));
    check_all(case(&[&[0, 1], &[0]], &[(1, 1, 0), (0, 1, 1)]));
}

#[test]
fn three_activations_with_reads_write_one_history() {
    let activations = [(0, 2, 1), (1, 2, 1), (2, 1, 2)];
    check_some(case(&[&[0, 1, 2]], &activations));
    check_some(Case {
        restarts: 2,
        wakes: 2,
        ..case(&[&[0, 1, 2]], &activations)
    });
}

#[test]
fn a_slot_changes_hands_under_load() {
    for (before, after) in [([0, 1, 2], [0, 1, 3]), ([0, 1, 2], [2, 3, 4])] {
        check_some(case(&[&before, &after], &[(0, 2, 1), (3, 1, 2)]));
    }
    check_some(case(&[&[0, 1], &[0, 1, 2]], &[(0, 2, 1), (2, 1, 2)]));
    check_some(Case {
        restarts: 2,
        wakes: 1,
        ..case(&[&[0, 1, 2], &[0, 3, 4]], &[(0, 1, 1), (3, 1, 1)])
    });
}

#[test]
fn a_configuration_is_given_up_before_anybody_knows_that_it_was_served() {
    check_some(case(
        &[&[0, 1, 2], &[2, 3, 4], &[0, 3, 1]],
        &[(0, 1, 1), (3, 1, 1), (1, 1, 1)],
    ));
    check_some(case(
        &[&[0, 1, 2], &[3, 4, 5], &[0, 1, 2]],
        &[(0, 1, 1), (3, 1, 1), (1, 1, 1)],
    ));
}

#[test]
fn every_broken_rule_is_found() {
    let single = || case(&[&[0, 1, 2]], &[(0, 2, 1), (1, 2, 1), (2, 1, 2)]);
    check_finds(Mutation::NoFence, single());
    check_finds(Mutation::ReorderedAccept, single());
    check_finds(
        Mutation::NoWriteBack,
        case(&[&[0, 1, 2]], &[(0, 1, 0), (1, 0, 1), (2, 0, 1)]),
    );
    check_finds(
        Mutation::ForgottenPromise,
        Case {
            restarts: 2,
            ..case(&[&[0, 1, 2]], &[(0, 1, 1), (1, 1, 1)])
        },
    );
    let moved = || case(&[&[0, 1, 2], &[2, 3, 4]], &[(0, 1, 0), (3, 0, 1)]);
    check_finds(Mutation::UnsealedView, moved());
    check_finds(Mutation::InstallFromOne, moved());
}
