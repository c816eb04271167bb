//! Moves a grain to another host: it finishes here what it has begun, lets go, and the other host takes it over at once, from its own
//! copy or from another replica's.
//!
//! Requests that come here meanwhile wait for the other host's word, a moment; then routing sends them on and tells their senders. When the
//! other host doesn't take the grain, whoever is asked next for it does.
//!
//! **Not here:** who decides that a grain moves (`router::drain`, an operator).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use granary_core::api::{CallFailure, Code};
use granary_core::id::{Ballot, GrainId, GrainName, HostId, RequestId};
use granary_core::message::Work;

use super::parcel::Parcel;
use super::peers::Ask;
use super::reach::Tried;
use super::{Catalog, Driver};
use crate::cluster::{Handle, decode};

/// How long the turn that runs may take, and the commits before it.
const LAST_TURN: Duration = Duration::from_secs(60);
/// How long the other host has to take the grain.
const TAKE_PATIENCE: Duration = Duration::from_secs(3);
/// Between its tries: the replicas may not have heard yet that the grain was let go.
const TAKE_PAUSE: Duration = Duration::from_millis(2);
/// Grains that leave at a time.
const LEAVING_MOST: usize = 1000;

/// Grains that are leaving, and until when that's given up.
#[derive(Debug, Default)]
pub(super) struct Departures(Mutex<HashMap<GrainId, Instant>>);

impl Departures {
    /// Whether a grain is on its way to another host: in a moment it's known to be there.
    pub(super) fn has(&self, id: GrainId) -> bool {
        let leaving = self.0.lock().expect("no panic under this lock");
        !leaving.is_empty() && leaving.get(&id).is_some_and(|until| *until > Instant::now())
    }

    /// Nothing when it's leaving already, or too many are.
    fn begin(&self, id: GrainId) -> Option<Leaving<'_>> {
        let mut leaving = self.0.lock().expect("no panic under this lock");
        let now = Instant::now();
        leaving.retain(|_, until| *until > now);
        if leaving.contains_key(&id) || leaving.len() >= LEAVING_MOST {
            return None;
        }
        leaving.insert(id, now + LAST_TURN + TAKE_PATIENCE);
        Some(Leaving { all: self, id })
    }
}

/// A grain that is leaving, until it has left or whoever has it moved is gone: calls to it wait for no longer than that.
struct Leaving<'a> {
    all: &'a Departures,
    id: GrainId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.all.0.lock().expect("no panic under this lock").remove(&self.id);
    }
}

impl Catalog {
    /// Whether a grain is on its way to another host.
    pub(crate) fn is_leaving(&self, id: GrainId) -> bool {
        self.departures.has(id)
    }

    /// Moves a grain that is in memory here to another host. Returns for how long it was on neither.
    pub(crate) async fn send_off(
        self: &Arc<Self>,
        cluster: &Handle,
        driver: &Arc<Driver>,
        to: HostId,
    ) -> Result<Duration, CallFailure> {
        let (id, name) = (driver.id(), driver.name().clone());
        let Some(leaving) = self.departures.begin(id) else {
            let detail = format!("`{name}` is being moved already, or too many grains are");
            return Err(CallFailure::before(Code::Overloaded, detail));
        };
        driver.depart(to);
        if tokio::time::timeout(LAST_TURN, driver.gone()).await.is_err() {
            let detail = format!("`{name}` is still at work: it goes when that's done");
            return Err(CallFailure::before(Code::Deadline, detail));
        }
        let began = Instant::now();
        let answer = cluster.call(to, Ask::take(&name), TAKE_PATIENCE).await;
        let taken = answer
            .ok()
            .and_then(|answer| decode::<Option<Ballot>>(&answer))
            .flatten();
        let pause = began.elapsed();
        if let Some(ballot) = taken {
            cluster.handed(id, ballot);
            // Whether it's stuck is that host's to say now.
            driver.line().stuck().forget(id);
        }
        drop(leaving);
        taken.map(|_| pause).ok_or_else(|| {
            let detail = format!("host {to} hasn't taken `{name}`: its next call finds a host for it");
            CallFailure::before(Code::NoQuorum, detail)
        })
    }

    /// The same for one of many, whose failure is for the log.
    pub(crate) async fn send_off_or_say(self: &Arc<Self>, cluster: &Handle, driver: &Arc<Driver>, to: HostId) {
        if let Err(failure) = self.send_off(cluster, driver, to).await {
            tracing::info!(grain = %driver.name(), why = failure.detail, "a grain hasn't moved yet");
        }
    }

    /// Another host has let go of a grain for this one. The ballot by which it's here now, if it is.
    pub(super) async fn take(self: &Arc<Self>, cluster: &Handle, grain: GrainName) -> Option<Ballot> {
        if self.parts.draining.load(Ordering::Relaxed) {
            return None;
        }
        let id = grain.id();
        let limit = Instant::now() + TAKE_PATIENCE;
        let parcel = Parcel {
            id: RequestId([0; 16]),
            grain,
            work: Work::Move,
            once: None,
            chain: Arc::new([]),
            deadline: self.parts.clock.time().plus_nanos(TAKE_PATIENCE.as_nanos() as u64),
            caller: None,
            sender: None,
        };
        while Instant::now() < limit {
            match self.serve_here(cluster, &parcel).await {
                Tried::Done(_) => return Some(self.find(id)?.last()?.0),
                Tried::Again(..) => tokio::time::sleep(TAKE_PAUSE).await,
            }
        }
        None
    }
}

impl Driver {
    /// Resolves when the activation has left.
    async fn gone(&self) {
        loop {
            let changed = self.standing_changed().notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.standing().is_gone {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grain_leaves_once_at_a_time_and_no_longer_than_somebody_sees_to_it() {
        let (departures, id) = (Departures::default(), GrainId([1; 16]));
        let leaving = departures.begin(id).unwrap();
        assert!(departures.has(id) && departures.begin(id).is_none());
        // Also when its mover is cancelled: an operator's client that goes away.
        drop(leaving);
        assert!(!departures.has(id) && departures.begin(id).is_some());
    }
}
