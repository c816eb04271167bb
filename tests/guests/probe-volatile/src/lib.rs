//! A volatile counter that can be told to trap: what the host's tests of durability call.

use granary_sdk::prelude::*;

/// A number.
#[derive(Default, Serialize, Deserialize)]
pub struct ProbeVolatile {
    value: i64,
}

#[grain(durability = "volatile")]
impl ProbeVolatile {
    /// Adds `n` and returns the new value.
    pub fn add(&mut self, n: i64) -> i64 {
        self.value += n;
        self.value
    }

    /// The value.
    #[read]
    pub fn get(&self) -> i64 {
        self.value
    }

    /// Adds `n`, then traps: nothing of it may be seen later.
    pub fn trap_after_write(&mut self, n: i64) {
        self.value += n;
        std::process::abort();
    }
}

granary_sdk::export!(ProbeVolatile);
