//! `counts SCRIPT ROUNDS`: the same inputs to a machine of granary-core, again and again. Prints what came out of it (steps) and
//! how often it allocated; `cargo xtask counts` runs it under valgrind for the instructions.
//!
//! All three are the same in every run on every machine of one kind, so a check of them can't fail from noise. Times are not
//! measured here.
#![allow(clippy::print_stdout, reason = "figures go to stdout")]

mod codec;
mod turns;
mod waits;

use std::process::ExitCode;

/// Does so many rounds and returns its steps.
type Script = fn(u64) -> u64;

const SCRIPTS: &[(&str, Script)] = &[
    ("turn", turns::alone),
    ("pipelined", turns::pipelined),
    ("repeated", turns::repeated),
    ("reloaded", turns::reloaded),
    ("nested-calls", waits::nested_calls),
    ("commit", codec::commit),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let script = |name: &str| SCRIPTS.iter().find(|script| script.0 == name);
    match args.as_slice() {
        ["list"] => {
            SCRIPTS.iter().for_each(|script| println!("{}", script.0));
            ExitCode::SUCCESS
        }
        [name, rounds] if script(name).is_some() => {
            let (Some((_, script)), Ok(rounds)) = (script(name), rounds.parse()) else {
                return ExitCode::from(2);
            };
            let mut steps = 0;
            let allocated = allocation_counter::measure(|| steps = script(rounds));
            println!("{steps} {}", allocated.count_total);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: counts list | counts SCRIPT ROUNDS");
            ExitCode::from(2)
        }
    }
}
