//! Does what a grain's machine says: runs turns, appends commits, gives replies.
//!
//! State changes happen in [`Driver::step`], under one short lock; what takes time (a turn, loading) is a [`Job`] of the task
//! that runs while there are jobs. The instance belongs to that task while a job runs and rests in the state otherwise.
//!
//! **Not here:** decisions. A condition on what a caller or a turn did belongs into the machine.

mod commit;
mod standing;

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use granary_core::activation::{Activation, Input, MoveEnd, Moved, Now, Output, TurnEnd};
use granary_core::api::{CallFailure, Code, Durability};
use granary_core::commit::Delta;
use granary_core::id::{Ballot, GrainId, GrainName, Lsn, Revision, Seq};
use granary_core::message::{Request, Token};
use granary_core::time::Time;
use tokio::sync::Notify;

use super::agreement::Standing;
use super::call::TurnCalls;
use super::kept::Kept;
use super::moving::Relocated;
use super::residence::Residence;
use super::restore::Origin;
use super::waiter::Waiters;
use super::{Catalog, Parts, Waiter};
use crate::modules::{Deployment, Line, UpgradeFailure};
use crate::storage::StorageError;

/// One grain in memory.
pub(crate) struct Driver {
    id: GrainId,
    name: GrainName,
    /// Its type's revisions.
    line: Arc<Line>,
    catalog: Weak<Catalog>,
    parts: Arc<Parts>,
    state: Mutex<State>,
    standing_changed: Notify,
}

struct State {
    machine: Activation,
    waiters: Waiters,
    /// The instance, unless the task has it.
    residence: Option<Box<Residence>>,
    /// What the task is to do next, and whether there is a task.
    job: Option<Job>,
    is_running: bool,
    /// What the last turn changed, on its way into a commit.
    taken: Option<Delta>,
    /// `volatile`: what turns have changed since the last commit.
    kept: Option<Kept>,
    /// Whose commits these are.
    origin: Option<Origin>,
    /// The place for which the release was asked.
    registered: Option<Lsn>,
    /// When a timer wakes the machine.
    alarm: Option<Time>,
    /// How it stands with the cluster's agreement; unused on a host alone.
    standing: Standing,
    last_error: Option<String>,
    /// Of the instance, also while the task has it.
    memory_bytes: u64,
}

impl State {
    /// What is kept, and the module whose memory it is.
    fn kept(&self) -> Option<(Arc<Deployment>, Delta)> {
        let origin = self.origin.as_ref()?;
        Some((origin.deployment.clone(), self.kept.as_ref()?.delta()))
    }
}

enum Job {
    Load,
    Run(Request),
    Move,
}

/// What has to be done once the lock is free.
#[derive(Default)]
struct After {
    answers: Vec<(Waiter, granary_core::message::Reply, Lsn)>,
    returned: Option<(Request, Waiter)>,
    dropped: Option<Box<Residence>>,
    spawn: bool,
    gone: bool,
    /// The activation ends in peace: the replicas are told.
    close: bool,
    register: Option<Lsn>,
    alarm: Option<Time>,
}

/// A look at a driver.
#[derive(Debug)]
pub(crate) struct DriverStatus {
    /// Whether the rest is known: the state has been loaded.
    pub(crate) is_loaded: bool,
    pub(crate) exists: bool,
    pub(crate) revision: Revision,
    pub(crate) seq: Seq,
    pub(crate) ballot: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) idle_ms: u64,
    pub(crate) durability: Durability,
    pub(crate) queued: usize,
    pub(crate) last_error: Option<String>,
}

impl Driver {
    pub(crate) fn new(
        id: GrainId,
        name: GrainName,
        line: Arc<Line>,
        catalog: Weak<Catalog>,
        parts: Arc<Parts>,
    ) -> Arc<Driver> {
        let durability = line.current().contract.durability;
        let state = State {
            machine: Activation::new(durability, parts.limits),
            waiters: Waiters::default(),
            residence: None,
            job: None,
            is_running: false,
            taken: None,
            kept: None,
            origin: None,
            registered: None,
            alarm: None,
            standing: Standing::default(),
            last_error: None,
            memory_bytes: 0,
        };
        Arc::new(Driver {
            id,
            name,
            line,
            catalog,
            parts,
            state: Mutex::new(state),
            standing_changed: Notify::new(),
        })
    }

    pub(crate) fn id(&self) -> GrainId {
        self.id
    }

    pub(crate) fn name(&self) -> &GrainName {
        &self.name
    }

