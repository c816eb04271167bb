//! Requests that come from outside of all grains: from callers by HTTP, and from the host itself, to move a grain to its type's current revision
//! or to end what is left of one.

use std::sync::Arc;
use std::time::Duration;

use granary_core::api::{CallFailure, Code, Committed};
use granary_core::id::{GrainName, RequestId};
use granary_core::message::{Caller, Once, Reply, Request, Work};
use granary_core::routing::Travel;

use super::{Catalog, Parcel, Waiter, refusal};
use crate::modules::Line;

/// What somebody outside wants of a grain, and for how long they wait.
#[derive(Debug)]
pub(crate) struct OutsideRequest<'a> {
    pub(crate) id: RequestId,
    pub(crate) grain: &'a GrainName,
    pub(crate) work: Work,
    pub(crate) once: Option<Once>,
    pub(crate) timeout: Duration,
}

impl Catalog {
    /// Asks a grain, wherever it is, and waits for its reply. The turn goes on when this future is dropped.
    pub(crate) async fn request(self: &Arc<Self>, line: &Arc<Line>, asked: OutsideRequest<'_>) -> Reply {
        let OutsideRequest {
            id,
            grain,
            work,
            once,
            timeout,
        } = asked;
        let parts = &self.parts;
        let deadline = parts.clock.time().plus_nanos(timeout.as_nanos() as u64);
        let alone = parts.stays_alone().await;
        if let Some(cluster) = parts.cluster() {
            let parcel = Parcel {
                id,
                grain: grain.clone(),
                work,
                once,
                chain: Arc::new([]),
                deadline,
                caller: None,
                sender: None,
            };
            return self.reach(cluster, &parcel, None, Travel::default()).await;
        }
        let token = parts.token();
        let caller = Caller::Outside;
        let request = Request {
            token,
            id,
            work,
            caller,
            deadline,
            chain: Arc::new([]),
            once,
        };
        let waiting = match parts.backlog.admit(&request) {
            Ok(waiting) => waiting,
            Err(failure) => return refusal(failure),
        };
        let (waiter, mut reply) = Waiter::new(None, waiting);
        let driver = self.deliver(grain, line, request, waiter);
        drop(alone);
        let answer = match tokio::time::timeout(timeout, &mut reply).await {
            Ok(answer) => answer,
            Err(_) => {
                // The activation says whether the turn may have run.
                driver.withdraw(token);
                reply.await
            }
        };
        match answer {
            Ok((reply, _)) => reply,
            Err(_) => refusal(CallFailure {
                committed: Committed::Unknown,
                ..CallFailure::before(Code::Overloaded, "the host stops: ask again when it's back")
            }),
        }
    }

    /// The host itself asks. A grain that is in memory only for that leaves again.
    pub(super) async fn ask(
        self: &Arc<Self>,
        line: &Arc<Line>,
        grain: &GrainName,
        work: Work,
        timeout: Duration,
    ) -> Result<(), CallFailure> {
        let was_here = self.find(grain.id()).is_some();
        let asked = OutsideRequest {
            id: RequestId([0; 16]),
            grain,
            work,
            once: None,
            timeout,
        };
        let reply = self.request(line, asked).await;
        if let Some(driver) = self.find(grain.id()).filter(|_| !was_here) {
            // Nobody has called it: it doesn't take the place of one that is.
            driver.evict();
        }
        reply.result.map(drop)
    }
}
