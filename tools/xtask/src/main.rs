//! `cargo xtask VERB`: everything that a contributor runs, one file a verb.
//!
//! **Not here:** anything that a user of the released binary needs.
#![allow(clippy::print_stdout, reason = "a command line talks on stdout")]

mod bench;
mod check;
mod counts;
mod demo;
mod features;
mod fuzz;
mod guests;
mod host;
mod simulate;
mod soak;
mod test;
mod tidy;
mod work;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB

  demo [--once]   build all, run a host, call a counter, kill -9 the host, show that nothing is lost; keeps serving
                  without --once (`cargo demo` is short for it)
  test [NAME]...  every test of the project, or those with such a part in their name; --jobs N at the same time
  guests          build the guests of this repository for wasm32-wasip1
  check           what must hold before a merge: format, clippy, docs, tidy, counts
  tidy            the rules of this code base that no compiler knows
  counts          what core's machines take, against a committed file; --renew writes it
  fuzz TARGET     run a fuzz target of tests/fuzz; --seconds N, --keep what it learned
  simulate [ARGS] run seeds of a simulated cluster: --seeds N, --seed S, --mutation M, --whole
  soak            long proofs and measurements, on a machine that is left alone: --minutes N
  bench [ARGS]    build all and print the table of measurements; --quick, --only CASE
";

fn main() -> ExitCode {
    if let Some(code) = fuzz::around_rustc() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["demo"] => demo::run(false),
        ["demo", "--once"] => demo::run(true),
        ["test", rest @ ..] => test::run(rest),
        ["guests"] => guests::run(),
        ["check"] => check::run(),
        ["tidy"] => tidy::run(),
        ["counts"] => counts::run(false),
        ["counts", "--renew"] => counts::run(true),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["simulate", rest @ ..] => simulate::run(rest),
        ["soak", rest @ ..] => soak::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nerror: {message}");
            ExitCode::FAILURE
        }
    }
}
