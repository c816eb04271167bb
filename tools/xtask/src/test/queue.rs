//! The order in which tests run, several at a time: the longest first, so that no long one is left for the end.
//!
//! How long each took is kept in the target folder for the next run. Tests that were never timed come first of all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::case::{Case, Outcome, Surroundings};
use super::report::Report;
use super::{LIMIT, Order};
use crate::workspace::Workspace;

/// Programs with tests of which only one runs at a time, beside others: each starts several hosts, and hosts that get no processor are
/// called dead, rightly so.
const ONE_AT_A_TIME: &[&str] = &["cluster"];
/// A test that was never timed comes before all others.
const UNKNOWN: Duration = Duration::MAX;

/// Tests in the order in which they'll run.
#[derive(Debug)]
pub(super) struct Queue {
    cases: Vec<Case>,
    variables: Vec<(&'static str, OsString)>,
    limit: Duration,
    times: Times,
    /// Of this run's temporary files.
    folder: PathBuf,
}

impl Queue {
    /// Orders the tests by how long they took last time.
    pub(super) fn new(workspace: &Workspace, mut cases: Vec<Case>, order: &Order, machine_code: PathBuf) -> Queue {
        let times = Times::read(workspace);
        // Of those that take the same time, or were never timed, the ones that run one at a time come first: they take the longest together.
        cases.sort_by_key(|case| Reverse((times.of(&case.name()), is_one(case))));
        let folder = std::env::temp_dir().join(format!("granary-tests-{}", std::process::id()));
        let mut variables: Vec<(&str, OsString)> = vec![
            ("GRANARY_BIN", workspace.granary().into()),
            (
                "GRANARY_SABOTAGED_BIN",
                workspace.target.join("release/sabotaged").into(),
            ),
            ("GRANARY_GUESTS", workspace.modules().into()),
            ("GRANARY_GUESTS_COMPILED", machine_code.into()),
        ];
        variables.extend(order.variables.iter().map(|(name, value)| (*name, value.into())));
        Queue {
            cases,
            variables,
            limit: order.limit.unwrap_or(LIMIT),
            times,
            folder,
        }
    }

    /// Runs all, `jobs` at a time, and tells of each as it ends.
    pub(super) fn run(&self, jobs: usize, mut ended: impl FnMut(&Case, Outcome)) {
        let waiting = Mutex::new(Waiting::new(&self.cases));
        let take = |done: Option<&Case>| {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.take(done)
        };
        let (sender, outcomes) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                let (sender, take) = (sender.clone(), &take);
                scope.spawn(move || {
                    let mut next = take(None);
                    while let Some((at, case)) = next {
                        let outcome = case.run(&Surroundings {
                            folder: &self.folder.join(at.to_string()),
                            variables: &self.variables,
                            limit: self.limit,
                        });
                        // The receiver lives as long as this scope.
                        let _ = sender.send((case, outcome));
                        next = take(Some(case));
                    }
                });
            }
            drop(sender);
            outcomes.iter().for_each(|(case, outcome)| ended(case, outcome));
        });
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Keeps how long each took.
    pub(super) fn remember(&self, report: &Report) {
        self.times.renewed(report.times()).write();
    }
}

/// Whether it's one of those that run one at a time.
fn is_one(case: &Case) -> bool {
    ONE_AT_A_TIME.contains(&case.program())
}

/// The tests that haven't begun, by their places in the queue.
#[derive(Debug)]
struct Waiting<'a> {
    cases: VecDeque<(usize, &'a Case)>,
    /// Whether one of those that run one at a time is at work.
    is_one_at_work: bool,
}

impl<'a> Waiting<'a> {
    fn new(cases: &'a [Case]) -> Waiting<'a> {
        Waiting {
            cases: cases.iter().enumerate().collect(),
            is_one_at_work: false,
        }
    }

    /// The next test for a worker that has `done` one. Nothing when there's none that may begin: what is left then is for the worker that
    /// has the one.
    fn take(&mut self, done: Option<&Case>) -> Option<(usize, &'a Case)> {
        if done.is_some_and(is_one) {
            self.is_one_at_work = false;
        }
        let at = self
            .cases
            .iter()
            .position(|(_, case)| !self.is_one_at_work || !is_one(case))?;
        let taken = self.cases.remove(at)?;
        self.is_one_at_work |= is_one(taken.1);
        Some(taken)
    }
}

/// By name, how long each test took when it last ran.
#[derive(Debug)]
struct Times {
    file: PathBuf,
    by_name: BTreeMap<String, Duration>,
}

impl Times {
    fn read(workspace: &Workspace) -> Times {
        let file = workspace.target.join("test-times.json");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let millis: BTreeMap<String, u64> = serde_json::from_str(&text).unwrap_or_default();
        let by_name = millis
            .into_iter()
            .map(|(name, millis)| (name, Duration::from_millis(millis)))
            .collect();
        Times { file, by_name }
    }

    fn of(&self, name: &str) -> Duration {
        self.by_name.get(name).copied().unwrap_or(UNKNOWN)
    }

    fn renewed<'a>(&self, times: impl Iterator<Item = (&'a str, Duration)>) -> Times {
        let mut by_name = self.by_name.clone();
        by_name.extend(times.map(|(name, took)| (name.to_owned(), took)));
        Times {
            file: self.file.clone(),
            by_name,
        }
    }

    /// A file that can't be written costs the next run its order and nothing else.
    fn write(&self) {
        let millis: BTreeMap<&String, u64> = self
            .by_name
            .iter()
            .map(|(name, took)| (name, u64::try_from(took.as_millis()).unwrap_or(u64::MAX)))
            .collect();
        if let Ok(text) = serde_json::to_string_pretty(&millis) {
            let _ = std::fs::write(&self.file, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::program::Program;
    use super::*;

    fn cases(names: &[(&str, &str)]) -> Vec<Case> {
        let case = |(program, test): &(&str, &str)| {
            let program = Program {
                name: (*program).to_owned(),
                path: PathBuf::new(),
                folder: PathBuf::new(),
            };
            Case::new(Arc::new(program), test)
        };
        names.iter().map(case).collect()
    }

    #[test]
    fn of_tests_that_start_clusters_one_runs_at_a_time_beside_others() {
        let cases = cases(&[("cluster", "a"), ("cluster", "b"), ("turns", "c"), ("cluster", "d")]);
        let mut waiting = Waiting::new(&cases);
        let name = |taken: Option<(usize, &Case)>| taken.map(|(_, case)| case.name());
        assert_eq!(name(waiting.take(None)).unwrap(), "cluster a");
        assert_eq!(name(waiting.take(None)).unwrap(), "turns c");
        assert_eq!(name(waiting.take(Some(&cases[2]))), None, "a is at work");
        assert_eq!(name(waiting.take(Some(&cases[0]))).unwrap(), "cluster b");
        assert_eq!(name(waiting.take(Some(&cases[1]))).unwrap(), "cluster d");
        assert_eq!(name(waiting.take(Some(&cases[3]))), None);
    }
}
