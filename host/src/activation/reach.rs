//! How a request gets to its grain in a cluster: here at once when the grain is active here, else where routing says; again when the
//! grain has moved meanwhile.
//!
//! A request is sent again when it's known not to have run, or when a repeat has no second effect (a read, a call with an id). Otherwise its
//! caller hears that the outcome is unknown.
//!
//! **Not here:** where a grain is (`granary_core::routing`), how bytes travel (`cluster::Link`).

use std::sync::Arc;
use std::time::Duration;

use granary_core::api::{CallFailure, Code, Committed, Durability};
use granary_core::id::{Ballot, GrainType, HostId, Revision, Seq};
use granary_core::message::{Caller, Reply, Request, RestsOn, Work};
use granary_core::placement::Policy;
use granary_core::routing::{Refusal, Travel};

use super::parcel::{Parcel, SentParcel, SentReply};
use super::waiter::WaitEdge;
use super::{Catalog, Waiter};
use crate::cluster::{CallError, Handle, Way, decode, encode};

/// The first pause before a request goes out again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(2);
/// The longest.
const PAUSE_MOST: Duration = Duration::from_millis(500);

/// What becomes of one try.
pub(super) enum Tried {
    Done(Reply),
    /// It didn't run, or may run again.
    Again(Travel, CallFailure),
}

