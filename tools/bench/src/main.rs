//! `cargo xtask bench`: what a host does, held against what bounds it, in one table.
//!
//! Rates are ratios to a counter in the memory of a bare axum server, measured in the same run on the same machine: the ratio
//! says more than the figure. Latencies are kept one by one, not in buckets. `docs/performance.md` has the method and figures.
#![allow(clippy::print_stdout, reason = "the table goes to stdout")]

mod cases;
mod cluster;
mod connection;
mod curve;
mod footprint;
mod gate;
mod host;
mod load;
mod memory;
mod open;
mod reference;
mod snapshot;
mod table;

use std::process::ExitCode;

use crate::cases::Effort;

/// What went wrong, for a person.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A table of its own that looks into one part of the host.
type Detail = (&'static str, fn(bool) -> Outcome<()>);

const DETAILS: &[Detail] = &[
    ("snapshot", snapshot::measure),
    ("memory", memory::measure),
    ("gate", gate::measure),
    ("cluster", cluster::measure),
    ("hops", cluster::measure_hops),
    ("curve", curve::measure),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // What this program starts of itself, to be measured apart.
    let own_child = match args.as_slice() {
        ["reference"] => Some(reference::serve()),
        ["gate-write", folder, grains] => Some(gate::write(folder.as_ref(), grains.parse().unwrap_or(0))),
        ["gate-open", folder, grains] => Some(gate::open_again(folder.as_ref(), grains.parse().unwrap_or(0), false)),
        ["gate-read", folder, grains] => Some(gate::open_again(folder.as_ref(), grains.parse().unwrap_or(0), true)),
        _ => None,
    };
    let result = own_child.unwrap_or_else(|| match Wanted::read(&args) {
        Some(wanted) => wanted.measure(),
        None => Err(usage().into()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let names = |names: Vec<&str>| names.join(", ");
    format!(
        "usage: bench [--quick] [--only NAME]...\n\n  \
         cases of the table: {}\n  \
         details, tables of their own: {}\n  \
         --quick        a tenth of the time and of the grains, to see that it works\n  \
         --only NAME    one of these; can be repeated. Without it, all cases and no details",
        names(cases::ALL.iter().map(|case| case.0).collect()),
        names(DETAILS.iter().map(|detail| detail.0).collect()),
    )
}

/// What the command line asks for.
#[derive(Debug)]
struct Wanted {
    effort: Effort,
    only: Vec<String>,
}

impl Wanted {
    fn read(args: &[&str]) -> Option<Wanted> {
        let known =
            |name: &str| cases::ALL.iter().any(|case| case.0 == name) || DETAILS.iter().any(|detail| detail.0 == name);
        let mut wanted = Wanted {
            effort: Effort { is_quick: false },
            only: Vec::new(),
        };
        let mut rest = args;
        while let [first, others @ ..] = rest {
            rest = match (*first, others) {
                ("--quick", _) => {
                    wanted.effort.is_quick = true;
                    others
                }
                ("--only", [name, others @ ..]) if known(name) => {
                    wanted.only.push((*name).to_owned());
                    others
                }
                _ => return None,
            };
        }
        Some(wanted)
    }

    fn measure(&self) -> Outcome<()> {
        let asked = |name: &str| self.only.iter().any(|only| only == name);
        let (mut rows, mut notes) = (Vec::new(), Vec::new());
        for (name, measure) in cases::ALL.iter().filter(|case| self.only.is_empty() || asked(case.0)) {
            eprintln!("measuring {name}");
            let found = measure(self.effort).map_err(|error| format!("{name}: {error}"))?;
            rows.extend(found.rows);
            notes.extend(found.notes);
        }
        if !rows.is_empty() {
            println!("{}", table::text(&rows));
        }
        notes.iter().for_each(|note| println!("- {note}"));
        for (name, measure) in DETAILS.iter().filter(|detail| asked(detail.0)) {
            eprintln!("measuring {name}");
            measure(self.effort.is_quick)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read_whole_or_not_at_all() {
        let wanted = Wanted::read(&["--only", "w1", "--quick", "--only", "gate"]).unwrap();
        assert!(wanted.effort.is_quick);
        assert_eq!(wanted.only, ["w1", "gate"]);
        assert!(Wanted::read(&[]).unwrap().only.is_empty());
        for wrong in [&["w1"][..], &["--only"], &["--only", "w9"]] {
            assert!(Wanted::read(wrong).is_none(), "{wrong:?}");
        }
    }
}
