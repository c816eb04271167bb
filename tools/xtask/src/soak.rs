//! `cargo xtask soak [--minutes N]`: the long proofs and the measurements, which are no part of the ordinary tests.
//!
//! Each part gets a share of the time: chaos over five hosts, counters that are deleted while hosts are killed, seeds of the simulator in slices, every fuzz target, and the tests whose sizes
//! and assertions on time and memory need a machine that is left alone. Seeds are drawn; what is found comes with the command that
//! repeats it. A part that finds something doesn't stop the others.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::test::{self, Order};
use crate::work::in_words;
use crate::workspace::Workspace;
use crate::{fuzz, simulate};

const DEFAULT_MINUTES: u64 = 30;
/// Shares of the time, in percent; the measured tests get the rest.
const CHAOS_PERCENT: u32 = 20;
const LIFETIMES_PERCENT: u32 = 10;
const SEEDS_PERCENT: u32 = 15;
const WHOLE_PERCENT: u32 = 5;
const FUZZ_PERCENT: u32 = 20;
/// Seeds of one slice: some ten seconds of two cores, and so the unit in which the time is kept.
const SLICE: u64 = 250;
/// The same for clusters of whole machines, of which each takes far longer.
const WHOLE_SLICE: u64 = 4;
/// Tests that are larger here, or that measure; the ones that say most first.
const MEASURED: [&str; 11] = [
    "upgrades thousands_of_grains",
    "crash nothing_acknowledged_is_lost",
    "storage::growth_tests",
    "hostile_callers flood",
    "hostile_callers pressure::sixty_four",
    "memory guests_with_more",
    "memory thousands_of_small",
    "cluster circles",
    "cluster deaths::hosts_are_killed",
    "cluster stopping::each_host_stops",
    "hostile_guests ",
];

/// Runs all parts, and fails when any found something.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let time = Duration::from_secs(60 * minutes(args)?);
    let workspace = Workspace::find()?;
    // The time is for what is done, not for what is built: a changed tree's fuzzer takes minutes.
    fuzz::build(&workspace)?;
    test::build(&workspace)?;
    let began = Instant::now();
    let mut soak = Soak {
        found: Vec::new(),
        covered: Vec::new(),
    };
    soak.chaos(&workspace, time * CHAOS_PERCENT / 100);
    soak.lifetimes(&workspace, time * LIFETIMES_PERCENT / 100);
    soak.seeds("seeds of replication", &[], SLICE, time * SEEDS_PERCENT / 100);
    soak.seeds(
        "seeds of whole clusters",
        &["--whole"],
        WHOLE_SLICE,
        time * WHOLE_PERCENT / 100,
    );
    soak.fuzz(&fuzz::targets(&workspace)?, time * FUZZ_PERCENT / 100);
    soak.measured(&workspace, time.saturating_sub(began.elapsed()));
    println!("\nsoak: {}", in_words(began.elapsed()));
    soak.covered.iter().for_each(|line| println!("  {line}"));
    if soak.found.is_empty() {
        println!("  nothing was found");
        return Ok(());
    }
    Err(format!("found:\n{}", soak.found.join("\n")))
}

fn minutes(args: &[&str]) -> Result<u64, String> {
    match args {
        [] => Some(DEFAULT_MINUTES),
        ["--minutes", minutes] => minutes.parse().ok().filter(|minutes| *minutes > 0),
        _ => None,
    }
    .ok_or_else(|| "usage: cargo xtask soak [--minutes N]".to_owned())
}

struct Soak {
    found: Vec<String>,
    covered: Vec<String>,
}

impl Soak {
    fn chaos(&mut self, workspace: &Workspace, time: Duration) {
        let seconds = time.as_secs().max(15).to_string();
        self.test(workspace, "cluster chaos::", &[("GRANARY_CHAOS_SECONDS", &seconds)]);
        self.covered.push(format!("chaos over five hosts for {seconds} s"));
    }

    fn lifetimes(&mut self, workspace: &Workspace, time: Duration) {
        let seconds = time.as_secs().max(15).to_string();
        let variables = [("GRANARY_LIFETIMES_SECONDS", seconds.as_str())];
        self.test(workspace, "cluster lifetimes::", &variables);
        self.covered
            .push(format!("deletions and kills with clients by HTTP for {seconds} s"));
    }

    /// Slices from a drawn seed on, until the time is over.
    fn seeds(&mut self, what: &str, args: &[&str], slice: u64, time: Duration) {
        let (first, began) = (drawn(), Instant::now());
        let mut next = first;
        while began.elapsed() < time {
            let (seed, count) = (next.to_string(), slice.to_string());
            let order = [args, &["--seed", &seed, "--seeds", &count]].concat();
            if simulate::run(&order).is_err() {
                self.found.push(format!("  cargo xtask simulate {}", order.join(" ")));
            }
            next += slice;
        }
        self.covered
            .push(format!("{} {what}, {first} and following", next - first));
    }

    fn fuzz(&mut self, targets: &[String], time: Duration) {
        let seconds = (time.as_secs() / targets.len().max(1) as u64).max(1).to_string();
        for target in targets {
            let order = [target.as_str(), "--seconds", &seconds];
            if let Err(error) = fuzz::run(&order) {
                self.found
                    .push(format!("  cargo xtask fuzz {}: {error}", order.join(" ")));
            }
        }
        self.covered
            .push(format!("fuzz targets {} for {seconds} s each", targets.join(", ")));
    }

    /// One after the other, since they measure; none is begun when the time is over.
    fn measured(&mut self, workspace: &Workspace, time: Duration) {
        let began = Instant::now();
        for name in MEASURED {
            if began.elapsed() >= time {
                self.covered.push(format!("not for want of time: tests {name}"));
                continue;
            }
            self.test(workspace, name, &[]);
            self.covered.push(format!("tests {name}"));
        }
    }

    fn test(&mut self, workspace: &Workspace, name: &str, variables: &[(&'static str, &str)]) {
        let mut order = Order {
            filters: vec![name.to_owned()],
            jobs: Some(1),
            ..Order::default()
        };
        order.variables.push(("GRANARY_SOAK", "1".to_owned()));
        let more = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        order.variables.extend(more);
        // Longer than the longest of them, so that only one that hangs is ended.
        order.limit = Some(Duration::from_secs(3600));
        if test::run_built(workspace, &order).is_err() {
            let variables: Vec<String> = order
                .variables
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            self.found.push(format!(
                "  {} cargo xtask test --jobs 1 '{name}' (GRANARY_SEED is in its output above)",
                variables.join(" ")
            ));
        }
    }
}

/// From the clock: each soak sees other seeds. Below a million no seed is drawn, those are the ordinary tests'.
fn drawn() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    1_000_000 + now.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_number_above_none() {
        assert_eq!(
            (minutes(&[]), minutes(&["--minutes", "7"])),
            (Ok(DEFAULT_MINUTES), Ok(7))
        );
        for wrong in [&["--minutes"][..], &["--minutes", "0"], &["7"]] {
            assert!(minutes(wrong).unwrap_err().contains("usage"), "{wrong:?}");
        }
    }

    #[test]
    fn shares_leave_time_for_what_is_measured() {
        let shares = CHAOS_PERCENT + LIFETIMES_PERCENT + SEEDS_PERCENT + WHOLE_PERCENT + FUZZ_PERCENT;
        assert!(shares <= 75, "{shares}");
    }
}
