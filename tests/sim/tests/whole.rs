//! Simulated clusters of whole machines.
#![allow(clippy::print_stdout, reason = "shows what was reached")]

use granary_sim::coverage::Coverage;
use granary_sim::whole::Whole;

const SEEDS: u64 = 24;

/// What all seeds together have to reach, or nothing was tested.
const FLOORS: &[(&str, &str, u64)] = &[
    ("fault", "crash", 80),
    ("fault", "isolation", 50),
    ("fault", "one way", 20),
    ("fault", "loss", 20),
    ("fault", "outage", 10),
    ("fault", "join", 20),
    ("fault", "leave", 3),
    ("fault", "lost disk", 3),
    ("fault", "move", 8),
    ("message", "chain", 100_000),
    ("message", "replication", 1_000_000),
    ("message", "directory", 10_000),
    ("way", "serve", 200_000),
    ("way", "forward", 100_000),
    ("way", "refuse", 10),
    ("activation", "active", 500),
    ("activation", "held", 100),
    ("activation", "fenced", 50),
    ("activation", "released", 5),
    ("activation", "isolated", 50),
];

#[test]
fn whole_clusters_lose_nothing_and_come_together_again() {
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS {
        let report = Whole::run(seed);
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
