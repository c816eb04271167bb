//! Modules: deploying one, and what is deployed.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use granary_core::api::Code;
use granary_core::id::GrainType;
use serde_json::{Value, json};

use super::admin::refuse;
use super::body::{self, Limits};
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::{Deployed, Inside};
use super::invoke::deployed;
use crate::description::Method;

type Shared<H> = State<Arc<Api<H>>>;

/// `GET /v1/modules`.
pub(super) async fn list<H: Inside>(State(api): Shared<H>) -> Response {
    let modules: Vec<Value> = api.inside.all().iter().map(summary).collect();
    Json(json!({ "modules": modules })).into_response()
}

/// `GET /v1/modules/{type}`.
pub(super) async fn one<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
) -> Response {
    match grain_type(&kind).and_then(|kind| deployed(&api.inside, &kind)) {
        Ok(deployment) => {
            let description = &deployment.contract.description;
            let mut shown = summary(&deployment);
            shown["doc"] = json!(description.doc);
            shown["version"] = json!(description.version);
            shown["methods"] = json!(description.methods);
            Json(shown).into_response()
        }
        Err(refusal) => refuse(refusal, &caller),
    }
}

/// `PUT /v1/modules/{type}`.
pub(super) async fn put<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    request: Request,
) -> Response {
    let (parts, mut body) = request.into_parts();
    match deploy(&api, &kind, &mut body).await {
        Ok((deployment, new)) => {
            let status = if new { StatusCode::CREATED } else { StatusCode::OK };
            (status, Json(summary(&deployment))).into_response()
        }
        Err(refusal) => {
            if refusal.code() != Code::SlowClient {
                body::discard(&mut body, &parts.headers, api.config.body_timeout).await;
            }
            refuse(refusal, &caller)
        }
    }
}

async fn deploy<H: Inside>(api: &Api<H>, kind: &str, body: &mut Body) -> Result<(Deployed, bool), Refusal> {
    let kind = grain_type(kind)?;
    let limits = Limits {
        bytes: api.config.module_limit,
        what: "the module",
        time: api.config.body_timeout,
    };
    let read = body::read(body, limits, &api.body_memory).await?;
    if read.bytes.is_empty() {
        let detail = "the body is empty: it is the module, a .wasm file";
        return Err(Refusal::new(Code::BadModule, detail));
    }
    Ok(api.inside.deploy(kind, read.bytes.into()).await?)
}

/// `POST /v1/modules/{type}/rollback`.
pub(super) async fn rollback(Extension(caller): Extension<Caller>) -> Response {
    let detail = "going back to an earlier revision isn't built yet; deploy the earlier module's file instead";
    refuse(Refusal::new(Code::NotImplemented, detail), &caller)
}

fn grain_type(name: &str) -> Result<GrainType, Refusal> {
    GrainType::new(name).map_err(|error| Refusal::new(Code::BadArguments, error.to_string()))
}

fn summary(deployment: &Deployed) -> Value {
    let contract = &deployment.contract;
    let methods: Vec<Value> = contract.description.methods.iter().map(method).collect();
    json!({
        "type": deployment.kind.as_str(),
        "revision": deployment.revision.0,
        "blake3": deployment.module.to_string(),
        "deployed_at_ms": deployment.at_ms,
        "durability": contract.durability.as_str(),
        "methods": methods,
    })
}

fn method(method: &Method) -> Value {
    let params: Vec<&str> = method.params.iter().map(|param| param.name.as_str()).collect();
    json!({ "name": method.name, "kind": method.kind, "params": params })
}
