//! Who waits for a reply, and the edge in the wait-for graph that stands as long as they do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use granary_core::id::{GrainId, Lsn};
use granary_core::message::{Reply, Token};
use granary_core::waits::WaitGraph;
use tokio::sync::oneshot;

use super::backlog::Waiting;

/// The caller's end of a request.
pub(crate) struct Waiter {
    sender: oneshot::Sender<(Reply, Lsn)>,
    edge: Option<WaitEdge>,
    /// What the request counts for among all that wait.
    waiting: Waiting,
}

impl Waiter {
    pub(crate) fn new(edge: Option<WaitEdge>, waiting: Waiting) -> (Waiter, oneshot::Receiver<(Reply, Lsn)>) {
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { sender, edge, waiting };
        (waiter, receiver)
    }

    /// Gives the reply. The edge goes first: from now on the callee may call its caller.
    pub(crate) fn answer(self, reply: Reply, horizon: Lsn) {
        drop(self.edge);
        drop(self.waiting);
        // A caller that has gone away doesn't need its reply.
        let _ = self.sender.send((reply, horizon));
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter")
            .field("edge", &self.edge)
            .finish_non_exhaustive()
    }
}

/// Those who wait for one grain's replies. Tokens rise, and most requests are answered in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiters(VecDeque<(Token, Waiter)>);

impl Waiters {
    pub(super) fn insert(&mut self, token: Token, waiter: Waiter) {
        let at = self.0.partition_point(|(earlier, _)| *earlier < token);
        self.0.insert(at, (token, waiter));
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Waiter> {
        let at = self.0.binary_search_by_key(&token, |(token, _)| *token).ok()?;
        let (_, waiter) = self.0.remove(at)?;
        if self.0.is_empty() && self.0.capacity() > 16 {
            // A burst's room would stay with an idle grain.
            self.0 = VecDeque::new();
        }
        Some(waiter)
    }
}

/// One edge of the wait-for graph, taken back when dropped.
#[derive(Debug)]
pub(crate) struct WaitEdge {
    graph: Arc<Mutex<WaitGraph>>,
    from: GrainId,
    to: GrainId,
}

impl WaitEdge {
    /// The edge `from` -> `to`, or `None` when it would close a circle.
    pub(crate) fn new(graph: &Arc<Mutex<WaitGraph>>, from: GrainId, to: GrainId) -> Option<WaitEdge> {
        let added = graph.lock().expect("no panic under this lock").add(from, to);
        added.then(|| WaitEdge {
            graph: graph.clone(),
            from,
            to,
        })
    }
}

impl Drop for WaitEdge {
    fn drop(&mut self) {
        self.graph
            .lock()
            .expect("no panic under this lock")
            .remove(self.from, self.to);
    }
}
