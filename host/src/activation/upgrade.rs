//! Moving the grains of a type to its current revision: what is known of it.

use granary_core::api::Code;
use granary_core::id::{GrainKey, GrainType, Revision};

/// How far the grains of a type are on the way to its current revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeStatus {
    /// The type.
    pub kind: GrainType,
    /// Its current revision.
    pub revision: Revision,
    /// Grains that the last sweep found; rises while it looks.
    pub total: u64,
    /// Of these, the ones that are on the current revision.
    pub moved: u64,
    /// Of these, the ones that could not be moved and stay where they were, serving.
    pub failed: u64,
    /// Of these, the ones that the sweep has not come to.
    pub left: u64,
    /// Whether a sweep is going on.
    pub running: bool,
    /// Grains that could not be moved, by a sweep or by a call: the first hundred.
    pub failures: Vec<UpgradeFailure>,
}

/// A grain that could not be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeFailure {
    /// Which.
    pub key: GrainKey,
    /// The revision that it stays on.
    pub revision: Revision,
    /// In which way moving it failed.
    pub code: Code,
    /// Why, for a person.
    pub reason: String,
}
