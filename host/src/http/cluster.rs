//! The host and its cluster: what is to be seen of them, and what an operator does.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use granary_core::api::Code;
use granary_core::id::{GrainKey, GrainName, GrainType, HostId};
use granary_core::membership::Standing;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::About;
use super::admin::refuse;
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::Inside;
use crate::router::{ClusterView, HostView, MemoryStatus};

type Shared<H> = State<Arc<Api<H>>>;

/// How long a join token holds when nobody says, and at most.
const TOKEN_HOLDS: Duration = Duration::from_secs(60 * 60);
const TOKEN_HOLDS_MOST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// `GET /v1/cluster`: this host, and the cluster as it sees it.
pub(super) async fn view<H: Inside>(State(api): Shared<H>) -> Response {
    let facts = &api.facts;
    let host = facts.host.to_string();
    let mut shown = json!({
        "host": host,
        "address": facts.address.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": facts.started.elapsed().as_millis() as u64,
        "dirty_tracking": facts.dirty_tracking,
        "dirty_tracking_reason": facts.dirty_tracking_reason,
        "memory": memory(&api.inside.memory()),
    });
    match api.inside.cluster().await {
        None => shown["members"] = json!([{ "host": host, "address": facts.address.to_string() }]),
        Some(view) => {
            shown["cluster"] = cluster(&view);
            shown["members"] = view.hosts.iter().map(member).collect();
        }
    }
    Json(shown).into_response()
}

fn memory(memory: &MemoryStatus) -> Value {
    json!({
        "budget_bytes": memory.budget_bytes,
        "taken_bytes": memory.taken_bytes,
        "private_bytes": memory.private_bytes,
        "grain_bytes": memory.grain_bytes,
        "table_bytes": memory.table_bytes,
        "grains_in_memory": memory.grains,
        "grains_waiting": memory.waiting,
        "evicted_idle": memory.evicted_idle,
        "evicted_for_memory": memory.evicted_for_memory,
        "evicted_for_slots": memory.evicted_for_slots,
    })
}

fn cluster(view: &ClusterView) -> Value {
    json!({
        "id": view.cluster.to_string(),
        "configuration": view.configuration,
        "slots_served": view.serving,
        "slots_arriving": view.installing,
        "slots_degraded": view.degraded,
        "copies": view.copies,
        "activations": view.activations,
        "activations_without_quorum": view.isolated,
        "requests_served": view.requests.served,
        "requests_forwarded": view.requests.forwarded,
        "requests_strayed": view.requests.strayed,
        "directory_questions": view.requests.asked,
        "grains_remembered": view.remembered,
        "connections_refused": view.refused,
    })
}

fn member(host: &HostView) -> Value {
    let state = match host.standing {
        Standing::Alive if host.beat.is_some_and(|beat| beat.draining) => "draining",
        Standing::Alive => "alive",
        Standing::Suspect => "suspect",
        Standing::Down => "down",
        Standing::Left => "left",
    };
    json!({
        "host": host.host.to_string(),
        "address": host.address.map(|address| address.to_string()),
        "state": state,
        "in_configuration": host.is_member,
        "zone": host.share.as_ref().map(|share| &share.zone),
        "weight": host.share.as_ref().map(|share| share.weight),
        "slots": host.slots,
        "cpu_permille": host.beat.map(|beat| beat.cpu_permille),
        "memory_permille": host.beat.map(|beat| beat.memory_permille),
        "queue_wait_ms": host.beat.map(|beat| beat.queue_wait_ms),
        "activations": host.beat.map(|beat| beat.activations),
        "processors": host.beat.map(|beat| beat.processors),
        "memory_mib": host.beat.map(|beat| beat.memory_mib),
    })
}

/// `POST /v1/cluster/token`: lets one more host join. The body may say for how long: `{"valid_s": 600}`.
pub(super) async fn token<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let token = async {
        let holds = holds(&body)?;
        Ok::<_, Refusal>((api.inside.token(holds).await?, holds))
    };
    match token.await {
        Ok((token, holds)) => {
            let about = About(json!({ "valid_s": holds.as_secs() }));
            (
                Extension(about),
                Json(json!({ "token": token, "valid_s": holds.as_secs() })),
            )
                .into_response()
        }
        Err(refusal) => refuse(refusal, &caller),
    }
}

fn holds(body: &[u8]) -> Result<Duration, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        valid_s: u64,
    }
    if body.is_empty() {
        return Ok(TOKEN_HOLDS);
    }
    let bad = |why: String| Refusal::new(Code::BadArguments, why);
    let options: Options = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body is no {{\"valid_s\": SECONDS}}: {error}")))?;
    let holds = Duration::from_secs(options.valid_s);
    if holds.is_zero() || holds > TOKEN_HOLDS_MOST {
        return Err(bad(format!("`valid_s` is from 1 to {}", TOKEN_HOLDS_MOST.as_secs())));
    }
    Ok(holds)
}

/// `POST /v1/cluster/drain`: everything moves off this host, in the background.
pub(super) async fn drain<H: Inside>(State(api): Shared<H>, Extension(caller): Extension<Caller>) -> Response {
    match api.inside.drain() {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({ "draining": true }))).into_response(),
        Err(failure) => refuse(failure.into(), &caller),
    }
}

/// `POST /v1/cluster/rotate`: the cluster goes over to a new authority.
pub(super) async fn rotate<H: Inside>(State(api): Shared<H>, Extension(caller): Extension<Caller>) -> Response {
    match api.inside.rotate().await {
        Ok(hosts) => Json(json!({ "rotated": true, "hosts": hosts })).into_response(),
        Err(failure) => refuse(failure.into(), &caller),
    }
}

/// `POST /v1/cluster/move` with `{"type": ..., "key": ..., "host": ...}`: a grain moves to another host.
pub(super) async fn relocate<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    match relocated(&api, &body).await {
        Ok((grain, host, pause_us)) => {
            let about =
                About(json!({ "type": grain.kind.as_str(), "key": grain.key.as_str(), "host": host.to_string() }));
            (Extension(about), Json(json!({ "moved": true, "pause_us": pause_us }))).into_response()
        }
        Err(refusal) => refuse(refusal, &caller),
    }
}

async fn relocated<H: Inside>(api: &Api<H>, body: &[u8]) -> Result<(GrainName, HostId, u64), Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Options {
        r#type: String,
        key: String,
        host: String,
    }
    let bad = |why: &dyn std::fmt::Display| Refusal::new(Code::BadArguments, why.to_string());
    let options: Options = serde_json::from_slice(body)
        .map_err(|error| bad(&format!("the body is no {{\"type\", \"key\", \"host\"}}: {error}")))?;
    let kind = GrainType::new(&options.r#type).map_err(|error| bad(&error))?;
    let key = GrainKey::new(&options.key).map_err(|error| bad(&error))?;
    let host: HostId = options.host.parse().map_err(|error| bad(&format!("`host`: {error}")))?;
    let grain = GrainName::new(kind, key);
    let pause_us = api.inside.relocate(&grain, host).await?;
    Ok((grain, host, pause_us))
}
