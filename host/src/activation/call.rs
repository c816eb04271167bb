//! A turn and the calls that it makes.
//!
//! **Not here:** what a turn's end means for its grain (the machine).

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use granary_core::activation::TurnEnd;
use granary_core::api::{CallFailure, Code};
use granary_core::id::{CallRoot, GrainId, GrainKey, GrainName, GrainType, Lsn, RequestId};
use granary_core::message::{CALL_DEPTH_LIMIT, Caller, Once, Request, Work};
use granary_core::reply_table::Outcome;
use granary_core::routing::Travel;
use granary_core::time::Time;
use tokio::task::JoinSet;

use super::answer::checked;
use super::driver::Driver;
use super::parcel::Parcel;
use super::waiter::WaitEdge;
use super::{Catalog, Waiter};
use crate::cluster::Handle;
use crate::modules::{Line, Target};
use crate::wasm::{
    Fault, FaultKind, GuestCall, GuestCallError, Instance, LogLevel, LogSource, Replies, TurnFailure, TurnHost,
};

/// One turn's side of the host.
pub(super) struct TurnCalls {
    driver: Arc<Driver>,
    id: RequestId,
    deadline: Time,
    /// Those who wait for this turn.
    waiting: Arc<[GrainId]>,
    /// They and this grain, once the turn calls somebody.
    chain: OnceLock<Arc<[GrainId]>>,
    once: Option<CallRoot>,
    /// How many calls it has made of each kind, if they have ids: by callee and fingerprint.
    alike: Mutex<HashMap<(GrainId, [u8; 16]), u32>>,
    seen: AtomicU64,
}

impl TurnCalls {
    pub(super) fn new(driver: &Arc<Driver>, request: &Request) -> Arc<TurnCalls> {
        Arc::new(TurnCalls {
            driver: driver.clone(),
            id: request.id,
            deadline: request.deadline,
            waiting: request.chain.clone(),
            chain: OnceLock::new(),
            once: request.once.map(|once| CallRoot { seed: once.call.0 }),
            alike: Mutex::default(),
            seen: AtomicU64::new(0),
        })
    }

    /// The highest horizon among the replies that the turn has seen.
    pub(super) fn seen(&self) -> Lsn {
        Lsn(self.seen.load(Ordering::Acquire))
    }

    /// Runs the request's method to its end.
    pub(super) async fn run(self: Arc<Self>, instance: &mut Instance, grain: &GrainName, request: Request) -> TurnEnd {
        let Work::Call { method, args, .. } = &request.work else {
            unreachable!("the machine deletes without a turn");
        };
        let id = request.id.to_string();
        let parts = self.driver.parts().clone();
        let host = Arc::new(TurnHandle(self));
        let answer = instance.call(host, grain.key.as_str(), &id, method, args).await;
        match answer.and_then(checked) {
            Ok(Ok(value)) => TurnEnd::Done(Outcome::Value(value)),
            Ok(Err(fault)) => fault_end(fault),
            Err(failure) if failure.did_not_run() => {
                TurnEnd::Refused(CallFailure::before(Code::Overloaded, failure.to_string()))
            }
            Err(failure) => {
                parts.metrics.failed_turns.inc();
                tracing::warn!(%grain, %method, request = id, %failure, "a turn failed; its grain is as it was before");
                TurnEnd::Failed(turn_failure(&failure))
            }
        }
    }

    /// A call as a request that can go anywhere, or why it can't be one.
    fn parcel(self: &Arc<Self>, call: GuestCall) -> Result<(Parcel, Arc<Line>), CallFailure> {
        let bad = |error: granary_core::id::NameError| CallFailure::before(Code::BadArguments, error.to_string());
        let grain = GrainName::new(
            GrainType::new(&call.kind).map_err(bad)?,
            GrainKey::new(&call.key).map_err(bad)?,
        );
        let parts = self.driver.parts();
        let line = parts.modules.line(&grain.kind)?;
        let Target { method, read, revision } = line.method(&call.method)?;
        let chain = self.chain();
        if chain.len() >= CALL_DEPTH_LIMIT {
            let detail =
                format!("calls are nested {CALL_DEPTH_LIMIT} deep, as deep as they may be: `{grain}` wasn't called");
            return Err(CallFailure::before(Code::ChainTooDeep, detail));
        }
        let work = Work::Call {
            method,
            args: call.args,
            read,
            revision,
        };
        let once = self.once.map(|root| self.once(root, grain.id(), &work));
        let parcel = Parcel {
            id: self.id,
            grain,
            work,
            once,
            chain: chain.clone(),
            deadline: self.deadline,
            caller: Some(self.driver.id()),
            sender: None,
        };
        Ok((parcel, line))
    }