impl Catalog {
    /// Sends a request to its grain, wherever that is, and waits for the reply. `from` has sent it here.
    pub(crate) async fn reach(
        self: &Arc<Self>,
        cluster: &Handle,
        parcel: &Parcel,
        from: Option<HostId>,
        travel: Travel,
    ) -> Reply {
        let (mut travel, mut pause) = (travel, PAUSE);
        loop {
            let failure = match self.try_reach(cluster, parcel, from, travel).await {
                Tried::Done(reply) => return reply,
                Tried::Again(next, failure) => {
                    travel = next;
                    failure
                }
            };
            let left = self.time_left(parcel);
            // Whoever has sent it here tries again himself: he may know by then where the grain is.
            if left <= pause || from.is_some() {
                return refusal(failure);
            }
            self.parts.metrics.resent.inc();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    async fn try_reach(
        self: &Arc<Self>,
        cluster: &Handle,
        parcel: &Parcel,
        from: Option<HostId>,
        travel: Travel,
    ) -> Tried {
        let id = parcel.grain.id();
        if self.departures.has(id) {
            return Tried::Again(travel, super::agreement::moved());
        }
        let is_here = self.find(id).is_some_and(|driver| driver.is_serving());
        let way = if is_here {
            Way::Here
        } else {
            let route = cluster.route(id, self.placement(&parcel.grain.kind), from, travel);
            match tokio::time::timeout(self.time_left(parcel), route).await {
                Ok(way) => way,
                Err(_) => return Tried::Done(refusal(CallFailure::deadline(Committed::No))),
            }
        };
        match way {
            Way::Here => {
                self.parts.metrics.arrivals.count(travel.hops);
                self.serve_here(cluster, parcel).await
            }
            Way::There(to, travel) => self.send_there(cluster, parcel, to, travel).await,
            Way::Closed => Tried::Done(refusal(stops())),
            Way::Refused(why) => {
                let code = match why {
                    Refusal::TooManyHops => Code::Moved,
                    Refusal::TooManyWaiting => Code::Overloaded,
                    Refusal::Lost(_) => Code::NoQuorum,
                };
                let detail = match why {
                    Refusal::TooManyHops => "the grain moves faster than the news of it",
                    Refusal::TooManyWaiting => "too many requests wait to hear where their grains are",
                    Refusal::Lost(_) => "no host that could know where the grain is has answered",
                };
                Tried::Again(Travel::default(), CallFailure::before(code, detail))
            }
        }
    }

    pub(super) async fn serve_here(self: &Arc<Self>, cluster: &Handle, parcel: &Parcel) -> Tried {
        let find = self.parts.modules.find(&parcel.grain.kind);
        let line = match tokio::time::timeout(self.time_left(parcel), find).await {
            Ok(Ok(line)) => line,
            Ok(Err(failure)) => return Tried::Done(refusal(failure)),
            Err(_) => return Tried::Done(refusal(CallFailure::deadline(Committed::No))),
        };
        let edge = match self.wait_edge(parcel) {
            Ok(edge) => edge,
            Err(failure) => return Tried::Done(refusal(failure)),
        };
        let token = self.parts.token();
        let request = Request {
            token,
            id: parcel.id,
            work: parcel.work.clone(),
            // What crosses from grain to grain is committed first, so a caller on this host waits like one outside.
            caller: Caller::Outside,
            deadline: parcel.deadline,
            chain: parcel.chain.clone(),
            once: parcel.once,
        };
        let waiting = match self.parts.backlog.admit(&request) {
            Ok(waiting) => waiting,
            Err(failure) => return Tried::Done(refusal(failure)),
        };
        let (waiter, mut answer) = Waiter::new(edge, waiting);
        let driver = self.deliver(&parcel.grain, &line, request, waiter);
        let _arrived = parcel.sender.map(|call| self.far.arrive(call, &driver, token));
        let answer = match tokio::time::timeout(self.time_left(parcel), &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                driver.withdraw(token);
                answer.await
            }
        };
        let Ok((mut reply, _)) = answer else {
            return Tried::Done(refusal(CallFailure {
                committed: Committed::Unknown,
                ..CallFailure::before(Code::Overloaded, "the host stops: ask again when it's back")
            }));
        };
        let by = driver.last().map(|(ballot, _)| ballot);
        if parcel.sender.is_some() {
            // Only another host has a way to remember.
            reply.by = by;
        }
        match &reply.result {
            Err(failure) if failure.code == Code::Moved => {
                let failure = failure.clone();
                if failure.committed == Committed::No || parcel.is_repeatable() {
                    return Tried::Again(Travel::default(), failure);
                }
                Tried::Done(reply)
            }
            _ if reply.rests_on == RestsOn::State => self.confirm(cluster, parcel, by, reply).await,
            _ => Tried::Done(reply),
        }
    }

    /// Lets a reply out that rests on the state that is known here: a quorum has to say, after the request came, that nobody else has
    /// committed since. Reads, deletions of what isn't there, stored replies, and failures that tell something of the state are such.
    async fn confirm(&self, cluster: &Handle, parcel: &Parcel, by: Option<Ballot>, reply: Reply) -> Tried {
        let fresh = async {
            match by {
                Some(by) => cluster.read(parcel.grain.id(), by, reply.seq).await,
                None => false,
            }
        };
        match tokio::time::timeout(self.time_left(parcel), fresh).await {
            Ok(true) => Tried::Done(reply),
            // Nothing was committed here, but a turn that may write may have called others.
            Ok(false) if parcel.is_repeatable() || parcel.work == Work::Delete => {
                Tried::Again(Travel::default(), super::agreement::moved())
            }
            Ok(false) => Tried::Done(refusal(super::agreement::moved())),
            Err(_) => {
                let detail = "too few of the hosts that keep this grain's copies have answered";
                Tried::Done(refusal(CallFailure::before(Code::NoQuorum, detail)))
            }
        }
    }

    /// How a type wants its grains placed.
    pub(crate) fn placement(&self, kind: &GrainType) -> Policy {
        let line = self.parts.modules.line(kind);
        line.map_or(Policy::default(), |line| line.current().contract.placement)
    }

    /// Notes that the caller waits for the grain, unless that closes a circle.
    fn wait_edge(&self, parcel: &Parcel) -> Result<Option<WaitEdge>, CallFailure> {
        let id = parcel.grain.id();
        let edge = match parcel.caller {
            _ if parcel.chain.contains(&id) => None,
            None => return Ok(None),
            Some(caller) => WaitEdge::new(&self.parts.waits, caller, id),
        };
        edge.map(Some).ok_or_else(|| {
            self.parts.metrics.deadlocks.inc();
            let detail = format!("`{}` waits, through the calls of its turn, for this call", parcel.grain);
            CallFailure::before(Code::Deadlock, detail)
        })
    }

    async fn send_there(self: &Arc<Self>, cluster: &Handle, parcel: &Parcel, to: HostId, travel: Travel) -> Tried {
        let number = self.parts.token().0;
        let sent = SentParcel::new(parcel, travel, number, self.parts.clock.time());
        let callee = parcel.grain.id();
        let _edge = match self.wait_edge(parcel) {
            Ok(edge) => edge,
            Err(failure) => return Tried::Done(refusal(failure)),
        };
        let answer = cluster.call(to, super::peers::Ask::invoke(&sent), self.time_left(parcel));
        // A call that is part of a circle is looked for where it was sent to first.
        let within_a_turn = parcel.sender.filter(|_| !parcel.chain.is_empty());
        let _passed = within_a_turn.map(|call| self.far.pass_on(call, callee, (to, number)));
        let answer = match parcel.caller {
            Some(caller) => self.chasing(cluster, (caller, callee), (to, number), answer).await,
            None => answer.await,
        };
        let gone = Travel {
            tried: Some(to),
            ..Travel::default()
        };
        match answer {
            Ok(bytes) => match decode::<SentReply>(&bytes) {
                Some(sent) => {
                    let reply = sent.open();
                    if let Some(by) = reply.by.filter(|by| by.host != to) {
                        // It was sent on from there.
                        cluster.learned(callee, by);
                    }
                    match &reply.result {
                        Err(failure)
                            if failure.code == Code::Moved
                                && (failure.committed == Committed::No || parcel.is_repeatable()) =>
                        {
                            Tried::Again(Travel::default(), failure.clone())
                        }
                        _ => Tried::Done(reply),
                    }
                }
                None => Tried::Done(refusal(unknown("its host's reply can't be read: another release?"))),
            },
            Err(CallError::NotSent(why)) => {
                let failure = CallFailure::before(Code::NoQuorum, format!("the grain's host can't be reached: {why}"));
                Tried::Again(gone, failure)
            }
            Err(CallError::Unknown(why)) if parcel.is_repeatable() => Tried::Again(gone, unknown(&why)),
            Err(CallError::Unknown(why)) => Tried::Done(refusal(unknown(&why))),
        }
    }

    /// A request that another host has sent here.
    pub(super) async fn serve_sent(self: &Arc<Self>, cluster: &Handle, from: HostId, sent: SentParcel) -> bytes::Bytes {
        let reply = match sent.open(from, self.parts.clock.time()) {
            Some((parcel, travel)) => self.reach(cluster, &parcel, Some(from), travel).await,
            None => refusal(CallFailure::before(Code::BadArguments, "no grain can have this name")),
        };
        encode(&SentReply::new(reply))
    }

    fn time_left(&self, parcel: &Parcel) -> Duration {
        Duration::from_nanos(parcel.deadline.nanos_since(self.parts.clock.time()))
    }
}

/// Whoever has sent it here finds another host for it.
fn stops() -> CallFailure {
    CallFailure::before(Code::Moved, "this host stops: ask another one")
}

fn unknown(why: &str) -> CallFailure {
    CallFailure {
        committed: Committed::Unknown,
        ..CallFailure::before(Code::Deadline, format!("the grain's host stopped answering: {why}"))
    }
}

/// The reply to a request that no grain has answered.
pub(crate) fn refusal(failure: CallFailure) -> Reply {
    Reply {
        result: Err(failure),
        seq: Seq(0),
        revision: Revision(0),
        durability: Durability::default(),
        rests_on: RestsOn::Nothing,
        by: None,
    }
}
