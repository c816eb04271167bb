//! Randomness out of a seed.
//!
//! Core draws no true random numbers: whoever drives a machine gives it a seed, and the same seed gives the same run. The
//! generator is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), 8 bytes of state.
//!
//! **Not here:** anything secret. Keys and request ids come from the operating system, outside of core.

use std::convert::Infallible;

/// A generator of pseudo-random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator that `seed` stands for.
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The high half of a product: its bias is below `limit` / 2^64.
        ((u128::from(self.draw()) * u128::from(limit)) >> 64) as u64
    }

    /// One of `items`, if there is one.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }
}

impl rand_core::TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.draw() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.draw())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_again() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            [rng.draw(), rng.draw(), rng.draw()]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        // The reference implementation's first number for seed 0.
        assert_eq!(Rng::new(0).draw(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn numbers_below_a_limit_reach_all_of_it_and_no_more() {
        let mut rng = Rng::new(1);
        let mut hits = [0; 5];
        (0..5_000).for_each(|_| hits[rng.below(5) as usize] += 1);
        assert!(hits.iter().all(|hits| (800..1_200).contains(hits)), "{hits:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.choose::<u8>(&[]), None);
    }
}
