//! Grains that could not be moved to their type's current revision, and what is told of them.
//!
//! Kept in memory: after a restart a grain's next call tries again, and tells again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use granary_core::api::Code;
use granary_core::id::{GrainId, GrainKey, GrainType, Revision};

/// Failures that are kept with their reasons. Stops a revision that no grain can move to from filling the memory.
const REASONS: usize = 1000;
/// Failures that are listed in one status.
const LISTED: usize = 100;
/// Failures that are told apart, so that each counts once: 16 bytes each. Beyond that the count stands still.
const COUNTED: usize = 1 << 20;
/// Bytes of a reason that are kept. It may hold a guest's own words.
const REASON_LIMIT: usize = 500;

/// How far the grains of a type are on the way to its current revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeStatus {
    /// The type.
    pub kind: GrainType,
    /// Its current revision.
    pub revision: Revision,
    /// Grains that the last sweep has to do with.
    pub total: u64,
    /// Of these, the ones that are on the current revision.
    pub moved: u64,
    /// Of these, the ones that could not be moved and stay where they were, serving.
    pub failed: u64,
    /// Of these, the ones that the sweep has not come to.
    pub left: u64,
    /// Whether a sweep is going on.
    pub running: bool,
    /// Grains that could not be moved, by a sweep or by a call, and have not moved since.
    pub stuck: u64,
    /// The first hundred of these.
    pub failures: Vec<UpgradeFailure>,
}

impl UpgradeStatus {
    /// Counts in what another host knows of its grains.
    pub(crate) fn add(&mut self, other: UpgradeStatus) {
        let sum = |count: &mut u64, more: u64| *count = count.saturating_add(more);
        sum(&mut self.total, other.total);
        sum(&mut self.moved, other.moved);
        sum(&mut self.failed, other.failed);
        sum(&mut self.left, other.left);
        sum(&mut self.stuck, other.stuck);
        self.running |= other.running;
        let listed: BTreeSet<GrainKey> = self.failures.iter().map(|failure| failure.key.clone()).collect();
        for failure in other.failures {
            if listed.contains(&failure.key) {
                // It has been on both hosts: one grain.
                self.stuck = self.stuck.saturating_sub(1);
            } else {
                self.failures.push(failure);
            }
        }
        self.failures.sort_by(|a, b| a.key.cmp(&b.key));
        self.failures.truncate(LISTED);
    }
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

/// The stuck grains of one type, for its current revision.
#[derive(Default)]
pub(crate) struct Stuck {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    target: Revision,
    ids: BTreeSet<GrainId>,
    reasons: BTreeMap<GrainId, UpgradeFailure>,
}

impl Stuck {
    /// A move to `target` has failed. Ignored when another revision is current by now.
    pub(crate) fn note(&self, target: Revision, grain: GrainId, mut failure: UpgradeFailure) {
        failure
            .reason
            .truncate(failure.reason.floor_char_boundary(REASON_LIMIT));
        let mut inner = self.lock();
        if inner.target != target && inner.target != Revision(0) {
            return;
        }
        if inner.ids.len() < COUNTED {
            inner.ids.insert(grain);
        }
        if inner.reasons.len() < REASONS || inner.reasons.contains_key(&grain) {
            inner.reasons.insert(grain, failure);
        }
    }

    /// The grain has moved, or is gone.
    pub(crate) fn forget(&self, grain: GrainId) {
        let mut inner = self.lock();
        inner.ids.remove(&grain);
        inner.reasons.remove(&grain);
    }

    /// Another revision is current: all may move again.
    pub(super) fn clear(&self, target: Revision) {
        *self.lock() = Inner {
            target,
            ..Inner::default()
        };
    }

    pub(crate) fn find(&self, grain: GrainId) -> Option<UpgradeFailure> {
        self.lock().reasons.get(&grain).cloned()
    }

    pub(crate) fn count(&self) -> u64 {
        self.lock().ids.len() as u64
    }

    /// The first hundred, by key.
    pub(crate) fn listed(&self) -> Vec<UpgradeFailure> {
        let mut listed: Vec<_> = self.lock().reasons.values().cloned().collect();
        listed.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
        listed.truncate(LISTED);
        listed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic under this lock")
    }
}
