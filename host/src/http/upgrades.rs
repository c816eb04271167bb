//! Revisions of a type: going back, and moving its grains to the current one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use granary_core::id::GrainType;
use serde_json::{Value, json};

use super::admin::refuse;
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::{Deployed, Inside};
use super::invoke::deployed;
use super::modules::{about, grain_type, no_query, summary};
use crate::router::{UpgradeFailure, UpgradeStatus};

type Shared<H> = State<Arc<Api<H>>>;

/// `POST /v1/modules/{type}/rollback`.
pub(super) async fn rollback<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    uri: Uri,
) -> Response {
    match go_back(&api, &kind, &uri).await {
        Ok(deployment) => (Extension(about(&deployment)), Json(summary(&deployment))).into_response(),
        Err(refusal) => refuse(refusal, &caller),
    }
}

async fn go_back<H: Inside>(api: &Api<H>, kind: &str, uri: &Uri) -> Result<Deployed, Refusal> {
    let kind = known(api, kind, uri).await?;
    Ok(api.inside.rollback(kind).await?)
}

/// `POST /v1/modules/{type}/upgrade`: starts moving all grains, or joins that.
pub(super) async fn start<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    uri: Uri,
) -> Response {
    let started = match known(&api, &kind, &uri).await {
        Ok(kind) => api.inside.upgrade(&kind).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    match started {
        Ok(status) => (StatusCode::ACCEPTED, Json(whole(&status))).into_response(),
        Err(refusal) => refuse(refusal, &caller),
    }
}

/// `GET /v1/modules/{type}/upgrade`: how far that is.
pub(super) async fn status<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    uri: Uri,
) -> Response {
    let asked = match known(&api, &kind, &uri).await {
        Ok(kind) => api.inside.upgrade_status(&kind).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    match asked {
        Ok(status) => Json(whole(&status)).into_response(),
        Err(refusal) => refuse(refusal, &caller),
    }
}

async fn known<H: Inside>(api: &Api<H>, kind: &str, uri: &Uri) -> Result<GrainType, Refusal> {
    no_query(uri)?;
    Ok(deployed(&api.inside, &grain_type(kind)?).await?.kind)
}

/// All revisions of a type, oldest first.
pub(super) fn history(inside: &impl Inside, kind: &GrainType) -> Value {
    let revisions = inside.history(kind).into_iter().map(|revision| {
        json!({
            "revision": revision.revision.0,
            "blake3": revision.module.to_string(),
            "deployed_at_ms": revision.at_ms,
            "current": revision.is_current,
            "follows": (revision.follows.0 > 0).then_some(revision.follows.0),
        })
    });
    revisions.collect()
}

/// How far each type is, without the list of failures; null when a host doesn't answer, for then it can't be told.
pub(super) async fn figures(inside: &impl Inside, kinds: &[GrainType]) -> Vec<Value> {
    match inside.upgrade_statuses(kinds).await {
        Ok(all) => all.iter().map(figures_of).collect(),
        Err(_) => vec![Value::Null; kinds.len()],
    }
}

fn figures_of(status: &UpgradeStatus) -> Value {
    json!({
        "running": status.running,
        "total": status.total,
        "moved": status.moved,
        "failed": status.failed,
        "left": status.left,
        "stuck": status.stuck,
    })
}

fn whole(status: &UpgradeStatus) -> Value {
    let mut shown = figures_of(status);
    shown["type"] = json!(status.kind.as_str());
    shown["revision"] = json!(status.revision.0);
    shown["failures"] = status.failures.iter().map(failure).collect();
    shown
}

/// Why a grain isn't on the current revision.
pub(super) fn failure(failure: &UpgradeFailure) -> Value {
    json!({
        "key": failure.key.as_str(),
        "revision": failure.revision.0,
        "code": failure.code.as_str(),
        "reason": failure.reason,
    })
}
