//! Finds circles of calls that span hosts: each host knows only whom its own grains wait for.
//!
//! A call to another host that has waited for a while is chased: its host asks the other one whether the callee waits, through whatever calls,
//! for the caller; that one follows its own edges and asks on where they lead to further hosts (edge chasing: Chandy, Misra, Haas, *Distributed
//! Deadlock Detection*, 1983). It follows calls to other hosts only from grains with lower ids than its own caller's: of a circle's calls between
//! hosts exactly one finds it, that of the highest of their callers. Calls on one host, which nobody chases, it follows whoever made them.
//! What is found twice in a row is recalled: if it still waits in the callee's mailbox, it fails with `deadlock` and never runs.
//!
//! **Not here:** circles on one host (`granary_core::waits`), calls that come back to a grain of their own chain (`reach`): both are refused
//! before they wait.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use granary_core::id::{GrainId, HostId};
use granary_core::message::Token;

use super::peers::Ask;
use super::{Catalog, Driver};
use crate::cluster::{CallError, Handle, decode};

/// How long a call waits before it's chased, and again between chases.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between a chase that has found a circle and the one that makes sure.
const AGAIN: Duration = Duration::from_millis(20);
/// How long another host may take for its part.
const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// Hosts that a chase may pass.
pub(super) const HOPS_MOST: u8 = 16;

/// Calls between this host and others that are waited for.
#[derive(Debug, Default)]
pub(super) struct FarCalls {
    /// From a grain here to a grain: on which host that is. As often as it's called.
    out: Mutex<HashMap<(GrainId, GrainId), Vec<HostId>>>,
    /// From a host, by its own number: in whose mailbox that is.
    arrived: Mutex<HashMap<(HostId, u64), Waiting>>,
    /// From a host, by its own number, and passed on, for the grain has left: where to.
    passed: Mutex<HashMap<(HostId, u64), Passed>>,
}

/// In which mailbox a call waits, under which token.
type Waiting = (Weak<Driver>, Token);

/// Which grain a call is for, to which host it was passed on, and its number from here.
type Passed = (GrainId, HostId, u64);

/// A call that is waited for; until it's dropped.
pub(super) struct Sent<'a>(&'a FarCalls, (GrainId, GrainId), HostId);

/// A call that another host waits for; until it's dropped.
pub(super) struct Arrived<'a>(&'a FarCalls, (HostId, u64));

/// A call of another host that waits on a third one; until it's dropped.
pub(super) struct PassedOn<'a>(&'a FarCalls, (HostId, u64));

impl FarCalls {
    pub(super) fn send(&self, from: GrainId, to: GrainId, host: HostId) -> Sent<'_> {
        let mut out = self.out.lock().expect("no panic under this lock");
        out.entry((from, to)).or_default().push(host);
        Sent(self, (from, to), host)
    }

    pub(super) fn arrive(&self, call: (HostId, u64), driver: &Arc<Driver>, token: Token) -> Arrived<'_> {
        let mut arrived = self.arrived.lock().expect("no panic under this lock");
        arrived.insert(call, (Arc::downgrade(driver), token));
        Arrived(self, call)
    }

    pub(super) fn pass_on(&self, call: (HostId, u64), callee: GrainId, (to, number): (HostId, u64)) -> PassedOn<'_> {
        let mut passed = self.passed.lock().expect("no panic under this lock");
        passed.insert(call, (callee, to, number));
        PassedOn(self, call)
    }

    /// Where calls for a grain were passed on to.
    fn passed_to(&self, callee: GrainId) -> Option<HostId> {
        // Few are at a time: who has sent one hears where the grain is.
        let passed = self.passed.lock().expect("no panic under this lock");
        passed.values().find(|(of, ..)| *of == callee).map(|(_, to, _)| *to)
    }

    fn host_of(&self, from: GrainId, to: GrainId) -> Option<HostId> {
        let out = self.out.lock().expect("no panic under this lock");
        out.get(&(from, to))?.first().copied()
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let mut out = self.0.out.lock().expect("no panic under this lock");
        if let Some(hosts) = out.get_mut(&self.1) {
            if let Some(at) = hosts.iter().position(|host| *host == self.2) {
                hosts.swap_remove(at);
            }
            if hosts.is_empty() {
                out.remove(&self.1);
            }
        }
    }
}

