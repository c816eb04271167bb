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
use granary_sim::whole::{Rule, Whole};
use granary_sim::world::{Plan, Report, World};

const USAGE: &str = "\
usage: granary-sim [--seeds N] [--seed S] [--mutation M] [--outside] [--lines N] [--whole]

  --seeds N     run seeds 0 to N-1, or N of them from S on; 500 without
  --seed S      the first seed; alone: only this one, with a trace of its end when something is found
  --mutation M  break a rule on purpose, and expect that it's found: no-fence, no-write-back, reordered-accept,
                unsealed-view, install-from-one, forgotten-promise; with --whole: journal-ahead, taken-out-first,
                unread-deletion, unasked-read, same-number, kept-identity
  --outside     check only what clients could notice
  --lines N     of a trace, even if nothing is found; 400 without
  --whole       clusters of whole machines instead of replication under an authority; takes seeds and a mutation
";

/// Findings that are printed; a rule that is broken everywhere needs no more.
const PRINTED: usize = 5;

#[derive(Debug, Default)]
struct Order {
    seeds: Option<u64>,
    seed: Option<u64>,
    mutation: Option<String>,
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
                "--mutation" => order.mutation = Some(args.next()?),
                "--lines" => order.lines = Some(args.next()?.parse().ok()?),
                "--outside" => order.outside_only = true,
                "--whole" => order.whole = true,
                _ => return None,
            }
        }
        let is_plain = !order.outside_only && order.lines.is_none();
        let is_known = match &order.mutation {
            None => true,
            Some(_) if order.whole => order.rule().is_some(),
            Some(name) => mutation(name).is_some(),
        };
        ((is_plain || !order.whole) && is_known).then_some(order)
    }

    /// The rule that whole clusters break.
    fn rule(&self) -> Option<Rule> {
        let name = self.mutation.as_deref()?;
        Rule::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, rule)| *rule)
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
                mutation: self.mutation.as_deref().and_then(mutation),
                is_tight: true,
            },
        )
    }

    fn repeat(&self, seed: u64) -> String {
        let mutation = self.mutation.as_ref();
        let mutation = mutation.map_or(String::new(), |name| format!(" --mutation {name}"));
        let outside = if self.outside_only { " --outside" } else { "" };
        let whole = if self.whole { " --whole" } else { "" };
        format!("cargo xtask simulate --seed {seed}{mutation}{outside}{whole}")
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
        return whole(&order, first, count);
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

fn whole(order: &Order, first: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    let mut found = 0;
    let mut coverage = Coverage::default();
    let rule = order.rule();
    let run = |seed| Whole::run(seed, rule);
    seeds::each(first..first.saturating_add(count), run, |seed, report| {
        coverage.add(&report.coverage);
        let Some(broken) = report.broken else {
            return ControlFlow::Continue(());
        };
        found += 1;
        println!("seed {seed}: {broken}\n  repeat with: {}", order.repeat(seed));
        match rule.is_some() || found == PRINTED {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    print!("{}", coverage.table());
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} seeds from {first}: {found} findings in {seconds:.1} s");
    let missed = match found == 0 && rule.is_none() && count >= floors::WHOLE_SEEDS {
        true => coverage.missed(floors::WHOLE),
        false => Vec::new(),
    };
    tell(&missed);
    match (found > 0) == rule.is_some() && missed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn tell(missed: &[String]) {
    missed
        .iter()
        .for_each(|missed| println!("not reached often enough: {missed}"));
}
