//! The examples in the documentation: rustdoc compiles and runs them, and says of each library how many held.

use super::program::SIMULATOR;
use crate::work::run_for_output;
use crate::workspace::Workspace;

/// How many examples there were, by what came of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
}

/// Runs all of them.
pub(super) fn run(workspace: &Workspace) -> Result<Counts, String> {
    let args = [
        "test",
        "--doc",
        "--release",
        "--locked",
        "--workspace",
        "--exclude",
        SIMULATOR,
        "--no-fail-fast",
    ];
    let output = run_for_output("examples in the documentation", &mut workspace.cargo(&args));
    match output {
        Ok(output) => Ok(output.lines().fold(Counts::default(), Counts::with)),
        Err(failed) => {
            println!("{}\n{}", failed.output, failed.said);
            Ok(Counts {
                failed: 1,
                ..Counts::default()
            })
        }
    }
}

impl Counts {
    /// Takes a line of a test program's output, of which only this kind counts:
    /// `test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`.
    fn with(mut self, line: &str) -> Counts {
        let counts = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
            .map_or("", |(_, counts)| counts);
        for count in counts.split("; ") {
            match count.split_once(' ').map(|(n, what)| (n.parse().unwrap_or(0), what)) {
                Some((n, "passed")) => self.passed += n,
                Some((n, "failed")) => self.failed += n,
                Some((n, "ignored")) => self.ignored += n,
                _ => {}
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_added_up() {
        let lines = [
            "running 12 tests",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ];
        let counts = lines.iter().fold(Counts::default(), |counts, line| counts.with(line));
        let expected = Counts {
            passed: 15,
            failed: 1,
            ignored: 1,
        };
        assert_eq!(counts, expected);
    }
}
