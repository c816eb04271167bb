//! What enough seeds must have reached: below these a run has proven little.

/// From so many seeds on.
pub const SEEDS: u64 = 100;

/// Group, name, and how often at least.
pub const FLOORS: &[(&str, &str, u64)] = &[];
