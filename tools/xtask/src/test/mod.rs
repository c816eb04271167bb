//! `cargo xtask test`: every test of the project, each in a process of its own, and one line that sums them up.
//!
//! A process for each test gives a test a time limit that names it, keeps a crash from taking others along, and says how long each
//! took. A test whose outside tool is missing prints `skipped: NAME wants TOOL` and counts as skipped, not as passed.

mod case;
mod doc;
mod machine_code;
mod program;
mod queue;
mod report;

use std::time::Duration;

use crate::guests;
use crate::work::run_quietly;
use crate::workspace::Workspace;
pub(crate) use program::SIMULATOR;
use queue::Queue;
use report::Report;

/// Which tests run, and how.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Parts of names; a test with one of them runs, every test when there are none.
    pub(crate) filters: Vec<String>,
    /// How many tests run at the same time; one more than there are processors when nothing is said.
    pub(crate) jobs: Option<usize>,
    /// More variables of their environment.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// A test that takes longer is ended.
    pub(crate) limit: Option<Duration>,
}

/// What a test may take that hangs: far more than any needs on a busy machine, and a run of all tests has time for several.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds guests, binary and test programs, then runs the tests that were chosen.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let order = parse(args)?;
    let workspace = Workspace::find()?;
    build(&workspace)?;
    run_built(&workspace, &order)
}

/// The same when guests and binary are there.
pub(crate) fn run_built(workspace: &Workspace, order: &Order) -> Result<(), String> {
    let programs = program::build(workspace)?;
    let mut cases = program::cases(&programs)?;
    cases.retain(|case| order.takes(&case.name()));
    let machine_code = machine_code::folder(workspace)?;
    let queue = Queue::new(workspace, cases, order, machine_code);
    let mut report = Report::new();
    queue.run(order.jobs(), |case, outcome| report.take(case, outcome));
    if order.filters.is_empty() {
        report.take_docs(&doc::run(workspace)?);
    }
    // With other variables, as in soak, they take another time.
    if order.variables.is_empty() {
        queue.remember(&report);
    }
    report.end()
}

/// Builds what tests call from outside: guests, and the host with and without faults. The host is built without the simulator among
/// the selected packages, since that one has core compiled with the choice of breaking rules.
pub(crate) fn build(workspace: &Workspace) -> Result<(), String> {
    guests::build(workspace)?;
    let mut args = vec!["build", "--release", "--locked"];
    HOST_PACKAGES
        .iter()
        .for_each(|package| args.extend(["--package", package]));
    run_quietly("host", &mut workspace.cargo(&args))
}

/// The packages whose binaries tests start.
pub(crate) const HOST_PACKAGES: [&str; 2] = ["granary", "granary-sabotaged"];

fn parse(args: &[&str]) -> Result<Order, String> {
    let mut order = Order::default();
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        match arg {
            "--jobs" => {
                let jobs = args.next().and_then(|text| text.parse().ok()).filter(|jobs| *jobs > 0);
                order.jobs = Some(jobs.ok_or("--jobs wants a number above 0")?);
            }
            flag if flag.starts_with('-') => {
                return Err(format!(
                    "`{flag}` is unknown; cargo xtask test [--jobs N] [PART OF A NAME]..."
                ));
            }
            filter => order.filters.push(filter.to_owned()),
        }
    }
    Ok(order)
}

impl Order {
    fn takes(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }

    fn jobs(&self) -> usize {
        // A third of their time tests wait for time-outs and for hosts that notice something.
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or_else(|| processors() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parts_of_names_and_any_of_them_is_enough() {
        let order = parse(&["deaths", "--jobs", "3", "log::"]).unwrap();
        assert_eq!(order.jobs(), 3);
        assert!(order.takes("cluster deaths::hosts_are_killed") && order.takes("granary_host log::tests::a"));
        assert!(!order.takes("cluster moving::a"));
        assert!(parse(&[]).unwrap().takes("anything"));
    }

    #[test]
    fn a_wrong_flag_is_told_what_would_be_right() {
        assert!(parse(&["--nocapture"]).unwrap_err().contains("--jobs N"));
        assert!(parse(&["--jobs", "0"]).unwrap_err().contains("above 0"));
    }
}