    /// Takes a request, or gives it back when this activation has ended.
    pub(crate) fn arrive(self: &Arc<Self>, request: Request, waiter: Waiter) -> Option<(Request, Waiter)> {
        let mut state = self.lock();
        state.waiters.insert(request.token, waiter);
        self.step(state, Input::Arrive(request))
    }

    /// The caller stops waiting.
    pub(crate) fn withdraw(self: &Arc<Self>, token: Token) {
        self.step(self.lock(), Input::Withdraw(token));
    }

    /// Some commits have become durable.
    pub(crate) fn durable(self: &Arc<Self>) {
        let mut state = self.lock();
        state.registered = None;
        self.step(state, Input::Durable);
    }

    /// Ends the activation if nothing is going on.
    pub(crate) fn evict(self: &Arc<Self>) {
        self.step(self.lock(), Input::Evict);
    }

    /// Gives back what only turns need, if nothing is going on.
    pub(crate) fn rest(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.machine.is_idle() {
            return;
        }
        if let Some(Err(error)) = state.residence.as_mut().map(|residence| residence.rest()) {
            // Writes to its memory may go unseen from now on: the next turn has to begin from storage.
            tracing::error!(grain = %self.name, %error, "a grain could not be put to rest");
            self.step(state, Input::Evict);
        }
    }

    /// Milliseconds since the last turn, when nothing is going on.
    pub(crate) fn idle_ms(&self) -> Option<u64> {
        let state = self.lock();
        let idle = self.parts.clock.time().nanos_since(state.machine.last_used()) / 1_000_000;
        (state.machine.is_idle() && !state.is_running).then_some(idle)
    }

    pub(crate) fn status(&self) -> DriverStatus {
        let state = self.lock();
        DriverStatus {
            is_loaded: state.origin.is_some(),
            exists: state.machine.exists(),
            revision: state.machine.revision(),
            seq: state.machine.seq(),
            durability: state.machine.durability(),
            ballot: state.origin.as_ref().map_or(0, |origin| origin.ballot.counter),
            memory_bytes: state.memory_bytes,
            idle_ms: self.parts.clock.time().nanos_since(state.machine.last_used()) / 1_000_000,
            queued: state.machine.queued(),
            last_error: state.last_error.clone(),
        }
    }

    /// Whether the grain has state that needn't be anywhere but in memory.
    pub(crate) fn is_volatile(&self) -> bool {
        let state = self.lock();
        state.machine.exists() && state.machine.durability() == Durability::Volatile
    }

