//! The type `shape` before its state has another shape: what the host's tests of upgrades start from. `shape-2` comes after.

use granary_sdk::prelude::*;

/// A number.
#[derive(Default, Serialize, Deserialize)]
pub struct Shape {
    /// Its name in `shape-2`, so that there is a way back.
    #[serde(alias = "total")]
    value: i64,
}

#[grain]
impl Shape {
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

    /// Which code answers.
    #[read]
    pub fn shape(&self) -> u32 {
        1
    }
}

granary_sdk::export!(Shape);
