//! Simulated clusters of the real machines: nothing is found where no rule is broken, and each rule is missed when it is.

use std::ops::ControlFlow;

use granary_core::replication::mutation::Mutation;
use granary_sim::coverage::Coverage;
use granary_sim::replicated::{Replicated, Setup};
use granary_sim::world::{Plan, Report, World};
use granary_sim::{floors, seeds};

/// A broken rule has to be found within so many seeds.
const FOUND_WITHIN: u64 = 2_000;

fn run(seed: u64, mutation: Option<Mutation>, outside_only: bool) -> Report {
    let plan = Plan {
        outside_only,
        ..Plan::default()
    };
    let setup = Setup {
        mutation,
        is_tight: true,
    };
    World::<Replicated>::run(seed, plan, setup)
}

/// The seed that finds a broken rule, which finds nothing when no rule is broken.
fn first_found(mutation: Mutation, outside_only: bool) -> u64 {
    let found = seeds::first(0..FOUND_WITHIN, |seed| {
        run(seed, Some(mutation), outside_only).violation
    });
    let (seed, _) = found.unwrap_or_else(|| panic!("{mutation:?} isn't found"));
    // The seeds below are run without a broken rule anyway: a checker that fires at anything is found by that.
    seeds::each(
        floors::SEEDS..seed + 1,
        |seed| run(seed, None, false),
        |seed, report| {
            assert_eq!(report.violation, None, "{seed}, without a broken rule");
            ControlFlow::Continue(())
        },
    );
    seed
}

#[test]
fn nothing_is_found_and_all_is_reached() {
    let mut coverage = Coverage::default();
    seeds::each(
        0..floors::SEEDS,
        |seed| run(seed, None, false),
        |seed, report| {
            assert_eq!(
                report.violation, None,
                "repeat with: cargo xtask simulate --seed {seed}"
            );
            let steps = report.coverage.total("step") + report.coverage.of("outcome", "given-up");
            assert!(steps >= 2000 && report.coverage.total("fault") >= 20, "seed {seed}");
            coverage.add(&report.coverage);
            ControlFlow::Continue(())
        },
    );
    assert_eq!(coverage.missed(floors::FLOORS), [""; 0], "{}", coverage.table());
}

/// Each has found something once, when nothing was deleted yet and no replica was short of room.
const FOUND_ONCE: [u64; 5] = [1_007_413, 1_030_983, 1_039_138, 1_053_072, 1_062_533];

#[test]
fn what_was_found_once_is_not_found_again() {
    for seed in FOUND_ONCE {
        let plan = Plan {
            mortals: 0,
            ..Plan::default()
        };
        let report = World::<Replicated>::run(seed, plan, Setup::default());
        assert_eq!(report.violation, None, "{seed}");
    }
}

#[test]
fn a_seed_repeats_its_run() {
    assert_eq!(run(5, None, false).digest, run(5, None, false).digest);
}

#[test]
fn each_broken_rule_is_found_by_looking_into_hosts() {
    for mutation in Mutation::ALL {
        first_found(mutation, false);
    }
}

#[test]
fn clients_alone_notice_broken_rules() {
    // A forgotten promise takes hundreds of seeds to do harm: the command line shows that.
    for mutation in Mutation::ALL
        .into_iter()
        .filter(|mutation| *mutation != Mutation::ForgottenPromise)
    {
        first_found(mutation, true);
    }
}