    fn now(&self, state: &State) -> Now {
        let now = self.parts.now(self.line.revision());
        match self.parts.cluster() {
            None => now,
            // A commit's place is its number: what it waits for is its own quorum, not a log.
            Some(_) => Now {
                durable: Lsn(state.standing.committed.0),
                ..now
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a step doesn't panic")
    }

    /// Feeds the machine and does what it says.
    fn step(self: &Arc<Self>, mut state: MutexGuard<'_, State>, input: Input) -> Option<(Request, Waiter)> {
        let mut after = After::default();
        let mut out = Vec::new();
        let now = self.now(&state);
        state.machine.handle(now, input, &mut out);
        let mut at = 0;
        while at < out.len() {
            // An order to commit is answered at once; what the machine says to that comes last.
            let output = std::mem::replace(&mut out[at], Output::Drop);
            self.output(&mut state, output, &mut out, &mut after);
            at += 1;
        }
        if let Some(place) = state.machine.waits_for()
            && state.registered.is_none()
            && self.parts.cluster().is_none()
        {
            state.registered = Some(place);
            after.register = Some(place);
        }
        if let Some(at) = state.machine.deadline()
            && state.alarm.is_none()
        {
            state.alarm = Some(at);
            after.alarm = Some(at);
        }
        if state.job.is_some() && !state.is_running {
            state.is_running = true;
            after.spawn = true;
        }
        drop(state);
        self.settle(after)
    }

    fn output(self: &Arc<Self>, state: &mut State, output: Output, out: &mut Vec<Output>, after: &mut After) {
        match output {
            Output::Load => state.job = Some(Job::Load),
            Output::Run(request) => state.job = Some(Job::Run(request)),
            Output::Move => state.job = Some(Job::Move),
            Output::Commit(order) => {
                let appended = self.append(state, order);
                let now = self.now(state);
                state.machine.handle(now, appended, out);
            }
            Output::Keep => {
                if let Some(delta) = state.taken.take() {
                    state.kept.get_or_insert_default().add(delta);
                }
            }
            Output::Answer { token, reply, horizon } => {
                if let Err(failure) = &reply.result
                    && failure.code.status() == 500
                {
                    state.last_error = Some(failure.to_string());
                }
                if let Some(waiter) = state.waiters.remove(token) {
                    after.answers.push((waiter, reply, horizon));
                }
            }
            Output::Drop => {
                state.memory_bytes = 0;
                after.dropped = state.residence.take().or(after.dropped.take());
            }
            Output::Return(request) => {
                after.returned = state.waiters.remove(request.token).map(|waiter| (request, waiter));
            }
            Output::Gone => {
                self.remember_replies(state);
                after.gone = true;
                after.close = !state.standing.is_over;
                if state.standing.is_over {
                    // Another host has it, which tries for itself.
                    self.line.stuck().forget(self.id);
                }
                state.standing.is_gone = true;
            }
        }
    }

    /// What is left to do without the lock.
    fn settle(self: &Arc<Self>, after: After) -> Option<(Request, Waiter)> {
        for (waiter, reply, horizon) in after.answers {
            waiter.answer(reply, horizon);
        }
        drop(after.dropped);
        if let Some(place) = after.register {
            self.parts.release.register(place, self.clone());
        }
        if let Some(catalog) = self.catalog.upgrade().filter(|_| after.gone) {
            catalog.remove(self);
        }
        if let Some(cluster) = self.parts.cluster().filter(|_| after.close) {
            cluster.close(self.id, self.lock().standing.heir);
        }
        if after.gone {
            self.standing_changed.notify_waiters();
        }
        if let Some(at) = after.alarm {
            self.parts.metrics.backoffs.inc();
            tokio::spawn(self.clone().wake(at));
        }
        if after.spawn {
            tokio::spawn(self.clone().work());
        }
        after.returned
    }

    /// Wakes the machine at its deadline.
    async fn wake(self: Arc<Self>, at: Time) {
        tokio::time::sleep(Duration::from_nanos(at.nanos_since(self.parts.clock.time()))).await;
        let mut state = self.lock();
        state.alarm = None;
        self.step(state, Input::Wake);
    }

    /// Does jobs until there are none.
    async fn work(self: Arc<Self>) {
        loop {
            let job = {
                let mut state = self.lock();
                let job = state.job.take();
                state.is_running = job.is_some();
                job
            };
            match job {
                None => return,
                Some(Job::Load) => self.load().await,
                Some(Job::Move) => self.relocate().await,
                Some(Job::Run(request)) => self.turn(request).await,
            }
            // A grain with a full mailbox must not keep its thread from the others.
            tokio::task::consume_budget().await;
        }
    }

    /// Makes the instance in the state of the last commit.
    async fn load(self: &Arc<Self>) {
        let result = self.restore_in_room().await;
        let mut state = self.lock();
        let input = match result {
            Ok((residence, loaded, origin)) => {
                // All that a quorum has promised to know.
                state.standing.committed = state.standing.committed.max(loaded.seq);
                state.memory_bytes = residence.memory_bytes();
                state.residence = Some(Box::new(residence));
                state.origin = Some(origin);
                Input::Loaded(loaded)
            }
            Err(failure) => {
                let is_passing = matches!(failure.code, Code::Overloaded | Code::Moved | Code::NoQuorum);
                let is_new = state.origin.is_none() && is_passing;
                self.step(state, Input::LoadFailed(failure));
                if is_new {
                    // Nothing is known of the grain that would be worth a place in the catalog: calls to many keys, all refused, must
                    // not fill it.
                    self.evict();
                }
                return;
            }
        };
        self.step(state, input);
    }

    async fn turn(self: &Arc<Self>, request: Request) {
        let residence = self.lock().residence.take();
        let mut residence = residence.expect("a turn runs on an instance that was loaded");
        residence.is_resting = false;
        let calls = TurnCalls::new(self, &request);
        self.parts.metrics.turns.inc();
        let may_commit = request.may_commit();
        let admitted = match self.admit_soon(may_commit, &request).await {
            Ok(()) => self.translate(request, &residence.deployment).await,
            Err(failure) => Err(failure),
        };
        let mut end = match admitted {
            Ok(request) => calls.clone().run(&mut residence.instance, &self.name, request).await,
            Err(failure) => TurnEnd::Refused(failure),
        };
        let mut taken = None;
        if may_commit && matches!(end, TurnEnd::Done(_)) {
            match residence.take_delta() {
                Ok(delta) => taken = Some(delta),
                Err(error) => {
                    tracing::error!(grain = %self.name, %error, "a turn's changes can't be found; it is undone");
                    end = TurnEnd::Failed(CallFailure::before(Code::Internal, "the turn could not be committed"));
                }
            }
        }
        let mut state = self.lock();
        state.memory_bytes = residence.memory_bytes();
        state.residence = Some(residence);
        state.taken = taken;
        self.step(
            state,
            Input::Ended {
                end,
                seen: calls.seen(),
            },
        );
    }

    /// Whether a turn can start, so that its commit can't fail.
    pub(super) fn admit(&self, may_commit: bool) -> Result<(), CallFailure> {
        if self.parts.cluster().is_some() && self.standing().is_isolated {
            let detail = "too few of the hosts that keep this grain's copies can be reached from here";
            return Err(CallFailure::before(Code::NoQuorum, detail));
        }
        if !may_commit {
            return Ok(());
        }
        self.parts.storage.admit().map_err(not_admitted)
    }

    /// The same, after waiting for room in the commit log when that is all that is missing.
    async fn admit_soon(&self, may_commit: bool, request: &Request) -> Result<(), CallFailure> {
        let admitted = self.admit(may_commit);
        if !may_commit || !matches!(&admitted, Err(failure) if failure.code == Code::Overloaded) {
            return admitted;
        }
        self.parts.metrics.log_stalls.inc();
        let left = Duration::from_nanos(request.deadline.nanos_since(self.parts.clock.time()));
        let waited = self.parts.stall.wait(|| self.parts.storage.admit(), left).await;
        waited.map_err(not_admitted)
    }

    /// Brings the state to the current revision.
    async fn relocate(self: &Arc<Self>) {
        let (residence, exists, unsaved) = {
            let mut state = self.lock();
            (state.residence.take(), state.machine.exists(), state.kept.is_some())
        };
        let residence = residence.expect("a grain moves from an instance that was loaded");
        let (from, target) = (residence.deployment.revision, self.line.current());
        let moved = Moved {
            revision: target.revision,
            durability: target.contract.durability,
        };
        let relocated = self.move_to(&target, residence, exists, unsaved).await;
        let mut state = self.lock();
        let end = match relocated {
            Relocated::Moved(residence, delta) => {
                // Of the old module's memory; the commit takes the new one's whole state.
                state.kept = None;
                state.taken = Some(delta);
                self.adopt(&mut state, residence, target);
                self.parts.metrics.upgrades.inc();
                MoveEnd::Done(moved)
            }
            Relocated::Unwritten(residence) => {
                self.adopt(&mut state, residence, target);
                MoveEnd::Unwritten(moved)
            }
            Relocated::Failed(failure) => {
                self.parts.metrics.upgrade_failures.inc();
                let (code, reason) = (failure.code, failure.detail.clone());
                tracing::warn!(grain = %self.name, from = from.0, to = target.revision.0, %failure, "a grain could not be moved");
                let key = self.name.key.clone();
                let stuck = UpgradeFailure {
                    key,
                    revision: from,
                    code,
                    reason,
                };
                self.line.stuck().note(target.revision, self.id, stuck);
                MoveEnd::Failed(failure)
            }
            Relocated::Postponed(failure, residence) => {
                let has_instance = residence.is_some();
                state.residence = residence;
                MoveEnd::Postponed { failure, has_instance }
            }
        };
        self.step(state, Input::Moved(end));
    }

    fn adopt(&self, state: &mut State, residence: Box<Residence>, target: Arc<Deployment>) {
        state.residence = Some(residence);
        let origin = state.origin.as_mut().expect("the grain was loaded before it moves");
        origin.deployment = target;
        self.line.stuck().forget(self.id);
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// The ballot and the hash of the last commit, once something has been loaded.
    pub(super) fn last(&self) -> Option<(Ballot, [u8; 16])> {
        let state = self.lock();
        state.origin.as_ref().map(|origin| (origin.ballot, origin.prev_hash))
    }

    /// The last commit that was given out.
    pub(super) fn seq(&self) -> Seq {
        self.lock().machine.seq()
    }

    /// `volatile`: what no commit holds yet, for a restore.
    pub(super) fn kept(&self) -> Option<(Arc<Deployment>, Delta)> {
        self.lock().kept()
    }

    pub(super) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }

    pub(super) fn catalog(&self) -> Option<Arc<Catalog>> {
        self.catalog.upgrade()
    }
}

/// Nothing ran.
fn not_admitted(error: StorageError) -> CallFailure {
    let code = match error {
        StorageError::DiskReserve { .. } => Code::DiskReserve,
        _ => Code::Overloaded,
    };
    CallFailure::before(code, error.to_string())
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Driver({})", self.name)
    }
}
