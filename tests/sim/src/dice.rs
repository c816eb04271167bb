//! Chance out of a seed: the same seed gives the same run.
//!
//! Core's own generator, in the words of a simulation.
//!
//! **Not here:** anything but chance. What is likely is said where it's rolled.

use granary_core::rng::Rng;

/// A generator of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Dice {
    rng: Rng,
}

impl Dice {
    /// The dice that `seed` stands for.
    pub fn new(seed: u64) -> Dice {
        Dice { rng: Rng::new(seed) }
    }

    /// Dice of their own, so that one part's rolls don't change another's.
    pub fn fork(&mut self) -> Dice {
        Dice::new(self.roll())
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.rng.draw()
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.rng.below(limit)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in `percent` of cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True in `permille` of 1,000 cases.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of `items` in `percent` of cases. Without items nothing is rolled.
    pub fn pick_if<T: Copy>(&mut self, percent: u64, items: &[T]) -> Option<T> {
        (!items.is_empty() && self.percent(percent))
            .then(|| self.pick(items))
            .flatten()
    }

    /// One of `items`; nothing when there are none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        self.rng.choose(items).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            [dice.roll(), dice.below(10), dice.between(3, 5)]
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
    }

    #[test]
    fn ranges_are_reached_and_kept() {
        let mut dice = Dice::new(1);
        let mut seen = [0u32; 3];
        (0..3000).for_each(|_| seen[(dice.between(3, 5) - 3) as usize] += 1);
        assert!(seen.iter().all(|count| *count > 800), "{seen:?}");
        assert_eq!(dice.below(0), 0);
    }
}
