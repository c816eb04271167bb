//! Modules: deploying one, and what is deployed.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use granary_core::api::{CallFailure, Code};
use granary_core::id::GrainType;
use serde_json::{Value, json};

use super::access::{About, Act};
use super::admin::refuse;
use super::body::{self, Limits};
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::{Deployed, Inside};
use super::invoke::deployed;
use super::{query, upgrades};
use crate::description::Method;

type Shared<H> = State<Arc<Api<H>>>;

/// `GET /v1/modules`.
pub(super) async fn list<H: Inside>(State(api): Shared<H>, Extension(caller): Extension<Caller>, uri: Uri) -> Response {
    if let Err(refusal) = no_query(&uri) {
        return refuse(refusal, &caller);
    }
    let mut all = api.inside.all();
    all.retain(|deployment| caller.rights.allow(Act::Describe(&deployment.kind)));
    let kinds: Vec<GrainType> = all.iter().map(|deployment| deployment.kind.clone()).collect();
    let figures = upgrades::figures(&api.inside, &kinds).await;
    let one = |(deployment, figures): (&Deployed, Value)| {
        let mut shown = summary(deployment);
        shown["upgrade"] = figures;
        shown
    };
    let modules: Vec<Value> = all.iter().zip(figures).map(one).collect();
    Json(json!({ "modules": modules })).into_response()
}

/// `GET /v1/modules/{type}`.
pub(super) async fn one<H: Inside>(
    State(api): Shared<H>,
    Extension(caller): Extension<Caller>,
    Path(kind): Path<String>,
    uri: Uri,
) -> Response {
    let found = match no_query(&uri).and_then(|()| grain_type(&kind)) {
        Ok(kind) => deployed(&api.inside, &kind).await,
        Err(refusal) => Err(refusal),
    };
    match found {
        Ok(deployment) => {
            let description = &deployment.contract.description;
            let mut shown = summary(&deployment);
            shown["doc"] = json!(description.doc);
            shown["version"] = json!(description.version);
            shown["methods"] = json!(description.methods);
            shown["upgrade"] = upgrades::figures(&api.inside, std::slice::from_ref(&deployment.kind))
                .await
                .remove(0);
            shown["revisions"] = upgrades::history(&api.inside, &deployment.kind);
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
    match deploy(&api, &kind, &parts.uri, &mut body).await {
        Ok((deployment, new)) => {
            let status = if new { StatusCode::CREATED } else { StatusCode::OK };
            (status, Extension(about(&deployment)), Json(summary(&deployment))).into_response()
        }
        Err(refusal) => {
            if refusal.code() != Code::SlowClient {
                body::discard(&mut body, &parts.headers, api.config.body_timeout).await;
            }
            refuse(refusal, &caller)
        }
    }
}

async fn deploy<H: Inside>(api: &Api<H>, kind: &str, uri: &Uri, body: &mut Body) -> Result<(Deployed, bool), Refusal> {
    let kind = grain_type(kind)?;
    let allow_breaking = query::flag(uri.query().unwrap_or_default(), "allow_breaking", "A deploy")?;
    let limits = Limits {
        bytes: api.config.module_limit,
        what: "the module",
        remedy: ": debug information can be stripped (in Rust by `-Cstrip=debuginfo`), and the host started with a larger `--http-module-limit`",
        time: api.config.body_timeout,
    };
    let read = body::read(body, limits, &api.body_memory).await?;
    if read.bytes.is_empty() {
        let detail = "the body is empty: it is the module, a .wasm file";
        return Err(Refusal::new(Code::BadModule, detail));
    }
    Ok(api.inside.deploy(kind, read.bytes.into(), allow_breaking).await?)
}

/// A misspelt option is better refused than ignored.
pub(super) fn no_query(uri: &Uri) -> Result<(), Refusal> {
    match query::pairs(uri.query().unwrap_or_default()).next() {
        None => Ok(()),
        Some(pair) => {
            let name: String = pair?.0.chars().take(64).collect();
            Err(bad(format!("unknown: `{name}`. This path takes no query")))
        }
    }
}

fn bad(detail: String) -> Refusal {
    CallFailure::before(Code::BadArguments, detail).into()
}

pub(super) fn grain_type(name: &str) -> Result<GrainType, Refusal> {
    GrainType::new(name).map_err(|error| Refusal::new(Code::BadArguments, error.to_string()))
}

pub(super) fn summary(deployment: &Deployed) -> Value {
    let contract = &deployment.contract;
    let methods: Vec<Value> = contract.description.methods.iter().map(method).collect();
    json!({
        "type": deployment.kind.as_str(),
        "revision": deployment.revision.0,
        "blake3": deployment.module.to_string(),
        "deployed_at_ms": deployment.at_ms,
        "durability": contract.durability.as_str(),
        "placement": contract.placement.as_str(),
        "methods": methods,
    })
}

/// What the audit log has of a change of code.
pub(super) fn about(deployment: &Deployed) -> About {
    About(json!({
        "type": deployment.kind.as_str(),
        "revision": deployment.revision.0,
        "blake3": deployment.module.to_string(),
    }))
}

fn method(method: &Method) -> Value {
    let params: Vec<&str> = method.params.iter().map(|param| param.name.as_str()).collect();
    json!({ "name": method.name, "kind": method.kind, "params": params })
}
