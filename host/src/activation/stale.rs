//! Reads of this host's own copy of a grain, for callers that would rather have an old answer than none.
//!
//! In a cluster a read asks a quorum, so that it sees all that was acknowledged before it. A host without a quorum can't; what it has is a
//! copy: perhaps behind, perhaps with a last commit that the others haven't taken and won't. A caller that says it can live with that is
//! answered by an instance made of the copy for this one read, which is dropped behind it. No activation begins and none is disturbed.
//!
//! **Not here:** what a `volatile` grain has in memory alone: its copy is of the last time that it left memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use granary_core::activation::TurnEnd;
use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainName, RequestId, Revision, Seq};
use granary_core::message::{Reply, RestsOn};
use granary_core::reply_table::Outcome;
use granary_core::slot::Slot;

use super::answer::checked;
use super::call::{fault_end, turn_failure};
use super::reach::refusal;
use super::residence::{Residence, start_failure};
use super::{Catalog, Records, room, translate};
use crate::modules::{Deployment, Line, Target};
use crate::storage::Stored;
use crate::wasm::{GuestCall, GuestCallError, LogLevel, LogSource, Replies, TurnHost};

/// A read as its caller meant it.
pub(crate) struct StaleRead<'a> {
    pub(crate) id: RequestId,
    pub(crate) grain: &'a GrainName,
    pub(crate) target: Target,
    /// By position, for the target's revision.
    pub(crate) args: Vec<u8>,
    pub(crate) timeout: Duration,
}

impl Catalog {
    /// Answers a read from the copy on this host.
    pub(crate) async fn read_stale(&self, line: &Arc<Line>, read: StaleRead<'_>) -> Reply {
        let limit = read.timeout;
        match tokio::time::timeout(limit, self.try_read_stale(line, read)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(failure)) => refusal(failure),
            Err(_) => refusal(CallFailure::deadline(granary_core::api::Committed::No)),
        }
    }

    async fn try_read_stale(&self, line: &Arc<Line>, read: StaleRead<'_>) -> Result<Reply, CallFailure> {
        let StaleRead { grain, ref target, .. } = read;
        if !target.read {
            let detail = format!(
                "`{}` may change its grain: only a read can be answered by a copy",
                target.method
            );
            return Err(CallFailure::before(Code::BadArguments, detail));
        }
        self.keeps(grain)?;
        let parts = &self.parts;
        let until = tokio::time::Instant::now() + parts.budget.patience();
        let need = room::INSTANCE_BYTES;
        let Some(mut room) = parts.budget.room(need, until).await else {
            return Err(parts.budget.overloaded(need));
        };
        let (mut residence, seq, revision) = {
            // It reads a whole state, as a restore does, and shares its bound.
            let _one_of_few = parts.restores.acquire().await;
            let stored = parts.load(grain).await?.filter(Stored::exists);
            let head = stored.as_ref().map(|stored| stored.head.clone());
            let deployment = match &head {
                Some(head) => parts.modules.revision(line, head.revision, head.module).await?,
                None => line.current(),
            };
            let deltas = stored.map(|stored| stored.parts).unwrap_or_default();
            room::charge(&mut room, &deltas)?;
            let started = Residence::start(parts, deployment, &deltas);
            let residence = started.map_err(|error| start_failure(grain, &error))?;
            let (seq, revision) = head.map_or((Seq(0), Revision(0)), |head| (head.seq, head.revision));
            (residence, seq, revision)
        };
        let args = self.args(line, &read, &residence.deployment).await?;
        let durability = residence.deployment.contract.durability;
        let host = Arc::new(ReadHost {
            grain: grain.clone(),
            id: read.id,
            until: Instant::now() + read.timeout,
            records: parts.records.clone(),
        });
        let id = read.id.to_string();
        let answer = residence
            .instance
            .call(host, grain.key.as_str(), &id, &target.method, &args)
            .await;
        let end = match answer.and_then(checked) {
            Ok(Ok(value)) => TurnEnd::Done(Outcome::Value(value)),
            Ok(Err(fault)) => fault_end(fault),
            Err(failure) => return Err(turn_failure(&failure)),
        };
        let result = match end {
            TurnEnd::Done(outcome) => outcome.into_result(),
            TurnEnd::Refused(failure) | TurnEnd::Undone(failure) | TurnEnd::Failed(failure) => Err(failure),
        };
        Ok(Reply {
            result,
            seq,
            revision,
            durability,
            rests_on: RestsOn::Nothing,
            by: None,
        })
    }

    /// Whether this host keeps copies of the grain.
    fn keeps(&self, grain: &GrainName) -> Result<(), CallFailure> {
        let Some(config) = self.parts.cluster().and_then(|cluster| cluster.config()) else {
            return Ok(());
        };
        let hosts = config.replicas(Slot::of(grain.id()));
        if hosts.contains(&self.parts.storage.host()) {
            return Ok(());
        }
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let detail = format!(
            "this host keeps no copy of the grain; the hosts {} do",
            hosts.join(", ")
        );
        Err(CallFailure::before(Code::NoQuorum, detail))
    }

    /// The arguments in the order of the revision that the copy is of.
    async fn args(&self, line: &Line, read: &StaleRead<'_>, running: &Deployment) -> Result<Vec<u8>, CallFailure> {
        if running.revision == read.target.revision {
            return Ok(read.args.clone());
        }
        let meant = self.parts.modules.numbered(line, read.target.revision).await?;
        let wanted = (&*read.target.method, true, &read.args[..]);
        translate::between(&meant, running, wanted).map_err(|(code, what)| {
            CallFailure::before(code, format!("the copy is of revision {}: {what}", running.revision.0))
        })
    }
}

/// The host of a guest that answers from a copy: it may log, and nothing else.
struct ReadHost {
    grain: GrainName,
    id: RequestId,
    until: Instant,
    records: Arc<Records>,
}

impl TurnHost for ReadHost {
    fn invoke(&self, calls: Vec<GuestCall>) -> Replies {
        let refusal = || {
            Err(GuestCallError {
                code: Code::NoQuorum.as_str().to_owned(),
                message: "a read that is answered by a copy can't call other grains".to_owned(),
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
        self.records.write(&self.grain, self.id, level, source, message);
    }
}
