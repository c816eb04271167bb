//! A request that nobody has sent but the host itself: to move a grain to its type's current revision, or to end what is left of one.

use std::sync::Arc;
use std::time::Duration;

use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainName, RequestId};
use granary_core::message::{Caller, Request, Work};
use granary_core::routing::Travel;

use super::{Catalog, Parcel, Waiter};
use crate::modules::Line;

impl Catalog {
    /// Asks a grain, wherever it is, and waits for its answer. A grain that is in memory only for that leaves again.
    pub(super) async fn ask(
        self: &Arc<Self>,
        line: &Arc<Line>,
        grain: &GrainName,
        work: Work,
        timeout: Duration,
    ) -> Result<(), CallFailure> {
        let was_here = self.find(grain.id()).is_some();
        let answer = self.ask_anywhere(line, grain, work, timeout).await;
        if let Some(driver) = self.find(grain.id()).filter(|_| !was_here) {
            // Nobody has called it: it doesn't take the place of one that is.
            driver.evict();
        }
        answer
    }

    async fn ask_anywhere(
        self: &Arc<Self>,
        line: &Arc<Line>,
        grain: &GrainName,
        work: Work,
        timeout: Duration,
    ) -> Result<(), CallFailure> {
        let parts = &self.parts;
        let deadline = parts.clock.time().plus_nanos(timeout.as_nanos() as u64);
        let alone = parts.stays_alone().await;
        if let Some(cluster) = parts.cluster() {
            let parcel = Parcel {
                id: RequestId([0; 16]),
                grain: grain.clone(),
                work,
                once: None,
                chain: Arc::new([]),
                deadline,
                caller: None,
                sender: None,
            };
            let reply = self.reach(cluster, &parcel, None, Travel::default()).await;
            return reply.result.map(drop);
        }
        let token = parts.token();
        let request = Request {
            token,
            id: RequestId([0; 16]),
            work,
            caller: Caller::Outside,
            deadline,
            chain: Arc::new([]),
            once: None,
        };
        let waiting = parts.backlog.admit(&request)?;
        let (waiter, mut reply) = Waiter::new(None, waiting);
        let driver = self.deliver(grain, line, request, waiter);
        drop(alone);
        let answer = match tokio::time::timeout(timeout, &mut reply).await {
            Ok(answer) => answer,
            Err(_) => {
                driver.withdraw(token);
                reply.await
            }
        };
        match answer {
            Ok((reply, _)) => reply.result.map(drop),
            Err(_) => Err(CallFailure::before(Code::Overloaded, "the host stops")),
        }
    }
}
