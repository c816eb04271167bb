//! Simulated clusters of whole hosts.
#![allow(clippy::print_stdout, reason = "shows what was reached")]

use granary_sim::coverage::Coverage;
use granary_sim::whole::{Rule, Whole};

const SEEDS: u64 = 16;
/// A broken rule has to be found by so many, from one on that is near to what finds it now.
const SEEDS_OF_A_RULE: u64 = 60;

/// What all seeds together have to reach, or nothing was tested.
const FLOORS: &[(&str, &str, u64)] = &[
    ("activation", "active", 2_000),
    ("activation", "held", 200),
    ("activation", "isolated", 100),
    ("activation", "over", 2_000),
    ("activation", "reachable", 50),
    ("activation", "unconfirmed", 10),
    ("answer", "add", 9_000),
    ("answer", "delete", 2_000),
    ("answer", "edit", 1_000),
    ("answer", "get", 3_000),
    ("answer", "get nothing", 900),
    ("answer", "volatile", 4_000),
    ("fault", "crash", 50),
    ("fault", "crash with a slow disk", 10),
    ("fault", "eviction", 40),
    ("fault", "isolation", 30),
    ("fault", "join", 15),
    ("fault", "leave", 2),
    ("fault", "loss", 20),
    ("fault", "lost disk", 2),
    ("fault", "move", 8),
    ("fault", "one of all", 10),
    ("fault", "one way", 10),
    ("fault", "outage", 6),
    ("fault", "repair", 1),
    ("fault", "slow disk", 20),
    ("file", "checkpoint", 700),
    ("file", "read", 250),
    ("message", "chain", 80_000),
    ("message", "directory", 14_000),
    ("message", "replication", 1_000_000),
    ("record", "absence", 4_000),
    ("record", "commit", 25_000),
    ("record", "copy", 600),
    ("record", "copy of a deletion", 100),
    ("record", "deletion", 5_000),
    ("record", "discard", 100),
    ("record", "forget", 4_000),
    ("record", "install", 100),
    ("record", "rewrite", 2_000),
    ("turn", "created again", 400),
    ("way", "forward", 15_000),
    ("way", "refuse", 10),
    ("way", "serve", 20_000),
];

#[test]
fn whole_clusters_lose_nothing_and_come_together_again() {
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS {
        let report = Whole::run(seed, None);
        assert_eq!(
            report.broken, None,
            "repeat with: cargo xtask simulate --whole --seed {seed}"
        );
        assert!(
            report.acknowledged >= 1_000 && report.configs >= 3,
            "seed {seed}: {report:?}"
        );
        coverage.add(&report.coverage);
    }
    println!("{}", coverage.table());
    assert_eq!(coverage.missed(FLOORS), [""; 0], "{}", coverage.table());
}

fn check_found(rule: Rule, first: u64) {
    let seeds = first..first + SEEDS_OF_A_RULE;
    let found = seeds
        .clone()
        .find_map(|seed| Some((seed, Whole::run(seed, Some(rule)).broken?)));
    println!("{found:?}");
    assert!(
        found.is_some(),
        "{rule:?} is broken, and the seeds {seeds:?} don't show it"
    );
}

#[test]
fn a_journal_that_is_ahead_of_the_log_is_found() {
    check_found(Rule::JournalAhead, 14);
}

#[test]
fn grains_that_are_taken_out_before_the_journal_says_so_are_found() {
    check_found(Rule::TakenOutFirst, 2);
}

#[test]
fn a_start_that_does_not_see_deletions_is_found() {
    check_found(Rule::UnreadDeletion, 1);
}

#[test]
fn answers_that_no_quorum_has_confirmed_are_found() {
    check_found(Rule::UnaskedRead, 5);
}

#[test]
fn a_straggler_that_is_given_an_outdated_state_is_found() {
    check_found(Rule::OldImage, 0);
}

#[test]
fn an_image_that_is_taken_for_another_of_the_same_number_is_found() {
    check_found(Rule::SameNumber, 0);
}

#[test]
fn a_vote_with_a_part_of_its_memory_is_found() {
    check_found(Rule::KeptIdentity, 7);
}
