//! What several clients saw of counters that they share, and whether one counter that does one thing at a time could have shown it to them.
//!
//! Every add is of one, so an answered add names its place in the order of all of them: linearizability needs no search. It holds when no
//! place is taken twice, no operation that began after another one had ended comes before it, and every place that nobody was told of can be
//! one of the adds whose outcome isn't known.

use std::collections::{BTreeMap, BTreeSet};

/// An operation that was answered. Times are of one clock, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it added one, or only read.
    pub adds: bool,
    /// When it was sent.
    pub began: u64,
    /// When the answer was there.
    pub ended: u64,
    /// The counter's value that it was told.
    pub value: u64,
}

/// Of one counter.
#[derive(Clone, Debug, Default)]
pub struct History {
    seen: Vec<Seen>,
    /// When adds were sent whose outcome isn't known.
    open: Vec<u64>,
}

impl History {
    /// An operation was answered.
    pub fn answered(&mut self, seen: Seen) {
        self.seen.push(seen);
    }

    /// An add was sent, and may have happened or may happen yet.
    pub fn left_open(&mut self, began: u64) {
        self.open.push(began);
    }

    /// Takes in what another client saw of the same counter.
    pub fn merge(&mut self, other: History) {
        self.seen.extend(other.seen);
        self.open.extend(other.open);
    }

    /// Operations that were answered, and that weren't.
    pub fn counts(&self) -> (usize, usize) {
        (self.seen.len(), self.open.len())
    }

    /// `Err` says what can't have been.
    pub fn check(&self) -> Result<(), String> {
        let adds = self.seen.iter().filter(|seen| seen.adds);
        let mut places = BTreeMap::new();
        for add in adds {
            if let Some(other) = places.insert(add.value, add) {
                return Err(format!("two adds were told the same value: {add:?} and {other:?}"));
            }
        }
        let last = self.seen.iter().map(|seen| seen.value).max().unwrap_or(0);
        let gaps: BTreeSet<u64> = (1..=last).filter(|value| !places.contains_key(value)).collect();
        if gaps.len() > self.open.len() {
            return Err(format!(
                "up to {last} there are {} adds that nobody was told of, and only {} whose outcome isn't known",
                gaps.len(),
                self.open.len()
            ));
        }
        self.check_order()
    }

    /// Reads come behind the add that made what they saw.
    fn check_order(&self) -> Result<(), String> {
        let mut order = self.seen.clone();
        order.sort_by_key(|seen| (seen.value, !seen.adds, seen.began));
        // From the last place to the first: of all behind, the one that ended first.
        let mut first_ended: Option<Seen> = None;
        for seen in order.into_iter().rev() {
            let is_free = |behind: &Seen| !behind.adds && !seen.adds && behind.value == seen.value;
            if let Some(behind) = first_ended.filter(|behind| behind.ended < seen.began && !is_free(behind)) {
                return Err(format!(
                    "{behind:?} was over before {seen:?} began, which comes before it"
                ));
            }
            if first_ended.is_none_or(|behind| seen.ended < behind.ended) {
                first_ended = Some(seen);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(seen: &[(bool, u64, u64, u64)], open: &[u64]) -> History {
        let seen = seen.iter().map(|&(adds, began, ended, value)| Seen {
            adds,
            began,
            ended,
            value,
        });
        History {
            seen: seen.collect(),
            open: open.to_vec(),
        }
    }

    #[test]
    fn what_one_counter_can_show_is_accepted() {
        let overlapping = history(
            &[(true, 0, 9, 2), (true, 1, 8, 1), (false, 2, 3, 0), (false, 4, 9, 2)],
            &[],
        );
        assert_eq!(overlapping.check(), Ok(()));
        let with_a_gap = history(&[(true, 0, 1, 1), (true, 2, 3, 3)], &[1]);
        assert_eq!(with_a_gap.check(), Ok(()));
        let two_reads = history(&[(true, 0, 1, 1), (false, 2, 3, 1), (false, 4, 5, 1)], &[]);
        assert_eq!(two_reads.check(), Ok(()));
    }

    #[test]
    fn what_no_counter_can_show_is_refused() {
        let twice = history(&[(true, 0, 1, 1), (true, 2, 3, 1)], &[]);
        assert!(twice.check().unwrap_err().contains("same value"));
        let lost = history(&[(true, 0, 1, 1), (true, 2, 3, 3)], &[]);
        assert!(lost.check().unwrap_err().contains("nobody was told of"));
        let back = history(&[(true, 0, 1, 2), (true, 2, 3, 1)], &[]);
        assert!(back.check().unwrap_err().contains("comes before it"));
        let stale = history(&[(true, 0, 1, 1), (false, 2, 3, 0)], &[]);
        assert!(stale.check().unwrap_err().contains("comes before it"));
        let early = history(&[(false, 0, 1, 1), (true, 2, 3, 1)], &[]);
        assert!(early.check().unwrap_err().contains("comes before it"));
    }
}
