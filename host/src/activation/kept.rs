//! What the turns of a `volatile` grain have changed since its last commit.
//!
//! Rebuilds the grain after a turn that failed, and becomes one commit when the grain leaves memory.

use granary_core::commit::Delta;
use granary_core::page::PatchMerge;

/// Deltas of turns, merged.
#[derive(Debug, Default)]
pub(super) struct Kept {
    memory_len: u64,
    globals: Vec<u128>,
    merge: PatchMerge,
}

impl Kept {
    /// Lays a turn's delta over what is kept.
    pub(super) fn add(&mut self, delta: Delta) {
        self.merge.add(&delta.patches);
        (self.memory_len, self.globals) = (delta.memory_len, delta.globals);
    }

    /// All of it as one delta.
    pub(super) fn delta(&self) -> Delta {
        Delta {
            memory_len: self.memory_len,
            globals: self.globals.clone(),
            patches: self.merge.patches(),
        }
    }
}
