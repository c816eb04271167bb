//! How a grain's state gets from one revision's code to another's.
//!
//! Old code saves it as bytes, new code loads them into a fresh instance and checks them: pages never come under other code.
//! The way back of a grain that nothing was written to since is shorter: storage still has the state from before the move.
//!
//! Whatever fails, nothing is written here, and the old state is in storage (and in memory, as far as it's `volatile`).
//!
//! **Not here:** when a grain moves and what its failure means (the machine), the commit (the driver).

use std::sync::Arc;
use std::time::{Duration, Instant};

use granary_core::api::{CallFailure, Code};
use granary_core::commit::Delta;
use granary_core::id::{GrainName, RequestId};

use super::Records;
use super::call::turn_failure;
use super::driver::Driver;
use super::residence::Residence;
use crate::modules::Deployment;
use crate::wasm::{Fault, GuestCall, GuestCallError, LogLevel, LogSource, Replies, TurnFailure, TurnHost};

/// How a move went.
pub(super) enum Relocated {
    /// The new instance and its whole state, over its module's base image.
    Moved(Box<Residence>, Delta),
    /// There was no state to move, or it's the same module under another number.
    Unwritten(Box<Residence>),
    /// Code or a limit refuses.
    Failed(CallFailure),
    /// There is no room now. The instance, if it's still there.
    Postponed(CallFailure, Option<Box<Residence>>),
}

impl Driver {
    /// Moves what `residence` holds to `target`. `unsaved`: some of it is in memory only.
    pub(super) async fn move_to(
        &self,
        target: &Arc<Deployment>,
        mut residence: Box<Residence>,
        exists: bool,
        unsaved: bool,
    ) -> Relocated {
        if residence.deployment.module == target.module {
            residence.deployment = target.clone();
            return Relocated::Unwritten(residence);
        }
        if !exists {
            drop(residence);
            return match self.residence(target.clone(), &[]) {
                Ok(fresh) => Relocated::Unwritten(Box::new(fresh)),
                Err(failure) => no_instance(failure),
            };
        }
        if let Err(failure) = self.admit(true) {
            return Relocated::Postponed(failure, Some(residence));
        }
        if !unsaved && let Some(parts) = self.before(target).await {
            drop(residence);
            return self.go_back(target, &parts);
        }
        let limit = self.parts().move_timeout;
        let (from, to) = (residence.deployment.revision.0, target.revision.0);
        let convert = self.convert(target, residence);
        match tokio::time::timeout(limit, convert).await {
            Ok(relocated) => relocated,
            Err(_) => {
                let detail = format!(
                    "moving from revision {from} to {to} took longer than {} ms, its limit",
                    limit.as_millis()
                );
                Relocated::Failed(CallFailure::before(Code::Deadline, detail))
            }
        }
    }

    /// The state that the grain had under `target` before it moved here, when nothing was written since.
    async fn before(&self, target: &Deployment) -> Option<Vec<Delta>> {
        let name = self.name().clone();
        match self.parts().read(move |storage| storage.load_before(&name)).await {
            Ok(Some(before)) if before.module == target.module && !before.parts.is_empty() => Some(before.parts),
            Ok(_) => None,
            Err(error) => {
                // The longer way gives the same values, if code can go it.
                tracing::error!(grain = %self.name(), %error, "the state from before a grain's move can't be read");
                None
            }
        }
    }

    fn go_back(&self, target: &Arc<Deployment>, parts: &[Delta]) -> Relocated {
        let delta = Delta::merge(parts).expect("there is at least one part");
        match self.residence(target.clone(), parts) {
            Ok(residence) => Relocated::Moved(Box::new(residence), delta),
            Err(failure) => no_instance(failure),
        }
    }

