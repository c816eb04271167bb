//! Randomness that can be repeated: `GRANARY_SEED=... cargo xtask test NAME` makes the same choices again.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::soak;

/// Of an ordinary run: a test that holds today holds tomorrow.
const USUAL: u64 = 20_251_124;

/// The seed of this run: from the environment, else always the same, and in soak from the clock. Printed, so that a failure shows it.
pub fn of_this_run() -> u64 {
    let seed = match std::env::var("GRANARY_SEED") {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("GRANARY_SEED is a whole number, not `{text}`")),
        Err(_) if soak::is_on() => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos() as u64),
        Err(_) => USUAL,
    };
    println!("GRANARY_SEED={seed}");
    seed
}

/// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): enough for choices in tests.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The same seed makes the same choices.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// An independent source, for example one a client.
    pub fn fork(&mut self) -> Random {
        Random::new(self.bits())
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which isn't 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }
}
