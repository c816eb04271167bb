//! How an activation stands with its replicas: what it hears of them, and how it goes to another host.

use std::sync::Arc;

use granary_core::activation::Input;
use granary_core::id::HostId;
use granary_core::message::Token;
use tokio::sync::Notify;

use super::super::agreement::Standing;
use super::Driver;
use crate::cluster::News;

impl Driver {
    /// What the machine hears from its grain's replicas.
    pub(in crate::activation) fn news(self: &Arc<Self>, news: News) {
        let mut state = self.lock();
        state.standing.hear(news);
        let input = match news {
            News::Committed(_) => Input::Durable,
            News::Over => Input::Oust,
            News::Isolated | News::Reachable => return,
        };
        self.standing_changed.notify_waiters();
        self.step(state, input);
    }

    /// Whether it has its replicas' promise, as far as it knows, or is about to get it.
    pub(in crate::activation) fn is_serving(&self) -> bool {
        let state = self.lock();
        (state.origin.is_some() || state.is_running) && !state.standing.is_over
    }

    /// How it stands with the cluster's agreement.
    pub(in crate::activation) fn standing(&self) -> Standing {
        self.lock().standing
    }

    /// Told when [`Driver::standing`] has changed.
    pub(in crate::activation) fn standing_changed(&self) -> &Notify {
        &self.standing_changed
    }

    /// Leaves for another host once what goes on is done.
    pub(in crate::activation) fn depart(self: &Arc<Self>, to: HostId) {
        let mut state = self.lock();
        state.standing.heir = Some(to);
        self.step(state, Input::Depart);
    }

    /// Fails a request that is part of a circle of calls, if it hasn't begun.
    pub(in crate::activation) fn recall(self: &Arc<Self>, token: Token) {
        let state = self.lock();
        self.step(state, Input::Recall(token));
    }
}
