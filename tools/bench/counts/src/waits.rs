//! The graph of waiting grains: calls as deep as they may be, and the one that would close the circle.

use granary_core::id::{GrainId, GrainKey, GrainName, GrainType};
use granary_core::message::CALL_DEPTH_LIMIT;
use granary_core::waits::WaitGraph;

/// Beside so many other grains that wait.
const OTHERS: usize = 1000;

pub(crate) fn nested_calls(rounds: u64) -> u64 {
    let ids: Vec<GrainId> = (0..2 * OTHERS + CALL_DEPTH_LIMIT).map(grain).collect();
    let (others, chain) = ids.split_at(2 * OTHERS);
    let mut graph = WaitGraph::new();
    let mut steps = 0;
    for pair in others.chunks_exact(2) {
        steps += u64::from(graph.add(pair[0], pair[1]));
    }
    for _ in 0..rounds {
        for pair in chain.windows(2) {
            steps += u64::from(graph.add(pair[0], pair[1]));
        }
        let closed = graph.add(chain[CALL_DEPTH_LIMIT - 1], chain[0]);
        assert!(!closed, "a circle of waits is refused");
        for pair in chain.windows(2).rev() {
            graph.remove(pair[0], pair[1]);
        }
    }
    steps
}

fn grain(number: usize) -> GrainId {
    let kind = GrainType::new("counter").expect("a name of letters is one");
    let key = GrainKey::new(&number.to_string()).expect("digits are a key");
    GrainName::new(kind, key).id()
}
