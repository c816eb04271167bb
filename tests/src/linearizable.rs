//! Whether what several clients saw of one counter, which they add to, read and delete, could have been shown by a counter that does one thing
//! at a time (linearizability; the search is Wing and Gong's of 1993 with Lowe's memory of 2017: states that were tried with the same set of
//! operations done aren't tried again).
//!
//! Each add is of an amount that no other has: a sum then names the adds that are in it, and the search has little to choose from.

use std::collections::HashSet;

/// Steps of the search at most: a history that takes more isn't decided, which is no pass.
const STEPS_MOST: usize = 2_000_000;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Adds an amount.
    Add(i64),
    /// Reads.
    Read,
    /// Deletes the grain: its sum is 0 again.
    Delete,
}

/// An operation of a client. Times are of one clock, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it was.
    pub act: Act,
    /// When it was sent.
    pub began: u64,
    /// When it was answered; nothing when its outcome isn't known: it may have taken effect at any time since, or never.
    pub ended: Option<u64>,
    /// The sum that it was told; a deletion is told none.
    pub told: i64,
}

/// All operations on one counter; `Err` says what can't have been.
pub fn check(mut operations: Vec<Operation>) -> Result<(), String> {
    // What nobody was told by a read says nothing.
    operations.retain(|operation| operation.ended.is_some() || operation.act != Act::Read);
    operations.sort_by_key(|operation| operation.began);
    Search {
        done: Done(vec![0; operations.len().div_ceil(64)]),
        operations: &operations,
        tried: HashSet::new(),
        deepest: 0,
    }
    .run()
}

struct Search<'a> {
    operations: &'a [Operation],
    done: Done,
    /// Sets of operations that were done, with the sum behind them.
    tried: HashSet<(Done, i64)>,
    /// The most operations that could be brought in an order.
    deepest: usize,
}

/// A set of operations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

/// An operation that was done, and what else could have been done in its place.
struct Step {
    at: usize,
    before: i64,
    others: Vec<usize>,
}

impl Search<'_> {
    fn run(mut self) -> Result<(), String> {
        let (mut sum, mut path) = (0, Vec::new());
        let mut choices = self.choices();
        for _ in 0..STEPS_MOST {
            if path.len() == self.operations.len() {
                return Ok(());
            }
            if let Some((at, next)) = self.choose(&mut choices, sum) {
                let others = std::mem::take(&mut choices);
                path.push(Step {
                    at,
                    before: sum,
                    others,
                });
                sum = next;
                self.deepest = self.deepest.max(path.len());
                choices = self.choices();
            } else {
                let Some(step) = path.pop() else {
                    return Err(self.why());
                };
                self.done.remove(step.at);
                (sum, choices) = (step.before, step.others);
            }
        }
        Err(format!("not decided after {STEPS_MOST} steps: {}", self.why()))
    }

    /// Does the first of the choices that agrees with what was told and leads to something new.
    fn choose(&mut self, choices: &mut Vec<usize>, sum: i64) -> Option<(usize, i64)> {
        while let Some(at) = choices.pop() {
            let Some(next) = after(&self.operations[at], sum) else {
                continue;
            };
            self.done.insert(at);
            if self.tried.insert((self.done.clone(), next)) {
                return Some((at, next));
            }
            self.done.remove(at);
        }
        None
    }

    /// What may come next: nothing that began after another one was over which isn't done. The most promising is last.
    fn choices(&self) -> Vec<usize> {
        let left = |at: &usize| !self.done.has(*at);
        let mut found = Vec::new();
        let mut over = u64::MAX;
        for at in (0..self.operations.len()).filter(left) {
            let operation = &self.operations[at];
            if operation.began > over {
                break;
            }
            over = over.min(operation.ended.unwrap_or(u64::MAX));
            found.push(at);
        }
        found.retain(|at| self.operations[*at].began <= over);
        found.sort_by_key(|at| std::cmp::Reverse(self.operations[*at].ended.unwrap_or(u64::MAX)));
        found
    }

    fn why(&self) -> String {
        format!(
            "no order of the {} operations agrees with what clients were told; the longest beginning that does has {}: {:?}",
            self.operations.len(),
            self.deepest,
            &self.operations[self.deepest.saturating_sub(3)..(self.deepest + 6).min(self.operations.len())]
        )
    }
}

