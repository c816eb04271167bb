//! Who waits for whom: finds the call that would close a circle, at once.
//!
//! An edge A -> B says that A's running turn waits for a reply from B. A grain runs one turn at a time and a turn waits for
//! all its calls, so a circle of edges can never resolve itself: each grain in it waits for a mailbox that isn't read until its
//! own turn ends. Such a call fails with `deadlock` instead of waiting for its deadline. This is the wait-for graph of database
//! lock tables (Gray and Reuter, *Transaction Processing*, 7.11) with grains in place of transactions.
//!
//! An edge has to be taken back when the reply is given, not when the waiting turn wakes up: the callee's next turn may
//! rightly call its former caller before that.
//!
//! **Not here:** circles that span hosts: each host has a graph of its own, and they are chased from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::GrainId;

/// All edges of a host. Its size is bounded by the calls in flight.
#[derive(Debug, Default)]
pub struct WaitGraph {
    /// Each waiting grain with those it waits for, as often as it waits for them.
    edges: BTreeMap<GrainId, Vec<GrainId>>,
}

impl WaitGraph {
    /// No edges.
    pub fn new() -> WaitGraph {
        WaitGraph::default()
    }

    /// Adds the edge `from` -> `to`. Returns `false`, and adds nothing, when it would close a circle.
    pub fn add(&mut self, from: GrainId, to: GrainId) -> bool {
        if from == to || self.reaches(to, from) {
            return false;
        }
        self.edges.entry(from).or_default().push(to);
        true
    }

    /// Takes one edge `from` -> `to` back.
    ///
    /// # Panics
    ///
    /// When there is none: an edge was taken back twice.
    pub fn remove(&mut self, from: GrainId, to: GrainId) {
        let targets = self
            .edges
            .get_mut(&from)
            .expect("an edge is there until it's taken back");
        let at = targets
            .iter()
            .position(|target| *target == to)
            .expect("an edge is there until it's taken back");
        targets.swap_remove(at);
        if targets.is_empty() {
            self.edges.remove(&from);
        }
    }

    /// Those for whom `from` waits.
    pub fn targets(&self, from: GrainId) -> Vec<GrainId> {
        self.edges.get(&from).cloned().unwrap_or_default()
    }

    /// Edges in the graph.
    pub fn len(&self) -> usize {
        self.edges.values().map(Vec::len).sum()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    fn reaches(&self, from: GrainId, goal: GrainId) -> bool {
        // Most callees wait for nobody.
        if !self.edges.contains_key(&from) {
            return false;
        }
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(grain) = open.pop() {
            for &target in self.edges.get(&grain).into_iter().flatten() {
                if target == goal {
                    return true;
                }
                if seen.insert(target) {
                    open.push(target);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GrainId = GrainId([1; 16]);
    const B: GrainId = GrainId([2; 16]);
    const C: GrainId = GrainId([3; 16]);

    #[test]
    fn a_call_to_oneself_is_a_circle() {
        assert!(!WaitGraph::new().add(A, A));
    }

    #[test]
    fn the_call_that_closes_a_circle_is_refused_and_leaves_no_edge() {
        let mut waits = WaitGraph::new();
        assert!(waits.add(A, B) && waits.add(B, C));
        assert!(!waits.add(C, A));
        assert_eq!(waits.len(), 2);
        waits.remove(A, B);
        assert!(waits.add(C, A));
    }

    #[test]
    fn two_that_call_a_third_are_no_circle() {
        let mut waits = WaitGraph::new();
        assert!(waits.add(A, C) && waits.add(B, C));
    }

    #[test]
    fn parallel_calls_to_one_grain_are_counted() {
        let mut waits = WaitGraph::new();
        assert!(waits.add(A, B) && waits.add(A, B));
        waits.remove(A, B);
        assert!(!waits.add(B, A));
        waits.remove(A, B);
        assert!(waits.is_empty() && waits.add(B, A));
    }
}