    /// By way of `save` and `load`.
    async fn convert(&self, target: &Arc<Deployment>, mut old: Box<Residence>) -> Relocated {
        let host: Arc<dyn TurnHost> = Arc::new(MoveHost {
            grain: self.name().clone(),
            records: self.parts().records.clone(),
            until: Instant::now() + WAIT_LIMIT,
        });
        let key = self.name().key.as_str();
        let request = RequestId([0; 16]).to_string();
        let from = old.deployment.clone();
        let budget = &self.parts().budget;
        // What is saved is kept here until it's loaded. Of many grains at a time that would be the host's memory.
        let bytes = old.memory_bytes();
        let until = tokio::time::Instant::now() + budget.patience();
        let Some(mut room) = budget.room(bytes, until).await else {
            return Relocated::Postponed(budget.overloaded(bytes), Some(old));
        };
        let saved = old.instance.save(host.clone(), target.code()).await;
        // Its room may be what the new instance needs.
        drop(old);
        let step = |name: &'static str, of: &Deployment| (name, of.revision.0);
        let state = match saved {
            Ok(Ok(state)) => state,
            Ok(Err(fault)) => return refused(step("save", &from), &fault),
            Err(failure) => return failed(step("save", &from), &failure),
        };
        if !room.raise(state.len() as u64) {
            return Relocated::Postponed(budget.overloaded(state.len() as u64), None);
        }
        let mut new = match self.residence(target.clone(), &[]) {
            Ok(new) => Box::new(new),
            Err(failure) => return no_instance(failure),
        };
        let version = from.contract.description.version;
        let instance = &mut new.instance;
        match instance.load(host.clone(), key, &request, version, state).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return refused(step("load", target), &fault),
            Err(failure) => return failed(step("load", target), &failure),
        }
        match instance.check(host, key, &request).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return refused(step("check", target), &fault),
            Err(failure) => return failed(step("check", target), &failure),
        }
        match new.take_delta() {
            Ok(delta) => Relocated::Moved(new, delta),
            Err(error) => {
                tracing::error!(grain = %self.name(), %error, "a moved grain's changes can't be found");
                Relocated::Failed(CallFailure::before(Code::Internal, "the move could not be committed"))
            }
        }
    }
}

fn no_instance(failure: CallFailure) -> Relocated {
    if failure.code == Code::Overloaded {
        Relocated::Postponed(failure, None)
    } else {
        Relocated::Failed(failure)
    }
}

/// The guest's own refusal.
fn refused((step, revision): (&str, u32), fault: &Fault) -> Relocated {
    let detail = format!("`{step}` of revision {revision} refused: {}", fault.message);
    Relocated::Failed(CallFailure::before(Code::GuestError, detail))
}

fn failed((step, revision): (&str, u32), failure: &TurnFailure) -> Relocated {
    // No room is no failure.
    if failure.did_not_run() || matches!(failure, TurnFailure::HostMemory { .. }) {
        return Relocated::Postponed(CallFailure::before(Code::Overloaded, failure.to_string()), None);
    }
    let CallFailure { code, detail, .. } = turn_failure(failure);
    let detail = format!("`{step}` of revision {revision} failed: {detail}");
    Relocated::Failed(CallFailure::before(code, detail))
}

/// How long code that moves a state may sleep: the grain's callers wait for it.
const WAIT_LIMIT: Duration = Duration::from_secs(1);

/// The host of a guest that saves, loads or checks: it may log, and nothing else.
struct MoveHost {
    grain: GrainName,
    records: Arc<Records>,
    until: Instant,
}

impl TurnHost for MoveHost {
    fn invoke(&self, calls: Vec<GuestCall>) -> Replies {
        let refusal = || {
            Err(GuestCallError {
                code: Code::Forbidden.as_str().to_owned(),
                message: "a grain can't call others while its state moves to another revision".to_owned(),
                error: None,
            })
        };
        let replies = calls.iter().map(|_| refusal()).collect();
        Box::pin(async move { replies })
    }

    fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn log(&self, level: LogLevel, source: LogSource, message: &str) {
        self.records
            .write(&self.grain, RequestId([0; 16]), level, source, message);
    }
}
