//! What clients may rely on after a crash: for each key, what was acknowledged, and what was sent without an answer.

use std::collections::BTreeMap;

/// Sums of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Of the adds that were answered with success: all of it must be there.
    pub acknowledged: i64,
    /// Of the adds that were sent and not answered: any part of it may be there.
    pub unknown: i64,
}

/// Sums by key.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    sums: BTreeMap<String, Sums>,
    /// How many adds were acknowledged.
    pub acknowledged_calls: u64,
    /// How many adds were sent and not answered.
    pub unknown_calls: u64,
}

impl Ledger {
    /// An add of `n` was answered.
    pub fn acknowledge(&mut self, key: &str, n: i64) {
        self.sums.entry(key.to_owned()).or_default().acknowledged += n;
        self.acknowledged_calls += 1;
    }

    /// An add of `n` was sent and not answered.
    pub fn leave_open(&mut self, key: &str, n: i64) {
        self.sums.entry(key.to_owned()).or_default().unknown += n;
        self.unknown_calls += 1;
    }

    /// Adds what another client knows.
    pub fn merge(&mut self, other: Ledger) {
        for (key, sums) in other.sums {
            let sum = self.sums.entry(key).or_default();
            sum.acknowledged += sums.acknowledged;
            sum.unknown += sums.unknown;
        }
        self.acknowledged_calls += other.acknowledged_calls;
        self.unknown_calls += other.unknown_calls;
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.sums.keys().map(String::as_str)
    }

    /// A key's value was read after a restart. `Err` says how it breaks the promise; otherwise it is the key's new
    /// starting point: what has been read can't be lost either.
    pub fn settle(&mut self, key: &str, value: i64) -> Result<(), String> {
        let sums = self.sums.entry(key.to_owned()).or_default();
        let Sums { acknowledged, unknown } = *sums;
        if !(acknowledged..=acknowledged + unknown).contains(&value) {
            return Err(format!(
                "{key} is {value}, but {acknowledged} were acknowledged and {unknown} more were sent"
            ));
        }
        *sums = Sums {
            acknowledged: value,
            unknown: 0,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_between_acknowledged_and_sent_settles_and_others_do_not() {
        let mut ledger = Ledger::default();
        ledger.acknowledge("a", 5);
        ledger.leave_open("a", 2);
        assert!(ledger.clone().settle("a", 4).is_err());
        assert!(ledger.clone().settle("a", 8).is_err());
        assert_eq!(ledger.settle("a", 6), Ok(()));
        assert!(ledger.settle("a", 5).is_err(), "what was read can't be lost");
    }
}