    /// How a repeat of this turn's call is recognised.
    fn once(&self, root: CallRoot, callee: GrainId, work: &Work) -> Once {
        let (caller, fingerprint) = (self.driver.id(), Once::fingerprint(work));
        let nth = {
            let mut alike = self.alike.lock().expect("no panic under this lock");
            let count = alike.entry((callee, fingerprint)).or_default();
            std::mem::replace(count, *count + 1)
        };
        Once {
            call: root.child(caller, callee, fingerprint, nth).call_id(),
            fingerprint,
            client: client_of(caller),
        }
    }

    fn stands_on(&self) -> Result<Arc<Catalog>, CallFailure> {
        let catalog = self.driver.catalog();
        catalog.ok_or_else(|| CallFailure::before(Code::Overloaded, "the host stops"))
    }

    /// Sends one call on its way on this host. Its reply, or why it couldn't be sent.
    fn send(self: &Arc<Self>, call: GuestCall) -> Result<Sent, CallFailure> {
        let (parcel, line) = self.parcel(call)?;
        let (parts, grain) = (self.driver.parts(), parcel.grain);
        let Some(edge) = WaitEdge::new(&parts.waits, self.driver.id(), grain.id()) else {
            parts.metrics.deadlocks.inc();
            let detail = format!(
                "`{grain}` waits, through the calls of its turn, for `{}`, which calls it",
                self.driver.name()
            );
            return Err(CallFailure::before(Code::Deadlock, detail));
        };
        let catalog = self.stands_on()?;
        let token = parts.token();
        let request = Request {
            token,
            id: parcel.id,
            work: parcel.work,
            caller: Caller::Grain,
            deadline: parcel.deadline,
            chain: parcel.chain,
            once: parcel.once,
        };
        let waiting = parts.backlog.admit(&request)?;
        let (waiter, reply) = Waiter::new(Some(edge), waiting);
        let target = catalog.deliver(&grain, &line, request, waiter);
        Ok(Sent { target, token, reply })
    }

    /// Makes calls in a cluster, where each may go to another host. Calls to one grain go one after the other, all others at once.
    async fn call_all(self: &Arc<Self>, cluster: &Handle, calls: Vec<GuestCall>) -> Vec<Result<Vec<u8>, CallFailure>> {
        // Others must not see what this activation may yet lose.
        if let Err(failure) = self.driver.settled(self.time_left()).await {
            return calls.iter().map(|_| Err(failure.clone())).collect();
        }
        let mut results: Vec<_> = calls.iter().map(|_| None).collect();
        let mut lanes: BTreeMap<GrainId, Vec<(usize, Parcel)>> = BTreeMap::new();
        for (at, call) in calls.into_iter().enumerate() {
            if let Ok(kind) = GrainType::new(&call.kind) {
                // Whether this host has heard of it shows in the parcel.
                let _ = self.driver.parts().modules.find(&kind).await;
            }
            match self.parcel(call) {
                Ok((parcel, _)) => lanes.entry(parcel.grain.id()).or_default().push((at, parcel)),
                Err(failure) => results[at] = Some(Err(failure)),
            }
        }
        let catalog = match self.stands_on() {
            Ok(catalog) => catalog,
            Err(failure) => return results.iter().map(|_| Err(failure.clone())).collect(),
        };
        let mut tasks = JoinSet::new();
        for lane in lanes.into_values() {
            let (catalog, cluster) = (catalog.clone(), cluster.clone());
            tasks.spawn(async move {
                let mut replies = Vec::with_capacity(lane.len());
                for (at, parcel) in lane {
                    let reply = catalog.reach(&cluster, &parcel, None, Travel::default()).await;
                    replies.push((at, reply.result));
                }
                replies
            });
        }
        while let Some(Ok(replies)) = tasks.join_next().await {
            replies.into_iter().for_each(|(at, result)| results[at] = Some(result));
        }
        let stopped = || Err(CallFailure::before(Code::Overloaded, "the host stops"));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(stopped))
            .collect()
    }

    /// Who waits for a callee of this turn.
    fn chain(&self) -> &Arc<[GrainId]> {
        let with_this = || self.waiting.iter().copied().chain([self.driver.id()]).collect();
        self.chain.get_or_init(with_this)
    }

    fn time_left(&self) -> Duration {
        Duration::from_nanos(self.deadline.nanos_since(self.driver.parts().clock.time()))
    }

    async fn receive(&self, sent: Result<Sent, CallFailure>) -> Result<Vec<u8>, CallFailure> {
        let mut sent = sent?;
        let answer = match tokio::time::timeout(self.time_left(), &mut sent.reply).await {
            Ok(answer) => answer,
            Err(_) => {
                sent.target.withdraw(sent.token);
                sent.reply.await
            }
        };
        let (reply, horizon) = answer.map_err(|_| CallFailure::before(Code::Overloaded, "the host stops"))?;
        self.seen.fetch_max(horizon.0, Ordering::AcqRel);
        reply.result
    }
}

