//! One grain's commits that clients know of, as one chain.

use std::collections::BTreeMap;

use super::NOTHING;
use crate::subject::{Head, StepId};

/// See the file's text.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Position 0 is the state before the first commit.
    pub(super) chain: Vec<Head>,
    pub(super) values: Vec<i64>,
    pub(super) position: BTreeMap<Head, usize>,
    /// Where each step has taken effect: once between two deletions.
    pub(super) steps: BTreeMap<StepId, Vec<usize>>,
    pub(super) deletions: Vec<usize>,
    /// The last tombstone that could be forgotten.
    pub(super) forgotten: usize,
}

impl History {
    /// Where a state lies. Nothing is what came before the first commit, and what is left of a grain that is forgotten.
    pub(super) fn find(&self, head: Head) -> Option<usize> {
        match head == NOTHING {
            true => Some(self.forgotten),
            false => self.position.get(&head).copied(),
        }
    }

    /// The deletions up to a position.
    fn life(&self, position: usize) -> usize {
        self.deletions.partition_point(|deletion| *deletion <= position)
    }

    /// Where a step has taken effect, as what is remembered at a position tells.
    pub(super) fn effect_of(&self, step: StepId, at: usize) -> Option<usize> {
        let all = self.steps.get(&step)?.iter().rev();
        let mut here = all.filter(|position| **position <= at && self.life(**position) == self.life(at));
        here.next().copied()
    }
}
