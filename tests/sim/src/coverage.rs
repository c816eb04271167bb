//! What a run reached, by name: a simulator that never gets anywhere finds nothing.

use std::collections::BTreeMap;

/// Counts by group and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Coverage {
    /// Counts one.
    pub fn count(&mut self, group: &'static str, name: &'static str) {
        *self.counts.entry((group, name)).or_default() += 1;
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Coverage) {
        for (key, count) in &other.counts {
            *self.counts.entry(*key).or_default() += count;
        }
    }

    /// A count.
    pub fn of(&self, group: &str, name: &str) -> u64 {
        let same = |key: &(&'static str, &'static str)| key.0 == group && key.1 == name;
        self.counts
            .iter()
            .find(|(key, _)| same(key))
            .map_or(0, |(_, count)| *count)
    }

    /// All of a group's counts together.
    pub fn total(&self, group: &str) -> u64 {
        self.counts
            .iter()
            .filter(|(key, _)| key.0 == group)
            .map(|(_, count)| count)
            .sum()
    }

    /// Those of `floors` that weren't reached, with what was.
    pub fn missed(&self, floors: &[(&'static str, &'static str, u64)]) -> Vec<String> {
        let below = |(group, name, floor): &&(&'static str, &'static str, u64)| self.of(group, name) < *floor;
        let missed = floors.iter().filter(below);
        missed
            .map(|(group, name, floor)| format!("{group} {name}: {} of {floor}", self.of(group, name)))
            .collect()
    }

    /// One line a group.
    pub fn table(&self) -> String {
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((group, name), count) in &self.counts {
            lines.entry(group).or_default().push(format!("{name} {count}"));
        }
        let lines = lines
            .into_iter()
            .map(|(group, counts)| format!("  {group}: {}\n", counts.join(", ")));
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reached_is_named() {
        let mut coverage = Coverage::default();
        coverage.count("fault", "crash");
        let more = coverage.clone();
        coverage.add(&more);
        assert_eq!(
            coverage.missed(&[("fault", "crash", 2), ("fault", "pause", 1)]),
            ["fault pause: 0 of 1"]
        );
        assert_eq!(coverage.table(), "  fault: crash 2\n");
    }
}