impl Drop for Arrived<'_> {
    fn drop(&mut self) {
        self.0.arrived.lock().expect("no panic under this lock").remove(&self.1);
    }
}

impl Drop for PassedOn<'_> {
    fn drop(&mut self) {
        self.0.passed.lock().expect("no panic under this lock").remove(&self.1);
    }
}

impl Catalog {
    /// Waits for the answer to a call of `caller` to `callee` on host `to`, which knows it as `number`, and looks for circles meanwhile.
    pub(super) async fn chasing(
        self: &Arc<Self>,
        cluster: &Handle,
        (caller, callee): (GrainId, GrainId),
        (to, number): (HostId, u64),
        answer: impl Future<Output = Result<Bytes, CallError>>,
    ) -> Result<Bytes, CallError> {
        let _sent = self.far.send(caller, callee, to);
        tokio::pin!(answer);
        loop {
            let pause = tokio::time::sleep(PATIENCE);
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = async {
                    pause.await;
                    self.break_circle(cluster, (caller, callee), (to, number)).await;
                } => {}
            }
        }
    }

    /// Recalls a call that is part of a circle. The answer comes the usual way: that it was recalled, or what came of it.
    async fn break_circle(&self, cluster: &Handle, (caller, callee): (GrainId, GrainId), (to, number): (HostId, u64)) {
        let chase = || self.chase_at(cluster, to, caller, callee, HOPS_MOST);
        if !chase().await {
            return;
        }
        tokio::time::sleep(AGAIN).await;
        if chase().await {
            self.parts.metrics.deadlocks.inc();
            let _ = cluster.call(to, Ask::recall(number), ANSWER_PATIENCE).await;
        }
    }

    async fn chase_at(&self, cluster: &Handle, host: HostId, origin: GrainId, at: GrainId, hops: u8) -> bool {
        let answer = cluster.call(host, Ask::chase(origin, at, hops), ANSWER_PATIENCE).await;
        answer.ok().and_then(|answer| decode::<bool>(&answer)).unwrap_or(false)
    }

    /// Whether a grain here waits for `origin`, through whatever calls.
    pub(super) async fn chase(&self, cluster: &Handle, origin: GrainId, at: GrainId, hops: u8) -> bool {
        let (mut seen, mut open, mut far) = (BTreeSet::from([at]), vec![at], Vec::new());
        far.extend(self.far.passed_to(at).map(|host| (host, at)));
        while let Some(grain) = open.pop() {
            let targets = self
                .parts
                .waits
                .lock()
                .expect("no panic under this lock")
                .targets(grain);
            for target in targets {
                let host = self.far.host_of(grain, target);
                if host.is_some() && grain >= origin {
                    // What is behind that call is found from there.
                    continue;
                }
                if target == origin {
                    return true;
                }
                if seen.insert(target) {
                    match host {
                        Some(host) => far.push((host, target)),
                        None => open.push(target),
                    }
                }
            }
        }
        for (host, target) in far.into_iter().filter(|_| hops > 0) {
            if Box::pin(self.chase_at(cluster, host, origin, target, hops - 1)).await {
                return true;
            }
        }
        false
    }

    /// Takes a call of another host back, if it hasn't begun, wherever it waits.
    pub(super) async fn recall(&self, cluster: &Handle, from: HostId, number: u64) {
        let call = (from, number);
        let found = self
            .far
            .arrived
            .lock()
            .expect("no panic under this lock")
            .get(&call)
            .cloned();
        if let Some((driver, token)) = found.and_then(|(driver, token)| Some((driver.upgrade()?, token))) {
            driver.recall(token);
            return;
        }
        let passed = self
            .far
            .passed
            .lock()
            .expect("no panic under this lock")
            .get(&call)
            .copied();
        if let Some((_, to, number)) = passed {
            let _ = cluster.call(to, Ask::recall(number), ANSWER_PATIENCE).await;
        }
    }
}