/// A call on its way.
struct Sent {
    target: Arc<Driver>,
    token: granary_core::message::Token,
    reply: tokio::sync::oneshot::Receiver<(granary_core::message::Reply, Lsn)>,
}

/// Who calls, for the bound on stored replies of one client.
fn client_of(id: GrainId) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(head)
}

/// What a guest's imports reach: its turn.
struct TurnHandle(Arc<TurnCalls>);

impl TurnHost for TurnHandle {
    fn invoke(&self, calls: Vec<GuestCall>) -> Replies {
        let turn = self.0.clone();
        Box::pin(async move {
            if let Some(cluster) = turn.driver.parts().cluster().cloned() {
                let results = turn.call_all(&cluster, calls).await;
                return results.into_iter().map(|result| result.map_err(call_error)).collect();
            }
            // All are on their way before the first reply is waited for.
            let sent: Vec<_> = calls.into_iter().map(|call| turn.send(call)).collect();
            let mut replies = Vec::with_capacity(sent.len());
            for sent in sent {
                replies.push(turn.receive(sent).await.map_err(call_error));
            }
            replies
        })
    }

    fn time_left(&self) -> Duration {
        self.0.time_left()
    }

    fn log(&self, level: LogLevel, source: LogSource, message: &str) {
        self.0
            .driver
            .parts()
            .records
            .write(self.0.driver.name(), self.0.id, level, source, message);
    }
}

fn call_error(failure: CallFailure) -> GuestCallError {
    GuestCallError {
        code: failure.code.as_str().to_owned(),
        message: failure.detail,
        error: failure.error,
    }
}

pub(super) fn fault_end(fault: Fault) -> TurnEnd {
    let Fault {
        kind,
        message,
        error,
        status,
        code,
    } = fault;
    match kind {
        FaultKind::BadArguments => TurnEnd::Undone(CallFailure::before(Code::BadArguments, message)),
        FaultKind::UnknownMethod => TurnEnd::Undone(CallFailure::before(Code::UnknownMethod, message)),
        FaultKind::GuestError => TurnEnd::Done(Outcome::GuestError { error, message, status }),
        FaultKind::CallFailed => {
            // One that isn't known has failed the turn before.
            let code = code.as_deref().and_then(Code::from_word).unwrap_or(Code::GuestError);
            TurnEnd::Done(Outcome::PassedOn {
                code,
                message,
                error,
                status,
            })
        }
    }
}

pub(super) fn turn_failure(failure: &TurnFailure) -> CallFailure {
    let code = match failure {
        TurnFailure::CpuLimit { .. } => Code::TurnTimeout,
        TurnFailure::MemoryLimit { .. } => Code::MemoryLimit,
        // Others have the memory now, and give it back.
        TurnFailure::HostMemory { .. } => Code::Overloaded,
        TurnFailure::TooLarge(_) => Code::TooLarge,
        TurnFailure::Deadline => Code::Deadline,
        _ => Code::Trap,
    };
    CallFailure::before(code, failure.to_string())
}
