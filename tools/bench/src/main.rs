//! `cargo xtask bench`: what a host does in a second and what a grain costs, in one table.
//!
//! Everything is measured in the same run on the same machine, next to a counter in the memory of a bare axum server: the
//! ratio says more than the figure. Latencies are kept one by one, not in buckets.
#![allow(clippy::print_stdout, reason = "the table goes to stdout")]

mod gate;
mod host;
mod load;
mod memory;
mod reference;
mod snapshot;
mod throughput;

use std::process::ExitCode;

/// What went wrong, for a person.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: bench [--quick] [PART...]

  parts: throughput, snapshot, memory, gate; all without one
  --quick   a tenth of the time and of the grains, to see that it works
";

fn main() -> ExitCode {
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    // What this program starts of itself, to be measured apart.
    match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["reference"] => return ended(reference::serve()),
        ["gate-write", folder, grains] => return ended(gate::write(folder.as_ref(), grains.parse().unwrap_or(0))),
        ["gate-open" | "gate-read", folder, grains] => {
            let read_all = parts[0] == "gate-read";
            return ended(gate::open_again(folder.as_ref(), grains.parse().unwrap_or(0), read_all));
        }
        _ => {}
    }
    let is_quick = parts.iter().any(|part| part == "--quick");
    parts.retain(|part| part != "--quick");
    if parts
        .iter()
        .any(|part| !["throughput", "snapshot", "memory", "gate"].contains(&part.as_str()))
    {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    }
    ended(measure(&parts, is_quick))
}

fn measure(parts: &[String], is_quick: bool) -> Outcome<()> {
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("throughput") {
        throughput::measure(is_quick)?;
    }
    if wanted("snapshot") {
        snapshot::measure(is_quick)?;
    }
    if wanted("memory") {
        memory::measure(is_quick)?;
    }
    if wanted("gate") {
        gate::measure(is_quick)?;
    }
    Ok(())
}

fn ended(result: Outcome<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
