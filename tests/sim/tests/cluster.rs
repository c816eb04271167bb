//! Simulated clusters of the real machines: nothing is found where no rule is broken, and each rule is missed when it is.

use granary_core::replication::mutation::Mutation;
use granary_sim::coverage::Coverage;
use granary_sim::floors;
use granary_sim::replicated::{Replicated, Setup};
use granary_sim::world::{Plan, Report, World};

fn run(seed: u64, mutation: Option<Mutation>, outside_only: bool) -> Report {
    let plan = Plan {
        outside_only,
        ..Plan::default()
    };
    World::<Replicated>::run(seed, plan, Setup { mutation })
}

fn first_found(mutation: Mutation, outside_only: bool) -> Option<&'static str> {
    (0..2000).find_map(|seed| {
        run(seed, Some(mutation), outside_only)
            .violation
            .map(|found| found.invariant)
    })
}

#[test]
fn nothing_is_found_and_all_is_reached() {
    let mut coverage = Coverage::default();
    for seed in 0..floors::SEEDS {
        let report = run(seed, None, false);
        assert_eq!(
            report.violation, None,
            "repeat with: cargo xtask simulate --seed {seed}"
        );
        let steps = report.coverage.total("step") + report.coverage.of("outcome", "given-up");
        assert!(steps >= 2000 && report.coverage.total("fault") >= 20, "seed {seed}");
        coverage.add(&report.coverage);
    }
    assert_eq!(coverage.missed(floors::FLOORS), [""; 0], "{}", coverage.table());
}

/// Each has found something once.
const FOUND_ONCE: [u64; 5] = [1_007_413, 1_030_983, 1_039_138, 1_053_072, 1_062_533];

#[test]
fn what_was_found_once_is_not_found_again() {
    for seed in FOUND_ONCE {
        assert_eq!(run(seed, None, false).violation, None, "{seed}");
    }
}

#[test]
fn a_seed_repeats_its_run() {
    assert_eq!(run(5, None, false).digest, run(5, None, false).digest);
}

#[test]
fn each_broken_rule_is_found_by_looking_into_hosts() {
    for mutation in Mutation::ALL {
        assert!(first_found(mutation, false).is_some(), "{mutation:?}");
    }
}

#[test]
fn clients_alone_notice_broken_rules() {
    // A forgotten promise takes hundreds of seeds to do harm: the command line shows that.
    for mutation in Mutation::ALL
        .into_iter()
        .filter(|mutation| *mutation != Mutation::ForgottenPromise)
    {
        assert!(first_found(mutation, true).is_some(), "{mutation:?}");
    }
}
