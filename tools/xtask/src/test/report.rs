//! What the tests came to: a line for each, all that a failed one printed, the slowest, and the sum.

use std::time::{Duration, Instant};

use super::case::{Case, End, Outcome};
use super::doc::Counts;
use crate::work::in_words;

/// Tests that the end of a run names as its slowest.
const SLOWEST: usize = 20;

/// The outcomes so far.
#[derive(Debug)]
pub(super) struct Report {
    started: Instant,
    tests: Vec<Line>,
    docs: Counts,
}

#[derive(Debug)]
struct Line {
    name: String,
    again: String,
    end: End,
    took: Duration,
}

impl Report {
    pub(super) fn new() -> Report {
        Report {
            started: Instant::now(),
            tests: Vec::new(),
            docs: Counts::default(),
        }
    }

    /// Prints how a test ended, and all that it printed unless it passed.
    pub(super) fn take(&mut self, case: &Case, outcome: Outcome) {
        let name = case.name();
        println!("test {name} ... {}  {}", in_a_word(outcome.end), in_words(outcome.took));
        match outcome.end {
            End::Passed => {}
            End::Skipped => outcome
                .output
                .lines()
                .filter(|line| line.starts_with("skipped: "))
                .for_each(|line| println!("{line}")),
            End::Failed | End::TimedOut => {
                println!(
                    "---- {name}\n{}\nagain: {}\n----",
                    outcome.output.trim_end(),
                    case.again()
                );
            }
        }
        self.tests.push(Line {
            name,
            again: case.again(),
            end: outcome.end,
            took: outcome.took,
        });
    }

    /// The examples in the documentation.
    pub(super) fn take_docs(&mut self, counts: &Counts) {
        self.docs = counts.clone();
    }

    /// How long each test took.
    pub(super) fn times(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.tests.iter().map(|line| (line.name.as_str(), line.took))
    }

    /// Prints the slowest, the failed and the sum.
    pub(super) fn end(&self) -> Result<(), String> {
        let mut slowest: Vec<&Line> = self.tests.iter().collect();
        slowest.sort_by_key(|line| std::cmp::Reverse(line.took));
        println!(
            "\nthe slowest tests of {}, all in {}:",
            self.tests.len(),
            in_words(self.started.elapsed())
        );
        for line in slowest.iter().take(SLOWEST) {
            println!("  {:>12}  {}", in_words(line.took), line.name);
        }
        let failed: Vec<&Line> = self.tests.iter().filter(|line| line.end.is_failure()).collect();
        if !failed.is_empty() {
            println!("\nfailed:");
            failed
                .iter()
                .for_each(|line| println!("  {} ({}); again: {}", line.name, in_a_word(line.end), line.again));
        }
        println!("\n{}", self.summary());
        let any_failed = !failed.is_empty() || self.docs.failed > 0;
        if any_failed {
            return Err("not every test passed; see above".into());
        }
        if self.tests.is_empty() {
            return Err("no test has such a name".into());
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let count = |is_it: fn(End) -> bool| self.tests.iter().filter(|line| is_it(line.end)).count() as u64;
        format!(
            "{} passed, {} failed, {} skipped",
            count(|end| end == End::Passed) + self.docs.passed,
            count(End::is_failure) + self.docs.failed,
            count(|end| end == End::Skipped) + self.docs.ignored
        )
    }
}

fn in_a_word(end: End) -> &'static str {
    match end {
        End::Passed => "ok",
        End::Failed => "FAILED",
        End::Skipped => "skipped",
        End::TimedOut => "TIMED OUT",
    }
}