/// The sum behind an operation, if it agrees with what its client was told.
fn after(operation: &Operation, sum: i64) -> Option<i64> {
    let next = match operation.act {
        Act::Add(amount) => sum + amount,
        Act::Read => sum,
        Act::Delete => 0,
    };
    let agrees = operation.ended.is_none() || operation.act == Act::Delete || operation.told == next;
    agrees.then_some(next)
}

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn remove(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Random;

    /// An operation in words: what it was, when it began and ended, and what its client was told.
    fn op(act: Act, began: u64, ended: u64, told: i64) -> Operation {
        Operation {
            act,
            began,
            ended: Some(ended),
            told,
        }
    }

    fn open(act: Act, began: u64) -> Operation {
        Operation {
            act,
            began,
            ended: None,
            told: 0,
        }
    }

    #[test]
    fn what_one_counter_can_show_is_accepted() {
        use Act::{Add, Delete, Read};
        for history in [
            vec![],
            vec![op(Add(3), 0, 1, 3), op(Delete, 2, 3, 0), op(Add(4), 4, 5, 4)],
            // Both orders of what overlaps.
            vec![op(Add(3), 0, 9, 7), op(Add(4), 1, 8, 4)],
            vec![
                op(Add(3), 0, 1, 3),
                op(Delete, 2, 9, 0),
                op(Read, 3, 4, 3),
                op(Read, 5, 6, 0),
            ],
            // What wasn't answered may have happened, late, or never.
            vec![open(Add(3), 0), op(Read, 1, 2, 0), op(Read, 3, 4, 3)],
            vec![open(Add(3), 0), op(Read, 1, 2, 0), op(Read, 3, 4, 0)],
            vec![op(Add(5), 0, 1, 5), open(Delete, 2), op(Add(7), 3, 4, 7)],
            vec![open(Read, 0), op(Read, 1, 2, 0)],
        ] {
            assert_eq!(check(history.clone()), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn what_no_counter_can_show_is_found() {
        use Act::{Add, Delete, Read};
        for history in [
            // A lost add, a doubled one, one that was seen before it was sent.
            vec![op(Add(3), 0, 1, 3), op(Read, 2, 3, 0)],
            vec![op(Add(3), 0, 1, 3), op(Read, 2, 3, 6)],
            vec![op(Read, 0, 1, 3), op(Add(3), 2, 3, 3)],
            // A deletion that comes back, one that took what came after it, one that nobody asked for.
            vec![op(Add(3), 0, 1, 3), op(Delete, 2, 3, 0), op(Read, 4, 5, 3)],
            vec![op(Delete, 0, 1, 0), op(Add(3), 2, 3, 3), op(Read, 4, 5, 0)],
            vec![op(Add(3), 0, 1, 3), op(Add(4), 2, 3, 4)],
            // What was read once isn't unread.
            vec![open(Add(3), 0), op(Read, 1, 2, 3), op(Read, 3, 4, 0)],
        ] {
            assert!(check(history.clone()).is_err(), "{history:?}");
        }
    }

    /// A run of a real counter: each operation takes effect at a moment between its beginning and its end.
    fn run(random: &mut Random, count: u64) -> Vec<Operation> {
        let mut sum = 0;
        let mut operations = Vec::new();
        for number in 0..count {
            let moment = 100 * (number + 1);
            let act = match random.below(10) {
                0 => Act::Delete,
                1..4 => Act::Read,
                _ => Act::Add(1 << (number % 40)),
            };
            let is_known = random.below(20) > 0;
            if is_known || random.below(2) == 0 {
                sum = match act {
                    Act::Add(amount) => sum + amount,
                    Act::Read => sum,
                    Act::Delete => 0,
                };
            }
            operations.push(Operation {
                act,
                began: moment - random.below(300).min(moment),
                ended: is_known.then(|| moment + random.below(300)),
                told: sum,
            });
        }
        operations
    }

    #[test]
    fn long_runs_of_a_real_counter_are_accepted_and_one_wrong_answer_is_found() {
        let mut random = Random::new(7);
        for _ in 0..20 {
            let mut operations = run(&mut random, 300);
            assert_eq!(check(operations.clone()), Ok(()));
            let wrong = operations
                .iter()
                .position(|operation| operation.ended.is_some() && operation.act == Act::Read)
                .unwrap();
            operations[wrong].told += 1 << 50;
            assert!(check(operations).is_err());
        }
    }
}
