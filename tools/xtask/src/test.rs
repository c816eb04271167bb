//! `cargo xtask test`: every test of the project, and one line that sums them up.
//!
//! A test whose outside tool is missing prints `skipped: NAME wants TOOL` and counts as skipped, not as passed.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::guests;
use crate::work::run_quietly;
use crate::workspace::Workspace;

/// Builds guests and binary, then runs the tests whose names contain the filter, all without one.
pub(crate) fn run(filter: &[&str]) -> Result<(), String> {
    let workspace = Workspace::find()?;
    guests::build(&workspace)?;
    run_quietly(
        "host",
        &mut workspace.cargo(&[
            "build",
            "--release",
            "--locked",
            "--package",
            "granary",
            "--package",
            "granary-sabotaged",
        ]),
    )?;
    let mut args = vec!["test", "--release", "--locked", "--workspace", "--no-fail-fast"];
    args.extend(filter);
    let mut child = workspace
        .cargo(&args)
        .env("GRANARY_BIN", workspace.granary())
        .env("GRANARY_SABOTAGED_BIN", workspace.target.join("release/sabotaged"))
        .env("GRANARY_GUESTS", workspace.modules())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo can't be started: {error}"))?;
    let mut tally = Tally::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|error| format!("the tests' output can't be read: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            tally.take(&line);
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    println!("\n{}", tally.summary(status.success()));
    if status.success() && tally.failed == 0 {
        Ok(())
    } else {
        Err("not every test passed; see above".into())
    }
}

/// What the test programs said, added up.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn take(&mut self, line: &str) {
        if line.starts_with("skipped: ") {
            self.skipped += 1;
        }
        // test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ').map(|(n, what)| (n.parse().unwrap_or(0), what)) {
                Some((n, "passed")) => self.passed += n,
                Some((n, "failed")) => self.failed += n,
                // Libtest counts these apart from the passed ones; a test that prints `skipped:` is among those.
                Some((n, "ignored")) => {
                    self.skipped += n;
                    self.passed += n;
                }
                _ => {}
            }
        }
    }

    fn summary(&self, all_ran: bool) -> String {
        // A program that did not build or died says nothing of its tests: at least one of them has failed.
        let failed = if all_ran { self.failed } else { self.failed.max(1) };
        format!(
            "{} passed, {failed} failed, {} skipped",
            self.passed.saturating_sub(self.skipped),
            self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.take(line));
        tally
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let tally = tally(&[
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "skipped: the_log_is_synced wants strace",
            "test the_log_is_synced ... ok",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
        ]);
        assert_eq!(tally.summary(false), "14 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_test_program_that_dies_is_a_failure() {
        assert_eq!(tally(&[]).summary(false), "0 passed, 1 failed, 0 skipped");
    }
}
