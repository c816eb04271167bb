//! `granary-sim [--seeds N] [--seed S] [--mutation M] [--outside] [--lines N] [--whole]`: runs seeds, prints what was found and how to repeat it.
#![allow(clippy::print_stdout, reason = "a command line talks on stdout")]

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use granary_core::replication::mutation::Mutation;
use granary_sim::coverage::Coverage;
use granary_sim::floors;
use granary_sim::queue::SECONDS;
use granary_sim::replicated::{Replicated, Setup};
use granary_sim::seeds;
use granary_sim::whole::Whole;
use granary_sim::world::{Plan, Report, World};

const USAGE: &str = "\
usage: granary-sim [--seeds N] [--seed S] [--mutation M] [--outside] [--lines N] [--whole]

  --seeds N     run seeds 0 to N-1, or N of them from S on; 500 without
  --seed S      the first seed; alone: only this one, with a trace of its end when something is found
  --mutation M  break a rule on purpose, and expect that it's found: no-fence, no-write-back, reordered-accept,
                unsealed-view, install-from-one, forgotten-promise
  --outside     check only what clients could notice
  --lines N     of a trace, even if nothing is found; 400 without
  --whole       clusters of whole machines instead of replication under an authority; takes no other switch but the seeds
";

/// Findings that are printed; a rule that is broken everywhere needs no more.
const PRINTED: usize = 5;

#[derive(Debug, Default)]
struct Order {
    seeds: Option<u64>,
    seed: Option<u64>,
    mutation: Option<Mutation>,
    outside_only: bool,
    lines: Option<usize>,
    whole: bool,
}

impl Order {
    fn read(args: impl Iterator<Item = String>) -> Option<Order> {
        let mut order = Order::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seeds" => order.seeds = Some(args.next()?.parse().ok()?),
                "--seed" => order.seed = Some(args.next()?.parse().ok()?),
                "--mutation" => order.mutation = Some(mutation(&args.next()?)?),
                "--lines" => order.lines = Some(args.next()?.parse().ok()?),
                "--outside" => order.outside_only = true,
                "--whole" => order.whole = true,
                _ => return None,
            }
        }
        let is_plain = order.mutation.is_none() && !order.outside_only && order.lines.is_none();
        (is_plain || !order.whole).then_some(order)
    }

    fn run(&self, seed: u64, traces: bool) -> Report {
        let trace_lines = if traces { self.lines.unwrap_or(400) } else { 0 };
        let plan = Plan {
            outside_only: self.outside_only,
            trace_lines,
            ..Plan::default()
        };
        World::<Replicated>::run(
            seed,
            plan,
            Setup {
                mutation: self.mutation,
                is_tight: true,
            },
        )
    }

    fn repeat(&self, seed: u64) -> String {
        let mutation = self
            .mutation
            .map_or(String::new(), |mutation| format!(" --mutation {}", name(mutation)));
        let outside = if self.outside_only { " --outside" } else { "" };
        format!("cargo xtask simulate --seed {seed}{mutation}{outside}")
    }
}

fn name(mutation: Mutation) -> &'static str {
    match mutation {
        Mutation::NoFence => "no-fence",
        Mutation::NoWriteBack => "no-write-back",
        Mutation::ReorderedAccept => "reordered-accept",
        Mutation::UnsealedView => "unsealed-view",
        Mutation::InstallFromOne => "install-from-one",
        Mutation::ForgottenPromise => "forgotten-promise",
        other => unreachable!("{other:?} is no rule of replication"),
    }
}

fn mutation(text: &str) -> Option<Mutation> {
    Mutation::ALL.into_iter().find(|mutation| name(*mutation) == text)
}

fn main() -> ExitCode {
    let Some(order) = Order::read(std::env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let first = order.seed.unwrap_or(0);
    let count = order.seeds.unwrap_or(if order.seed.is_some() { 1 } else { 500 });
    if order.whole {
        return whole(first, count);
    }
    let began = Instant::now();
    let (mut found, mut events, mut nanos) = (0, 0, 0);
    let mut coverage = Coverage::default();
    let run = |seed| order.run(seed, count == 1);
    seeds::each(first..first.saturating_add(count), run, |seed, report| {
        (events, nanos) = (events + report.events, nanos + report.nanos);
        coverage.add(&report.coverage);
        if report.violation.is_some() || order.lines.is_some() {
            report.trace.iter().for_each(|line| println!("{line}"));
        }
        let Some(violation) = report.violation else {
            return ControlFlow::Continue(());
        };
        found += 1;
        println!(
            "seed {seed}: {}: {}\n  repeat with: {}",
            violation.invariant,
            violation.detail,
            order.repeat(seed)
        );
        match order.mutation.is_some() || found == PRINTED {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let hours = nanos as f64 / SECONDS as f64 / 3600.0;
    print!("{}", coverage.table());
    println!(
        "{count} seeds from {first}: {found} findings, {events} events, {hours:.1} h of virtual time in {seconds:.1} s"
    );
    let missed = match order.mutation.is_none() && found == 0 && count >= floors::SEEDS {
        true => coverage.missed(floors::FLOORS),
        false => Vec::new(),
    };
    tell(&missed);
    match (found > 0) == order.mutation.is_some() && missed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn whole(first: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    let mut found = 0;
    let mut coverage = Coverage::default();
    seeds::each(first..first.saturating_add(count), Whole::run, |seed, report| {
        coverage.add(&report.coverage);
        if let Some(broken) = report.broken {
            found += 1;
            println!("seed {seed}: {broken}\n  repeat with: cargo xtask simulate --whole --seed {seed}");
        }
        ControlFlow::Continue(())
    });
    print!("{}", coverage.table());
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} seeds from {first}: {found} findings in {seconds:.1} s");
    let missed = match found == 0 && count >= floors::WHOLE_SEEDS {
        true => coverage.missed(floors::WHOLE),
        false => Vec::new(),
    };
    tell(&missed);
    match found == 0 && missed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn tell(missed: &[String]) {
    missed
        .iter()
        .for_each(|missed| println!("not reached often enough: {missed}"));
}
